/* The engine process: reads commands between steps, lets each model with work take a step in turn.
 *
 * Everything here runs on one thread; models come and go on threads of their own, behind shelf.h, which wakes
 * the loop by a descriptor.  Output is buffered and sent without blocking; when the router does not
 * read, computing pauses instead of memory growing.  What wire.h does not allow is a bug of the other
 * side, so it ends the process: going on would hide it. */
#include "engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "engine/job_line.h"
#include "engine/wire.h"

enum { READ_BYTES = 1 << 16, MIN_CTX = 32, DEFAULT_CTX = 4096, IDLE_EVERY_MS = 1000 };

struct engine {
	int in_fd, out_fd;
	const struct kernels *kernels;
	struct pool *pool;      /* owned */
	struct kv_store *store; /* owned; NULL: nothing is saved */
	uint64_t idled_ms;      /* when idle() last looked */
	struct pack_dir *packs; /* owned; or NULL */
	struct shelf *shelf;    /* owned */
	int64_t turn;           /* the model that took the last step */
	struct buf in, out;
	size_t scanned; /* of in: bytes known to hold no newline */
	bool quit;
	int status;
};

/* --- output -------------------------------------------------------------------------------- */

static void add_string(struct buf *b, const char *key, struct str s)
{
	buf_addf(b, ",\"%s\":", key);
	buf_add_json(b, s.ptr, s.len);
}

static void add_err(struct buf *b, const struct err *e)
{
	add_string(b, "code", str_of(err_info(e->code)->name));
	add_string(b, "message", str_of(e->text));
	buf_adds(b, "}\n");
}

static void job_failed(struct engine *g, int64_t job, const struct err *e)
{
	buf_addf(&g->out, "{\"ev\":\"failed\",\"job\":%lld", (long long)job);
	add_err(&g->out, e);
}

static void on_batch_event(void *arg, const struct batch_event *ev)
{
	struct engine *g = arg;
	struct buf *b = &g->out;
	long long job = ev->job;

	switch (ev->kind) {
	case BATCH_STARTED:
		buf_addf(b,
			 "{\"ev\":\"started\",\"job\":%lld,\"prompt_tokens\":%d,"
			 "\"cached_tokens\":%d}\n",
			 job, ev->prompt_tokens, ev->cached_tokens);
		break;
	case BATCH_PROGRESS:
		buf_addf(b,
			 "{\"ev\":\"progress\",\"job\":%lld,\"done\":%d,\"total\":%d}\n",
			 job, ev->done, ev->prompt_tokens);
		break;
	case BATCH_TEXT:
		buf_addf(b, "{\"ev\":\"text\",\"job\":%lld", job);
		add_string(b, "text", ev->text);
		buf_adds(b, "}\n");
		break;
	case BATCH_FINISHED:
		buf_addf(
			b,
			"{\"ev\":\"finished\",\"job\":%lld,\"reason\":\"%s\","
			"\"prompt_tokens\":%d,\"cached_tokens\":%d,\"completion_tokens\":%d,"
			"\"prefill_ms\":%.3f,\"decode_ms\":%.3f}\n",
			job, ev->reason, ev->prompt_tokens, ev->cached_tokens,
			ev->completion_tokens, (double)ev->prefill_us / 1000,
			(double)ev->decode_us / 1000);
		break;
	case BATCH_FAILED:
		job_failed(g, ev->job, ev->err);
		break;
	}
}

/* -1: the router is gone or the descriptor broke. */
static int flush(struct engine *g)
{
	size_t sent = 0;

	while (sent < g->out.len) {
		ssize_t n = write(g->out_fd, g->out.data + sent, g->out.len - sent);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n <= 0) {
			if (errno != EPIPE && errno != ECONNRESET)
				log_error("engine: write: %s", strerror(errno));
			return -1;
		}
		sent += (size_t)n;
	}
	if (sent)
		buf_drop(&g->out, sent);
	return 0;
}

/* --- models -------------------------------------------------------------------------------- */

static void add_sizes(struct buf *b, const struct shelf_event *ev)
{
	size_t weights = model_bytes(ev->model);

	/* On a CPU a parked model is its mapped weights. */
	buf_addf(b, ",\"weights_bytes\":%zu,\"kv_bytes\":%zu,\"parked_bytes\":%zu",
		 weights, ev->kv_bytes, weights);
}

