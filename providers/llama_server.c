/* One managed process a model: load, ready, unload, death.
 *
 * Loop thread, but for the measuring.
 *
 *	WAITING ─▶ STARTING ─▶ ASKING ─▶ MEASURING ─▶ READY
 *	   │           └──────────┴──────────┴──────────┤
 *	   └──────▶ GONE ◀───────────────────────── STOPPING
 *
 * Every edge to GONE passes server_gone(), which tells whoever waits: the load's callback, the
 * unload's, or the gone callback, never two of them.  What a reader may question: that a failed
 * load is told at the exit only.  Its memory is not free before, and the next load would be
 * admitted into it. */
#include "providers/llama_server_impl.h"

#include <inttypes.h>
#include <signal.h>
#include <sys/stat.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/paths.h"
#include "providers/openai.h"

#define TO_END (SM_TO(LLAMA_STOPPING) | SM_TO(LLAMA_GONE))

static const struct sm_state states[LLAMA_STATES] = {
	[LLAMA_WAITING] = {"waiting", SM_TO(LLAMA_STARTING) | SM_TO(LLAMA_GONE)},
	[LLAMA_STARTING] = {"starting", SM_TO(LLAMA_ASKING) | TO_END},
	[LLAMA_ASKING] = {"asking", SM_TO(LLAMA_MEASURING) | TO_END},
	[LLAMA_MEASURING] = {"measuring", SM_TO(LLAMA_READY) | TO_END},
	[LLAMA_READY] = {"ready", TO_END},
	[LLAMA_STOPPING] = {"stopping", SM_TO(LLAMA_GONE)},
	[LLAMA_GONE] = {"gone", 0},
};

void llama_move(struct llama_server *s, enum llama_state next)
{
	sm_move(states, s->kind->name, &s->state, next);
}

struct llama_server *llama_find(const struct llama_servers *l, uint64_t id)
{
	struct llama_server *s;

	TAILQ_FOREACH(s, &l->list, link)
	if (s->id == id)
		return s;
	return NULL;
}

/* ---- the end */

static void alive_unref(struct llama_servers *l)
{
	void (*done)(void *arg) = l->done;
	void *arg = l->done_arg;

	if (--l->alive > 0)
		return;
	crash_free(l);
	free(l->program);
	free(l->dir);
	free(l->hob);
	free(l->provider.name);
	free(l);
	if (done)
		done(arg);
}

void llama_unref(struct llama_server *s)
{
	if (--s->refs > 0)
		return;
	for (int i = 0; i < s->nargs; i++)
		free(s->args[i]);
	free(s->args);
	free(s->name);
	free(s->path);
	free(s->socket_path);
	lines_fini(&s->out);
	alive_unref(s->all);
	free(s);
}

static void on_closed(uv_handle_t *h)
{
	llama_unref(h->data);
}

static void on_inner_closed(void *arg)
{
	llama_unref(arg);
}

/* What was loading, or was ready and ended by itself: told to whom it concerns. */
static void tell_death(struct llama_server *s, bool was_ready, const struct err *e)
{
	struct llama_servers *l = s->all;

	if (s->unloaded) {
		s->unloaded(s->unloaded_arg, s->id);
	} else if (l->closing) {
		return;
	} else if (!was_ready) {
		s->ev.loaded(s->ev.arg, s->id, NULL, e);
	} else if (l->gone) {
		l->gone(l->gone_arg, s->id, e->text);
	}
}

/* The process is no more, or never was. */
static void server_gone(struct llama_server *s, bool was_ready, const struct err *e)
{
	llama_move(s, LLAMA_GONE);
	TAILQ_REMOVE(&s->all->list, s, link);
	llama_asks_end(s);
	llama_files_remove(s);
	uv_close((uv_handle_t *)&s->timer, on_closed);
	uv_close((uv_handle_t *)&s->deadline, on_closed);
	s->refs++; /* for the calls below */
	tell_death(s, was_ready, e);
	llama_jobs_fail(s, e);
	if (s->inner)
		s->inner->ops->close(s->inner, on_inner_closed, s);
	llama_unref(s);
}

