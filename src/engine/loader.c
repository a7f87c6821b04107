/* A load job: parse, then map or read the pack file and check it, or convert, and write a pack file.
 *
 * All but the functions that main calls runs on the job's thread.  A reader may question that the model answers
 * before its pack file is written: the weights are complete by then, and a disk may take seconds. */
#include "engine/loader.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "base/log.h"
#include "engine/crew.h"

enum { PREFETCH_BYTES = 4 << 20 };

struct load_job {
	/* main */
	bool joined;
	/* constant */
	struct loader loader;
	enum load_kind kind;
	char *path; /* owned */
	struct gguf_id expected;
	pthread_t thread;
	/* any thread */
	atomic_bool cancel;
	atomic_int phase;
	_Atomic uint64_t done, total;
	/* the job until READY, then constant; result.pack: until DONE */
	struct load_result result;
	/* the job */
	struct pack *pack; /* owned: being read or written */
};

static void tell(struct load_job *j, enum load_phase phase)
{
	const uint64_t one = 1;
	ssize_t n;

	atomic_store(&j->phase, (int)phase);
	do
		n = write(j->loader.event_fd, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
}

static void add_done(struct load_job *j, uint64_t bytes)
{
	atomic_fetch_add_explicit(&j->done, bytes, memory_order_relaxed);
}

static void set_total(struct load_job *j, uint64_t bytes)
{
	atomic_store(&j->done, 0);
	atomic_store(&j->total, bytes);
}

/* --- the pieces, run by a crew -------------------------------------------------------------- */

static bool check_piece(void *arg, int i)
{
	struct load_job *j = arg;
	struct weights *w = &j->result.model->weights;
	size_t n, at = pack_chunk_at(w->pack, i, &n);

	/* Populated first: a disk that cannot read is a false here, and a SIGBUS in the checksum. */
	if (!weights_populate(w, at, n) || !pack_check(w->pack, i, weights_data(w) + at))
		return false;
	add_done(j, n);
	return true;
}

static bool read_piece(void *arg, int i)
{
	struct load_job *j = arg;
	size_t n, at = pack_chunk_at(j->pack, i, &n);

	if (!pack_read(j->pack, i, weights_data(&j->result.model->weights) + at))
		return false;
	add_done(j, n);
	return true;
}

static bool convert_piece(void *arg, int i)
{
	struct load_job *j = arg;

	model_pack_item(j->result.model, i + 1);
	add_done(j, model_item_bytes(j->result.model, i + 1));
	return true;
}

static bool prefetch_piece(void *arg, int i)
{
	struct load_job *j = arg;
	struct weights *w = &j->result.model->weights;
	size_t at = (size_t)i * PREFETCH_BYTES, left = w->bytes - at;

	weights_populate(w, at, left < PREFETCH_BYTES ? left : PREFETCH_BYTES);
	return true;
}

static bool run_crew(struct load_job *j, int pieces, crew_fn *fn)
{
	return crew_run(j->loader.threads, pieces, fn, j, &j->cancel);
}

/* --- the steps -------------------------------------------------------------------------------- */

static int parse(struct load_job *j)
{
	struct load_result *r = &j->result;
	struct gguf_id id;

	if (r->model)
		return 0;
	r->model = model_parse(j->path, &r->err);
	if (!r->model)
		return -1;
	id = gguf_id(r->model->gguf);
	if (gguf_id_equal(&id, &j->expected))
		return 0;
	model_free(r->model);
	r->model = NULL;
	return err_set(&r->err, ERR_IO, "%s: changed while it was opened: try again",
		       j->path);
}

/* Each gives true when the weights are there and whole. */
static bool map_pack(struct load_job *j)
{
	struct weights *w = &j->result.model->weights;
	struct pack *p = j->pack;
	struct err e = {0};

	if (weights_map(w, p, &e) < 0) {
		log_warn("engine: %s", e.text);
		return false;
	}
	j->pack = NULL;
	if (pack_is_checked(p))
		return true;
	if (run_crew(j, pack_chunks(p), check_piece)) {
		pack_set_checked(p);
		return true;
	}
	if (!atomic_load(&j->cancel))
		pack_reject(p, "a wrong checksum of its weights");
	return false;
}

static bool read_pack(struct load_job *j)
{
	struct err e = {0};

	if (weights_anonymous(&j->result.model->weights, &e) < 0)
		return false;
	if (run_crew(j, pack_chunks(j->pack), read_piece))
		return true;
	if (!atomic_load(&j->cancel))
		pack_reject(j->pack, "a wrong checksum of its weights");
	return false;
}

static void close_pack(struct load_job *j)
{
	pack_close(j->pack);
	j->pack = NULL;
}

/* False: there is no file of use, or it was cancelled. */
static bool from_pack(struct load_job *j)
{
	struct model *m = j->result.model;
	struct err e = {0};
	bool ok;

	if (!j->loader.packs)
		return false;
	j->pack = pack_open(j->loader.packs, &m->key, &e);
	if (!j->pack) {
		if (e.code != ERR_NOT_FOUND)
			log_warn("engine: %s", e.text);
		return false;
	}
	j->result.source = "pack file";
	set_total(j, m->memory_bytes);
	ok = pack_dir_maps_huge(j->loader.packs) ? map_pack(j) : read_pack(j);
	if (!ok)
		weights_drop(&m->weights);
	close_pack(j);
	return ok;
}

static uint64_t work_bytes(const struct model *m)
{
	uint64_t sum = 0;

	for (int i = 0; i < model_items(m); i++)
		sum += model_item_bytes(m, i);
	return sum;
}

static int convert(struct load_job *j)
{
	struct model *m = j->result.model;

	j->result.source = "converted";
	set_total(j, work_bytes(m));
	if (weights_anonymous(&m->weights, &j->result.err) < 0)
		return -1;
	model_pack_item(m, 0);
	if (run_crew(j, model_items(m) - 1, convert_piece))
		return 0;
	weights_drop(&m->weights);
	return err_set(&j->result.err, ERR_CANCELLED, "cancelled");
}

static int write_chunks(struct load_job *j, struct err *e)
{
	const uint8_t *data = weights_data(&j->result.model->weights);

	for (int i = 0; i < pack_chunks(j->pack); i++) {
		size_t n, at = pack_chunk_at(j->pack, i, &n);

		if (atomic_load(&j->cancel))
			return err_set(e, ERR_CANCELLED, "cancelled");
		if (pack_write(j->pack, i, data + at, e) < 0)
			return -1;
	}
	return pack_publish(j->pack, e);
}

/* The model answers already; a failure costs the file only. */
static void write_pack(struct load_job *j)
{
	struct err e = {0};

	crew_lower_priority();
	j->pack = pack_create(j->loader.packs, &j->result.model->key, &e);
	if (j->pack && write_chunks(j, &e) == 0 && pack_dir_maps_huge(j->loader.packs)) {
		j->result.pack = j->pack;
		j->pack = NULL;
	}
	close_pack(j);
	if (e.code != ERR_NONE && e.code != ERR_CANCELLED)
		log_warn("engine: no pack file for '%s': %s", j->path, e.text);
}

static void fill(struct load_job *j)
{
	struct load_result *r = &j->result;
	bool packed;

	if (parse(j) < 0 || atomic_load(&j->cancel))
		return;
	packed = from_pack(j);
	if (!packed && (atomic_load(&j->cancel) || convert(j) < 0))
		return;
	model_drop_source(r->model);
	r->ok = true;
	tell(j, LOAD_READY);
	if (!packed && j->loader.packs)
		write_pack(j);
}

static void prefetch(struct load_job *j)
{
	const struct weights *w = &j->result.model->weights;
	size_t pieces = (w->bytes + PREFETCH_BYTES - 1) / PREFETCH_BYTES;

	/* The last piece holds the vectors that the first layer wants at once. */
	if (pieces > 0)
		prefetch_piece(j, (int)pieces - 1);
	run_crew(j, (int)pieces, prefetch_piece);
}

static void *thread(void *arg)
{
	struct load_job *j = arg;

	if (j->loader.gentle)
		crew_lower_priority();
	switch (j->kind) {
	case LOAD_PARSE:
		j->result.ok = parse(j) == 0;
		break;
	case LOAD_FILL:
		fill(j);
		break;
	case LOAD_PREFETCH:
		prefetch(j);
		break;
	}
	tell(j, LOAD_DONE);
	return NULL;
}

/* --- main's side -------------------------------------------------------------------------------- */

struct load_job *load_job_start(const struct loader *l, enum load_kind kind,
				const char *path, const struct gguf_id *expected,
				struct model *model, struct err *e)
{
	struct load_job *j = xcalloc(1, sizeof(*j));
	int rc;

	j->loader = *l;
	j->kind = kind;
	j->path = xstrdup(path);
	j->expected = *expected;
	j->result.model = model;
	j->result.ok = kind == LOAD_PREFETCH;
	atomic_store(&j->total, expected->bytes);
	atomic_store(&j->phase, kind == LOAD_PREFETCH ? LOAD_READY : LOAD_RUNNING);
	rc = pthread_create(&j->thread, NULL, thread, j);
	if (rc == 0)
		return j;
	err_sys(e, rc, "start a thread to load '%s'", path);
	free(j->path);
	free(j);
	return NULL;
}

enum load_kind load_job_kind(const struct load_job *j)
{
	return j->kind;
}

enum load_phase load_job_phase(const struct load_job *j)
{
	return (enum load_phase)atomic_load(&j->phase);
}

const struct load_result *load_job_result(const struct load_job *j)
{
	return &j->result;
}

void load_job_cancel(struct load_job *j)
{
	atomic_store(&j->cancel, true);
}

bool load_job_cancelled(const struct load_job *j)
{
	return atomic_load(&j->cancel);
}

void load_job_progress(const struct load_job *j, uint64_t *done, uint64_t *total)
{
	*done = atomic_load(&j->done);
	*total = atomic_load(&j->total);
	if (*done > *total)
		*done = *total;
}

void load_job_wait(struct load_job *j)
{
	if (!j->joined)
		pthread_join(j->thread, NULL);
	j->joined = true;
}

void load_job_free(struct load_job *j)
{
	if (!j)
		return;
	load_job_wait(j);
	free(j->path);
	free(j);
}
