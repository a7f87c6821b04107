/* Jobs on a remote OpenAI-compatible server.  Loop thread only.
 *
 *      start ─▶ call runs ─▶ SSE or one JSON body ─▶ terminal event ─▶ drain ─▶ gone
 *                   └──────────── fetch's error ──────────▶ FAILED ──────────▶ gone
 *
 * A reader may question the drain: after [DONE] the event has been delivered, but the HTTP response
 * has its last bytes to come.  The call is left to end by itself for a moment, because cancelling
 * it would close the connection that the next prompt could use. */
#include "providers/openai.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "net/sse.h"
#include "providers/openai_wire.h"

enum {
	MAX_KEY_BYTES = 4096,
	MAX_ERROR_BYTES =
		64 << 10,         /* of an answer that is not 200; the rest is not read */
	MAX_BODY_BYTES = 8 << 20, /* of a JSON answer to a request for a stream */
	DRAIN_MS = 1000,
};

enum body_kind { BODY_UNKNOWN, BODY_EVENTS, BODY_PLAIN };

TAILQ_HEAD(job_list, job);

struct openai {
	struct provider base;
	struct fetch *fetch;            /* borrowed */
	char *url, *key_env, *key_file; /* owned; the last two may be NULL */
	char *socket_path, *key;        /* owned; of a server of ours, else NULL */
	char *who, *key_source;         /* owned: for messages */
	struct fetch_deadlines deadlines;
	const struct openai_dialect *dialect;
	bool loopback;
	struct upstream *chat, *completions; /* owned; NULL until there is a key */
	struct job_list running, failing;    /* failing: wait for `later` */
	uv_timer_t later;
	void (*done)(void *arg); /* when closing */
	void *done_arg;
};

struct job {
	struct fetch_sink sink;
	struct openai *p;
	struct event_sink *out;  /* borrowed; NULL: told or cancelled, nobody listens */
	struct fetch_call *call; /* NULL: never started */
	enum body_kind kind;
	struct sse sse;
	struct buf body;    /* BODY_PLAIN */
	struct buf half[2]; /* an unfinished character of TEXT and of REASONING */
	bool started, progress, has_reason, has_tools;
	enum finish_reason reason;
	struct usage usage;
	struct err failed;     /* on the failing list */
	bool dead;             /* to be freed when busy is 0 again */
	int busy;              /* > 0: our frames are below the sink's on the stack */
	TAILQ_ENTRY(job) link; /* running or failing */
};

/* ---- jobs: their end ---- */

static void job_free(struct job *j)
{
	TAILQ_REMOVE(j->failed.code ? &j->p->failing : &j->p->running, j, link);
	if (j->call)
		fetch_cancel(j->call);
	sse_fini(&j->sse);
	buf_free(&j->body);
	buf_free(&j->half[0]);
	buf_free(&j->half[1]);
	free(j);
}

static void job_drop(struct job *j)
{
	j->out = NULL;
	if (j->busy)
		j->dead = true;
	else
		job_free(j);
}

static void job_emit(struct job *j, const struct event *ev)
{
	if (j->out)
		j->out->event(j->out, ev);
}

/* The terminal event.  The owner's pointer is dead when the sink returns. */
static void job_tell(struct job *j, const struct event *ev)
{
	struct event_sink *out = j->out;

	j->out = NULL;
	if (out)
		out->event(out, ev);
}

static void job_fail(struct job *j, const struct err *e)
{
	struct event ev = {.type = EVENT_FAILED, .failed = *e};

	j->busy++;
	job_tell(j, &ev);
	j->busy--;
	job_drop(j);
}

static void add_half(struct job *j, enum event_type type, const char *text, size_t n);

static void job_finish(struct job *j)
{
	struct event ev = {.type = EVENT_FINISHED};

	j->busy++;
	add_half(j, EVENT_REASONING, NULL, 0);
	add_half(j, EVENT_TEXT, NULL, 0);
	ev.finished.reason = j->has_reason  ? j->reason
			     : j->has_tools ? FINISH_TOOLS
					    : FINISH_STOP;
	ev.finished.usage = j->usage;
	job_tell(j, &ev);
	j->busy--;
	if (!j->dead && j->call)
		fetch_expect_end(j->call, DRAIN_MS);
}

/* ---- chunks ---- */