static void stop(struct llama_server *s)
{
	bool ready = s->state == LLAMA_READY;

	if (s->state == LLAMA_STOPPING)
		return;
	llama_move(s, LLAMA_STOPPING);
	uv_timer_stop(&s->timer);
	uv_timer_stop(&s->deadline);
	llama_asks_end(s);
	child_stop(s->child, false, ready ? LLAMA_STOP_MS : LLAMA_CANCEL_MS);
}

/* ---- the process */

/* How it ended, and its last words when they may explain it. */
static void explain(struct llama_server *s, int64_t status, int number, char *out,
		    size_t size)
{
	const char *colon = s->said[0] && status ? ": " : "";

	if (number)
		snprintf(out, size, "signal %d", number);
	else
		snprintf(out, size, "exit status %" PRId64 "%s%s", status, colon,
			 colon[0] ? s->said : "");
}

static void on_exit_child(void *arg, int64_t status, int number)
{
	struct llama_server *s = arg;
	bool was_ready = s->state == LLAMA_READY, asked = s->state == LLAMA_STOPPING;
	struct err e = s->failed;
	char why[LLAMA_SAID_BYTES + 48];

	s->child = NULL;
	explain(s, status, number, why, sizeof why);
	if (!e.code)
		err_set(&e, ERR_UNAVAILABLE, "%s of '%.100s' %s (%s)", s->kind->name,
			s->name,
			was_ready     ? "died"
			: s->ready_ms ? "was unloaded"
				      : "ended while it loaded the model",
			why);
	if (!asked) {
		crash_note(s, why);
		log_error("%s", e.text);
	} else {
		log_info("%s '%s': ended (%s)", s->kind->name, s->name, why);
	}
	server_gone(s, was_ready, &e);
	llama_unref(s);
}

static void on_log(void *arg, struct str line)
{
	llama_log(arg, line);
}

/* A line of its standard output: its state, or more log. */
static void on_line(void *arg, struct str line)
{
	struct llama_server *s = arg;
	double part;
	enum child_word word = s->kind->word(line, &part);

	if (word == CHILD_WORD_NONE) {
		llama_log(s, line);
		return;
	}
	s->pushes = true;
	if (s->state != LLAMA_STARTING)
		return;
	if (word == CHILD_WORD_READY)
		llama_is_ready(s);
	else if (s->ev.progress && part >= 0)
		s->ev.progress(s->ev.arg, s->id, (uint64_t)(part * (double)s->file_bytes),
			       s->file_bytes);
}

static void on_data(void *arg, const char *p, size_t n)
{
	enum { MAX_LINE_BYTES = 64 << 10 }; /* a state line names tags and modalities */
	struct llama_server *s = arg;

	lines_feed(&s->out, p, n, MAX_LINE_BYTES, on_line, s);
}

static int spawn(struct llama_server *s, struct err *e)
{
	static const struct child_events events = {
		.data = on_data, .exit = on_exit_child, .log = on_log};
	char *program = llama_program(s->all, e);
	struct argv_list argv = {0}, env = {0};
	struct child_options o = {.managed = true, .hob = s->all->hob};

	if (!program)
		return -1;
	if (llama_files_make(s, e) == 0) {
		argv_add(&argv, program);
		s->kind->argv(&argv, s);
		s->kind->env(&env);
		o.argv = argv.v;
		o.env = env.v;
		s->child = child_spawn(s->all->loop, &o, &events, s, e);
	}
	free(program);
	argv_free(&argv);
	argv_free(&env);
	return s->child ? 0 : -1;
}

/* It is stopped, and the load fails with this once it has ended. */
static void load_fail(struct llama_server *s, const struct err *e)
{
	s->failed = *e;
	crash_note(s, e->text);
	log_error("%s", e->text);
	stop(s);
}

static void on_deadline(uv_timer_t *t)
{
	struct llama_server *s = t->data;
	struct err e;

	if (s->state == LLAMA_READY) { /* so long alive is no crash in a row */
		crash_forget(s);
		return;
	}
	err_set(&e, ERR_TIMEOUT, "%s of '%.100s' was not ready within %.1f s%s%s",
		s->kind->name, s->name, (double)s->all->load_ms / 1000,
		s->said[0] ? "; it said: " : "", s->said);
	load_fail(s, &e);
}

