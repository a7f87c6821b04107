/* A model: plans where each packed matrix lies, reserves the addresses, and packs in small pieces of work.
 *
 * model_parse() runs on a loader thread (or wherever a test likes) and touches no weight; the pieces run on
 * the loader's threads.  A reader may question that matrices have their addresses before there is any
 * memory behind them: so a model that is dropped and comes back, by conversion or by mapping a pack file,
 * needs no second walk, and nothing that points at a weight ever changes. */
#include "engine/model.h"

#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "kernels/layout.h"

enum { ALIGN_BYTES = 64, ITEM_BYTES = 1 << 20, HASH_SAMPLES = 64, SAMPLE_BYTES = 4096 };
#define HUGE_BYTES ((size_t)2 << 20)

static size_t big_bytes(size_t bytes)
{
	return (bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
}

/* Over-allocates by one huge page and gives the ends back: mmap alone aligns to 4 KiB. */
void *big_alloc(size_t bytes)
{
	size_t want = big_bytes(bytes);
	uint8_t *p = mmap(NULL, want + HUGE_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t skip;

	ASSERT(p != MAP_FAILED);
	skip = (HUGE_BYTES - (uintptr_t)p % HUGE_BYTES) % HUGE_BYTES;
	if (skip)
		munmap(p, skip);
	munmap(p + skip + want, HUGE_BYTES - skip);
	madvise(p + skip, want, MADV_HUGEPAGE);
	return p + skip;
}

void big_free(void *p, size_t bytes)
{
	if (p)
		munmap(p, big_bytes(bytes));
}

/* --- planning ------------------------------------------------------------------------ */

/* One file tensor that goes into rows [row0, ...) of a packed matrix. */
struct pack_job {
	struct kmat *m;
	const struct gguf_tensor *t;
	int row0;
};

/* A vector that is opened to floats. */
struct float_job {
	float *x;
	const struct gguf_tensor *t;
};

/* A piece of work: rows [from, from + n) of a job's tensor. */
struct pack_item {
	int job, from, n;
};

struct plan {
	struct model *model;
	struct pack_job *jobs;    /* owned */
	struct float_job *floats; /* owned */
	struct pack_item *items;  /* owned */
	int njobs, max_jobs, nfloats, max_floats, nitems, max_items;
	size_t used;
};

/* Room for one more in a list that grows by doubling. */
static void *more(void *list, int n, int *max, size_t bytes)
{
	if (n < *max)
		return list;
	*max = *max ? 2 * *max : 64;
	return xrealloc(list, (size_t)*max * bytes);
}

static size_t plan_bytes(struct plan *p, size_t bytes)
{
	size_t at = p->used;

	p->used += (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
	return at;
}

static void plan_job(struct plan *p, struct kmat *m, const struct gguf_tensor *t,
		     int row0)
{
	p->jobs = more(p->jobs, p->njobs, &p->max_jobs, sizeof(*p->jobs));
	p->jobs[p->njobs++] = (struct pack_job){m, t, row0};
}

/* May these tensors share one matrix: same packed form, and no panel with rows of two? */
static bool may_stack(const struct gguf_tensor *const *t, int n)
{
	struct kmat first, m;
	size_t bytes;

	if (!kmat_plan(&first, t[0]->type, PANEL_ROWS, (int)t[0]->dims[0], &bytes))
		return false;
	for (int i = 0; i < n; i++)
		if (!kmat_plan(&m, t[i]->type, PANEL_ROWS, (int)t[i]->dims[0], &bytes) ||
		    m.form != first.form || (i < n - 1 && t[i]->dims[1] % PANEL_ROWS))
			return false;
	return true;
}

static int plan_mat(struct plan *p, struct kmat *m, const struct gguf_tensor *t, int rows,
		    struct err *e)
{
	size_t bytes;

	if (!kmat_plan(m, t->type, rows, (int)t->dims[0], &bytes))
		return err_set(e, ERR_UNSUPPORTED,
			       "'%s': tensor '%.*s': cannot be packed",
			       gguf_path(p->model->gguf), (int)t->name.len, t->name.ptr);
	/* An offset for now; place_mats() adds the base. */
	m->data = (uint8_t *)plan_bytes(p, bytes);
	return 0;
}

static int plan_mats(struct plan *p, struct mats *out, const struct gguf_tensor *const *t,
		     int n, struct err *e)
{
	bool stack = may_stack(t, n);

	memset(out, 0, sizeof(*out));
	for (int i = 0; i < n; i++)
		out->rows += (int)t[i]->dims[1];
	out->n = stack ? 1 : n;
	if (stack && plan_mat(p, &out->m[0], t[0], out->rows, e) < 0)
		return -1;
	for (int i = 0, row = 0; i < n; row += (int)t[i]->dims[1], i++) {
		if (stack) {
			plan_job(p, &out->m[0], t[i], row);
			continue;
		}
		out->at[i] = row;
		if (plan_mat(p, &out->m[i], t[i], (int)t[i]->dims[1], e) < 0)
			return -1;
		plan_job(p, &out->m[i], t[i], 0);
	}
	return 0;
}

#define MATS(p, out, e, ...)                                                \
	plan_mats(p, out, (const struct gguf_tensor *const[]){__VA_ARGS__}, \
		  (int)ARRAY_LEN(((const struct gguf_tensor *const[]){__VA_ARGS__})), e)

static int plan_all(struct plan *p, const struct arch_tensors *t, struct err *e)
{
	struct model *m = p->model;

	for (int i = 0; i < m->hp.layers; i++) {
		struct layer *l = &m->layers[i];
		const struct arch_layer *a = &t->layers[i];

		if (MATS(p, &l->qkv, e, a->q, a->k, a->v) < 0 ||
		    MATS(p, &l->o, e, a->o) < 0 ||
		    MATS(p, &l->gateup, e, a->gate, a->up) < 0 ||
		    MATS(p, &l->down, e, a->down) < 0)
			return -1;
	}
	return MATS(p, &m->head, e, t->output);
}

/* --- placing ---------------------------------------------------------------------------- */

static void place_mats(const struct model *m, struct mats *s)
{
	for (int i = 0; i < s->n; i++)
		s->m[i].data = m->memory + (uintptr_t)s->m[i].data;
}

/* NULL for none. */
static float *place_floats(struct plan *p, const struct gguf_tensor *t)
{
	float *x;

	if (!t)
		return NULL;
	x = (float *)(p->model->memory +
		      plan_bytes(p, (size_t)t->dims[0] * sizeof(float)));
	p->floats = more(p->floats, p->nfloats, &p->max_floats, sizeof(*p->floats));
	p->floats[p->nfloats++] = (struct float_job){x, t};
	return x;
}

static void place_all(struct plan *p, const struct arch_tensors *t)
{
	struct model *m = p->model;

	for (int i = 0; i < m->hp.layers; i++) {
		struct layer *l = &m->layers[i];

		place_mats(m, &l->qkv);
		place_mats(m, &l->o);
		place_mats(m, &l->gateup);
		place_mats(m, &l->down);
		l->attn_norm = place_floats(p, t->layers[i].attn_norm);
		l->ffn_norm = place_floats(p, t->layers[i].ffn_norm);
		l->attn_post_norm = place_floats(p, t->layers[i].attn_post_norm);
		l->ffn_post_norm = place_floats(p, t->layers[i].ffn_post_norm);
		l->q_norm = place_floats(p, t->layers[i].q_norm);
		l->k_norm = place_floats(p, t->layers[i].k_norm);
	}
	place_mats(m, &m->head);
	m->output_norm = place_floats(p, t->output_norm);
}

/* What place_floats() will take, at most: six norms a layer and the last one. */
static size_t floats_bytes(const struct hparams *hp)
{
	size_t longest = (size_t)(hp->embd > hp->head_dim ? hp->embd : hp->head_dim);
	size_t row =
		(longest * sizeof(float) + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;

	return row * (6 * (size_t)hp->layers + 1);
}

/* Cuts the work into pieces of about a megabyte of the file, in the order of the layers.  Small enough that
 * a cancel is seen at once, and whole panels, so that no two threads write one. */
static void cut_items(struct plan *p)
{
	for (int i = 0; i < p->njobs; i++) {
		const struct pack_job *j = &p->jobs[i];
		int rows = (int)j->t->dims[1], n;

		n = (int)(ITEM_BYTES / (j->t->bytes / (size_t)rows + 1));
		n = n / PANEL_ROWS * PANEL_ROWS;
		n = n < PANEL_ROWS ? PANEL_ROWS : n;
		for (int at = 0; at < rows; at += n) {
			p->items = more(p->items, p->nitems, &p->max_items,
					sizeof(*p->items));
			p->items[p->nitems++] =
				(struct pack_item){i, at, rows - at < n ? rows - at : n};
		}
	}
}

/* --- identity -------------------------------------------------------------------------- */

static void hash_ints(XXH3_state_t *h, const uint64_t *v, size_t n)
{
	XXH3_64bits_update(h, v, n * sizeof(*v));
}

/* The head of the file and samples of its tensors.  Not the head alone: two fine-tunes of one model may
 * share it to the byte, and archives that set all times to one date would make them the same file. */
static uint64_t hash_source(const struct gguf *g)
{
	XXH3_state_t *h = XXH3_createState();
	const uint8_t *base = gguf_mapping(g);
	size_t from = gguf_data_offset(g), bytes = gguf_file_bytes(g);
	uint64_t out;

	XXH3_64bits_reset(h);
	XXH3_64bits_update(h, base, from);
	for (size_t i = 0; i < HASH_SAMPLES && bytes > from; i++) {
		size_t at = from + (bytes - from) / HASH_SAMPLES * i;
		size_t n = bytes - at < SAMPLE_BYTES ? bytes - at : SAMPLE_BYTES;

		XXH3_64bits_update(h, base + at, n);
	}
	out = XXH3_64bits_digest(h);
	XXH3_freeState(h);
	return out;
}

/* Where everything lies: whatever plan_all() and place_all() do differently one day makes another hash, so
 * nobody has to remember to count a version up. */
static uint64_t hash_plan(const struct plan *p)
{
	const uint8_t *base = p->model->memory;
	XXH3_state_t *h = XXH3_createState();
	uint64_t out;

	XXH3_64bits_reset(h);
	hash_ints(h, (const uint64_t[]){KMAT_LAYOUT_VERSION, p->model->memory_bytes}, 2);
	for (int i = 0; i < p->njobs; i++) {
		const struct pack_job *j = &p->jobs[i];
		const struct kmat *m = j->m;

		hash_ints(h,
			  (const uint64_t[]){m->form, (uint64_t)m->rows,
					     (uint64_t)m->cols, (uint64_t)j->row0,
					     (uint64_t)(m->data - base), j->t->type},
			  6);
	}
	for (int i = 0; i < p->nfloats; i++)
		hash_ints(h,
			  (const uint64_t[]){
				  (uint64_t)((const uint8_t *)p->floats[i].x - base),
				  (uint64_t)p->floats[i].t->dims[0]},
			  2);
	out = XXH3_64bits_digest(h);
	XXH3_freeState(h);
	return out;
}

/* --- packing --------------------------------------------------------------------------- */

static int plan_weights(struct model *m, const struct arch_tensors *t, struct err *e)
{
	struct plan *p = m->plan = xcalloc(1, sizeof(*p));

	p->model = m;
	m->layers = xcalloc((size_t)m->hp.layers, sizeof(*m->layers));
	if (plan_all(p, t, e) < 0)
		return -1;
	m->memory_bytes = p->used + floats_bytes(&m->hp);
	if (weights_reserve(&m->weights, m->memory_bytes, e) < 0)
		return -1;
	m->memory = weights_data(&m->weights);
	place_all(p, t);
	ASSERT(p->used <= m->memory_bytes);
	cut_items(p);
	m->embd = t->embd;
	m->mapped_bytes = t->embd->bytes;
	m->key = (struct pack_key){
		.source_bytes = gguf_file_bytes(m->gguf),
		.source_mtime_ns = gguf_id(m->gguf).mtime_ns,
		.source_hash = hash_source(m->gguf),
		.plan_hash = hash_plan(p),
		.payload_bytes = m->memory_bytes,
	};
	return 0;
}

int model_items(const struct model *m)
{
	return m->plan->nitems + 1;
}

size_t model_item_bytes(const struct model *m, int i)
{
	const struct pack_item *it = &m->plan->items[i - 1];
	const struct gguf_tensor *t;

	if (i == 0)
		return 0;
	t = m->plan->jobs[it->job].t;
	return t->bytes / (size_t)t->dims[1] * (size_t)it->n;
}

/* Item 0: everything small. */
static void pack_small(struct plan *p)
{
	for (int i = 0; i < p->nfloats; i++) {
		const struct gguf_tensor *t = p->floats[i].t;

		dequantise_row(t->type, t->data, p->floats[i].x, (int)t->dims[0]);
	}
	for (int i = 0; i < p->njobs; i++)
		if (p->jobs[i].row0 == 0)
			kmat_pack_tail(p->jobs[i].m);
}

void model_pack_item(struct model *m, int i)
{
	const struct pack_item *it = &m->plan->items[i - 1];
	const struct pack_job *j;

	if (i == 0) {
		pack_small(m->plan);
		return;
	}
	j = &m->plan->jobs[it->job];
	kmat_pack(j->m, j->t->type,
		  j->t->data + (size_t)it->from * quant_row_bytes(j->t->type, j->m->cols),
		  j->row0 + it->from, it->n);
}

/* Tells the kernel that the mapping outside of [keep, keep + keep_bytes) is not needed any more. */
static void drop_mapping(const struct gguf *g, const struct gguf_tensor *keep)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t base = (uintptr_t)gguf_mapping(g), end = base + gguf_file_bytes(g);
	uintptr_t k0 = (uintptr_t)keep->data / page * page;
	uintptr_t k1 = ((uintptr_t)keep->data + keep->bytes + page - 1) / page * page;

	if (base % page)
		return; /* not a mapping: gguf_from_memory */
	if (k0 > base)
		madvise((void *)base, k0 - base, MADV_DONTNEED);
	if (k1 < end)
		madvise((void *)k1, end - k1, MADV_DONTNEED);
}

void model_drop_source(const struct model *m)
{
	drop_mapping(m->gguf, m->embd);
}

static void read_rope_factors(struct model *m, const struct gguf_tensor *t)
{
	if (!t)
		return;
	m->rope_factors = xcalloc((size_t)t->dims[0], sizeof(float));
	dequantise_row(t->type, t->data, m->rope_factors, (int)t->dims[0]);
}

struct model *model_parse(const char *path, struct err *e)
{
	struct model *m = xcalloc(1, sizeof(*m));
	struct arch_tensors t = {0};

	m->gguf = gguf_open(path, e);
	if (!m->gguf || arch_read(m->gguf, &m->hp, &t, e) < 0)
		goto fail;
	m->vocab = vocab_new(m->gguf, e);
	if (!m->vocab)
		goto fail;
	if (vocab_size(m->vocab) > m->hp.vocab) {
		err_set(e, ERR_CORRUPT, "'%s': %d tokens, but embeddings for %d only",
			path, vocab_size(m->vocab), m->hp.vocab);
		goto fail;
	}
	chat_format_init(&m->chat, m->gguf, m->vocab, m->hp.name[0] ? m->hp.name : path);
	read_rope_factors(m, t.rope_freqs);
	if (plan_weights(m, &t, e) < 0)
		goto fail;
	arch_tensors_fini(&t);
	return m;
fail:
	arch_tensors_fini(&t);
	model_free(m);
	return NULL;
}

static void pack_fn(void *arg, int ith, int nth)
{
	struct model *m = arg;

	for (int i = 1 + ith; i < model_items(m); i += nth)
		model_pack_item(m, i);
}

struct model *model_open(const char *path, struct pool *pool, struct err *e)
{
	struct model *m = model_parse(path, e);

	if (!m)
		return NULL;
	if (weights_anonymous(&m->weights, e) < 0) {
		model_free(m);
		return NULL;
	}
	model_pack_item(m, 0);
	pool_run(pool, pack_fn, m);
	model_drop_source(m);
	return m;
}

static void plan_free(struct plan *p)
{
	if (!p)
		return;
	free(p->jobs);
	free(p->floats);
	free(p->items);
	free(p);
}

void model_free(struct model *m)
{
	if (!m)
		return;
	weights_fini(&m->weights);
	plan_free(m->plan);
	vocab_free(m->vocab);
	gguf_close(m->gguf);
	free(m->rope_factors);
	free(m->layers);
	free(m);
}

size_t model_bytes(const struct model *m)
{
	return m->memory_bytes + m->mapped_bytes;
}
