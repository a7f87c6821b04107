/* The forward pass: one function that all threads of the pool run side by side, with barriers.
 *
 * Shapes: x[n][embd] is the residual stream, branch[n][embd] what a branch would add to it before
 * its norm, if the architecture has one (the table of arch.c: this file asks for its fields, never
 * for a name), qkv[n][q+k+v], att has qkv's leading dimension (the
 * kernel wants q and out alike), ff[n][gate|up].  A reader may question that small batches (SOLO_ROWS) norm
 * and quantise the same vectors once per thread: it costs less than the barrier it saves
 * (research/cpu.md §2).  Matrices are split by static contiguous ranges of panels, because chunks taken from
 * a counter defeat the prefetcher.  Attention alone has unequal pieces: they are dealt out before. */
#include "engine/graph.h"

#include <math.h>

enum {
	SOLO_ROWS = 2, /* up to here each thread quantises for itself */
	ATT_ROWS = 32, /* query rows of one piece of attention */
	BUF_ALIGN = 64
};

/* A piece of attention: rows [row, row + n) of one sequence, heads [h0, h1). */
struct piece {
	int row, n, h0, h1;
	int thread;
	long cost;
};

/* What a thread has for itself. */
struct own {
	struct kacts embd, q, ffn; /* SOLO_ROWS columns */
	void *scratch;             /* matmul and attention, one at a time */
};

struct graph {
	const struct model *m; /* borrowed, as are k and pool */
	const struct kernels *k;
	struct pool *pool;
	int max_logits;

	uint8_t *memory; /* owned: all below */
	size_t memory_bytes;
	float *x, *branch, *qkv, *att, *ff, *last, *logits;
	float *cs[2]; /* [n][rot/2][cos, sin]; [1]: of layers with a window */
	struct kacts a_embd, a_q, a_ffn;
	struct own *own; /* owned: one a thread */
	double *freq[2]; /* owned: [rot/2] radians a position; [1] as in cs */
	int qkv_rows;

	/* the batch at hand */
	const struct graph_row *rows;
	int n, nlogits;
	int logit_row[GRAPH_MAX_ROWS];
	struct piece *pieces; /* owned */
	int npieces, max_pieces;
};

/* --- buffers ----------------------------------------------------------------------------- */

static void *cut(uint8_t *base, size_t *used, size_t bytes)
{
	uint8_t *p = base ? base + *used : NULL;

	*used += (bytes + BUF_ALIGN - 1) / BUF_ALIGN * BUF_ALIGN;
	return p;
}

static void cut_acts(struct kacts *a, uint8_t *base, size_t *used, int cols, int n)
{
	void *p = cut(base, used, kacts_bytes(cols, n));

	if (base)
		kacts_init(a, p, cols, n);
}

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

static size_t scratch_bytes(const struct hparams *hp, int capacity)
{
	size_t mm =
		larger(kernels_scratch_bytes(hp->embd), kernels_scratch_bytes(hp->ffn));

	mm = larger(mm, kernels_scratch_bytes(hp->heads * hp->head_dim));
	return larger(mm, kernels_attn_scratch_bytes(capacity, hp->head_dim));
}

