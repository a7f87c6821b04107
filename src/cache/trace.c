/* The trace: a listener of the cache that writes behind the loop's back.  Loop thread; the
 * writes themselves run in libuv's pool.
 *
 * The question a reader will ask: why not the log.  A trace is data: each line is whole,
 * has a fixed form, and its file has a bound, so that it can be left on for weeks. */
#include "cache/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

struct trace {
	struct cache_listener ear;
	struct cache *cache; /* borrowed; NULL once closing */
	uv_loop_t *loop;
	char *path; /* owned */
	int fd;
	uint64_t bytes; /* of the file, what is buffered included */
	uint64_t dropped;
	struct buf next, now; /* now: being written, from `at` on */
	size_t at;
	uv_fs_t write;
	bool writing, full, told;
	void (*done)(void *arg);
	void *done_arg;
};

static const char *class_name(enum request_class k)
{
	return k == CLASS_COMPLETION ? "completion"
	       : k == CLASS_BATCH    ? "batch"
				     : "interactive";
}

static const char *boolean(bool b)
{
	return b ? "true" : "false";
}

void trace_line(struct buf *out, const struct cache_use *u)
{
	buf_addf(out, "{\"event\":\"request\",\"t\":%lld,\"model\":",
		 (long long)u->at_unix_ms);
	buf_add_json(out, u->model, strlen(u->model));
	buf_addf(out, ",\"instance\":%llu,\"file\":%llu,\"class\":\"%s\"",
		 (unsigned long long)u->instance, (unsigned long long)u->file,
		 class_name(u->class));
	buf_addf(out, ",\"weights_bytes\":%llu,\"kv_bytes\":%llu,\"parked_bytes\":%llu",
		 (unsigned long long)u->sizes.weights_bytes,
		 (unsigned long long)u->sizes.kv_bytes,
		 (unsigned long long)u->sizes.parked_bytes);
	buf_addf(out,
		 ",\"load_ms\":%.3f,\"promote_ms\":%.3f,\"waited_ms\":%.0f,"
		 "\"held_ms\":%.0f",
		 u->load_ms, u->promote_ms, u->waited_ms, u->held_ms);
	buf_addf(out, ",\"hit\":%s,\"pinned\":%s,\"completion\":%s,\"outcome\":\"%s\"}\n",
		 boolean(u->hit), boolean(u->pinned), boolean(u->completion),
		 u->outcome == ERR_NONE ? "ok" : err_info(u->outcome)->name);
}

static void finish(struct trace *t)
{
	void (*done)(void *arg) = t->done;
	void *arg = t->done_arg;

	close(t->fd);
	buf_free(&t->next);
	buf_free(&t->now);
	free(t->path);
	free(t);
	if (done)
		done(arg);
}

static void pump(struct trace *t);

static void on_written(uv_fs_t *req)
{
	struct trace *t = req->data;
	ssize_t n = req->result;

	uv_fs_req_cleanup(req);
	t->writing = false;
	if (n < 0) {
		if (!t->told)
			log_warn("trace '%s': %s; requests are not recorded", t->path,
				 uv_strerror((int)n));
		t->told = t->full = true;
		t->at = t->now.len;
		buf_clear(&t->next);
	} else {
		t->at += (size_t)n;
	}
	pump(t);
}

/* An open trace with nothing to write is idle; a closing one is over. */
static void pump(struct trace *t)
{
	uv_buf_t piece;
	struct buf swap;

	if (t->writing)
		return;
	if (t->at == t->now.len) {
		swap = t->now;
		t->now = t->next;
		t->next = swap;
		buf_clear(&t->next);
		t->at = 0;
	}
	if (t->at == t->now.len) {
		if (!t->cache)
			finish(t);
		return;
	}
	piece = uv_buf_init(t->now.data + t->at, (unsigned)(t->now.len - t->at));
	t->write.data = t;
	t->writing = true;
	uv_fs_write(t->loop, &t->write, t->fd, &piece, 1, -1, on_written);
}

static void add(struct trace *t, const struct buf *line)
{
	if (!t->full && t->bytes + line->len > TRACE_MAX_BYTES) {
		t->full = true;
		log_warn(
			"trace '%s' is full (%d MiB): requests are not recorded any more",
			t->path, TRACE_MAX_BYTES >> 20);
	}
	if (t->full || t->next.len + line->len > TRACE_BUFFER_BYTES) {
		t->dropped++;
		return;
	}
	t->bytes += line->len;
	buf_add(&t->next, line->data, line->len);
	pump(t);
}

static void on_used(struct cache_listener *l, const struct cache_use *u)
{
	struct trace *t = CONTAINER_OF(l, struct trace, ear);
	struct buf line = {0};

	trace_line(&line, u);
	add(t, &line);
	buf_free(&line);
}

/* Nothing is resident when a daemon starts, and instances are numbered anew. */
static void add_start(struct trace *t)
{
	struct buf line = {0};

	if (t->bytes) /* the last line may be torn */
		buf_adds(&line, "\n");
	buf_addf(&line, "{\"event\":\"start\",\"t\":%lld}\n", (long long)clock_unix_ms());
	add(t, &line);
	buf_free(&line);
}

struct trace *trace_open(uv_loop_t *loop, struct cache *c, const char *path,
			 struct err *e)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct trace *t;
	struct stat sb;

	if (fd < 0) {
		err_sys(e, errno, "open the trace '%s'", path);
		return NULL;
	}
	if (fstat(fd, &sb) < 0 || !S_ISREG(sb.st_mode)) {
		err_set(e, ERR_INVALID, "the trace '%s' must be a plain file", path);
		close(fd);
		return NULL;
	}
	t = xcalloc(1, sizeof *t);
	*t = (struct trace){.ear = {.used = on_used},
			    .cache = c,
			    .loop = loop,
			    .path = xstrdup(path),
			    .fd = fd,
			    .bytes = (uint64_t)sb.st_size};
	add_start(t);
	cache_listen(c, &t->ear);
	return t;
}

void trace_close(struct trace *t, void (*done)(void *arg), void *arg)
{
	if (!t) {
		if (done)
			done(arg);
		return;
	}
	cache_unlisten(t->cache, &t->ear);
	t->cache = NULL;
	t->done = done;
	t->done_arg = arg;
	pump(t);
}

uint64_t trace_dropped(const struct trace *t)
{
	return t->dropped;
}
