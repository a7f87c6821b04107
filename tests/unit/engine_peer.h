/* The engine's loop in a thread of the test, and the router's end of its socketpair. */
#ifndef HOB_TESTS_ENGINE_PEER_H
#define HOB_TESTS_ENGINE_PEER_H

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/json.h"
#include "engine/engine.h"
#include "engine/wire.h"

struct peer {
	int fd; /* ours */
	int engine_fd;
	pthread_t thread;
	struct engine_options options;
	int status;
	struct buf in;
};

static void *peer_thread(void *arg)
{
	struct peer *p = arg;

	p->status = engine_main(p->engine_fd, p->engine_fd, &p->options);
	close(p->engine_fd);
	return NULL;
}

static void say(struct peer *p, const char *fmt, ...) PRINTF(2, 3);
static void say(struct peer *p, const char *fmt, ...)
{
	struct buf b = {0};
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&b, fmt, ap);
	va_end(ap);
	buf_addc(&b, '\n');
	assert_int_equal(write(p->fd, b.data, b.len), b.len);
	buf_free(&b);
}

/* The next line; NULL at the end.  The caller deletes it. */
static cJSON *hear(struct peer *p)
{
	struct err e = {0};
	cJSON *line;
	char *nl;

	while (!p->in.len || !(nl = memchr(p->in.data, '\n', p->in.len))) {
		char block[4096];
		ssize_t n = read(p->fd, block, sizeof(block));

		if (n <= 0)
			return NULL;
		buf_add(&p->in, block, (size_t)n);
	}
	line = json_parse((struct str){p->in.data, (size_t)(nl - p->in.data)}, &e);
	buf_drop(&p->in, (size_t)(nl - p->in.data) + 1);
	assert_non_null(line);
	return line;
}

static const char *text_of(const cJSON *line, const char *key)
{
	const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, key));

	return s ? s : "";
}

static double number_of(const cJSON *line, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(line, key);

	assert_true(cJSON_IsNumber(v));
	return v->valuedouble;
}

static bool is_event(const cJSON *line, const char *ev)
{
	return strcmp(text_of(line, "ev"), ev) == 0;
}

/* The next line but those of progress, which must be that event (NULL: any). */
static cJSON *expect(struct peer *p, const char *ev)
{
	cJSON *line;

	while ((line = hear(p)) && is_event(line, "loading"))
		cJSON_Delete(line);
	assert_non_null(line);
	if (ev && !is_event(line, ev))
		fail_msg("%s instead of %s: %s", text_of(line, "ev"), ev,
			 text_of(line, "message"));
	return line;
}

static void peer_init_options(struct peer *p, const struct engine_options *o)
{
	int fds[2];
	cJSON *hello;

	memset(p, 0, sizeof(*p));
	p->options = *o;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	p->fd = fds[0];
	p->engine_fd = fds[1];
	assert_int_equal(pthread_create(&p->thread, NULL, peer_thread, p), 0);
	hello = expect(p, "hello");
	assert_int_equal(number_of(hello, "version"), WIRE_VERSION);
	if (o->threads)
		assert_int_equal(number_of(hello, "threads"), o->threads);
	cJSON_Delete(hello);
}

static void peer_fini_with(struct peer *p, int status)
{
	shutdown(p->fd, SHUT_WR);
	pthread_join(p->thread, NULL);
	close(p->fd);
	assert_int_equal(p->status, status);
	buf_free(&p->in);
}

static void peer_fini(struct peer *p)
{
	peer_fini_with(p, ENGINE_EXIT_OK);
}

#endif
