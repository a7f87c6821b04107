/* The forward pass against its definition in double, against itself in other company, and what is said
 * about files that it cannot compute. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "engine/graph.h"
#include "tests/unit/tiny_model.h"
#include "tests/unit/sanitized.h"

enum { THREADS = 2, LONG = 600 };

/* --- by definition ---------------------------------------------------------------------- */

static void rms_norm(const double *x, const float *w, int n, double *out)
{
	double sum = 0;

	for (int i = 0; i < n; i++)
		sum += x[i] * x[i];
	for (int i = 0; i < n; i++)
		out[i] = x[i] / sqrt(sum / n + (double)1e-5f) * w[i];
}

/* out[rows] (+)= w[rows][cols] x */
static void mat_vec(const float *w, const double *x, int cols, int rows, double *out,
		    bool add)
{
	for (int r = 0; r < rows; r++) {
		double sum = add ? out[r] : 0;

		for (int c = 0; c < cols; c++)
			sum += (double)w[r * cols + c] * x[c];
		out[r] = sum;
	}
}

static void rotate_pair(double *a, double *b, double angle)
{
	double left = *a, right = *b;

	*a = left * cos(angle) - right * sin(angle);
	*b = left * sin(angle) + right * cos(angle);
}

/* llama: neighbours, with factors.  Gemma (no factors): halves, with one of two bases. */
static void rotate(double *x, const float *factors, double base, int heads, int pos)
{
	for (int h = 0; h < heads; h++)
		for (int i = 0; i < TINY_HEAD_DIM / 2; i++) {
			double *head = x + h * TINY_HEAD_DIM;
			double angle = pos * pow(base, -2.0 * i / TINY_HEAD_DIM);

			if (factors)
				rotate_pair(head + 2 * i, head + 2 * i + 1,
					    angle / (double)factors[i]);
			else
				rotate_pair(head + i, head + i + TINY_HEAD_DIM / 2,
					    angle);
		}
}

enum {
	Q = TINY_HEADS * TINY_HEAD_DIM,
	KV = TINY_KV_HEADS * TINY_HEAD_DIM,
	MAX_POS = 40,
};

struct reference {
	const struct tiny *m;
	double k[TINY_GEMMA_LAYERS][MAX_POS][KV], v[TINY_GEMMA_LAYERS][MAX_POS][KV];
};

static const float *weight(const struct reference *r, int layer, const char *name)
{
	char full[64];

	snprintf(full, sizeof(full), "blk.%d.%s.weight", layer, name);
	return tiny_get(r->m, full);
}

static bool is_gemma(const struct reference *r)
{
	return r->m->layers == TINY_GEMMA_LAYERS;
}

static bool has_window(const struct reference *r, int layer)
{
	return is_gemma(r) && layer != TINY_GEMMA_LAYERS - 1;
}

static void attention(const struct reference *r, int layer, int pos, const double *q,
		      double *out)
{
	int first =
		has_window(r, layer) && pos >= TINY_WINDOW ? pos - TINY_WINDOW + 1 : 0;

	memset(out, 0, Q * sizeof(*out));
	for (int h = 0; h < TINY_HEADS; h++) {
		int at = h / (TINY_HEADS / TINY_KV_HEADS) * TINY_HEAD_DIM;
		double p[MAX_POS], sum = 0;

		for (int t = first; t <= pos; t++) {
			double dot = 0;

			for (int i = 0; i < TINY_HEAD_DIM; i++)
				dot += q[h * TINY_HEAD_DIM + i] * r->k[layer][t][at + i];
			sum += p[t] = exp(dot / sqrt(TINY_HEAD_DIM));
		}
		for (int t = first; t <= pos; t++)
			for (int i = 0; i < TINY_HEAD_DIM; i++)
				out[h * TINY_HEAD_DIM + i] +=
					p[t] / sum * r->v[layer][t][at + i];
	}
}

/* The heads of a query or key row: normed where the model does that, and rotated. */
static void turn_heads(const struct reference *r, int layer, const char *norm, double *x,
		       int heads, int pos)
{
	/* Files without a base of their own: 10000 for both kinds of layers. */
	const float *factors = tiny_get(r->m, "rope_freqs.weight");

	for (int h = 0; h < heads && is_gemma(r); h++)
		rms_norm(x + h * TINY_HEAD_DIM, weight(r, layer, norm), TINY_HEAD_DIM,
			 x + h * TINY_HEAD_DIM);
	rotate(x, factors, has_window(r, layer) || !is_gemma(r) ? 10000 : TINY_ROPE_BASE,
	       heads, pos);
}