static void begin(struct llama_server *s)
{
	struct err e = {0};

	if (spawn(s, &e) < 0) {
		log_error("%s '%s': %s", s->kind->name, s->name, e.text);
		server_gone(s, false, &e);
		return;
	}
	s->refs++;
	llama_move(s, LLAMA_STARTING);
	s->spawn_ms = clock_mono_ms();
	s->poll_ms = LLAMA_POLL_MIN_MS;
	log_info("%s '%s': loading, pid %d", s->kind->name, s->name, child_pid(s->child));
	uv_timer_start(&s->deadline, on_deadline, s->all->load_ms, 0);
	llama_poll(s);
}

/* The load's turn: now, after the back-off, or not at all. */
static void on_wait(uv_timer_t *t)
{
	struct llama_server *s = t->data;
	struct err e = {0};
	int64_t ms;

	if (s->state != LLAMA_WAITING)
		return;
	if (s->unloaded || s->all->closing) {
		server_gone(s, false, &e);
		return;
	}
	ms = crash_wait(s, &e);
	if (ms < 0)
		server_gone(s, false, &e);
	else if (ms > 0)
		uv_timer_start(&s->timer, on_wait, (uint64_t)ms, 0);
	else
		begin(s);
}

/* ---- ready */

void llama_is_ready(struct llama_server *s)
{
	uv_timer_stop(&s->timer);
	llama_key_forget(s);
	llama_move(s, LLAMA_ASKING);
	llama_ask(s);
}

static void on_measure(uv_work_t *w)
{
	struct llama_server *s = CONTAINER_OF(w, struct llama_server, work);

	s->measured_bytes = llama_group_bytes((int)(intptr_t)w->data);
}

static void connect_inner(struct llama_server *s)
{
	char *who = xasprintf("%s of '%.100s'", s->kind->name, s->name);
	struct openai_local o = {.name = s->kind->name,
				 .who = who,
				 .socket_path = s->socket_path,
				 .key = s->key,
				 .connect_ms = LLAMA_CONNECT_MS,
				 .idle_ms = LLAMA_IDLE_MS};

	s->inner = provider_openai_local(s->all->loop, s->all->fetch, &o);
	s->refs++;
	free(who);
}

static void on_measured(uv_work_t *w, int status)
{
	struct llama_server *s = CONTAINER_OF(w, struct llama_server, work);
	struct llama_loaded *m = &s->info;
	uint64_t bytes = s->measured_bytes, file = s->file_bytes;

	UNUSED(status); /* it is never cancelled */
	if (s->state == LLAMA_MEASURING) {
		llama_asks_end(s);
		m->weights_bytes = bytes < file ? bytes : file;
		m->kv_bytes = bytes - m->weights_bytes;
		s->ready_ms = clock_mono_ms();
		m->load_ms = (double)(s->ready_ms - s->spawn_ms);
		connect_inner(s);
		llama_move(s, LLAMA_READY);
		uv_timer_start(&s->deadline, on_deadline, LLAMA_HEALTHY_MS, 0);
		log_info("%s '%s': ready after %.0f ms, %.0f MiB", s->kind->name, s->name,
			 m->load_ms, (double)bytes / (1 << 20));
		s->ev.loaded(s->ev.arg, s->id, m, NULL);
	}
	llama_unref(s);
}

void llama_was_asked(struct llama_server *s)
{
	llama_move(s, LLAMA_MEASURING);
	s->refs++;
	s->work.data =
		(void *)(intptr_t)child_pid(s->child); /* its group has its number */
	uv_queue_work(s->all->loop, &s->work, on_measure, on_measured);
}

/* ---- from outside */

void llama_servers_set(struct llama_servers *l, const struct llama_servers_config *c)
{
	free(l->program);
	l->program = xstrdup(c->program ? c->program : "llama-server");
	l->threads = c->threads;
	l->load_ms = c->load_ms ? c->load_ms : LLAMA_LOAD_MS;
	crash_free(l); /* what made them crash may be what was changed */
}

struct llama_servers *llama_servers_new(uv_loop_t *loop, struct fetch *f,
					const struct llama_servers_config *c)
{
	struct llama_servers *l = xcalloc(1, sizeof *l);

	l->provider.ops = &llama_provider_ops;
	l->provider.name = xstrdup(llama_server_kind.name);
	l->loop = loop;
	l->fetch = f;
	l->dir = c->dir ? xstrdup(c->dir) : paths_children_dir();
	l->hob = c->hob ? xstrdup(c->hob) : NULL;
	TAILQ_INIT(&l->list);
	TAILQ_INIT(&l->crashes);
	TAILQ_INIT(&l->failing);
	llama_servers_set(l, c);
	uv_timer_init(loop, &l->soon);
	l->soon.data = l;
	l->alive = 1;
	return l;
}

