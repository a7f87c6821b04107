/* The supervised worker process: spawn, hello, lines, pings, death, back-off.
 *
 * Loop thread.  The questions a reader will ask: why a line that does not parse kills the
 * process (both sides are hob, so it is a bug or a forged peer, and nothing after it can
 * be trusted), and why a load that waits for the back-off is dropped when the process
 * dies again (the death callback tells the owner that everything is gone; it decides
 * whether to retry). */
#include "providers/engine_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/sm.h"
#include "engine/kv_file.h"
#include "engine/wire.h"
#include "net/environment.h"

static const struct sm_state engine_states[ENGINE_STATES] = {
	[ENGINE_STOPPED] = {"stopped", SM_TO(ENGINE_STARTING)},
	[ENGINE_STARTING] = {"starting", SM_TO(ENGINE_READY) | SM_TO(ENGINE_ENDING) |
						 SM_TO(ENGINE_BACKOFF)},
	[ENGINE_READY] = {"ready", SM_TO(ENGINE_ENDING) | SM_TO(ENGINE_BACKOFF)},
	[ENGINE_ENDING] = {"ending", SM_TO(ENGINE_BACKOFF) | SM_TO(ENGINE_STOPPED)},
	[ENGINE_BACKOFF] = {"backoff", SM_TO(ENGINE_STARTING) | SM_TO(ENGINE_STOPPED)},
};

static void on_timer(uv_timer_t *t);

const char *engine_state_name(enum engine_state s)
{
	return (unsigned)s < ENGINE_STATES ? engine_states[s].name : "unknown";
}

static void move(struct engine *e, enum engine_state next)
{
	sm_move(engine_states, "engine", &e->state, next);
}

static void set_timer(struct engine *e, uint64_t after_ms)
{
	if (!e->closing)
		uv_timer_start(&e->timer, on_timer, after_ms, 0);
}

/* ---- commands about models */

/* Off the list before its callback: that may give another command about the same model. */
static void op_unlink(struct engine *e, struct engine_op *op)
{
	TAILQ_REMOVE(&e->ops, op, link);
}

static void op_free(struct engine_op *op)
{
	free(op->path);
	free(op);
}

static void op_send(struct engine *e, struct engine_op *op)
{
	static const char *const names[] = {"probe", "load", "park", "unload"};
	struct buf b = {0};

	buf_addf(&b, "{\"op\":\"%s\",\"model\":%llu", names[op->kind],
		 (unsigned long long)op->id);
	if (op->path) {
		buf_adds(&b, ",\"path\":");
		buf_add_json(&b, op->path, strlen(op->path));
		buf_addf(&b, ",\"ctx\":%d,\"slots\":%d", op->ctx, op->slots);
	}
	buf_adds(&b, "}\n");
	op->sent = engine_send(e, &b);
}

static struct engine_op *op_find(struct engine *e, enum engine_op_kind kind, uint64_t id)
{
	struct engine_op *op;

	TAILQ_FOREACH(op, &e->ops, link)
	if (op->kind == kind && op->id == id && op->sent)
		return op;
	return NULL;
}

static void ops_drop(struct engine *e)
{
	struct engine_op *op;

	while ((op = TAILQ_FIRST(&e->ops))) {
		op_unlink(e, op);
		op_free(op);
	}
}

/* ---- the process */

bool engine_send(struct engine *e, struct buf *b)
{
	if (e->state != ENGINE_READY || !e->child) {
		buf_free(b);
		return false;
	}
	if (child_write(e->child, b) == 0)
		return true;
	buf_free(b);
	snprintf(e->why, sizeof e->why, "its pipe is closed or full");
	move(e, ENGINE_ENDING);
	child_kill(e->child);
	return false;
}

/* It must go: it is stuck, or what it says cannot be trusted. */
static void engine_kill(struct engine *e, const char *why)
{
	if (e->state != ENGINE_STARTING && e->state != ENGINE_READY)
		return;
	snprintf(e->why, sizeof e->why, "%s", why);
	move(e, ENGINE_ENDING);
	child_kill(e->child);
}