/* Emits text but for an unfinished character at its end, which waits for the next piece; with
 * text NULL what waits goes as it is. */
static void add_half(struct job *j, enum event_type type, const char *text, size_t n)
{
	struct buf *half = &j->half[type == EVENT_REASONING];
	struct event ev = {.type = type};
	struct buf whole = {0};

	if (!half->len && text && openai_whole_utf8(text, n) == n) {
		ev.text.ptr = text;
		ev.text.len = n;
		if (n)
			job_emit(j, &ev);
		return;
	}
	if (!text && !half->len)
		return;
	buf_add(&whole, half->data, half->len);
	buf_clear(half);
	if (text) {
		buf_add(&whole, text, n);
		ev.text.len = openai_whole_utf8(whole.data, whole.len);
		buf_add(half, whole.data + ev.text.len, whole.len - ev.text.len);
		ev.text.ptr = whole.data;
	} else { /* half a character is none */
		ev.text.ptr = "\xef\xbf\xbd";
		ev.text.len = 3;
	}
	if (ev.text.len)
		job_emit(j, &ev);
	buf_free(&whole);
}

static bool job_text(struct job *j, const cJSON *obj, const char *key,
		     enum event_type type)
{
	const char *text = NULL;

	if (json_string(obj, key, &text, NULL) <= 0 || !text[0])
		return false;
	add_half(j, type, text, strlen(text));
	return true;
}

static void job_tools(struct job *j, const cJSON *calls)
{
	int index = 0;

	for (const cJSON *c = calls->child; c && j->out; c = c->next, index++) {
		struct event ev = {.type = EVENT_TOOL_CALL};
		cJSON *copy = cJSON_Duplicate(c, true);
		char *text;

		if (!cJSON_GetObjectItemCaseSensitive(copy,
						      "index")) /* a whole message */
			cJSON_AddNumberToObject(copy, "index", index);
		text = cJSON_PrintUnformatted(copy);
		if (text) {
			ev.text.ptr = text;
			ev.text.len = strlen(text);
			j->has_tools = true;
			job_emit(j, &ev);
		}
		cJSON_free(text);
		cJSON_Delete(copy);
	}
}

/* A choice of a chunk ("delta"), of a whole answer ("message") or of a raw completion. */
static int job_choice(struct job *j, const cJSON *choice, struct err *e)
{
	const cJSON *delta = NULL, *tools = NULL;
	const char *finish = NULL;

	if (json_object(choice, "delta", &delta, NULL) <= 0)
		json_object(choice, "message", &delta, NULL);
	if (!job_text(j, delta, "reasoning_content",
		      EVENT_REASONING)) /* some send both */
		job_text(j, delta, "reasoning", EVENT_REASONING);
	if (!job_text(j, delta, "content", EVENT_TEXT))
		job_text(j, delta, "refusal", EVENT_TEXT);
	if (!delta)
		job_text(j, choice, "text", EVENT_TEXT);
	if (json_array(delta, "tool_calls", &tools, NULL) > 0)
		job_tools(j, tools);
	if (json_string(choice, "finish_reason", &finish, NULL) <= 0 || !finish[0])
		return 0;
	if (!strcmp(finish, "error"))
		return err_set(e, ERR_UPSTREAM, "%s broke off with an error", j->p->who);
	j->has_reason = true;
	if (!openai_finish(finish, &j->reason))
		j->reason = FINISH_STOP;
	return 0;
}

static void job_started(struct job *j, const cJSON *tree)
{
	struct event ev = {.type = EVENT_STARTED};

	if (j->started)
		return;
	j->started = true;
	json_string(tree, "model", &ev.started.model, NULL);
	ev.started.provider = j->p->base.name;
	ev.started.kept_messages = ev.started.dropped_messages = -1;
	job_emit(j, &ev);
}

/* The prompt is being read: nothing to show, but it is alive. */
static void job_progress(struct job *j, const cJSON *progress)
{
	struct event ev = {.type = EVENT_PROGRESS};

	ev.progress.stage = PROGRESS_PREFILL;
	openai_progress(progress, &ev.progress.done, &ev.progress.total);
	job_emit(j, &ev);
}