/* Called twice: without base it only adds up. */
static size_t lay_out(struct graph *g, uint8_t *base, int capacity)
{
	const struct hparams *hp = &g->m->hp;
	size_t n = GRAPH_MAX_ROWS, used = 0, f = sizeof(float);
	size_t logit_rows = (size_t)g->max_logits;
	int q = hp->heads * hp->head_dim;

	g->x = cut(base, &used, n * (size_t)hp->embd * f);
	if (hp->arch->post_norms)
		g->branch = cut(base, &used, n * (size_t)hp->embd * f);
	g->qkv = cut(base, &used, n * (size_t)g->qkv_rows * f);
	g->att = cut(base, &used, n * (size_t)g->qkv_rows * f);
	g->ff = cut(base, &used, n * 2 * (size_t)hp->ffn * f);
	for (int i = 0; i < (hp->window ? 2 : 1); i++)
		g->cs[i] = cut(base, &used, n * (size_t)hp->rot * f);
	g->last = cut(base, &used, logit_rows * (size_t)hp->embd * f);
	g->logits = cut(base, &used, logit_rows * (size_t)hp->vocab * f);
	cut_acts(&g->a_embd, base, &used, hp->embd, GRAPH_MAX_ROWS);
	cut_acts(&g->a_q, base, &used, q, GRAPH_MAX_ROWS);
	cut_acts(&g->a_ffn, base, &used, hp->ffn, GRAPH_MAX_ROWS);
	for (int i = 0; i < pool_threads(g->pool); i++) {
		struct own *o = &g->own[i];

		cut_acts(&o->embd, base, &used, hp->embd, SOLO_ROWS);
		cut_acts(&o->q, base, &used, q, SOLO_ROWS);
		cut_acts(&o->ffn, base, &used, hp->ffn, SOLO_ROWS);
		o->scratch = cut(base, &used, scratch_bytes(hp, capacity));
	}
	return used;
}

static double *frequencies(const struct model *m, bool window)
{
	const struct hparams *hp = &m->hp;
	double *f = xcalloc((size_t)hp->rot / 2, sizeof(*f));

	for (int j = 0; j < hp->rot / 2; j++) {
		f[j] = pow(hp->rope[window].base, -2.0 * j / hp->rot) *
		       hp->rope[window].scale;
		if (m->rope_factors && !window)
			f[j] /= m->rope_factors[j];
	}
	return f;
}

struct graph *graph_new(const struct model *m, const struct kernels *k, struct pool *pool,
			int max_capacity, int max_logits)
{
	struct graph *g = xcalloc(1, sizeof(*g));

	ASSERT(max_logits >= 1 && max_logits <= GRAPH_MAX_ROWS);
	g->m = m;
	g->k = k;
	g->pool = pool;
	g->max_logits = max_logits;
	g->qkv_rows = m->layers[0].qkv.rows;
	g->own = xcalloc((size_t)pool_threads(pool), sizeof(*g->own));
	g->max_pieces = GRAPH_MAX_ROWS * m->hp.heads;
	g->pieces = xcalloc((size_t)g->max_pieces, sizeof(*g->pieces));
	g->memory_bytes = lay_out(g, NULL, max_capacity);
	g->memory = big_alloc(g->memory_bytes);
	lay_out(g, g->memory, max_capacity);
	for (int i = 0; i < (m->hp.window ? 2 : 1); i++)
		g->freq[i] = frequencies(m, i);
	return g;
}

void graph_free(struct graph *g)
{
	if (!g)
		return;
	big_free(g->memory, g->memory_bytes);
	free(g->own);
	free(g->pieces);
	free(g->freq[0]);
	free(g->freq[1]);
	free(g);
}

size_t graph_bytes(const struct graph *g)
{
	return g->memory_bytes;
}

/* --- who does which attention ---------------------------------------------------------------- */

static void add_piece(struct graph *g, int row, int n, int h0, int h1)
{
	long keys = g->rows[row].pos + n / 2 + 16;

	ASSERT(g->npieces < g->max_pieces);
	g->pieces[g->npieces++] = (struct piece){row, n, h0, h1, 0, keys * n * (h1 - h0)};
}

/* How many of the heads that share keys make a piece: all when there is enough to go round, for the
 * keys are read once then; else fewer, so that one sequence's token is shared out evenly. */
static int heads_of_piece(const struct graph *g, int runs)
{
	const struct hparams *hp = &g->m->hp;
	int group = hp->heads / hp->kv_heads, nth = pool_threads(g->pool), step = group;

	for (; step > 1; step--) {
		int pieces = runs * hp->heads / step;

		if (group % step == 0 &&
		    (pieces >= 3 * nth || (runs == 1 && pieces % nth == 0)))
			break;
	}
	return step;
}

