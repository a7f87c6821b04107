/* Files and instances: what has to happen next, decided in one place.
 *
 * Main thread.  Nothing here reacts to an order directly: an order or the end of a job changes states, and
 * settle() looks at a file and all its instances and does whatever is due, until nothing is.  So a load that was
 * cancelled and asked for again, shared, or failed halfway needs no case of its own. */
#include "engine/shelf.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/sm.h"

static const struct sm_state instance_states[INSTANCE_STATES] = {
	[INSTANCE_PROBING] = {"probing",
			      SM_TO(INSTANCE_PROBED) | SM_TO(INSTANCE_CANCELLING)},
	[INSTANCE_PROBED] = {"probed", SM_TO(INSTANCE_LOADING)},
	[INSTANCE_LOADING] = {"loading",
			      SM_TO(INSTANCE_LOADED) | SM_TO(INSTANCE_CANCELLING)},
	[INSTANCE_LOADED] = {"loaded", SM_TO(INSTANCE_PARKED)},
	[INSTANCE_PARKED] = {"parked", SM_TO(INSTANCE_LOADED)},
	[INSTANCE_CANCELLING] = {"cancelling", 0},
};

struct shelf_file {
	TAILQ_ENTRY(shelf_file) link;
	struct gguf_id id;
	char *path; /* owned: one of them */
	struct model
		*model; /* owned, when there is no job in RUNNING; NULL: not parsed */
	struct load_job *job; /* owned */
	bool resident;        /* the weights are mapped and whole */
	bool cold;            /* and the kernel was told that nobody reads them */
	const char *source;   /* for the next one that becomes loaded; then "shared" */
};
TAILQ_HEAD(file_list, shelf_file);

struct shelf {
	struct shelf_parts parts;
	struct loader loader;
	struct file_list files;
	struct instance_list instances;
	int ninstances;
	int fd; /* eventfd: a job moved on */
	uint64_t progress_ms;
};

/* --- events ---------------------------------------------------------------------------------- */

static void emit(struct shelf *s, const struct shelf_event *ev)
{
	s->parts.event(s->parts.arg, ev);
}

static void say_failed(struct shelf *s, int64_t id, const struct err *why)
{
	emit(s, &(struct shelf_event){.kind = SHELF_FAILED, .id = id, .err = why});
}

static void say_unloaded(struct shelf *s, int64_t id)
{
	emit(s, &(struct shelf_event){.kind = SHELF_UNLOADED, .id = id});
}

/* --- instances --------------------------------------------------------------------------------- */

static struct instance *find(const struct shelf *s, int64_t id)
{
	struct instance *it;

	TAILQ_FOREACH(it, &s->instances, link)
	if (it->id == id)
		return it;
	return NULL;
}

struct instance *shelf_loaded(const struct shelf *s, int64_t id)
{
	struct instance *it = find(s, id);

	return it && it->state == INSTANCE_LOADED ? it : NULL;
}

const struct instance_list *shelf_instances(const struct shelf *s)
{
	return &s->instances;
}

const struct model *instance_model(const struct instance *it)
{
	return it->file->model;
}

static void move(struct instance *it, enum instance_state next)
{
	sm_move(instance_states, "instance", &it->state, next);
}

static struct instance *instance_new(struct shelf *s, int64_t id, struct shelf_file *f,
				     enum instance_state state)
{
	struct instance *it = xcalloc(1, sizeof(*it));

	it->id = id;
	it->file = f;
	it->state = state;
	TAILQ_INSERT_TAIL(&s->instances, it, link);
	s->ninstances++;
	return it;
}

/* The only place where a batch is made. */
static struct batch *open_batch(const struct shelf *s, const struct instance *it)
{
	const struct shelf_parts *p = &s->parts;
	struct batch *b = batch_new(it->file->model, p->kernels, p->pool, it->ctx,
				    it->slots, p->batch_event, p->arg);

	if (p->store)
		batch_use_store(b, p->store, kv_model_key(it->file->model->gguf));
	return b;
}

/* What the conversations computed outlives the batch. */
static void close_batch(struct instance *it)
{
	if (it->batch)
		batch_save_all(it->batch);
	batch_free(it->batch);
	it->batch = NULL;
}

static void instance_free(struct shelf *s, struct instance *it)
{
	close_batch(it);
	TAILQ_REMOVE(&s->instances, it, link);
	s->ninstances--;
	free(it);
}

/* Beyond what it was trained for a model only babbles. */
static void cap_ctx(struct instance *it)
{
	int most = it->file->model->hp.ctx_train;

	if (it->ctx > most)
		it->ctx = most;
}

/* --- files --------------------------------------------------------------------------------------- */