/* x += what the branch came to, through the norm behind it where there is one. */
static void join(const struct reference *r, int layer, const char *norm, double *branch,
		 double *x)
{
	if (is_gemma(r))
		rms_norm(branch, weight(r, layer, norm), TINY_EMBD, branch);
	for (int i = 0; i < TINY_EMBD; i++)
		x[i] += branch[i];
}

static double gate(const struct reference *r, double x)
{
	double z = sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);

	return is_gemma(r) ? 0.5 * x * (1 + tanh(z)) : x / (1 + exp(-x));
}

static void reference_layer(struct reference *r, int l, int pos, double *x)
{
	double h[TINY_EMBD], q[Q], att[Q], gates[TINY_FFN], up[TINY_FFN],
		branch[TINY_EMBD];

	rms_norm(x, weight(r, l, "attn_norm"), TINY_EMBD, h);
	mat_vec(weight(r, l, "attn_q"), h, TINY_EMBD, Q, q, false);
	mat_vec(weight(r, l, "attn_k"), h, TINY_EMBD, KV, r->k[l][pos], false);
	mat_vec(weight(r, l, "attn_v"), h, TINY_EMBD, KV, r->v[l][pos], false);
	turn_heads(r, l, "attn_q_norm", q, TINY_HEADS, pos);
	turn_heads(r, l, "attn_k_norm", r->k[l][pos], TINY_KV_HEADS, pos);
	attention(r, l, pos, q, att);
	mat_vec(weight(r, l, "attn_output"), att, Q, TINY_EMBD, branch, false);
	join(r, l, "post_attention_norm", branch, x);
	rms_norm(x, weight(r, l, "ffn_norm"), TINY_EMBD, h);
	mat_vec(weight(r, l, "ffn_gate"), h, TINY_EMBD, TINY_FFN, gates, false);
	mat_vec(weight(r, l, "ffn_up"), h, TINY_EMBD, TINY_FFN, up, false);
	for (int i = 0; i < TINY_FFN; i++)
		gates[i] = gate(r, gates[i]) * up[i];
	mat_vec(weight(r, l, "ffn_down"), gates, TINY_FFN, TINY_EMBD, branch, false);
	join(r, l, "post_ffw_norm", branch, x);
}

static void reference_step(struct reference *r, int token, int pos, double *logits)
{
	const float *head = tiny_get(r->m, "output.weight");
	double x[TINY_EMBD], h[TINY_EMBD];

	for (int i = 0; i < TINY_EMBD; i++)
		x[i] = tiny_get(r->m, "token_embd.weight")[token * TINY_EMBD + i] *
		       (is_gemma(r) ? sqrt(TINY_EMBD) : 1);
	for (int l = 0; l < r->m->layers; l++)
		reference_layer(r, l, pos, x);
	rms_norm(x, tiny_get(r->m, "output_norm.weight"), TINY_EMBD, h);
	mat_vec(head ? head : tiny_get(r->m, "token_embd.weight"), h, TINY_EMBD, TV_SIZE,
		logits, false);
}

/* --- fixture --------------------------------------------------------------------------------- */

struct bench {
	struct pool *pool;
	struct model *model;
	struct graph *graph;
	struct kv_cache *kv;
};

static void bench_init(struct bench *b, const char *path, const struct kernels *k,
		       int slots)
{
	struct err e = {0};

	b->pool = pool_new(THREADS);
	b->model = model_open(path, b->pool, &e);
	if (!b->model)
		fail_msg("%s", e.text);
	b->graph = graph_new(b->model, k, b->pool, TINY_CTX, GRAPH_MAX_ROWS);
	b->kv = kv_new(&b->model->hp, TINY_CTX, slots);
}

static void bench_fini(struct bench *b)
{
	graph_free(b->graph);
	kv_free(b->kv);
	model_free(b->model);
	pool_free(b->pool);
}

static int32_t token_at(const struct bench *b, int i)
{
	uint32_t s = (uint32_t)i * 2654435761u + 12345;

	return (int32_t)(tiny_random(&s) % (uint32_t)vocab_size(b->model->vocab));
}