/* It is gone: the owner of the models hears it first, then each job. */
static void engine_dead(struct engine *e)
{
	char text[256];

	if (e->ready_ms && clock_mono_ms() - e->ready_ms >= ENGINE_HEALTHY_MS)
		e->backoff_ms = 0;
	e->backoff_ms = e->backoff_ms ? e->backoff_ms * 2 : ENGINE_BACKOFF_MIN_MS;
	if (e->backoff_ms > ENGINE_BACKOFF_MAX_MS)
		e->backoff_ms = ENGINE_BACKOFF_MAX_MS;
	e->ready_ms = e->ping_ms = 0;
	e->kv_ram_bytes = 0;
	e->restarts++;
	buf_clear(&e->in);
	e->scanned = 0;
	snprintf(text, sizeof text, "engine died (%s); restarting", e->why);
	log_error("engine: %s in %llu ms", text, (unsigned long long)e->backoff_ms);
	move(e, ENGINE_BACKOFF);
	set_timer(e, e->backoff_ms);
	ops_drop(e);
	if (e->died)
		e->died(e->died_arg, text);
	engine_jobs_fail(e, ERR_UNAVAILABLE, text);
}

static void on_closed(uv_handle_t *h)
{
	struct engine *e = h->data;
	void (*done)(void *arg) = e->done;
	void *arg = e->done_arg;

	if (--e->open_handles > 0)
		return;
	buf_free(&e->in);
	free(e->exe);
	free(e->kernels_wanted);
	free(e->pack_dir);
	free(e->kv_dir);
	free(e->provider.name);
	free(e);
	if (done)
		done(arg);
}

static void close_handles(struct engine *e)
{
	uv_close((uv_handle_t *)&e->timer, on_closed);
	uv_close((uv_handle_t *)&e->soon_timer, on_closed);
}

static void on_exit_child(void *arg, int64_t status, int signal)
{
	struct engine *e = arg;

	e->child = NULL;
	if (e->closing) {
		close_handles(e);
		return;
	}
	if (!e->why[0] && signal)
		snprintf(e->why, sizeof e->why, "signal %d", signal);
	else if (!e->why[0])
		snprintf(e->why, sizeof e->why, "exit status %d", (int)status);
	engine_dead(e);
}

static void on_hello(struct engine *e, const cJSON *line)
{
	const char *kernels = "";
	struct engine_op *op, *next;
	int64_t version = 0, threads = 0;
	struct err err;

	if (json_int(line, "version", 0, INT32_MAX, &version, &err) < 0 ||
	    json_int(line, "threads", 0, INT32_MAX, &threads, &err) < 0 ||
	    json_string(line, "kernels", &kernels, &err) < 0 || version != WIRE_VERSION) {
		engine_kill(
			e,
			"it speaks another version; was hob updated? restart the daemon");
		return;
	}
	snprintf(e->kernels, sizeof e->kernels, "%s", kernels);
	move(e, ENGINE_READY);
	e->ready_ms = e->heard_ms = clock_mono_ms();
	log_info("engine: ready, pid %d, kernels %s, %d threads", engine_pid(e),
		 e->kernels, (int)threads);
	set_timer(e, ENGINE_PING_MS);
	/* a send that fails changes the state, and the rest goes with the process */
	for (op = TAILQ_FIRST(&e->ops); op && e->state == ENGINE_READY; op = next) {
		next = TAILQ_NEXT(op, link);
		op_send(e, op);
	}
}

/* ---- lines */

static int get_id(const cJSON *line, uint64_t *out, struct err *err)
{
	int64_t v = 0;
	int rc = json_int(line, "model", 0, INT64_C(1) << 53, &v, err);

	if (rc == 0)
		return err_set(err, ERR_INVALID, "'model' is missing");
	*out = (uint64_t)v;
	return rc < 0 ? -1 : 0;
}

/* What loaded and probed have in common. */
static int get_model(const cJSON *line, struct engine_loaded *m, struct err *err)
{
	const int64_t max_bytes = INT64_C(1) << 53;
	int64_t weights = 0, kv = 0, parked = 0, ctx = 0, ctx_train = 0, slots = 1;

	if (json_int(line, "weights_bytes", 0, max_bytes, &weights, err) < 0 ||
	    json_int(line, "kv_bytes", 0, max_bytes, &kv, err) < 0 ||
	    json_int(line, "parked_bytes", 0, max_bytes, &parked, err) < 0 ||
	    json_int(line, "ctx", 1, INT32_MAX, &ctx, err) < 0 ||
	    json_int(line, "ctx_train", 0, INT32_MAX, &ctx_train, err) < 0 ||
	    json_int(line, "slots", 1, INT32_MAX, &slots, err) < 0 ||
	    json_bool(line, "chat", &m->chat, err) < 0 ||
	    json_string(line, "arch", &m->arch, err) < 0 ||
	    json_string(line, "name", &m->name, err) < 0)
		return -1;
	m->weights_bytes = (uint64_t)weights;
	m->kv_bytes = (uint64_t)kv;
	m->parked_bytes = (uint64_t)parked;
	m->ctx = (int)ctx;
	m->ctx_train = (int)ctx_train;
	m->slots = (int)slots;
	return 0;
}

