/* Architectures as rows of a table, and the checks between hyperparameters and tensors.
 *
 * Pure functions over an open gguf; any thread.  A reader may wonder why nearly all that is odd is
 * refused instead of guessed: a wrong guess computes fluent nonsense, which nobody can debug. */
#include "engine/arch.h"

#include <math.h>

static const struct arch archs[] = {
	{.name = "llama", .rope_interleaved = true},
	/* Gemma 3.  Its norms' weights are stored with the 1 of the paper's (1 + w) added. */
	{
		.name = "gemma3",
		.qk_norm = true,
		.post_norms = true,
		.scaled_embd = true,
		.gate = GATE_GELU,
		.window_period = 6,
		.window_rope_base = 10000,
		.layers_scaled_by_embd = 62, /* 27B */
	},
};

static const struct arch *arch_find(struct str name)
{
	for (size_t i = 0; i < ARRAY_LEN(archs); i++)
		if (str_eq(name, archs[i].name))
			return &archs[i];
	return NULL;
}

/* " llama, gemma3" */
static const char *arch_names(char *out, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < ARRAY_LEN(archs) && used < size; i++)
		used += (size_t)snprintf(out + used, size - used, "%s %s", i ? "," : "",
					 archs[i].name);
	return out;
}

/* "llama.block_count": hyperparameters live under the architecture's name. */
struct keys {
	const struct gguf *g;
	const char *arch;
	struct err *e;
};

struct keyname {
	char text[96];
};

static struct keyname key_of(const struct keys *k, const char *suffix)
{
	struct keyname n;

	snprintf(n.text, sizeof(n.text), "%s.%s", k->arch, suffix);
	return n;
}

static int key_int(const struct keys *k, const char *suffix, int min, int max, int *out)
{
	struct keyname key = key_of(k, suffix);
	uint32_t v = 0;

	if (gguf_need_u32(k->g, key.text, &v, k->e) < 0)
		return -1;
	if (v < (uint32_t)min || v > (uint32_t)max)
		return err_set(k->e, ERR_CORRUPT, "'%s': %s is %u, must be %d to %d",
			       gguf_path(k->g), key.text, v, min, max);
	*out = (int)v;
	return 0;
}

static int key_int_or(const struct keys *k, const char *suffix, int min, int max,
		      int *out)
{
	struct keyname key = key_of(k, suffix);
	uint32_t v;

	if (gguf_u32(k->g, key.text, &v) == GGUF_ABSENT)
		return 0;
	return key_int(k, suffix, min, max, out);
}

static int key_float_or(const struct keys *k, const char *suffix, float *out)
{
	struct keyname key = key_of(k, suffix);
	float v;

	switch (gguf_f32(k->g, key.text, &v)) {
	case GGUF_ABSENT:
		return 0;
	case GGUF_FOUND:
		if (!isfinite(v) || v <= 0)
			break;
		*out = v;
		return 0;
	case GGUF_WRONG_TYPE:
		break;
	}
	return err_set(k->e, ERR_CORRUPT, "'%s': %s must be a positive number",
		       gguf_path(k->g), key.text);
}

/* Linear scaling divides positions; the others bend the frequencies in ways that only files
 * with a rope_freqs tensor spell out. */
static int read_rope(const struct keys *k, struct hparams *hp)
{
	struct keyname key = key_of(k, "rope.scaling.type");
	struct str type;
	float factor = 1;

	hp->rope[0].base = 10000;
	hp->rope[0].scale = hp->rope[1].scale = 1;
	hp->rope[1].base = hp->arch->window_rope_base;
	if (key_float_or(k, "rope.freq_base", &hp->rope[0].base) < 0 ||
	    key_float_or(k, "rope.freq_base_swa", &hp->rope[1].base) < 0)
		return -1;
	if (gguf_str(k->g, key.text, &type) != GGUF_FOUND || str_eq(type, "none"))
		return 0;
	if (!str_eq(type, "linear"))
		return err_set(k->e, ERR_UNSUPPORTED,
			       "'%s': rope scaling '%.*s' is not supported",
			       gguf_path(k->g), (int)(type.len > 64 ? 64 : type.len),
			       type.ptr);
	if (key_float_or(k, "rope.scaling.factor", &factor) < 0)
		return -1;
	hp->rope[0].scale = 1 / factor;
	return 0;
}