/* Tokens 0..n-1 of the test sequence in a slot of their own, none computed yet. */
static struct kv_slot *sequence(struct bench *b, int n, int salt)
{
	int32_t ids[TINY_CTX];
	struct kv_slot *s;
	int common;

	for (int i = 0; i < n; i++)
		ids[i] = token_at(b, salt + i);
	s = kv_take(b->kv, ids, n, &common);
	assert_non_null(s);
	s->n = 0;
	kv_append(s, b->kv, ids, n);
	return s;
}

static int add(struct graph_row *r, const struct kv_slot *s, int from, int n, int last)
{
	for (int i = 0; i < n; i++)
		r[i] = (struct graph_row){s->tokens[from + i], from + i, s,
					  from + i == last};
	return n;
}

/* The logits of the last of n tokens, computed in chunks; owned by the caller. */
static float *logits_in_chunks(struct bench *b, int n, int chunk)
{
	size_t vocab = (size_t)b->model->hp.vocab;
	struct kv_slot *s = sequence(b, n, 0);
	struct graph_row r[GRAPH_MAX_ROWS];
	float *out = xcalloc(vocab, sizeof(float));

	for (int i = 0; i < n; i += chunk) {
		int rows = n - i < chunk ? n - i : chunk;

		graph_forward(b->graph, r, add(r, s, i, rows, n - 1));
	}
	memcpy(out, graph_logits(b->graph, 0), vocab * sizeof(float));
	kv_give(b->kv, s);
	return out;
}

static const struct kernels *best_kernels(void)
{
	return kernels_by_name("auto");
}

static const char *model_of(const char *variable)
{
	const char *path = getenv(variable);

	if (!path) {
		print_message("%s names no model file\n", variable);
		skip();
	}
	return path;
}

static const char *real_model(void)
{
	return model_of("HOB_TEST_MODEL");
}

/* --- tests ------------------------------------------------------------------------------------ */

static void compare_with_definition(const struct kernels *k, bool gemma, bool tied)
{
	struct tiny *m = tiny_new(&(struct tiny_faults){.gemma = gemma, .tied = tied});
	struct reference *r = xcalloc(1, sizeof(*r));
	struct graph_row rows[MAX_POS];
	struct kv_slot *s;
	struct bench b;
	double worst = 0;

	bench_init(&b, m->path, k, 1);
	r->m = m;
	s = sequence(&b, MAX_POS, 0);
	graph_forward(b.graph, rows, add(rows, s, 0, MAX_POS / 2, -1));
	for (int i = 0; i < MAX_POS; i++) {
		double want[TV_SIZE];

		reference_step(r, s->tokens[i], i, want);
		if (i < MAX_POS / 2)
			continue;
		graph_forward(b.graph, rows, add(rows, s, i, 1, i));
		for (int t = 0; t < TV_SIZE; t++)
			worst = fmax(worst,
				     fabs(want[t] - (double)graph_logits(b.graph, 0)[t]));
	}
	/* Logits are about 1; keys and values are kept in half precision, the rest is float. */
	if (!(worst < 5e-3))
		fail_msg("%s: off by %g", k->name, worst);
	bench_fini(&b);
	tiny_free(m);
	free(r);
}

static void every_backend_computes_what_the_definition_says(void **state)
{
	int n;
	const struct kernels *const *all = kernels_all(&n);

	UNUSED(state);
	for (int i = 0; i < n; i++) {
		compare_with_definition(all[i], false, false);
		compare_with_definition(all[i], false, true);
		compare_with_definition(all[i], true, false);
		compare_with_definition(all[i], true, true);
	}
}

static void check_chunks(const char *path, const struct kernels *k, int n)
{
	static const int chunks[] = {256, 100, 7};
	size_t bytes;
	struct bench b;
	float *first;

	bench_init(&b, path, k, 1);
	bytes = (size_t)b.model->hp.vocab * sizeof(float);
	first = logits_in_chunks(&b, n, 1);
	for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
		float *other = logits_in_chunks(&b, n, chunks[i]);

		assert_memory_equal(first, other, bytes);
		free(other);
	}
	free(first);
	bench_fini(&b);
}