static void add_model(struct buf *b, const struct shelf_event *ev)
{
	const struct hparams *hp = &ev->model->hp;

	buf_addf(b, ",\"ctx\":%d,\"ctx_train\":%d,\"slots\":%d,\"arch\":\"%s\"",
		 ev->instance->ctx, hp->ctx_train, ev->instance->slots, hp->arch->name);
	add_string(b, "name", str_of(hp->name));
	buf_addf(b, ",\"chat\":%s",
		 ev->model->chat.family != CHAT_NONE ? "true" : "false");
}

static void add_loaded(struct buf *b, const struct shelf_event *ev)
{
	buf_addf(b, ",\"bytes\":%zu,\"file_bytes\":%zu",
		 model_bytes(ev->model) + ev->kv_bytes, gguf_file_bytes(ev->model->gguf));
	add_sizes(b, ev);
	add_model(b, ev);
	buf_addf(b, ",\"source\":\"%s\",\"load_ms\":%.3f", ev->source,
		 (double)ev->load_us / 1000);
}

static void on_shelf_event(void *arg, const struct shelf_event *ev)
{
	static const char *const names[] = {
		[SHELF_PROBED] = "probed", [SHELF_LOADING] = "loading",
		[SHELF_LOADED] = "loaded", [SHELF_FAILED] = "load_failed",
		[SHELF_PARKED] = "parked", [SHELF_UNLOADED] = "unloaded",
	};
	struct engine *g = arg;
	struct buf *b = &g->out;

	buf_addf(b, "{\"ev\":\"%s\",\"model\":%lld", names[ev->kind], (long long)ev->id);
	switch (ev->kind) {
	case SHELF_PROBED:
		add_sizes(b, ev);
		add_model(b, ev);
		break;
	case SHELF_LOADING:
		buf_addf(b, ",\"done\":%llu,\"total\":%llu", (unsigned long long)ev->done,
			 (unsigned long long)ev->total);
		break;
	case SHELF_LOADED:
		add_loaded(b, ev);
		break;
	case SHELF_FAILED:
		add_err(b, ev->err); /* the end of the line, too */
		return;
	case SHELF_PARKED:
		buf_addf(b, ",\"bytes\":%zu", model_bytes(ev->model));
		break;
	case SHELF_UNLOADED:
		break;
	}
	buf_adds(b, "}\n");
}

static int read_model(const cJSON *line, int64_t *id, struct err *e)
{
	return json_int(line, "model", 0, INT64_C(1) << 53, id, e) == 1 ? 0 : -1;
}

typedef int open_fn(struct shelf *s, int64_t id, const char *path, int ctx, int slots,
		    struct err *e);

static int open_model(struct engine *g, const cJSON *line, open_fn *fn, struct err *e)
{
	const char *path = NULL;
	int64_t id, ctx = DEFAULT_CTX, slots = 1;

	if (read_model(line, &id, e) < 0 || json_string(line, "path", &path, e) != 1 ||
	    json_int(line, "ctx", MIN_CTX, ARCH_MAX_CTX, &ctx, e) < 0 ||
	    json_int(line, "slots", 1, KV_MAX_SLOTS, &slots, e) < 0)
		return -1;
	return fn(g->shelf, id, path, (int)ctx, (int)slots, e);
}

static int op_probe(struct engine *g, const cJSON *line, struct err *e)
{
	return open_model(g, line, shelf_probe, e);
}

static int op_load(struct engine *g, const cJSON *line, struct err *e)
{
	return open_model(g, line, shelf_load, e);
}

static int op_park(struct engine *g, const cJSON *line, struct err *e)
{
	int64_t id;

	return read_model(line, &id, e) < 0 ? -1 : shelf_park(g->shelf, id, e);
}

static int op_unload(struct engine *g, const cJSON *line, struct err *e)
{
	int64_t id;

	if (read_model(line, &id, e) < 0)
		return -1;
	shelf_unload(g->shelf, id);
	return 0;
}

/* --- jobs ----------------------------------------------------------------------------------- */