/* A window in a file of an architecture without a rule for it, or with another rule, would be
 * computed as something else. */
static int read_window(const struct keys *k, struct hparams *hp)
{
	int period = hp->arch->window_period;
	struct keyname key = key_of(k, "attention.sliding_window_pattern");
	uint32_t v;

	if (key_int_or(k, "attention.sliding_window", 0, ARCH_MAX_CTX, &hp->window) < 0)
		return -1;
	if (gguf_u32(k->g, key.text, &v) != GGUF_ABSENT &&
	    key_int(k, "attention.sliding_window_pattern", 0, ARCH_MAX_LAYERS, &period) <
		    0)
		return -1;
	if (hp->window && (!period || period != hp->arch->window_period))
		return err_set(
			k->e, ERR_UNSUPPORTED,
			"'%s': a sliding window in all but each %d-th layer is not "
			"supported for '%s'",
			gguf_path(k->g), period, k->arch);
	return 0;
}

/* Factors of the stream and of scores; caps on logits, which Gemma 2 has, are not computed. */
static int read_scales(const struct keys *k, struct hparams *hp)
{
	static const char *const caps[] = {"attn_logit_softcapping",
					   "final_logit_softcapping"};
	int width = hp->layers == hp->arch->layers_scaled_by_embd ? hp->embd / hp->heads
								  : hp->head_dim;

	for (size_t i = 0; i < ARRAY_LEN(caps); i++) {
		struct keyname key = key_of(k, caps[i]);
		float cap;

		if (gguf_f32(k->g, key.text, &cap) != GGUF_ABSENT)
			return err_set(k->e, ERR_UNSUPPORTED, "'%s': %s is not supported",
				       gguf_path(k->g), key.text);
	}
	hp->embd_scale = hp->arch->scaled_embd ? sqrtf((float)hp->embd) : 1;
	hp->query_scale = 1 / sqrtf((float)width);
	return key_float_or(k, "attention.scale", &hp->query_scale);
}

static int read_heads(const struct keys *k, struct hparams *hp)
{
	int value_dim;

	if (key_int(k, "attention.head_count", 1, ARCH_MAX_HEADS, &hp->heads) < 0)
		return -1;
	hp->kv_heads = hp->heads;
	if (key_int_or(k, "attention.head_count_kv", 1, ARCH_MAX_HEADS, &hp->kv_heads) <
	    0)
		return -1;
	if (hp->heads % hp->kv_heads)
		return err_set(k->e, ERR_CORRUPT,
			       "'%s': %d heads cannot share %d key/value heads",
			       gguf_path(k->g), hp->heads, hp->kv_heads);
	hp->head_dim = hp->embd / hp->heads;
	if (key_int_or(k, "attention.key_length", 1, ARCH_MAX_HEAD_DIM, &hp->head_dim) <
	    0)
		return -1;
	value_dim = hp->head_dim;
	if (key_int_or(k, "attention.value_length", 1, ARCH_MAX_HEAD_DIM, &value_dim) < 0)
		return -1;
	if (hp->head_dim < 16 || hp->head_dim > ARCH_MAX_HEAD_DIM || hp->head_dim % 16 ||
	    value_dim != hp->head_dim || hp->heads * hp->head_dim % BLOCK_COLS)
		return err_set(k->e, ERR_UNSUPPORTED,
			       "'%s': heads of %d keys and %d values are "
			       "not supported",
			       gguf_path(k->g), hp->head_dim, value_dim);
	hp->rot = hp->head_dim;
	if (key_int_or(k, "rope.dimension_count", 2, hp->head_dim, &hp->rot) < 0)
		return -1;
	if (hp->rot % 2)
		return err_set(k->e, ERR_CORRUPT, "'%s': rope.dimension_count is odd",
			       gguf_path(k->g));
	return 0;
}