/* -1: the job is to fail with e.  The sink may have cancelled the job on the way. */
static int job_chunk(struct job *j, const cJSON *tree, struct err *e)
{
	const cJSON *error = cJSON_GetObjectItemCaseSensitive(tree, "error");
	const cJSON *choices = NULL, *part = NULL, *choice;
	struct openai_failure f = {
		.who = j->p->who, .key_source = j->p->key_source, .status = 200};

	if (!cJSON_IsObject(tree))
		return err_set(e, ERR_UPSTREAM, "%s sent an event that is no object",
			       j->p->who);
	if (error && !cJSON_IsNull(error)) /* before choices: both may be there */
		return openai_chunk_error(e, &f, error);
	job_started(j, tree);
	if (json_object(tree, "usage", &part, NULL) > 0)
		openai_usage(part, &j->usage);
	if (json_object(tree, "timings", &part, NULL) > 0)
		openai_timings(part, &j->usage);
	if (j->p->dialect->progress &&
	    json_object(tree, "prompt_progress", &part, NULL) > 0)
		job_progress(j, part);
	if (json_array(tree, "choices", &choices, NULL) <= 0)
		return 0;
	cJSON_ArrayForEach(choice, choices)
	{
		double index = 0;

		json_double(choice, "index", 0, 1e6, &index, NULL);
		if (index > 0) /* we never ask for more than one */
			continue;
		error = cJSON_GetObjectItemCaseSensitive(choice, "error");
		if (error && !cJSON_IsNull(error))
			return openai_chunk_error(e, &f, error);
		if (job_choice(j, choice, e) < 0)
			return -1;
	}
	return 0;
}

/* False: no more events, for whatever reason. */
static bool on_event(void *arg, struct str type, struct str data)
{
	struct job *j = arg;
	struct err e = {0};
	cJSON *tree;

	UNUSED(type);
	j->progress = true;
	if (str_starts(data, "[DONE]")) {
		job_finish(j);
		return false;
	}
	tree = json_read(data, 0, &e);
	if (!tree) {
		err_set(&e, ERR_UPSTREAM, "%s sent an event that is no JSON", j->p->who);
		job_fail(j, &e);
		return false;
	}
	if (job_chunk(j, tree, &e) < 0 && j->out)
		job_fail(j, &e);
	cJSON_Delete(tree);
	return j->out != NULL;
}

/* ---- the call ---- */

static enum body_kind body_kind(struct fetch_call *c, const char *bytes, size_t n)
{
	struct str type = fetch_header(c, "content-type");

	if (fetch_status(c) != 200)
		return BODY_PLAIN;
	if (str_starts(type, "text/event-stream"))
		return BODY_EVENTS;
	if (str_starts(type, "application/json") || str_starts(type, "text/html"))
		return BODY_PLAIN;
	while (n && strchr(" \t\r\n", *bytes))
		bytes++, n--;
	return n && (*bytes == '{' || *bytes == '<') ? BODY_PLAIN : BODY_EVENTS;
}

static void add_plain(struct job *j, const char *bytes, size_t n)
{
	bool ok = fetch_status(j->call) == 200;
	size_t room = (ok ? MAX_BODY_BYTES : MAX_ERROR_BYTES) - j->body.len;
	struct err e = {0};

	j->progress = true;
	buf_add(&j->body, bytes, n < room ? n : room);
	if (n <= room || !ok)
		return;
	err_set(&e, ERR_UPSTREAM, "%s: an answer over %d bytes", j->p->who,
		MAX_BODY_BYTES);
	job_fail(j, &e);
}

static bool on_data(struct fetch_sink *sink, const char *bytes, size_t n)
{
	struct job *j = CONTAINER_OF(sink, struct job, sink);
	struct err e = {0};
	bool progress;

	if (!j->out) /* draining */
		return true;
	if (j->kind == BODY_UNKNOWN)
		j->kind = body_kind(j->call, bytes, n);
	j->busy++;
	if (j->kind == BODY_PLAIN)
		add_plain(j, bytes, n);
	else if (sse_feed(&j->sse, bytes, n, on_event, j, &e) < 0) {
		err_wrap(&e, "%s", j->p->who);
		job_fail(j, &e);
	}
	j->busy--;
	progress = j->progress;
	if (j->dead)
		job_free(j);
	return progress;
}

static int failure(struct job *j, struct err *e)
{
	struct openai_failure f = {
		.who = j->p->who,
		.key_source = j->p->key_source,
		.status = fetch_status(j->call),
		.content_type = fetch_header(j->call, "content-type"),
		.retry_after = fetch_header(j->call, "retry-after"),
		.body = buf_str(&j->body),
	};

	return openai_failure(e, &f);
}

