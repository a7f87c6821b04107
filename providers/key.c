/* Keys of providers.  Loop thread.
 *
 * A reader may question that nothing is cached for long where it costs nothing: environment and file
 * are read again whenever the key is missing or was refused, so that a rotated key works without a
 * restart.  A command runs again only after a rest, because a refused key would otherwise run it at
 * each request. */
#include "providers/key.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "providers/key_command.h"

enum { MAX_ORIGIN_BYTES = 300, MIN_REDACT_BYTES = 4 };

/* Bytes that no function prints: not NUL-terminated on purpose. */
struct secret {
	size_t len;
	char bytes[KEY_MAX_BYTES];
};

struct key {
	char *env, *file, *command, *who; /* owned; the first three may be NULL */
	char **origins;                   /* owned; "https://host:443" */
	int norigins;
	bool fixed, stale, closing;
	struct secret now, before; /* before: for redaction of late answers */
	unsigned generation;
	char *source; /* owned; where `now` came from, or would */

	struct key_command *run; /* or NULL */
	TAILQ_HEAD(, key_wait) waits;
	uint64_t rest_until_ms;
	struct err command_failed; /* during the rest */
	uv_loop_t *loop;
	uv_timer_t closer;
	void (*done)(void *arg);
	void *done_arg;
};

/* ---- whom it belongs to ---- */

/* "scheme://host:port" as curl will understand the URL; false: it is none. */
static bool origin_of(const char *url, char out[MAX_ORIGIN_BYTES])
{
	char *scheme = NULL, *host = NULL, *port = NULL;
	CURLU *u = curl_url();
	bool ok = u && !curl_url_set(u, CURLUPART_URL, url, 0) &&
		  !curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) &&
		  !curl_url_get(u, CURLUPART_HOST, &host, 0) &&
		  !curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);

	if (ok)
		ok = snprintf(out, MAX_ORIGIN_BYTES, "%s://%s:%s", scheme, host, port) <
		     MAX_ORIGIN_BYTES;
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(u);
	return ok;
}

static bool belongs_to(const struct key *k, const char *url)
{
	char origin[MAX_ORIGIN_BYTES];

	if (k->fixed)
		return true;
	if (!origin_of(url, origin))
		return false;
	for (int i = 0; i < k->norigins; i++)
		if (!strcasecmp(k->origins[i], origin))
			return true;
	return false;
}

/* ---- what it is ---- */

/* Takes a new value; wipes `value`.  Returns -1 when it cannot be a key. */
static int key_set(struct key *k, char *value, struct err *e)
{
	size_t n = strcspn(value, "\r\n");
	int rc = 0;

	while (n && (value[n - 1] == ' ' || value[n - 1] == '\t'))
		n--;
	if (n == 0)
		rc = err_set(e, ERR_UNAUTHORIZED, "the key in %s is empty", k->source);
	for (size_t i = 0; i < n && rc == 0; i++)
		if ((unsigned char)value[i] <= 0x20 || (unsigned char)value[i] >= 0x7f)
			rc = err_set(e, ERR_UNAUTHORIZED,
				     "the key in %s has a character that "
				     "no key has",
				     k->source);
	if (rc == 0 && (n != k->now.len || memcmp(value, k->now.bytes, n))) {
		k->before = k->now;
		k->now.len = n;
		memcpy(k->now.bytes, value, n);
		k->generation++;
	}
	explicit_bzero(value, KEY_MAX_BYTES);
	return rc;
}

/* "$NAME", "file 'path'", "command": what a command says may itself be a secret. */
static void set_source(struct key *k, const char *kind, const char *name)
{
	free(k->source);
	k->source = xasprintf("%s%s%s", kind, name, kind[0] == 'f' ? "'" : "");
}

static int from_env(struct key *k, const char *value, struct err *e)
{
	char text[KEY_MAX_BYTES];
	size_t n = strlen(value);

	set_source(k, "$", k->env);
	if (n >= sizeof text)
		return err_set(e, ERR_UNAUTHORIZED, "the key in %s is over %d bytes",
			       k->source, KEY_MAX_BYTES);
	memcpy(text, value, n + 1);
	return key_set(k, text, e);
}