static int read_hparams(const struct keys *k, struct hparams *hp)
{
	struct keyname eps = key_of(k, "attention.layer_norm_rms_epsilon");
	struct str name = {0};
	int experts = 0;

	if (key_int(k, "block_count", 1, ARCH_MAX_LAYERS, &hp->layers) < 0 ||
	    key_int(k, "embedding_length", BLOCK_COLS, ARCH_MAX_EMBD, &hp->embd) < 0 ||
	    key_int(k, "feed_forward_length", BLOCK_COLS, ARCH_MAX_FFN, &hp->ffn) < 0 ||
	    key_int(k, "context_length", 1, ARCH_MAX_CTX, &hp->ctx_train) < 0 ||
	    key_int_or(k, "expert_count", 0, 1 << 16, &experts) < 0 ||
	    read_heads(k, hp) < 0 || read_rope(k, hp) < 0 || read_window(k, hp) < 0 ||
	    read_scales(k, hp) < 0 || gguf_need_f32(k->g, eps.text, &hp->eps, k->e) < 0)
		return -1;
	if (!(hp->eps >= 0 && hp->eps < 1))
		return err_set(k->e, ERR_CORRUPT, "'%s': %s is out of range",
			       gguf_path(k->g), eps.text);
	if (experts)
		return err_set(k->e, ERR_UNSUPPORTED,
			       "'%s': mixtures of experts (%d) are not "
			       "supported",
			       gguf_path(k->g), experts);
	if (hp->embd % BLOCK_COLS || hp->ffn % BLOCK_COLS)
		return err_set(k->e, ERR_UNSUPPORTED,
			       "'%s': widths %d and %d must be multiples "
			       "of %d",
			       gguf_path(k->g), hp->embd, hp->ffn, BLOCK_COLS);
	if (gguf_str(k->g, "general.name", &name) == GGUF_FOUND)
		snprintf(hp->name, sizeof(hp->name), "%.*s",
			 (int)(name.len > 127 ? 127 : name.len), name.ptr);
	return 0;
}

/* A tensor of that shape, or the reason why not. */
static const struct gguf_tensor *need(const struct keys *k, const char *name,
				      int64_t cols, int64_t rows)
{
	const struct gguf_tensor *t = gguf_tensor(k->g, name);

	if (!t) {
		err_set(k->e, ERR_CORRUPT, "'%s': tensor '%s' is missing",
			gguf_path(k->g), name);
		return NULL;
	}
	if (t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != 1 ||
	    t->dims[3] != 1) {
		err_set(k->e, ERR_CORRUPT,
			"'%s': tensor '%s' is %lld x %lld, must be %lld x %lld",
			gguf_path(k->g), name, (long long)t->dims[0],
			(long long)t->dims[1], (long long)cols, (long long)rows);
		return NULL;
	}
	if (!quant_row_bytes(t->type, (int)cols)) {
		err_set(k->e, ERR_CORRUPT,
			"'%s': tensor '%s': %lld columns do not fit its type",
			gguf_path(k->g), name, (long long)cols);
		return NULL;
	}
	return t;
}

static int read_layer(const struct keys *k, const struct hparams *hp, int i,
		      struct arch_layer *l)
{
	int q = hp->heads * hp->head_dim, kv = hp->kv_heads * hp->head_dim;
	const struct arch *arch = hp->arch;
	const struct {
		const char *name;
		const struct gguf_tensor **out;
		int cols, rows;
		bool absent; /* for this architecture */
	} table[] = {
		{"attn_norm", &l->attn_norm, hp->embd, 1, false},
		{"attn_q", &l->q, hp->embd, q, false},
		{"attn_k", &l->k, hp->embd, kv, false},
		{"attn_v", &l->v, hp->embd, kv, false},
		{"attn_output", &l->o, q, hp->embd, false},
		{"ffn_norm", &l->ffn_norm, hp->embd, 1, false},
		{"ffn_gate", &l->gate, hp->embd, hp->ffn, false},
		{"ffn_up", &l->up, hp->embd, hp->ffn, false},
		{"ffn_down", &l->down, hp->ffn, hp->embd, false},
		{"attn_q_norm", &l->q_norm, hp->head_dim, 1, !arch->qk_norm},
		{"attn_k_norm", &l->k_norm, hp->head_dim, 1, !arch->qk_norm},
		{"post_attention_norm", &l->attn_post_norm, hp->embd, 1,
		 !arch->post_norms},
		{"post_ffw_norm", &l->ffn_post_norm, hp->embd, 1, !arch->post_norms},
	};
	char name[64];