struct provider *llama_servers_provider(struct llama_servers *l)
{
	return &l->provider;
}

int llama_servers_find(const struct llama_servers *l, struct err *e)
{
	char *program = llama_program(l, e);
	int rc = program ? 0 : -1;

	free(program);
	return rc;
}

static struct llama_server *server_new(struct llama_servers *l, uint64_t id)
{
	struct llama_server *s = xcalloc(1, sizeof *s);

	s->all = l;
	s->kind = &llama_server_kind;
	s->id = id;
	TAILQ_INIT(&s->jobs);
	uv_timer_init(l->loop, &s->timer);
	uv_timer_init(l->loop, &s->deadline);
	s->timer.data = s->deadline.data = s;
	s->refs = 2;
	l->alive++;
	TAILQ_INSERT_TAIL(&l->list, s, link);
	uv_timer_start(&s->timer, on_wait, 0, 0);
	return s;
}

void llama_servers_load(struct llama_servers *l, uint64_t id, const struct llama_load *m,
			const struct llama_load_events *ev)
{
	struct llama_server *s;
	struct stat st;

	ASSERT(!l->closing && !llama_find(l, id));
	s = server_new(l, id);
	s->name = xstrdup(m->name);
	s->path = xstrdup(m->path);
	s->nargs = m->settings ? m->settings->nargs : 0;
	s->args = xcalloc((size_t)s->nargs + 1, sizeof *s->args);
	for (int i = 0; i < s->nargs; i++)
		s->args[i] = xstrdup(m->settings->args[i]);
	s->ctx = s->info.ctx = m->ctx;
	s->slots = s->info.slots = m->slots;
	s->info.chat = true; /* it has a template for models without one */
	if (stat(m->path, &st) == 0) {
		s->file_bytes = (uint64_t)st.st_size;
		s->mtime_ns =
			st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
	}
	s->ev = *ev;
}

void llama_servers_unload(struct llama_servers *l, uint64_t id, llama_unload_cb *cb,
			  void *arg)
{
	struct llama_server *s = llama_find(l, id);

	if (!s) /* one that waits only to be gone */
		s = server_new(l, id);
	s->unloaded = cb;
	s->unloaded_arg = arg;
	if (s->state == LLAMA_WAITING)
		uv_timer_start(&s->timer, on_wait, 0, 0);
	else
		stop(s);
}

void llama_servers_on_gone(struct llama_servers *l,
			   void (*gone)(void *arg, uint64_t id, const char *why),
			   void *arg)
{
	l->gone = gone;
	l->gone_arg = arg;
}

bool llama_servers_has(const struct llama_servers *l, uint64_t id)
{
	const struct llama_server *s = llama_find(l, id);

	return s && s->state == LLAMA_READY;
}

bool llama_servers_can_park(const struct llama_servers *l)
{
	UNUSED(l); /* of one kind so far */
	return llama_server_kind.park != NULL;
}

int llama_servers_pid(const struct llama_servers *l, uint64_t id)
{
	const struct llama_server *s = llama_find(l, id);

	return s && s->child ? child_pid(s->child) : 0;
}

unsigned llama_servers_crashes(const struct llama_servers *l)
{
	return l->ncrashes;
}

static void on_soon_closed(uv_handle_t *h)
{
	alive_unref(h->data);
}

void llama_close(struct provider *p, void (*done)(void *arg), void *arg)
{
	struct llama_servers *l = CONTAINER_OF(p, struct llama_servers, provider);
	struct llama_server *s;
	struct err e;

	l->closing = true;
	l->done = done;
	l->done_arg = arg;
	err_set(&e, ERR_UNAVAILABLE, "the daemon is stopping");
	TAILQ_FOREACH(s, &l->list, link)
	{
		llama_jobs_fail(s, &e);
		if (s->state == LLAMA_WAITING)
			uv_timer_start(&s->timer, on_wait, 0, 0);
		else
			stop(s);
	}
	llama_jobs_soon(&l->soon);
	uv_close((uv_handle_t *)&l->soon, on_soon_closed);
}