static int check_file(const char *path, const struct stat *st, struct err *e)
{
	if (!S_ISREG(st->st_mode))
		return err_set(e, ERR_UNAUTHORIZED, "key file '%s' is no regular file",
			       path);
	if (st->st_uid != geteuid())
		return err_set(e, ERR_UNAUTHORIZED,
			       "key file '%s' belongs to another user", path);
	if (st->st_mode & 077)
		return err_set(e, ERR_UNAUTHORIZED,
			       "key file '%s' is open to others (mode %04o): "
			       "chmod 600 it",
			       path, (unsigned)st->st_mode & 07777);
	return 0;
}

static int from_file(struct key *k, struct err *e)
{
	int fd = open(k->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = -1;
	char text[KEY_MAX_BYTES];
	struct stat st;
	ssize_t n;

	set_source(k, "file '", k->file);
	if (fd < 0 || fstat(fd, &st) < 0) {
		err_set(e, ERR_UNAUTHORIZED, "key file '%s': %s", k->file,
			strerror(errno));
	} else if (check_file(k->file, &st, e) == 0) {
		n = read(fd, text, sizeof text - 1);
		if (n < 0) {
			err_set(e, ERR_UNAUTHORIZED, "key file '%s': %s", k->file,
				strerror(errno));
		} else {
			text[n] = 0;
			rc = key_set(k, text, e);
		}
	}
	if (fd >= 0)
		close(fd);
	return rc;
}

/* ---- the command ---- */

static void on_command(void *arg, char *output, const struct err *why)
{
	struct key *k = arg;
	struct err e = {0};
	struct key_wait *w;
	int rc = -1;

	k->run = NULL;
	if (why)
		e = *why;
	else
		rc = key_set(k, output, &e);
	k->rest_until_ms = clock_mono_ms() + KEY_AGAIN_MS;
	k->stale = false;
	if (rc < 0)
		err_wrap(&e, "%s", k->who);
	k->command_failed = e;
	while ((w = TAILQ_FIRST(&k->waits))) {
		key_unwait(w);
		w->ready(w, rc < 0 ? &e : NULL);
	}
}

static int from_command(struct key *k, struct key_wait *w, struct err *e)
{
	set_source(k, "command", "");
	if (!k->run && clock_mono_ms() < k->rest_until_ms) {
		if (k->now.len && !k->command_failed.code)
			return 0; /* the same one would come */
		*e = k->command_failed;
		return -1;
	}
	if (!k->run)
		k->run = key_command_start(k->loop, k->command, on_command, k, e);
	if (!k->run)
		return err_wrap(e, "%s", k->who);
	w->key = k;
	TAILQ_INSERT_TAIL(&k->waits, w, link);
	return 1;
}

/* ---- the contract ---- */

int key_want(struct key *k, struct key_wait *w, struct err *e)
{
	const char *value;
	int rc;

	if (k->fixed || (k->now.len && !k->stale))
		return 0;
	value = k->env ? getenv(k->env) : NULL;
	if (value && value[0])
		rc = from_env(k, value, e);
	else if (k->file)
		rc = from_file(k, e);
	else if (k->command)
		return from_command(k, w, e);
	else if (!k->env)
		return 0;
	else
		return err_set(e, ERR_UNAUTHORIZED,
			       "%s has no key: set %s in the environment of "
			       "'hob serve', or name a file of mode 0600 as its key_file",
			       k->who, k->env);
	if (rc == 0)
		k->stale = false;
	return rc;
}

void key_unwait(struct key_wait *w)
{
	if (w->key)
		TAILQ_REMOVE(&w->key->waits, w, link);
	w->key = NULL;
}

void key_refused(struct key *k, unsigned generation)
{
	if (generation == k->generation)
		k->stale = true;
}

unsigned key_generation(const struct key *k)
{
	return k->generation;
}

bool key_is_there(struct key *k)
{
	struct stat st;
	const char *value = k->env ? getenv(k->env) : NULL;

	if (k->now.len || k->fixed || (value && value[0]))
		return true;
	if (k->file)
		return stat(k->file, &st) == 0 && check_file(k->file, &st, NULL) == 0;
	if (k->command)
		return !k->command_failed.code;
	return !k->env;
}

const char *key_source(const struct key *k)
{
	return k->source;
}

int key_header(const struct key *k, const char *url, const char *prefix, struct buf *out,
	       struct err *e)
{
	if (!k->now.len)
		return 0;
	if (!belongs_to(k, url))
		return err_set(e, ERR_FORBIDDEN,
			       "%s: its key belongs to another scheme, host or port",
			       k->who);
	buf_adds(out, prefix);
	buf_add(out, k->now.bytes, k->now.len);
	return 0;
}

void key_wipe(struct buf *b)
{
	if (b->data)
		explicit_bzero(b->data, b->cap);
	buf_free(b);
}

static void redact(const struct secret *s, char *text)
{
	size_t n = strlen(text);
	char *at;

	if (s->len < MIN_REDACT_BYTES)
		return;
	while ((at = memmem(text, n, s->bytes, s->len)))
		memset(at, '*', s->len);
	for (size_t k = s->len < n ? s->len : n; k >= MIN_REDACT_BYTES; k--)
		if (!memcmp(text + n - k, s->bytes, k)) {
			memset(text + n - k, '*', k);
			return;
		}
}

void key_redact(const struct key *k, char *text)
{
	redact(&k->now, text);
	redact(&k->before, text);
}

/* ---- its life ---- */

static char *dup_or_null(const char *s)
{
	return s ? xstrdup(s) : NULL;
}

static int bind_to(struct key *k, const struct names *urls, struct err *e)
{
	char origin[MAX_ORIGIN_BYTES];

	k->origins = xcalloc((size_t)urls->n + 1, sizeof *k->origins);
	for (int i = 0; i < urls->n; i++) {
		if (!origin_of(urls->list[i], origin))
			return err_set(e, ERR_INVALID, "'%.200s' is no http or https URL",
				       urls->list[i]);
		k->origins[k->norigins++] = xstrdup(origin);
	}
	return 0;
}

static void key_free(struct key *k)
{
	for (int i = 0; i < k->norigins; i++)
		free(k->origins[i]);
	free(k->origins);
	free(k->env);
	free(k->file);
	free(k->command);
	free(k->who);
	free(k->source);
	explicit_bzero(k, sizeof *k);
	free(k);
}

struct key *key_new(uv_loop_t *loop, const struct key_from *from, struct err *e)
{
	struct key *k = xcalloc(1, sizeof *k);

	TAILQ_INIT(&k->waits);
	k->loop = loop;
	k->env = dup_or_null(from->env);
	k->file = dup_or_null(from->file);
	k->command = dup_or_null(from->command);
	k->who = xstrdup(from->who);
	if (k->command)
		set_source(k, "command", "");
	if (k->file)
		set_source(k, "file '", k->file);
	if (k->env)
		set_source(k, "$", k->env);
	if (from->fixed) {
		k->fixed = true;
		k->now.len = strlen(from->fixed);
		ASSERT(k->now.len < sizeof k->now.bytes);
		memcpy(k->now.bytes, from->fixed, k->now.len);
	} else if (bind_to(k, from->urls, e) < 0) {
		key_free(k);
		return NULL;
	}
	uv_timer_init(loop, &k->closer);
	k->closer.data = k;
	return k;
}

static void on_closed(uv_handle_t *h)
{
	struct key *k = h->data;
	void (*done)(void *arg) = k->done;
	void *arg = k->done_arg;

	key_free(k);
	done(arg);
}

void key_close(struct key *k, void (*done)(void *arg), void *arg)
{
	ASSERT(TAILQ_EMPTY(&k->waits));
	if (k->run)
		key_command_cancel(k->run);
	k->run = NULL;
	k->done = done;
	k->done_arg = arg;
	uv_close((uv_handle_t *)&k->closer, on_closed);
}