static struct shelf_file *file_of(struct shelf *s, const char *path,
				  const struct gguf_id *id)
{
	struct shelf_file *f;

	TAILQ_FOREACH(f, &s->files, link)
	if (gguf_id_equal(&f->id, id))
		return f;
	f = xcalloc(1, sizeof(*f));
	f->id = *id;
	f->path = xstrdup(path);
	TAILQ_INSERT_TAIL(&s->files, f, link);
	return f;
}

static void file_free(struct shelf *s, struct shelf_file *f)
{
	load_job_free(f->job);
	model_free(f->model);
	TAILQ_REMOVE(&s->files, f, link);
	free(f->path);
	free(f);
}

static int count(const struct shelf *s, const struct shelf_file *f, unsigned states)
{
	const struct instance *it;
	int n = 0;

	TAILQ_FOREACH(it, &s->instances, link)
	n += it->file == f && (states & SM_TO(it->state)) != 0;
	return n;
}

static int count_all(const struct shelf *s, const struct shelf_file *f)
{
	return count(s, f, ~0u);
}

static bool answers_run(const struct shelf *s)
{
	const struct instance *it;

	TAILQ_FOREACH(it, &s->instances, link)
	if (it->batch && batch_busy(it->batch))
		return true;
	return false;
}

static void start_job(struct shelf *s, struct shelf_file *f, enum load_kind kind,
		      struct err *why)
{
	s->loader.gentle = answers_run(s);
	f->job = load_job_start(&s->loader, kind, f->path, &f->id, f->model, why);
	if (s->progress_ms == 0)
		s->progress_ms = clock_mono_ms() + SHELF_PROGRESS_MS;
}

/* At once: the weights are there.  Pages that the kernel took while they were cold come back in the order of
 * the layers, while the first prompt is already on its way through them. */
static void become_loaded(struct shelf *s, struct instance *it, const char *source)
{
	struct shelf_file *f = it->file;
	struct err why = {0};

	cap_ctx(it);
	it->batch = open_batch(s, it);
	move(it, INSTANCE_LOADED);
	if (f->cold && !f->job)
		start_job(s, f, LOAD_PREFETCH, &why);
	if (why.code)
		log_warn("engine: %s", why.text);
	f->cold = false;
	emit(s, &(struct shelf_event){.kind = SHELF_LOADED,
				      .id = it->id,
				      .model = f->model,
				      .instance = it,
				      .kv_bytes = batch_bytes(it->batch),
				      .load_us = clock_mono_us() - it->asked_us,
				      .source = source});
}

/* The sizes are exact, because they are those of a batch, which takes no memory until it is used. */
static void become_probed(struct shelf *s, struct instance *it)
{
	struct batch *b;

	cap_ctx(it);
	b = open_batch(s, it);
	move(it, INSTANCE_PROBED);
	emit(s, &(struct shelf_event){.kind = SHELF_PROBED,
				      .id = it->id,
				      .model = it->file->model,
				      .instance = it,
				      .kv_bytes = batch_bytes(b)});
	batch_free(b);
}

/* --- what is due ---------------------------------------------------------------------------------- */

/* All that wait for this file's head or weights. */
static void fail_waiting(struct shelf *s, struct shelf_file *f, const struct err *why)
{
	struct instance *it, *next;

	for (it = TAILQ_FIRST(&s->instances); it; it = next) {
		int64_t id = it->id;

		next = TAILQ_NEXT(it, link);
		if (it->file != f || (it->state != INSTANCE_LOADING &&
				      (it->state != INSTANCE_PROBING || f->model)))
			continue;
		instance_free(s, it);
		say_failed(s, id, why);
	}
}

static void settle_instance(struct shelf *s, struct instance *it)
{
	struct shelf_file *f = it->file;
	int64_t id = it->id;

	switch ((enum instance_state)it->state) {
	case INSTANCE_PROBING:
		if (f->model)
			become_probed(s, it);
		break;
	case INSTANCE_LOADING:
		if (!f->resident)
			break;
		become_loaded(s, it, f->source);
		f->source = "shared";
		break;
	case INSTANCE_CANCELLING:
		/* Nothing of it is left when nobody works for it alone any more. */
		if (f->job && !f->resident &&
		    !count(s, f, SM_TO(INSTANCE_LOADING) | SM_TO(INSTANCE_PROBING)))
			break;
		instance_free(s, it);
		say_unloaded(s, id);
		break;
	default:
		break;
	}
}

/* A job whose result nobody waits for stops; one that only writes the pack file of complete weights goes on. */
static void review_job(struct shelf *s, struct shelf_file *f)
{
	unsigned wanted = SM_TO(INSTANCE_PROBING) | SM_TO(INSTANCE_LOADING);

	if (load_job_kind(f->job) == LOAD_PREFETCH)
		wanted = SM_TO(INSTANCE_LOADED) | SM_TO(INSTANCE_LOADING);
	else if (load_job_phase(f->job) != LOAD_RUNNING)
		return;
	if (!count(s, f, wanted))
		load_job_cancel(f->job);
}