static bool job_exists(const struct engine *g, int64_t job)
{
	const struct instance *it;

	TAILQ_FOREACH(it, shelf_instances(g->shelf), link)
	if (it->batch && batch_has(it->batch, job))
		return true;
	return false;
}

/* The job and the model it names; a model that is not loaded fails the job, by *why. */
static int read_target(struct engine *g, const cJSON *line, int64_t *job,
		       struct instance **l, struct err *why, struct err *e)
{
	int64_t model;

	if (json_int(line, "job", 0, INT64_C(1) << 53, job, e) != 1 ||
	    json_int(line, "model", 0, INT64_C(1) << 53, &model, e) != 1)
		return -1;
	*l = shelf_loaded(g->shelf, model);
	if (!*l)
		err_set(why, ERR_MODEL, "model %lld is not loaded", (long long)model);
	return 0;
}

static int op_start(struct engine *g, const cJSON *line, struct err *e)
{
	struct err why = {0};
	struct instance *l;
	int64_t job;

	if (read_target(g, line, &job, &l, &why, e) < 0)
		return -1;
	if (job_exists(g, job))
		return err_set(e, ERR_CONFLICT, "job %lld is running already",
			       (long long)job);
	if (!l || job_line_start(l, line, job, &why) < 0)
		job_failed(g, job, &why);
	return 0;
}

static int op_cancel(struct engine *g, const cJSON *line, struct err *e)
{
	const struct instance *it;
	int64_t job;

	if (json_int(line, "job", 0, INT64_C(1) << 53, &job, e) != 1)
		return -1;
	/* It may have ended while the command was on its way. */
	TAILQ_FOREACH(it, shelf_instances(g->shelf), link)
	if (it->batch && batch_cancel(it->batch, job))
		break;
	return 0;
}

static int op_count(struct engine *g, const cJSON *line, struct err *e)
{
	struct err why = {0};
	struct instance *l;
	int64_t job;

	if (read_target(g, line, &job, &l, &why, e) < 0)
		return -1;
	if (!l || job_line_count(l, line, job, &g->out, &why) < 0)
		job_failed(g, job, &why);
	return 0;
}

static int op_ping(struct engine *g, const cJSON *line, struct err *e)
{
	struct kv_store_stats kv = {0};

	UNUSED(line);
	UNUSED(e);
	if (g->store)
		kv = kv_store_stats(g->store);
	buf_addf(&g->out,
		 "{\"ev\":\"pong\",\"kv_ram_bytes\":%llu,\"kv_disk_bytes\":%llu}\n",
		 (unsigned long long)kv.ram_bytes, (unsigned long long)kv.disk_bytes);
	return 0;
}

static int op_forget(struct engine *g, const cJSON *line, struct err *e)
{
	const struct instance *it;

	UNUSED(line);
	UNUSED(e);
	TAILQ_FOREACH(it, shelf_instances(g->shelf), link)
	if (it->batch)
		batch_forget(it->batch);
	if (g->store)
		kv_store_forget(g->store);
	return 0;
}

static int op_quit(struct engine *g, const cJSON *line, struct err *e)
{
	UNUSED(line);
	UNUSED(e);
	g->quit = true;
	return 0;
}

/* --- input ---------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	int (*run)(struct engine *g, const cJSON *line,
		   struct err *e); /* -1: not wire.h */
} ops[] = {
	{"probe", op_probe},   {"load", op_load},   {"park", op_park},
	{"unload", op_unload}, {"start", op_start}, {"cancel", op_cancel},
	{"count", op_count},   {"ping", op_ping},   {"quit", op_quit},
	{"forget", op_forget},
};

static int run_op(struct engine *g, const cJSON *line, struct err *e)
{
	const char *name = NULL;
	int rc = json_string(line, "op", &name, e);

	if (rc < 0)
		return -1;
	for (size_t i = 0; name && i < ARRAY_LEN(ops); i++)
		if (strcmp(ops[i].name, name) == 0) {
			rc = ops[i].run(g, line, e);
			/* A getter that found nothing says nothing. */
			if (rc < 0 && e->code == ERR_NONE)
				err_set(e, ERR_INVALID, "a member of '%s' is missing",
					name);
			return rc;
		}
	return err_set(e, ERR_INVALID, "unknown op '%.40s'", name ? name : "");
}