static void how_a_prompt_is_cut_does_not_change_a_bit(void **state)
{
	int n;
	const struct kernels *const *all = kernels_all(&n);

	UNUSED(state);
	for (int gemma = 0; gemma < 2; gemma++) {
		struct tiny *m = tiny_new(&(struct tiny_faults){.gemma = gemma});

		for (int i = 0; i < n; i++)
			check_chunks(m->path, all[i], LONG / 2);
		tiny_free(m);
	}
}

static void how_a_prompt_is_cut_does_not_change_a_bit_of_the_real_model(void **state)
{
	UNUSED(state);
	check_chunks(real_model(), best_kernels(), SANITIZED ? 120 : LONG);
}

/* One sequence decodes beside another's decode row and a third's chunk. */
static void check_company(const char *path, const struct kernels *k)
{
	struct graph_row r[GRAPH_MAX_ROWS];
	struct kv_slot *s[3];
	struct bench b;
	float *alone;
	size_t bytes;
	int n;

	bench_init(&b, path, k, 4);
	bytes = (size_t)b.model->hp.vocab * sizeof(float);
	alone = logits_in_chunks(&b, 51, 50);
	for (int i = 0; i < 3; i++)
		s[i] = sequence(&b, 60 + 40 * i, i == 0 ? 0 : 1000 * i);
	graph_forward(b.graph, r, add(r, s[0], 0, 50, -1));
	graph_forward(b.graph, r, add(r, s[1], 0, 90, -1));
	n = add(r, s[1], 90, 1, 90);
	n += add(r + n, s[0], 50, 1, 50);
	n += add(r + n, s[2], 0, 140, 139);
	graph_forward(b.graph, r, n);
	assert_memory_equal(graph_logits(b.graph, 1), alone, bytes);
	assert_memory_not_equal(graph_logits(b.graph, 0), alone, bytes);
	free(alone);
	bench_fini(&b);
}

static void company_does_not_change_a_bit(void **state)
{
	int n;
	const struct kernels *const *all = kernels_all(&n);

	UNUSED(state);
	for (int gemma = 0; gemma < 2; gemma++) {
		struct tiny *m = tiny_new(&(struct tiny_faults){.gemma = gemma});

		for (int i = 0; i < n; i++)
			check_company(m->path, all[i]);
		tiny_free(m);
	}
}

static void company_does_not_change_a_bit_of_the_real_model(void **state)
{
	UNUSED(state);
	check_company(real_model(), best_kernels());
}

/* Head size 256 and more tokens than a window holds. */
static void neither_changes_a_bit_of_gemma(void **state)
{
	const char *path = model_of("HOB_TEST_MODEL2");

	UNUSED(state);
	check_chunks(path, best_kernels(), SANITIZED ? 120 : LONG);
	check_company(path, best_kernels());
}

static double mean_difference(const float *a, const float *b, int n)
{
	double sum = 0;

	for (int i = 0; i < n; i++)
		sum += fabs((double)a[i] - (double)b[i]);
	return sum / n;
}

static void backends_agree_on_the_real_model(void **state)
{
	const char *path = real_model();
	int n;
	const struct kernels *const *all = kernels_all(&n);
	float *first = NULL;

	UNUSED(state);
	for (int i = 0; i < n; i++) {
		struct bench b;
		float *x;

		bench_init(&b, path, all[i], 1);
		x = logits_in_chunks(&b, 12, 12);
		/* Logits spread over about 30; rounding of activations to 8 bits moves them by 0.1. */
		if (first && !(mean_difference(first, x, b.model->hp.vocab) < 0.4))
			fail_msg("%s: off by %g", all[i]->name,
				 mean_difference(first, x, b.model->hp.vocab));
		if (first)
			free(x);
		else
			first = x;
		bench_fini(&b);
	}
	free(first);
}

static void refused(const struct tiny_faults *f, enum err_code code, const char *word)
{
	struct tiny *m = tiny_new(f);
	struct pool *pool = pool_new(1);
	struct err e = {0};

	assert_null(model_open(m->path, pool, &e));
	assert_int_equal(e.code, code);
	if (!strstr(e.text, word) || !strstr(e.text, m->path))
		fail_msg("'%s' lacks '%s' or '%s'", e.text, word, m->path);
	pool_free(pool);
	tiny_free(m);
}

