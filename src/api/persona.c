/* Personas applied to requests, and listed.
 *
 * Loop thread.  A system file is read here, on the loop, when a request needs it: it has 64 KiB at most,
 * and it is looked at again at each use (fstat), since people edit such files and expect the next answer
 * to know.  It is opened without waiting, so that a pipe of that name cannot stop the daemon. */
#include "api/persona.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/nearest.h"

struct persona_file {
	char *path, *text; /* owned */
	struct stat st;    /* when it was read */
};

struct personas {
	struct persona_file *files; /* owned */
	int n;
};

struct personas *personas_new(void)
{
	return xcalloc(1, sizeof(struct personas));
}

void personas_forget(struct personas *p)
{
	for (int i = 0; i < p->n; i++) {
		free(p->files[i].path);
		free(p->files[i].text);
	}
	free(p->files);
	*p = (struct personas){0};
}

void personas_free(struct personas *p)
{
	if (p)
		personas_forget(p);
	free(p);
}

/* ---- files ---- */

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	       a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
	       a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static int check_text(const char *path, struct str text, struct err *e)
{
	struct str left = text;

	while (left.len) {
		size_t n = left.ptr[0] ? str_utf8_len(left) : 0;

		if (!n)
			return err_set(e, ERR_CORRUPT,
				       "'%s' is no text in UTF-8 (byte %zu)", path,
				       (size_t)(left.ptr - text.ptr));
		left = (struct str){left.ptr + n, left.len - n};
	}
	if (!text.len)
		return err_set(e, ERR_CORRUPT, "'%s' is empty", path);
	return 0;
}

/* All of an open file, without the ends of its last lines; NULL and an error. */
static char *read_all(const char *path, int fd, struct err *e)
{
	struct buf b = {0};
	char chunk[4096];
	ssize_t n;

	while (b.len <= PERSONA_MAX_SYSTEM_BYTES &&
	       (n = read(fd, chunk, sizeof chunk)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			err_sys(e, errno, "read '%s'", path);
			goto fail;
		}
		buf_add(&b, chunk, (size_t)n);
	}
	if (b.len > PERSONA_MAX_SYSTEM_BYTES) {
		err_set(e, ERR_TOO_LARGE, "'%s' is larger than %d bytes", path,
			PERSONA_MAX_SYSTEM_BYTES);
		goto fail;
	}
	while (b.len && (b.data[b.len - 1] == '\n' || b.data[b.len - 1] == '\r'))
		b.data[--b.len] = 0;
	if (check_text(path, buf_str(&b), e) == 0)
		return buf_take(&b, NULL);
fail:
	buf_free(&b);
	return NULL;
}

static struct persona_file *file_of(struct personas *p, const char *path)
{
	for (int i = 0; i < p->n; i++)
		if (!strcmp(p->files[i].path, path))
			return &p->files[i];
	p->files = xrealloc(p->files, (size_t)(p->n + 1) * sizeof *p->files);
	p->files[p->n] = (struct persona_file){.path = xstrdup(path)};
	return &p->files[p->n++];
}

/* The text as it is on disk now, owned by the caller. */
static char *file_text(struct personas *p, const char *path, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct persona_file *f = p && fd >= 0 ? file_of(p, path) : NULL;
	struct stat st = {0};
	char *text = NULL;

	if (fd < 0) {
		err_sys(e, errno, "open '%s'", path);
		return NULL;
	}
	if (fstat(fd, &st) < 0)
		err_sys(e, errno, "look at '%s'", path);
	else if (!S_ISREG(st.st_mode))
		err_set(e, ERR_CORRUPT, "'%s' is not a file", path);
	else if (f && f->text && same_file(&f->st, &st))
		text = xstrdup(f->text);
	else if ((text = read_all(path, fd, e)) && f) {
		free(f->text);
		f->text = xstrdup(text);
		f->st = st;
	}
	close(fd);
	return text;
}

/* ---- requests ---- */

int persona_set(struct request *r, struct str name, struct err *e)
{
	if (name.len > PERSONA_MAX_NAME_BYTES)
		return err_set(e, ERR_INVALID,
			       "'persona' is a name of at most %d bytes: "
			       "GET /v1/hob/personas lists them",
			       PERSONA_MAX_NAME_BYTES);
	free(r->persona);
	r->persona = name.len ? str_dup(name) : NULL;
	return 0;
}

static bool has_system(const struct request *r)
{
	for (int i = 0; i < r->nmessages; i++)
		if (r->messages[i].role == ROLE_SYSTEM)
			return true;
	return false;
}

static void put_first(struct request *r, const char *text)
{
	struct message first;
	int n;

	request_add_message(r, ROLE_SYSTEM, text, strlen(text));
	n = r->nmessages;
	first = r->messages[n - 1];
	memmove(r->messages + 1, r->messages, (size_t)(n - 1) * sizeof *r->messages);
	r->messages[0] = first;
	r->system_is_default = true;
}

static int apply_system(struct personas *p, const struct config_persona *persona,
			struct request *r, struct err *e)
{
	char *text;

	/* a raw completion has no messages: it goes on from the prompt as it is */
	if (!r->is_chat || has_system(r) || (!persona->system && !persona->system_file))
		return 0;
	if (persona->system) {
		put_first(r, persona->system);
		return 0;
	}
	text = file_text(p, persona->system_file, e);
	if (!text)
		return err_wrap(e, "persona '%s': system_file", persona->name);
	put_first(r, text);
	free(text);
	return 0;
}

static void apply_settings(const struct config_persona *p, struct request *r)
{
	struct sampling *s = &r->sampling;

	if (p->model && !strcmp(r->model, "default")) {
		free(r->model);
		r->model = xstrdup(p->model);
	}
	if (s->temperature < 0)
		s->temperature = p->temperature;
	if (s->top_p < 0)
		s->top_p = p->top_p;
	if (!s->max_tokens)
		s->max_tokens = p->max_tokens;
	r->is_private |= p->is_private;
}

static int unknown(const struct config *c, const char *name, struct err *e)
{
	struct nearest near = {.word = name};

	for (int i = 0; i < c->npersonas; i++)
		nearest_offer(&near, c->personas[i].name);
	return err_set(e, ERR_INVALID, "no persona '%s'%s%s%s: the configuration has %s",
		       name, near.best ? "; did you mean '" : "",
		       near.best ? near.best : "", near.best ? "'?" : "",
		       c->npersonas ? "others (GET /v1/hob/personas)" : "none");
}

int persona_apply(struct personas *p, const struct config *c, struct request *r,
		  struct err *e)
{
	const struct config_persona *persona;

	if (!r->persona)
		return 0;
	persona = config_persona(c, r->persona);
	if (!persona)
		return unknown(c, r->persona, e);
	if (apply_system(p, persona, r, e) < 0)
		return -1;
	apply_settings(persona, r);
	return 0;
}

/* ---- the list ---- */

void persona_api_list(const struct call *call)
{
	const struct config *c = call->api->config;
	struct buf out = {0};

	buf_adds(&out, "{\"personas\":[");
	for (int i = 0; i < c->npersonas; i++) {
		const struct config_persona *p = &c->personas[i];

		buf_adds(&out, i ? ",{" : "{");
		buf_add_json_text(&out, "name", p->name);
		buf_add_json_text(&out, "model", p->model);
		buf_add_json_text(&out, "description", p->description);
		buf_addf(&out, ",\"private\":%s}", p->is_private ? "true" : "false");
	}
	buf_adds(&out, "]}");
	api_reply_json(call->conn, &out);
	buf_free(&out);
}