static void start_what_is_wanted(struct shelf *s, struct shelf_file *f)
{
	struct err why = {0};

	if (!f->resident && count(s, f, SM_TO(INSTANCE_LOADING)))
		start_job(s, f, LOAD_FILL, &why);
	else if (!f->model && count(s, f, SM_TO(INSTANCE_PROBING)))
		start_job(s, f, LOAD_PARSE, &why);
	if (why.code)
		fail_waiting(s, f, &why);
}

/* May free the file. */
static void settle(struct shelf *s, struct shelf_file *f)
{
	unsigned holders = SM_TO(INSTANCE_LOADED) | SM_TO(INSTANCE_PARKED);
	struct instance *it, *next;

	for (it = TAILQ_FIRST(&s->instances); it; it = next) {
		next = TAILQ_NEXT(it, link);
		if (it->file == f)
			settle_instance(s, it);
	}
	if (f->job) {
		review_job(s, f);
		return;
	}
	start_what_is_wanted(s, f);
	if (f->job)
		return;
	if (f->resident && !count(s, f, holders)) {
		weights_drop(&f->model->weights);
		f->resident = false;
	}
	if (!count_all(s, f))
		file_free(s, f);
}

/* --- jobs ------------------------------------------------------------------------------------------ */

/* A file that was just written takes the place of the anonymous weights: the same bytes once instead of twice.
 * Main does it between two steps, when nobody reads; it takes a millisecond in 10 GB. */
static void take_pack(struct shelf_file *f, struct pack *pack)
{
	struct err e = {0};

	if (!pack)
		return;
	if (!f->resident || weights_map(&f->model->weights, pack, &e) < 0)
		pack_close(pack);
	if (e.code)
		log_warn("engine: %s", e.text);
}

/* A fill has come to the phase in which the weights are ready (and perhaps ended since). */
static void take_weights(struct shelf_file *f)
{
	const struct load_result *r = load_job_result(f->job);

	f->model = r->model;
	if (!r->ok || load_job_kind(f->job) != LOAD_FILL || f->resident)
		return;
	f->resident = true;
	f->source = r->source;
}

static void take_job(struct shelf *s, struct shelf_file *f)
{
	enum load_phase phase = load_job_phase(f->job);
	struct load_result r;
	bool cancelled;

	if (phase == LOAD_RUNNING)
		return;
	take_weights(f);
	if (phase == LOAD_DONE) {
		r = *load_job_result(f->job);
		cancelled = load_job_cancelled(f->job);
		load_job_free(f->job);
		f->job = NULL;
		take_pack(f, r.pack);
		if (!r.ok && !cancelled)
			fail_waiting(s, f, &r.err);
	}
	settle(s, f);
}

static bool is_running(const struct shelf_file *f)
{
	return f->job && load_job_phase(f->job) == LOAD_RUNNING &&
	       load_job_kind(f->job) == LOAD_FILL;
}

static void say_progress(struct shelf *s, const struct shelf_file *f)
{
	struct shelf_event ev = {.kind = SHELF_LOADING};
	const struct instance *it;

	load_job_progress(f->job, &ev.done, &ev.total);
	TAILQ_FOREACH(it, &s->instances, link)
	{
		ev.id = it->id;
		if (it->file == f && it->state == INSTANCE_LOADING)
			emit(s, &ev);
	}
}

static void progress(struct shelf *s)
{
	uint64_t now = clock_mono_ms();
	const struct shelf_file *f;
	bool any = false;

	if (s->progress_ms == 0 || now < s->progress_ms)
		return;
	TAILQ_FOREACH(f, &s->files, link)
	if (is_running(f)) {
		say_progress(s, f);
		any = true;
	}
	s->progress_ms = any ? now + SHELF_PROGRESS_MS : 0;
}

int shelf_fd(const struct shelf *s)
{
	return s->fd;
}

int shelf_wait_ms(const struct shelf *s)
{
	uint64_t now = clock_mono_ms();

	if (s->progress_ms == 0)
		return -1;
	return now >= s->progress_ms ? 0 : (int)(s->progress_ms - now);
}

void shelf_turn(struct shelf *s)
{
	struct shelf_file *f, *next;
	uint64_t events;

	if (read(s->fd, &events, sizeof(events)) == sizeof(events))
		for (f = TAILQ_FIRST(&s->files); f; f = next) {
			next = TAILQ_NEXT(f, link);
			if (f->job)
				take_job(s, f);
		}
	progress(s);
}