	for (size_t j = 0; j < ARRAY_LEN(table); j++) {
		snprintf(name, sizeof(name), "blk.%d.%s.bias", i, table[j].name);
		if (gguf_tensor(k->g, name))
			return err_set(k->e, ERR_UNSUPPORTED,
				       "'%s': tensor '%s': biases are not "
				       "supported",
				       gguf_path(k->g), name);
		snprintf(name, sizeof(name), "blk.%d.%s.weight", i, table[j].name);
		if (table[j].absent && gguf_tensor(k->g, name))
			return err_set(k->e, ERR_UNSUPPORTED,
				       "'%s': tensor '%s' is not supported for '%s'",
				       gguf_path(k->g), name, k->arch);
		if (table[j].absent)
			continue;
		*table[j].out = need(k, name, table[j].cols, table[j].rows);
		if (!*table[j].out)
			return -1;
	}
	return 0;
}

static int read_tensors(const struct keys *k, struct hparams *hp, struct arch_tensors *t)
{
	const struct gguf_tensor *embd = gguf_tensor(k->g, "token_embd.weight");

	if (embd && (embd->dims[1] < 1 || embd->dims[1] > 1 << 20))
		return err_set(k->e, ERR_CORRUPT, "'%s': %lld rows of token_embd.weight",
			       gguf_path(k->g), (long long)embd->dims[1]);
	hp->vocab = embd ? (int)embd->dims[1] : 1;
	t->embd = need(k, "token_embd.weight", hp->embd, hp->vocab);
	t->output_norm = need(k, "output_norm.weight", hp->embd, 1);
	if (!t->embd || !t->output_norm)
		return -1;
	t->output = t->embd;
	if (gguf_tensor(k->g, "output.weight"))
		t->output = need(k, "output.weight", hp->embd, hp->vocab);
	if (!t->output)
		return -1;
	if (gguf_tensor(k->g, "rope_freqs.weight")) {
		t->rope_freqs = need(k, "rope_freqs.weight", hp->rot / 2, 1);
		if (!t->rope_freqs)
			return -1;
	}
	for (int i = 0; i < hp->layers; i++)
		if (read_layer(k, hp, i, &t->layers[i]) < 0)
			return -1;
	return 0;
}

int arch_read(const struct gguf *g, struct hparams *hp, struct arch_tensors *t,
	      struct err *e)
{
	struct keys k = {.g = g, .e = e};
	char known[256];
	struct str name;

	memset(hp, 0, sizeof(*hp));
	memset(t, 0, sizeof(*t));
	if (gguf_need_str(g, "general.architecture", &name, e) < 0)
		return -1;
	hp->arch = arch_find(name);
	if (!hp->arch)
		return err_set(e, ERR_UNSUPPORTED,
			       "'%s': architecture '%.*s' is not supported "
			       "(this build knows:%s)",
			       gguf_path(g), (int)(name.len > 64 ? 64 : name.len),
			       name.ptr, arch_names(known, sizeof(known)));
	k.arch = hp->arch->name;
	if (read_hparams(&k, hp) < 0)
		return -1;
	t->layers = xcalloc((size_t)hp->layers, sizeof(*t->layers));
	if (read_tensors(&k, hp, t) < 0) {
		arch_tensors_fini(t);
		return -1;
	}
	return 0;
}

void arch_tensors_fini(struct arch_tensors *t)
{
	free(t->layers);
	t->layers = NULL;
}