static int run_line(struct engine *g, struct str text, struct err *e)
{
	cJSON *line = json_parse(text, e);
	int rc;

	if (!line)
		return -1;
	rc = run_op(g, line, e);
	cJSON_Delete(line);
	return rc;
}

/* Runs each whole line in the buffer. */
static int run_lines(struct engine *g, struct err *e)
{
	size_t start = 0;
	int rc = 0;

	while (!g->quit && rc == 0) {
		char *nl = memchr(g->in.data + g->scanned, '\n', g->in.len - g->scanned);
		size_t end;

		if (!nl)
			break;
		end = (size_t)(nl - g->in.data);
		if (end > start)
			rc = run_line(g, (struct str){g->in.data + start, end - start},
				      e);
		start = g->scanned = end + 1;
	}
	buf_drop(&g->in, start);
	g->scanned = g->in.len;
	if (rc == 0 && g->in.len > WIRE_MAX_LINE_BYTES)
		rc = err_set(e, ERR_TOO_LARGE, "a line is longer than %d bytes",
			     WIRE_MAX_LINE_BYTES);
	return rc;
}

static void end(struct engine *g, int status)
{
	g->quit = true;
	g->status = status;
}

static void read_input(struct engine *g)
{
	struct err e = {0};
	ssize_t n;

	buf_reserve(&g->in, READ_BYTES);
	n = read(g->in_fd, g->in.data + g->in.len, READ_BYTES);
	if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK))
		return;
	if (n < 0 && errno != ECONNRESET) {
		log_error("engine: read: %s", strerror(errno));
		end(g, ENGINE_EXIT_FAIL);
		return;
	}
	if (n <= 0) {
		end(g, ENGINE_EXIT_OK);
		return;
	}
	g->in.len += (size_t)n;
	if (run_lines(g, &e) < 0) {
		log_error("engine: protocol: %s", e.text);
		end(g, ENGINE_EXIT_PROTOCOL);
	}
}

/* --- the loop -------------------------------------------------------------------------------- */

static bool is_busy(const struct instance *it)
{
	return it->batch && batch_ready(it->batch);
}

/* The next with work after the one that had the last turn, or NULL; ids grow in no order, so the least greater id
 * is found, else the least. */
static struct instance *whose_turn(const struct engine *g)
{
	struct instance *it, *after = NULL, *first = NULL;

	TAILQ_FOREACH(it, shelf_instances(g->shelf), link)
	{
		if (!is_busy(it))
			continue;
		if (it->id > g->turn && (!after || it->id < after->id))
			after = it;
		if (!first || it->id < first->id)
			first = it;
	}
	return after ? after : first;
}

/* Of two waits in milliseconds, of which -1 is for ever. */
static int sooner(int a, int b)
{
	return a < 0 ? b : b < 0 || a < b ? a : b;
}

/* What is due beside answers: state that waits to be saved.  Milliseconds until more is, -1: nothing.  While
 * there is work it looks once a second only. */
static int idle(struct engine *g, bool work)
{
	uint64_t now = clock_mono_ms();
	struct instance *it;
	int least;

	if (!g->store || (work && now - g->idled_ms < IDLE_EVERY_MS))
		return -1;
	g->idled_ms = now;
	least = kv_store_tick(g->store);
	TAILQ_FOREACH(it, shelf_instances(g->shelf), link)
	if (it->batch)
		least = sooner(least, batch_idle(it->batch));
	return least;
}