static int on_known(struct engine *e, const cJSON *line, enum engine_op_kind kind,
		    struct err *err)
{
	struct engine_loaded m = {.arch = "", .name = "", .source = ""};
	const int64_t max_bytes = INT64_C(1) << 53;
	int64_t bytes = 0, file_bytes = 0;
	struct engine_op *op;
	uint64_t id;

	if (get_id(line, &id, err) < 0 || get_model(line, &m, err) < 0 ||
	    json_int(line, "bytes", 0, max_bytes, &bytes, err) < 0 ||
	    json_int(line, "file_bytes", 0, max_bytes, &file_bytes, err) < 0 ||
	    json_double(line, "load_ms", 0, 1e12, &m.load_ms, err) < 0 ||
	    json_string(line, "source", &m.source, err) < 0)
		return -1;
	op = op_find(e, kind, id);
	if (!op)
		return 0; /* cancelled while this was on its way */
	m.bytes = (uint64_t)bytes;
	m.file_bytes = (uint64_t)file_bytes;
	op_unlink(e, op);
	op->loaded(op->arg, id, &m, NULL);
	op_free(op);
	return 0;
}

static int on_loaded(struct engine *e, const cJSON *line, struct err *err)
{
	return on_known(e, line, OP_LOAD, err);
}

static int on_probed(struct engine *e, const cJSON *line, struct err *err)
{
	return on_known(e, line, OP_PROBE, err);
}

static int on_loading(struct engine *e, const cJSON *line, struct err *err)
{
	const int64_t max_bytes = INT64_C(1) << 53;
	int64_t done = 0, total = 0;
	struct engine_op *op;
	uint64_t id;

	if (get_id(line, &id, err) < 0 ||
	    json_int(line, "done", 0, max_bytes, &done, err) < 0 ||
	    json_int(line, "total", 0, max_bytes, &total, err) < 0)
		return -1;
	op = op_find(e, OP_LOAD, id);
	if (op && op->progress)
		op->progress(op->arg, id, (uint64_t)done, (uint64_t)total);
	return 0;
}

static int on_load_failed(struct engine *e, const cJSON *line, struct err *err)
{
	const char *code = "internal", *message = "no reason given";
	struct engine_op *op;
	struct err why;
	uint64_t id;

	if (get_id(line, &id, err) < 0 || json_string(line, "code", &code, err) < 0 ||
	    json_string(line, "message", &message, err) < 0)
		return -1;
	op = op_find(e, OP_LOAD, id);
	if (!op)
		op = op_find(e, OP_PROBE, id);
	if (!op)
		return 0;
	err_set(&why, err_code_by_name(code), "%s", message);
	op_unlink(e, op);
	op->loaded(op->arg, id, NULL, &why);
	op_free(op);
	return 0;
}

static int on_parked(struct engine *e, const cJSON *line, struct err *err)
{
	struct engine_op *op;
	int64_t bytes = 0;
	uint64_t id;

	if (get_id(line, &id, err) < 0 ||
	    json_int(line, "bytes", 0, INT64_C(1) << 53, &bytes, err) < 0)
		return -1;
	op = op_find(e, OP_PARK, id);
	if (!op)
		return 0;
	op_unlink(e, op);
	op->parked(op->arg, id, (uint64_t)bytes);
	op_free(op);
	return 0;
}

static int on_unloaded(struct engine *e, const cJSON *line, struct err *err)
{
	struct engine_op *op;
	uint64_t id;

	if (get_id(line, &id, err) < 0)
		return -1;
	op = op_find(e, OP_UNLOAD, id);
	if (!op)
		return 0;
	op_unlink(e, op);
	op->unloaded(op->arg, id);
	op_free(op);
	return 0;
}