/* The whole answer in one JSON text. */
static int whole_answer(struct job *j, struct err *e)
{
	const cJSON *choices = NULL;
	cJSON *tree = json_read(buf_str(&j->body), 0, NULL);
	int rc;

	if (json_array(tree, "choices", &choices, NULL) <= 0 || !choices->child)
		rc = failure(j, e);
	else
		rc = job_chunk(j, tree, e);
	cJSON_Delete(tree);
	return rc;
}

/* The response is over and nobody was told yet: 0 when it was a good answer. */
static int judge(struct job *j, const struct err *why, struct err *e)
{
	int status = fetch_status(j->call);

	if (status && status != 200)
		return failure(j, e);
	if (j->has_reason && j->kind == BODY_EVENTS) /* only [DONE] is missing */
		return 0;
	if (why) {
		*e = *why;
		return err_wrap(e, "%s", j->p->who);
	}
	if (j->kind == BODY_PLAIN)
		return whole_answer(j, e);
	if (j->kind == BODY_UNKNOWN)
		return err_set(e, ERR_UPSTREAM, "%s: an empty answer", j->p->who);
	return err_set(e, ERR_UPSTREAM,
		       "%s: the answer was truncated: the stream ended without "
		       "a finish reason",
		       j->p->who);
}

static void on_end(struct fetch_sink *sink, const struct err *why)
{
	struct job *j = CONTAINER_OF(sink, struct job, sink);
	struct err e = {0};

	j->busy++;
	if (j->out && j->kind == BODY_EVENTS && !why &&
	    sse_finish(&j->sse, on_event, j, &e) < 0 && j->out)
		job_fail(j, &e);
	if (j->out) {
		if (judge(j, why, &e) < 0)
			job_fail(j, &e);
		else if (j->out)
			job_finish(j);
	}
	j->busy--;
	job_free(j); /* cancels the call, which is legal here */
}

/* ---- the key ---- */

static int key_check(char *key, const char *source, struct err *e)
{
	size_t n = strcspn(key, "\r\n");

	key[n] = 0;
	while (n && (key[n - 1] == ' ' || key[n - 1] == '\t'))
		key[--n] = 0;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)key[i] <= 0x20 || (unsigned char)key[i] >= 0x7f)
			return err_set(e, ERR_UNAUTHORIZED,
				       "the key in %s has a character that "
				       "no key has",
				       source);
	return n ? 0 : err_set(e, ERR_UNAUTHORIZED, "the key in %s is empty", source);
}

static int key_from_file(const char *path, char *key, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = -1;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0) {
		err_set(e, ERR_UNAUTHORIZED, "key file '%s': %s", path, strerror(errno));
	} else if (!S_ISREG(st.st_mode)) {
		err_set(e, ERR_UNAUTHORIZED, "key file '%s' is no regular file", path);
	} else if (st.st_uid != geteuid()) {
		err_set(e, ERR_UNAUTHORIZED, "key file '%s' belongs to another user",
			path);
	} else if (st.st_mode & 077) {
		err_set(e, ERR_UNAUTHORIZED,
			"key file '%s' is open to others (mode %04o): "
			"chmod 600 it",
			path, (unsigned)st.st_mode & 07777);
	} else if ((n = read(fd, key, MAX_KEY_BYTES - 1)) < 0) {
		err_set(e, ERR_UNAUTHORIZED, "key file '%s': %s", path, strerror(errno));
	} else {
		key[n] = 0;
		rc = key_check(key, path, e);
	}
	if (fd >= 0)
		close(fd);
	return rc;
}

static void set_key_source(struct openai *p, const char *quote, const char *name)
{
	free(p->key_source);
	p->key_source = xasprintf("%s%s%s", quote, name, quote[0] == '$' ? "" : quote);
}