static void add_run(struct graph *g, int row, int n, int step)
{
	for (int r = row; r < row + n; r += ATT_ROWS)
		for (int h = 0; h < g->m->hp.heads; h += step) {
			int rest = row + n - r;

			add_piece(g, r, rest < ATT_ROWS ? rest : ATT_ROWS, h, h + step);
		}
}

static int by_cost(const void *a, const void *b)
{
	long x = ((const struct piece *)a)->cost, y = ((const struct piece *)b)->cost;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* Longest first, each to the thread with the least so far. */
static void deal_pieces(struct graph *g)
{
	long load[POOL_MAX_THREADS] = {0};
	int nth = pool_threads(g->pool);

	qsort(g->pieces, (size_t)g->npieces, sizeof(*g->pieces), by_cost);
	for (int i = 0; i < g->npieces; i++) {
		int best = 0;

		for (int t = 1; t < nth; t++)
			if (load[t] < load[best])
				best = t;
		g->pieces[i].thread = best;
		load[best] += g->pieces[i].cost;
	}
}

static void plan_attention(struct graph *g)
{
	int runs = 0, step;

	for (int i = 0; i < g->n; i++)
		if (i == 0 || g->rows[i].slot != g->rows[i - 1].slot)
			runs++;
	runs += g->n / ATT_ROWS;
	step = heads_of_piece(g, runs);
	g->npieces = 0;
	for (int i = 0, n; i < g->n; i += n) {
		for (n = 1; i + n < g->n && g->rows[i + n].slot == g->rows[i].slot; n++)
			ASSERT(g->rows[i + n].pos == g->rows[i].pos + n);
		add_run(g, i, n, step);
	}
	deal_pieces(g);
}

/* --- the steps of a layer, as one thread sees them ------------------------------------------- */

struct me {
	struct graph *g;
	struct own *own;
	int ith, nth;
	bool solo;
};

/* This thread's share of 0..n. */
static int from(const struct me *me, int n)
{
	return (int)((long)n * me->ith / me->nth);
}

static int to(const struct me *me, int n)
{
	return (int)((long)n * (me->ith + 1) / me->nth);
}

static void barrier(const struct me *me)
{
	pool_barrier(me->g->pool, me->ith);
}

static void matmul(const struct me *me, const struct mats *w, const struct kacts *a,
		   int n, float *y, int ldy, enum kmm_mode mode)
{
	for (int i = 0; i < w->n; i++) {
		int pairs = w->m[i].panels / 2;
		int p0 = 2 * from(me, pairs), p1 = 2 * to(me, pairs);

		if (p0 < p1)
			me->g->k->matmul(&w->m[i], a, n, y + w->at[i], ldy, mode, p0, p1,
					 me->own->scratch);
	}
}

/* The three ways to fill activations share one shape: all columns for oneself, or a part
 * for everybody and a barrier. */
static const struct kacts *norm(const struct me *me, const float *x, int n,
				const float *weight)
{
	const struct hparams *hp = &me->g->m->hp;
	struct kacts *a = me->solo ? &me->own->embd : &me->g->a_embd;
	int c0 = me->solo ? 0 : from(me, n), c1 = me->solo ? n : to(me, n);

	if (c0 < c1)
		me->g->k->norm_quantise(a, x, hp->embd, weight, hp->eps, c0, c1);
	if (!me->solo)
		barrier(me);
	return a;
}

static const struct kacts *plain(const struct me *me)
{
	struct graph *g = me->g;
	struct kacts *a = me->solo ? &me->own->q : &g->a_q;
	int c0 = me->solo ? 0 : from(me, g->n), c1 = me->solo ? g->n : to(me, g->n);

	if (c0 < c1)
		g->k->quantise(a, g->att, g->qkv_rows, c0, c1);
	if (!me->solo)
		barrier(me);
	return a;
}

static const struct kacts *gated(const struct me *me)
{
	struct graph *g = me->g;
	struct kacts *a = me->solo ? &me->own->ffn : &g->a_ffn;
	int c0 = me->solo ? 0 : from(me, g->n), c1 = me->solo ? g->n : to(me, g->n);

	if (c0 < c1 && g->m->hp.arch->gate == GATE_GELU)
		g->k->gelu_mul_quantise(a, g->ff, 2 * g->m->hp.ffn, c0, c1);
	else if (c0 < c1)
		g->k->silu_mul_quantise(a, g->ff, 2 * g->m->hp.ffn, c0, c1);
	if (!me->solo)
		barrier(me);
	return a;
}

static void turns(const double *freq, int rot, int pos, float *cs)
{
	for (int j = 0; j < rot / 2; j++) {
		cs[2 * j] = (float)cos(freq[j] * pos);
		cs[2 * j + 1] = (float)sin(freq[j] * pos);
	}
}

/* Token embeddings, and cosines and sines of the positions. */
static void embed(const struct me *me)
{
	struct graph *g = me->g;
	const struct hparams *hp = &g->m->hp;
	const struct gguf_tensor *t = g->m->embd;
	size_t row_bytes = quant_row_bytes(t->type, hp->embd);

	for (int i = from(me, g->n); i < to(me, g->n); i++) {
		float *x = g->x + (size_t)i * (size_t)hp->embd;

		dequantise_row(t->type, t->data + (size_t)g->rows[i].token * row_bytes, x,
			       hp->embd);
		if (hp->arch->scaled_embd)
			for (int j = 0; j < hp->embd; j++)
				x[j] *= hp->embd_scale;
		for (int j = 0; j < 2 && g->freq[j]; j++)
			turns(g->freq[j], hp->rot, g->rows[i].pos,
			      g->cs[j] + (size_t)i * (size_t)hp->rot);
	}
}

/* Heads [h0, h1) of a row. */
static void norm_and_rotate(const struct graph *g, float *x, const float *weight,
			    const float *cs, int h0, int h1)
{
	const struct hparams *hp = &g->m->hp;

	if (weight)
		g->k->norm(x, x, hp->head_dim, hp->head_dim, weight, hp->eps, KMM_STORE,
			   h0, h1);
	g->k->rope(x, hp->head_dim, hp->rot, cs, hp->arch->rope_interleaved, h0, h1);
}

static void rotate_and_store(const struct me *me, int layer)
{
	struct graph *g = me->g;
	const struct hparams *hp = &g->m->hp;
	const struct layer *l = &g->m->layers[layer];
	const float *turn = g->cs[arch_has_window(hp, layer)];
	int heads = hp->heads, kv = hp->kv_heads, units = g->n * (heads + kv);

	/* Units run over rows, then over key/value heads, then over query heads. */
	for (int u = from(me, units), end = to(me, units); u < end;) {
		int row = u / (heads + kv), h = u % (heads + kv);
		int rest = end - u < heads + kv - h ? end - u : heads + kv - h;
		int kv1 = h + rest < kv ? h + rest : kv, q0 = h > kv ? h - kv : 0;
		float *q = g->qkv + (size_t)row * (size_t)g->qkv_rows;
		float *k = q + heads * hp->head_dim, *v = k + kv * hp->head_dim;
		const float *cs = turn + (size_t)row * (size_t)hp->rot;

		if (h < kv) {
			norm_and_rotate(g, k, l->k_norm, cs, h, kv1);
			g->k->kv_store(&g->rows[row].slot->layers[layer],
				       g->rows[row].pos, k, v, h, kv1);
		}
		if (h + rest > kv)
			norm_and_rotate(g, q, l->q_norm, cs, q0, h + rest - kv);
		u += rest;
	}
}

static void attend(const struct me *me, int layer)
{
	struct graph *g = me->g;
	const struct hparams *hp = &g->m->hp;
	int window = arch_has_window(hp, layer) ? hp->window : 0;

	for (int i = 0; i < g->npieces; i++) {
		const struct piece *p = &g->pieces[i];
		size_t at = (size_t)p->row * (size_t)g->qkv_rows;

		if (p->thread != me->ith)
			continue;
		g->k->attention(&g->rows[p->row].slot->layers[layer], g->qkv + at,
				g->att + at, g->qkv_rows, p->n, g->rows[p->row].pos,
				hp->heads, p->h0, p->h1, hp->query_scale, window,
				me->own->scratch);
	}
}

/* The end of a branch: the stream takes in w times a, through a norm where there is one. */
static void add_branch(const struct me *me, const struct mats *w, const struct kacts *a,
		       const float *post_norm)
{
	struct graph *g = me->g;
	const struct hparams *hp = &g->m->hp;

	matmul(me, w, a, g->n, post_norm ? g->branch : g->x, hp->embd,
	       post_norm ? KMM_STORE : KMM_ADD);
	barrier(me);
	if (!post_norm)
		return;
	g->k->norm(g->x, g->branch, hp->embd, hp->embd, post_norm, hp->eps, KMM_ADD,
		   from(me, g->n), to(me, g->n));
	barrier(me);
}

static void run_layer(const struct me *me, int i)
{
	struct graph *g = me->g;
	const struct hparams *hp = &g->m->hp;
	const struct layer *l = &g->m->layers[i];

	matmul(me, &l->qkv, norm(me, g->x, g->n, l->attn_norm), g->n, g->qkv, g->qkv_rows,
	       KMM_STORE);
	barrier(me);
	rotate_and_store(me, i);
	barrier(me);
	attend(me, i);
	barrier(me);
	add_branch(me, &l->o, plain(me), l->attn_post_norm);
	matmul(me, &l->gateup, norm(me, g->x, g->n, l->ffn_norm), g->n, g->ff,
	       2 * hp->ffn, KMM_STORE);
	barrier(me);
	add_branch(me, &l->down, gated(me), l->ffn_post_norm);
}

/* Logits only for the rows that want them: the head is a third of a small model. */
static void run_head(struct me *me)
{
	struct graph *g = me->g;
	const struct hparams *hp = &g->m->hp;

	me->solo = g->nlogits <= SOLO_ROWS;
	for (int i = from(me, g->nlogits); i < to(me, g->nlogits); i++)
		memcpy(g->last + (size_t)i * (size_t)hp->embd,
		       g->x + (size_t)g->logit_row[i] * (size_t)hp->embd,
		       (size_t)hp->embd * sizeof(float));
	barrier(me);
	matmul(me, &g->m->head, norm(me, g->last, g->nlogits, g->m->output_norm),
	       g->nlogits, g->logits, hp->vocab, KMM_STORE);
}

static void forward_fn(void *arg, int ith, int nth)
{
	struct graph *g = arg;
	struct me me = {g, &g->own[ith], ith, nth, g->n <= SOLO_ROWS};

	embed(&me);
	barrier(&me);
	for (int i = 0; i < g->m->hp.layers; i++)
		run_layer(&me, i);
	if (g->nlogits)
		run_head(&me);
}

void graph_forward(struct graph *g, const struct graph_row *rows, int n)
{
	ASSERT(n >= 1 && n <= GRAPH_MAX_ROWS);
	g->rows = rows;
	g->n = n;
	g->nlogits = 0;
	for (int i = 0; i < n; i++) {
		ASSERT(rows[i].token >= 0 && rows[i].token < g->m->hp.vocab);
		ASSERT(rows[i].pos >= 0 &&
		       rows[i].pos < rows[i].slot->layers[0].capacity);
		if (rows[i].wants_logits)
			g->logit_row[g->nlogits++] = i;
	}
	ASSERT(g->nlogits <= g->max_logits);
	plan_attention(g);
	pool_run(g->pool, forward_fn, g);
	g->rows = NULL;
}

const float *graph_logits(const struct graph *g, int i)
{
	ASSERT(i >= 0 && i < g->nlogits);
	return g->logits + (size_t)i * (size_t)g->m->hp.vocab;
}