static int on_pong(struct engine *e, const cJSON *line, struct err *err)
{
	const int64_t most = INT64_C(1) << 53;

	e->ping_ms = 0;
	return json_int(line, "kv_ram_bytes", 0, most, &e->kv_ram_bytes, err) < 0 ||
			       json_int(line, "kv_disk_bytes", 0, most, &e->kv_disk_bytes,
					err) < 0
		       ? -1
		       : 0;
}

static const struct {
	const char *name;
	int (*run)(struct engine *e, const cJSON *line,
		   struct err *err); /* -1: not wire.h */
} lines[] = {
	{"probed", on_probed}, {"loading", on_loading},
	{"loaded", on_loaded}, {"load_failed", on_load_failed},
	{"parked", on_parked}, {"unloaded", on_unloaded},
	{"pong", on_pong},
};

static int dispatch_line(struct engine *e, const cJSON *line, struct err *err)
{
	const char *ev = NULL;
	int rc = json_string(line, "ev", &ev, err);

	if (rc <= 0)
		return rc < 0 ? -1 : err_set(err, ERR_INVALID, "'ev' is missing");
	if (e->state == ENGINE_STARTING) {
		if (strcmp(ev, "hello"))
			return err_set(err, ERR_INVALID, "'%.40s' before hello", ev);
		on_hello(e, line);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		if (!strcmp(ev, lines[i].name))
			return lines[i].run(e, line, err);
	return engine_job_line(e, ev, line, err);
}

static void on_line(struct engine *e, struct str text)
{
	char why[sizeof e->why];
	struct err err = {0};
	cJSON *line = json_parse(text, &err);
	int rc = line ? dispatch_line(e, line, &err) : -1;

	cJSON_Delete(line);
	if (rc < 0) {
		snprintf(why, sizeof why, "bad line: %.120s", err.text);
		engine_kill(e, why);
	}
}

static void on_data(void *arg, const char *p, size_t n)
{
	struct engine *e = arg;
	size_t start = 0;
	char *nl;

	if (e->closing || (e->state != ENGINE_STARTING && e->state != ENGINE_READY))
		return;
	e->heard_ms = clock_mono_ms();
	buf_add(&e->in, p, n);
	while ((nl = memchr(e->in.data + e->scanned, '\n', e->in.len - e->scanned))) {
		size_t end = (size_t)(nl - e->in.data);

		if (end > start)
			on_line(e, (struct str){e->in.data + start, end - start});
		start = e->scanned = end + 1;
		if (e->closing ||
		    (e->state != ENGINE_STARTING && e->state != ENGINE_READY))
			break; /* killed: nothing after a bad line counts */
	}
	buf_drop(&e->in, start);
	e->scanned = e->in.len;
	if (e->in.len > WIRE_MAX_LINE_BYTES)
		engine_kill(e, "a line without an end");
}

/* ---- time */

enum { OWN_ARGS = 20, NUMBER_BYTES = 24 };

/* The engine's own command line; numbers live in the caller's buffers. */
static void own_argv(struct engine *e, char *argv[OWN_ARGS], char text[4][NUMBER_BYTES])
{
	const struct engine_config *c = &e->config;
	int n = 0;

	snprintf(text[0], NUMBER_BYTES, "%d", c->threads);
	snprintf(text[1], NUMBER_BYTES, "%llu", (unsigned long long)c->pack_bytes);
	snprintf(text[2], NUMBER_BYTES, "%llu", (unsigned long long)c->kv_ram_bytes);
	snprintf(text[3], NUMBER_BYTES, "%llu", (unsigned long long)c->kv_disk_bytes);
	argv[n++] = e->exe;
	argv[n++] = "engine";
	argv[n++] = "--stdio";
	argv[n++] = "--kernels";
	argv[n++] = e->kernels_wanted;
	argv[n++] = "--threads";
	argv[n++] = text[0];
	if (e->pack_dir) {
		argv[n++] = "--pack-dir";
		argv[n++] = e->pack_dir;
		argv[n++] = "--pack-bytes";
		argv[n++] = text[1];
	}
	if (e->kv_dir) {
		argv[n++] = "--kv-dir";
		argv[n++] = e->kv_dir;
		argv[n++] = "--kv-disk-bytes";
		argv[n++] = text[3];
	}
	argv[n++] = "--kv-ram-bytes";
	argv[n++] = text[2];
	argv[n] = NULL;
	ASSERT(n < OWN_ARGS);
}

/* Not the keys of providers: the worker parses files from anywhere. */
static char **worker_env(void)
{
	static const char *const allowed[] = {
		"PATH",   "HOME",   "LANG",          "LC_*",           "TMPDIR",
		"XDG_*",  "HOB_*",  "CUDA_*",        "OMP_*",          "LD_LIBRARY_PATH",
		"MALLOC_*", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS", "JOURNAL_STREAM"};

	return environment_pick(allowed, ARRAY_LEN(allowed));
}

static void spawn(struct engine *e)
{
	static const struct child_events events = {.data = on_data,
						   .exit = on_exit_child};
	char text[4][NUMBER_BYTES];
	char *own[OWN_ARGS];
	char *const *argv = own;
	struct child_options options = {0};
	struct err err;

	own_argv(e, own, text);
	if (e->config.argv)
		argv = (char *const *)(uintptr_t)e->config.argv;
	e->why[0] = 0;
	move(e, ENGINE_STARTING);
	options.argv = argv;
	options.env = worker_env();
	e->child = child_spawn(e->loop, &options, &events, e, &err);
	free((void *)(uintptr_t)options.env);
	if (e->child) {
		set_timer(e, ENGINE_HELLO_MS);
		return;
	}
	/* told in a later turn, like any other death */
	snprintf(e->why, sizeof e->why, "%.150s", err.text);
	move(e, ENGINE_ENDING);
	set_timer(e, 0);
}

static void ping(struct engine *e)
{
	uint64_t now = clock_mono_ms();
	uint64_t since = e->ping_ms > e->heard_ms ? e->ping_ms : e->heard_ms;
	struct buf b = {0};

	if (e->ping_ms && now - since > ENGINE_PONG_MS) {
		engine_kill(e, "no answer to a ping");
		return;
	}
	if (!e->ping_ms) {
		e->ping_ms = now;
		buf_adds(&b, "{\"op\":\"ping\"}\n");
		engine_send(e, &b);
	}
	set_timer(e, ENGINE_PING_MS);
}

static void on_timer(uv_timer_t *t)
{
	struct engine *e = t->data;

	if (e->closing)
		return;
	switch ((enum engine_state)e->state) {
	case ENGINE_STARTING:
		engine_kill(e, "no hello within 10 s");
		break;
	case ENGINE_READY:
		ping(e);
		break;
	case ENGINE_ENDING:
		if (!e->child)
			engine_dead(e);
		break;
	case ENGINE_BACKOFF:
		if (TAILQ_EMPTY(&e->ops))
			move(e, ENGINE_STOPPED);
		else
			spawn(e);
		break;
	default:
		break;
	}
}

/* ---- from outside */

struct engine *engine_new(uv_loop_t *loop, const struct engine_config *c)
{
	struct engine *e = xcalloc(1, sizeof *e);

	e->provider.ops = &engine_provider_ops;
	e->provider.name = xstrdup("local");
	e->loop = loop;
	e->config = *c;
	e->exe = xstrdup(c->exe ? c->exe : "/proc/self/exe");
	e->kernels_wanted = xstrdup(c->kernels ? c->kernels : "auto");
	e->pack_dir = c->pack_dir ? xstrdup(c->pack_dir) : NULL;
	e->kv_dir = c->kv_dir ? xstrdup(c->kv_dir) : NULL;
	TAILQ_INIT(&e->ops);
	TAILQ_INIT(&e->all);
	TAILQ_INIT(&e->soon);
	uv_timer_init(loop, &e->timer);
	uv_timer_init(loop, &e->soon_timer);
	e->timer.data = e->soon_timer.data = e;
	e->open_handles = 2;
	return e;
}

struct provider *engine_provider(struct engine *e)
{
	return &e->provider;
}

void engine_on_death(struct engine *e, void (*died)(void *arg, const char *why),
		     void *arg)
{
	e->died = died;
	e->died_arg = arg;
}

static void op_add(struct engine *e, struct engine_op *op)
{
	TAILQ_INSERT_TAIL(&e->ops, op, link);
	if (e->state == ENGINE_READY)
		op_send(e, op);
	else if (e->state == ENGINE_STOPPED && !e->closing)
		spawn(e);
}

static struct engine_op *op_new(enum engine_op_kind kind, uint64_t id, void *arg)
{
	struct engine_op *op = xcalloc(1, sizeof *op);

	op->kind = kind;
	op->id = id;
	op->arg = arg;
	return op;
}

static struct engine_op *op_of_file(enum engine_op_kind kind, uint64_t id,
				    const char *path, int ctx, int slots, void *arg)
{
	struct engine_op *op = op_new(kind, id, arg);

	op->path = xstrdup(path);
	op->ctx = ctx;
	op->slots = slots;
	return op;
}

void engine_probe(struct engine *e, uint64_t id, const char *path, int ctx, int slots,
		  engine_load_cb *cb, void *arg)
{
	struct engine_op *op = op_of_file(OP_PROBE, id, path, ctx, slots, arg);

	op->loaded = cb;
	op_add(e, op);
}

void engine_load(struct engine *e, uint64_t id, const char *path, int ctx, int slots,
		 engine_progress_cb *progress, engine_load_cb *cb, void *arg)
{
	struct engine_op *op = op_of_file(OP_LOAD, id, path, ctx, slots, arg);

	op->loaded = cb;
	op->progress = progress;
	op_add(e, op);
}

void engine_park(struct engine *e, uint64_t id, engine_park_cb *cb, void *arg)
{
	struct engine_op *op;

	if (e->state != ENGINE_READY)
		return; /* nothing is loaded; the death callback said so, or will */
	op = op_new(OP_PARK, id, arg);
	op->parked = cb;
	op_add(e, op);
}

/* The commands about that model that were not answered: nobody waits for them any more.  True: there was one. */
static bool forget(struct engine *e, uint64_t id)
{
	struct engine_op *op, *next;
	bool any = false;

	for (op = TAILQ_FIRST(&e->ops); op; op = next) {
		next = TAILQ_NEXT(op, link);
		if (op->id == id && op->kind != OP_UNLOAD) {
			op_unlink(e, op);
			op_free(op);
			any = true;
		}
	}
	return any;
}

/* A load that waits for the process is taken back before it is sent; the unload goes instead, since the engine answers
 * it for any id, so the answer comes in a later turn as always. */
void engine_unload(struct engine *e, uint64_t id, engine_unload_cb *cb, void *arg)
{
	bool waited = forget(e, id);
	struct engine_op *op;

	if (e->state != ENGINE_READY && !waited)
		return; /* nothing is loaded; the death callback said so, or will */
	op = op_new(OP_UNLOAD, id, arg);
	op->unloaded = cb;
	op_add(e, op);
}

/* The files are removed here too: there may be no worker, or one that has not looked at them yet. */
void engine_forget(struct engine *e)
{
	struct buf b = {0};

	if (e->child && (e->state == ENGINE_READY || e->state == ENGINE_STARTING)) {
		buf_adds(&b, "{\"op\":\"forget\"}\n");
		engine_send(e, &b);
	}
	if (e->kv_dir)
		kv_dir_clear(e->kv_dir);
}

void engine_close(struct provider *p, void (*done)(void *arg), void *arg)
{
	struct engine *e = CONTAINER_OF(p, struct engine, provider);
	struct buf b = {0};

	buf_adds(&b, "{\"op\":\"quit\"}\n");
	if (e->child && e->state == ENGINE_READY)
		engine_send(e, &b);
	buf_free(&b);
	e->closing = true;
	e->done = done;
	e->done_arg = arg;
	uv_timer_stop(&e->timer);
	ops_drop(e);
	engine_jobs_fail(e, ERR_UNAVAILABLE, "the daemon is stopping");
	uv_timer_stop(&e->soon_timer);
	if (!e->child)
		close_handles(e);
	else
		child_stop(e->child, e->state == ENGINE_READY, ENGINE_QUIT_MS);
}

enum engine_state engine_state(const struct engine *e)
{
	return (enum engine_state)e->state;
}

int engine_pid(const struct engine *e)
{
	return e->child ? child_pid(e->child) : 0;
}

unsigned engine_restarts(const struct engine *e)
{
	return e->restarts;
}

void engine_saved_kv(const struct engine *e, uint64_t *ram_bytes, uint64_t *disk_bytes)
{
	*ram_bytes = (uint64_t)e->kv_ram_bytes;
	*disk_bytes = (uint64_t)e->kv_disk_bytes;
}

const char *engine_kernels(const struct engine *e)
{
	return e->kernels;
}