/* 0 and the key in `key` (MAX_KEY_BYTES); "" when the provider is configured without any. */
static int key_find(struct openai *p, char *key, struct err *e)
{
	const char *value = p->key_env ? getenv(p->key_env) : NULL;

	key[0] = 0;
	if (p->key) {
		snprintf(key, MAX_KEY_BYTES, "%s", p->key);
		return 0;
	}
	if (value && value[0]) {
		set_key_source(p, "$", p->key_env);
		if (strlen(value) >= MAX_KEY_BYTES)
			return err_set(e, ERR_UNAUTHORIZED,
				       "the key in $%s is over %d bytes", p->key_env,
				       MAX_KEY_BYTES);
		memcpy(key, value, strlen(value) + 1);
		return key_check(key, p->key_source, e);
	}
	if (p->key_file) {
		set_key_source(p, "'", p->key_file);
		return key_from_file(p->key_file, key, e);
	}
	if (!p->key_env)
		return 0;
	return err_set(e, ERR_UNAUTHORIZED,
		       "%s has no key: set %s in the environment of "
		       "'hob serve', or name a file of mode 0600 as its key_file",
		       p->who, p->key_env);
}

static int add_upstreams(struct openai *p, const char *const *headers, struct err *e)
{
	char *chat = xasprintf("%s/chat/completions", p->url);
	char *raw = xasprintf("%s/completions", p->url);
	int rc = -1;

	p->chat = upstream_new(p->fetch, chat, headers, e);
	if (p->chat && (p->completions = upstream_new(p->fetch, raw, headers, e)))
		rc = 0;
	if (rc == 0 && p->socket_path) {
		upstream_set_socket(p->chat, p->socket_path);
		upstream_set_socket(p->completions, p->socket_path);
	}
	free(chat);
	free(raw);
	return rc;
}

/* Headers hold the key, so the upstreams are made when there is one. */
static int openai_connect(struct openai *p, struct err *e)
{
	char key[MAX_KEY_BYTES], bearer[MAX_KEY_BYTES + 32];
	const char *headers[8] = {"Content-Type: application/json",
				  "Accept: text/event-stream, application/json",
				  "User-Agent: hob"};
	size_t n = 3;
	int rc;

	if (p->chat)
		return 0;
	if (key_find(p, key, e) < 0) {
		explicit_bzero(key, sizeof key);
		return -1;
	}
	snprintf(bearer, sizeof bearer, "Authorization: Bearer %s", key);
	if (key[0])
		headers[n++] = bearer;
	for (const char *const *h = p->dialect->headers;
	     h && *h && n < ARRAY_LEN(headers) - 1; h++)
		headers[n++] = *h;
	if (key[0] && !p->loopback && !strncmp(p->url, "http:", 5))
		log_warn("%s: its key goes over plain http to another machine", p->who);
	rc = add_upstreams(p, headers, e);
	explicit_bzero(key, sizeof key);
	explicit_bzero(bearer, sizeof bearer);
	return rc;
}

/* ---- the provider ---- */

static void on_later(uv_timer_t *t)
{
	struct openai *p = t->data;
	struct job *j = TAILQ_FIRST(&p->failing);

	if (!j)
		return;
	if (TAILQ_NEXT(j, link)) /* one at a time: the sink may add and cancel others */
		uv_timer_start(t, on_later, 0, 0);
	job_fail(j, &j->failed);
}

static int job_start(struct job *j, const char *model, const struct request *r,
		     struct err *e)
{
	struct openai *p = j->p;
	struct buf body = {0};

	if (r->is_private && !p->loopback)
		return err_set(e, ERR_FORBIDDEN,
			       "the request is private: it must not go to %s", p->who);
	if (openai_connect(p, e) < 0)
		return -1;
	if (openai_body(&body, p->dialect, model, r, e) < 0) {
		buf_free(&body);
		return -1;
	}
	j->call = fetch_start(r->is_chat ? p->chat : p->completions, &body, &p->deadlines,
			      &j->sink);
	return 0;
}

static struct job *openai_start(struct provider *base, const char *model,
				const struct request *r, struct event_sink *sink)
{
	struct openai *p = CONTAINER_OF(base, struct openai, base);
	struct job *j = xcalloc(1, sizeof *j);

	j->p = p;
	j->out = sink;
	j->sink = (struct fetch_sink){.data = on_data, .end = on_end};
	j->usage = (struct usage){-1, -1, -1, -1, -1, -1};
	sse_init(&j->sse);
	if (job_start(j, model, r, &j->failed) < 0) {
		TAILQ_INSERT_TAIL(&p->failing, j, link);
		uv_timer_start(&p->later, on_later, 0, 0);
	} else {
		TAILQ_INSERT_TAIL(&p->running, j, link);
	}
	return j;
}