static void files_that_cannot_be_computed_are_refused_by_name(void **state)
{
	UNUSED(state);
	refused(&(struct tiny_faults){.arch = "mamba"}, ERR_UNSUPPORTED, "mamba");
	refused(&(struct tiny_faults){.arch = "mamba"}, ERR_UNSUPPORTED, "llama, gemma3");
	/* A Gemma that says it is a llama, and the other way round. */
	refused(&(struct tiny_faults){.gemma = true, .arch = "llama"}, ERR_UNSUPPORTED,
		"sliding window");
	refused(&(struct tiny_faults){.arch = "gemma3"}, ERR_CORRUPT, "attn_q_norm");
	refused(&(struct tiny_faults){.extra = "blk.0.post_ffw_norm.weight"},
		ERR_UNSUPPORTED, "post_ffw_norm");
	refused(&(struct tiny_faults){.gemma = true,
				      .without = "blk.5.post_ffw_norm.weight"},
		ERR_CORRUPT, "blk.5.post_ffw_norm.weight");
	refused(&(struct tiny_faults){.without = "blk.1.ffn_up.weight"}, ERR_CORRUPT,
		"blk.1.ffn_up.weight");
	refused(&(struct tiny_faults){.without = "output_norm.weight"}, ERR_CORRUPT,
		"output_norm.weight");
	refused(&(struct tiny_faults){.misshaped = "blk.0.attn_k.weight"}, ERR_CORRUPT,
		"blk.0.attn_k.weight");
	refused(&(struct tiny_faults){.extra = "blk.0.attn_q.bias"}, ERR_UNSUPPORTED,
		"bias");
	refused(&(struct tiny_faults){.context = (1 << 20) + 1}, ERR_CORRUPT,
		"context_length");
	refused(&(struct tiny_faults){.cut = 100}, ERR_CORRUPT, "");
}

/* Embeddings for fewer tokens than the vocabulary has would be read beyond their end. */
static void a_vocabulary_larger_than_its_embeddings_is_refused(void **state)
{
	UNUSED(state);
	refused(&(struct tiny_faults){.misshaped = "token_embd.weight", .tied = true},
		ERR_CORRUPT, "265 tokens");
}

static void a_free_slot_is_chosen_by_what_it_shares_and_what_it_would_lose(void **state)
{
	struct hparams hp = {.layers = 1, .kv_heads = 1, .head_dim = 16};
	struct kv_cache *c = kv_new(&hp, 256, 2);
	int32_t a[200], b[200];
	struct kv_slot *s, *t;
	int common;

	UNUSED(state);
	for (int i = 0; i < 200; i++)
		a[i] = i, b[i] = i < 10 ? i : 1000 + i;
	s = kv_take(c, a, 200, &common);
	assert_int_equal(common, 0);
	kv_append(s, c, a, 200);
	kv_give(c, s);
	/* Ten shared tokens are not worth the other 190. */
	t = kv_take(c, b, 50, &common);
	assert_ptr_not_equal(t, s);
	kv_append(t, c, b, 50);
	/* The same prompt again: all but the last, which needs its logits. */
	assert_ptr_equal(kv_take(c, a, 200, &common), s);
	assert_int_equal(common, 199);
	assert_int_equal(s->n, 199);
	assert_null(kv_take(c, a, 5, &common));
	kv_give(c, s);
	kv_give(c, t);
	/* Nothing in common: the one given back first. */
	a[0] = 7;
	assert_ptr_equal(kv_take(c, a, 9, &common), s);
	kv_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_backend_computes_what_the_definition_says),
		cmocka_unit_test(how_a_prompt_is_cut_does_not_change_a_bit),
		cmocka_unit_test(
			how_a_prompt_is_cut_does_not_change_a_bit_of_the_real_model),
		cmocka_unit_test(company_does_not_change_a_bit),
		cmocka_unit_test(company_does_not_change_a_bit_of_the_real_model),
		cmocka_unit_test(neither_changes_a_bit_of_gemma),
		cmocka_unit_test(backends_agree_on_the_real_model),
		cmocka_unit_test(files_that_cannot_be_computed_are_refused_by_name),
		cmocka_unit_test(a_vocabulary_larger_than_its_embeddings_is_refused),
		cmocka_unit_test(
			a_free_slot_is_chosen_by_what_it_shares_and_what_it_would_lose),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