static void loop(struct engine *g)
{
	while (!g->quit) {
		struct instance *it =
			g->out.len < ENGINE_OUT_PAUSE_BYTES ? whose_turn(g) : NULL;
		int wait_ms = sooner(idle(g, it != NULL), shelf_wait_ms(g->shelf));
		struct pollfd p[4] = {
			{.fd = g->in_fd, .events = POLLIN},
			{.fd = g->out.len ? g->out_fd : -1, .events = POLLOUT},
			{.fd = shelf_fd(g->shelf), .events = POLLIN},
			{.fd = g->store ? kv_store_fd(g->store) : -1, .events = POLLIN}};

		if (poll(p, (nfds_t)ARRAY_LEN(p), it ? 0 : wait_ms) < 0 &&
		    errno != EINTR) {
			log_error("engine: poll: %s", strerror(errno));
			end(g, ENGINE_EXIT_FAIL);
			break;
		}
		if (p[3].revents)
			kv_store_poll(g->store);
		if (p[2].revents || shelf_wait_ms(g->shelf) == 0)
			shelf_turn(g->shelf);
		if (p[0].revents) {
			read_input(g);
			it = whose_turn(g); /* it may be gone */
		}
		if (it && !g->quit) {
			g->turn = it->id;
			batch_step(it->batch);
		}
		if (g->out.len && flush(g) < 0)
			end(g, ENGINE_EXIT_OK);
	}
}

static void say_hello(struct engine *g)
{
	buf_addf(&g->out,
		 "{\"ev\":\"hello\",\"version\":%d,\"kernels\":\"%s\",\"threads\":%d}\n",
		 WIRE_VERSION, g->kernels->name, pool_threads(g->pool));
	flush(g);
}

static struct kv_store *open_store(const struct engine *g, const struct engine_options *o)
{
	return kv_store_new(&(struct kv_store_options){.dir = o->kv_dir,
						       .ram_bytes = o->kv_ram_bytes,
						       .disk_bytes = o->kv_disk_bytes,
						       .pool = g->pool});
}

static int open_shelf(struct engine *g, const struct engine_options *o, struct err *e)
{
	struct shelf_parts parts = {.kernels = g->kernels,
				    .pool = g->pool,
				    .threads = pool_threads(g->pool),
				    .store = g->store,
				    .batch_event = on_batch_event,
				    .event = on_shelf_event,
				    .arg = g};

	if (o->pack_dir && o->pack_bytes > 0) {
		g->packs = pack_dir_new(o->pack_dir, o->pack_bytes, e);
		/* Slower starts are no reason to have none. */
		if (!g->packs)
			log_warn("engine: no pack files: %s", e->text);
	}
	parts.packs = g->packs;
	g->shelf = shelf_new(&parts, e);
	return g->shelf ? 0 : -1;
}

static void engine_fini(struct engine *g)
{
	shelf_free(g->shelf);
	pack_dir_free(g->packs);
	kv_store_free(g->store);
	pool_free(g->pool);
	buf_free(&g->in);
	buf_free(&g->out);
}

static void run(struct engine *g, const struct engine_options *o)
{
	struct err e = {0};

	if (o->kv_ram_bytes)
		g->store = open_store(g, o);
	if (open_shelf(g, o, &e) < 0) {
		log_error("engine: %s", e.text);
		g->status = ENGINE_EXIT_FAIL;
		return;
	}
	say_hello(g);
	loop(g);
	/* What was said before the end still goes out, if it can at once. */
	flush(g);
}

int engine_main(int in_fd, int out_fd, const struct engine_options *o)
{
	struct engine g = {.in_fd = in_fd, .out_fd = out_fd};
	int in_flags = fcntl(in_fd, F_GETFL), out_flags = fcntl(out_fd, F_GETFL);
	int threads = o->threads > 0 ? o->threads : engine_default_threads();

	g.kernels = kernels_by_name(o->kernels ? o->kernels : "auto");
	if (!g.kernels) {
		log_error("engine: kernels '%s' are unknown or not for this CPU",
			  o->kernels);
		return ENGINE_EXIT_FAIL;
	}
	if (in_flags < 0 || out_flags < 0 ||
	    fcntl(in_fd, F_SETFL, in_flags | O_NONBLOCK) < 0 ||
	    fcntl(out_fd, F_SETFL, out_flags | O_NONBLOCK) < 0) {
		log_error("engine: descriptors: %s", strerror(errno));
		return ENGINE_EXIT_FAIL;
	}
	g.pool = pool_new(threads < POOL_MAX_THREADS ? threads : POOL_MAX_THREADS);
	run(&g, o);
	engine_fini(&g);
	fcntl(in_fd, F_SETFL, in_flags);
	fcntl(out_fd, F_SETFL, out_flags);
	return g.status;
}