static void openai_cancel(struct job *j)
{
	if (j->call &&
	    j->busy) { /* the upstream is told at once, not when the stack unwinds */
		fetch_cancel(j->call);
		j->call = NULL;
	}
	job_drop(j);
}

static void openai_pause(struct job *j, bool paused)
{
	if (j->call)
		fetch_pause(j->call, paused);
}

static void on_closed(uv_handle_t *h)
{
	struct openai *p = h->data;
	void (*done)(void *arg) = p->done;
	void *arg = p->done_arg;

	free(p->base.name);
	free(p->url);
	free(p->key_env);
	free(p->key_file);
	free(p->socket_path);
	if (p->key)
		explicit_bzero(p->key, strlen(p->key));
	free(p->key);
	free(p->who);
	free(p->key_source);
	free(p);
	done(arg);
}

static void openai_close(struct provider *base, void (*done)(void *arg), void *arg)
{
	struct openai *p = CONTAINER_OF(base, struct openai, base);
	struct err e;
	struct job *j;

	err_set(&e, ERR_UNAVAILABLE, "%s is closing", p->who);
	while ((j = TAILQ_FIRST(&p->failing)))
		job_fail(j, &j->failed);
	while ((j = TAILQ_FIRST(&p->running))) {
		ASSERT(!j->busy); /* close() is the daemon's, not a sink's */
		job_fail(j, &e);
	}
	upstream_free(p->chat);
	upstream_free(p->completions);
	p->done = done;
	p->done_arg = arg;
	uv_close((uv_handle_t *)&p->later, on_closed);
}

static const struct provider_ops openai_ops = {
	.kind = "openai",
	.start = openai_start,
	.cancel = openai_cancel,
	.pause = openai_pause,
	.close = openai_close,
};

/* The URL judged by the eyes of those who will use it; the caller frees. */
static struct upstream *probe_url(struct fetch *f, const struct config_provider *c,
				  struct err *e)
{
	struct upstream *probe = upstream_new(f, c->url ? c->url : "", NULL, e);

	if (!probe)
		err_wrap(e, "provider '%s'", c->name);
	return probe;
}

/* The base URL without slashes at its end; frees the probe. */
static void set_url(struct openai *p, const char *url, struct upstream *probe)
{
	size_t n = strlen(url);

	while (n && url[n - 1] == '/')
		n--;
	p->url = xstrndup(url, n);
	p->loopback = upstream_is_loopback(probe);
	p->dialect = openai_dialect_of(upstream_host(probe));
	upstream_free(probe);
}

static struct openai *provider_new(uv_loop_t *loop, struct fetch *f, const char *name)
{
	struct openai *p = xcalloc(1, sizeof *p);

	p->base.ops = &openai_ops;
	p->base.name = xstrdup(name);
	p->fetch = f;
	p->key_source = xstrdup("not configured"); /* until key_find() */
	TAILQ_INIT(&p->running);
	TAILQ_INIT(&p->failing);
	uv_timer_init(loop, &p->later);
	p->later.data = p;
	return p;
}

struct provider *provider_openai_new(uv_loop_t *loop, struct fetch *f,
				     const struct config_provider *c, struct err *e)
{
	struct upstream *probe = probe_url(f, c, e);
	struct openai *p;

	if (!probe)
		return NULL;
	p = provider_new(loop, f, c->name);
	set_url(p, c->url, probe);
	p->who = xasprintf("provider '%s'", c->name);
	p->key_env = c->key_env ? xstrdup(c->key_env) : NULL;
	p->key_file = c->key_file ? xstrdup(c->key_file) : NULL;
	p->deadlines.connect = c->connect_timeout_ms;
	p->deadlines.first_byte = c->first_byte_timeout_ms;
	p->deadlines.idle = c->idle_timeout_ms;
	return &p->base;
}

struct provider *provider_openai_local(uv_loop_t *loop, struct fetch *f,
				       const struct openai_local *l)
{
	struct openai *p = provider_new(loop, f, l->name);

	p->url = xstrdup("http://localhost/v1");
	p->loopback = true;
	p->dialect = openai_dialect_llama();
	p->who = xstrdup(l->who);
	p->socket_path = xstrdup(l->socket_path);
	p->key = xstrdup(l->key);
	p->deadlines.connect = l->connect_ms;
	p->deadlines.idle = l->idle_ms;
	return &p->base;
}
