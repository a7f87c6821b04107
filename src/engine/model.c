/* A model in memory: plans the packed matrices, allocates once, packs with all threads.
 *
 * Main thread; packing runs on the pool.  Planning and filling are the same walk over the
 * matrices, done twice: the first adds up sizes, the second sets pointers, so that the count is exact by
 * construction.  Pages of the file are dropped from memory as soon as they are packed: otherwise
 * a model would take twice its size. */
#include "engine/model.h"

#include <sys/mman.h>
#include <unistd.h>

enum { ALIGN_BYTES = 64 };
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

struct plan {
	struct model *model;
	struct pack_job *jobs;
	int njobs, max_jobs;
	size_t used;
};

static size_t plan_bytes(struct plan *p, size_t bytes)
{
	size_t at = p->used;

	p->used += (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
	return at;
}

static void plan_job(struct plan *p, struct kmat *m, const struct gguf_tensor *t,
		     int row0)
{
	ASSERT(p->njobs < p->max_jobs);
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
	/* An offset for now; model_place() adds the base. */
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

/* --- placing and packing --------------------------------------------------------------- */

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
	dequantise_row(t->type, t->data, x, (int)t->dims[0]);
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
	m->rope_factors = place_floats(p, t->rope_freqs);
}

/* What place_floats() will take, at most: six norms a layer, the last one, and the factors. */
static size_t floats_bytes(const struct hparams *hp)
{
	size_t longest = (size_t)(hp->embd > hp->head_dim ? hp->embd : hp->head_dim);
	size_t row =
		(longest * sizeof(float) + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;

	return row * (6 * (size_t)hp->layers + 2);
}

/* Each thread packs the part of each matrix that it will read later. */
static void pack_fn(void *arg, int ith, int nth)
{
	const struct plan *p = arg;

	for (int i = 0; i < p->njobs; i++) {
		const struct pack_job *j = &p->jobs[i];
		int rows = (int)j->t->dims[1];
		int units = (rows + PANEL_ROWS - 1) / PANEL_ROWS;
		int r0 = (int)((long)units * ith / nth) * PANEL_ROWS;
		int r1 = (int)((long)units * (ith + 1) / nth) * PANEL_ROWS;

		if (r1 > rows)
			r1 = rows;
		if (r0 < r1)
			kmat_pack(j->m, j->t->type,
				  j->t->data + (size_t)r0 * quant_row_bytes(j->t->type,
									    j->m->cols),
				  j->row0 + r0, r1 - r0);
	}
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

static int load_weights(struct model *m, const struct arch_tensors *t, struct pool *pool,
			struct err *e)
{
	struct plan p = {.model = m, .max_jobs = m->hp.layers * 7 + 1};
	int rc = -1;

	p.jobs = xcalloc((size_t)p.max_jobs, sizeof(*p.jobs));
	m->layers = xcalloc((size_t)m->hp.layers, sizeof(*m->layers));
	if (plan_all(&p, t, e) < 0)
		goto out;
	m->memory_bytes = p.used + floats_bytes(&m->hp);
	m->memory = big_alloc(m->memory_bytes);
	place_all(&p, t);
	ASSERT(p.used <= m->memory_bytes);
	for (int i = 0; i < p.njobs; i++)
		if (p.jobs[i].row0 == 0)
			kmat_pack_tail(p.jobs[i].m);
	pool_run(pool, pack_fn, &p);
	m->embd = t->embd;
	m->mapped_bytes = t->embd->bytes;
	drop_mapping(m->gguf, t->embd);
	rc = 0;
out:
	free(p.jobs);
	return rc;
}

struct model *model_open(const char *path, struct pool *pool, struct err *e)
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
	if (load_weights(m, &t, pool, e) < 0)
		goto fail;
	arch_tensors_fini(&t);
	return m;
fail:
	arch_tensors_fini(&t);
	model_free(m);
	return NULL;
}

void model_free(struct model *m)
{
	if (!m)
		return;
	big_free(m->memory, m->memory_bytes);
	vocab_free(m->vocab);
	gguf_close(m->gguf);
	free(m->layers);
	free(m);
}

size_t model_bytes(const struct model *m)
{
	return m->memory_bytes + m->mapped_bytes;
}