/* --- orders ----------------------------------------------------------------------------------------- */

/* The instance that an order makes; NULL: it cannot be, and that was said. */
static struct instance *make(struct shelf *s, int64_t id, const char *path, int ctx,
			     int slots, enum instance_state state)
{
	struct err why = {0};
	struct gguf_id file;
	struct instance *it;

	if (s->ninstances == SHELF_MAX_INSTANCES)
		err_set(&why, ERR_BUSY, "%d models are known: unload one first",
			s->ninstances);
	else if (gguf_id_of(path, &file, &why) == 0) {
		it = instance_new(s, id, file_of(s, path, &file), state);
		it->ctx = ctx;
		it->slots = slots;
		return it;
	}
	say_failed(s, id, &why);
	return NULL;
}

int shelf_probe(struct shelf *s, int64_t id, const char *path, int ctx, int slots,
		struct err *e)
{
	struct instance *it;

	if (find(s, id))
		return err_set(e, ERR_CONFLICT, "probe of model %lld, which is known",
			       (long long)id);
	it = make(s, id, path, ctx, slots, INSTANCE_PROBING);
	if (it)
		settle(s, it->file);
	return 0;
}

int shelf_load(struct shelf *s, int64_t id, const char *path, int ctx, int slots,
	       struct err *e)
{
	struct instance *it = find(s, id);

	if (it && it->state == INSTANCE_PARKED) {
		it->asked_us = clock_mono_us();
		become_loaded(s, it, "parked");
		return 0;
	}
	if (it && it->state != INSTANCE_PROBED)
		return err_set(e, ERR_CONFLICT, "load of model %lld, which is %s",
			       (long long)id, instance_states[it->state].name);
	if (it)
		move(it, INSTANCE_LOADING);
	else
		it = make(s, id, path, ctx, slots, INSTANCE_LOADING);
	if (!it)
		return 0;
	it->asked_us = clock_mono_us();
	settle(s, it->file);
	return 0;
}

int shelf_park(struct shelf *s, int64_t id, struct err *e)
{
	struct instance *it = shelf_loaded(s, id);
	struct err why = {0};

	if (!it)
		return err_set(e, ERR_MODEL, "park of model %lld, which is not loaded",
			       (long long)id);
	err_set(&why, ERR_UNAVAILABLE, "the model was parked");
	batch_fail_all(it->batch, &why);
	close_batch(it);
	move(it, INSTANCE_PARKED);
	if (!count(s, it->file, SM_TO(INSTANCE_LOADED) | SM_TO(INSTANCE_LOADING))) {
		weights_cold(&it->file->model->weights);
		it->file->cold = true;
	}
	emit(s, &(struct shelf_event){.kind = SHELF_PARKED,
				      .id = id,
				      .model = it->file->model,
				      .instance = it});
	settle(s, it->file);
	return 0;
}

void shelf_unload(struct shelf *s, int64_t id)
{
	struct instance *it = find(s, id);
	struct shelf_file *f = it ? it->file : NULL;
	struct err why = {0};

	if (!it) {
		say_unloaded(s, id);
		return;
	}
	if (it->state == INSTANCE_PROBING || it->state == INSTANCE_LOADING) {
		move(it, INSTANCE_CANCELLING);
	} else if (it->state != INSTANCE_CANCELLING) {
		err_set(&why, ERR_UNAVAILABLE, "the model was unloaded");
		if (it->batch)
			batch_fail_all(it->batch, &why);
		instance_free(s, it);
		settle(s, f);
		say_unloaded(s, id); /* what it held is given back by now */
		return;
	}
	settle(s, f);
}

/* --- life --------------------------------------------------------------------------------------------- */

struct shelf *shelf_new(const struct shelf_parts *p, struct err *e)
{
	struct shelf *s = xcalloc(1, sizeof(*s));

	s->parts = *p;
	TAILQ_INIT(&s->files);
	TAILQ_INIT(&s->instances);
	s->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->fd < 0) {
		err_sys(e, errno, "eventfd");
		free(s);
		return NULL;
	}
	s->loader = (struct loader){p->packs, p->threads, s->fd, false};
	return s;
}

void shelf_free(struct shelf *s)
{
	struct instance *it;
	struct shelf_file *f;

	if (!s)
		return;
	TAILQ_FOREACH(f, &s->files, link)
	if (f->job)
		load_job_cancel(f->job);
	while ((it = TAILQ_FIRST(&s->instances)))
		instance_free(s, it);
	while ((f = TAILQ_FIRST(&s->files))) {
		if (f->job) {
			load_job_wait(f->job);
			f->model = load_job_result(f->job)->model;
			pack_close(load_job_result(f->job)->pack);
		}
		file_free(s, f);
	}
	close(s->fd);
	free(s);
}
