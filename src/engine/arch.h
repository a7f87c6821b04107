/* Architectures: what a model file must hold, read and cross-checked.
 *
 * One table row for each architecture the graph can compute.  arch_read() trusts nothing: sizes are
 * capped, and each tensor's shape must agree with the hyperparameters, so that the graph never
 * needs to look. */
#ifndef HOB_ARCH_H
#define HOB_ARCH_H

#include "engine/gguf.h"

enum arch_gate { GATE_SILU, GATE_GELU };

/* How architectures differ, as far as the graph can tell; what is zero is as in llama. */
struct arch {
	const char *name;      /* general.architecture */
	bool rope_interleaved; /* rotated pairs are (2i, 2i+1), not (i, i + rot/2) */
	bool qk_norm;    /* RMS norm of each query and key head before its rotation */
	bool post_norms; /* RMS norm of what attention and feed-forward add to the stream */
	bool scaled_embd; /* token embeddings times sqrt(embd) */
	enum arch_gate gate;
	/* Where the file has a window, only each window_period-th layer sees all keys; the others
	 * see the window, and rotate with a base of their own, unscaled. */
	int window_period;
	float window_rope_base;
	/* The model of that many layers (0: none) scales queries by the width of a head as if heads
	 * shared out embd, not by head_dim; its file does not say so. */
	int layers_scaled_by_embd;
};

enum {
	ARCH_MAX_LAYERS = 512,
	ARCH_MAX_EMBD = 32768,
	ARCH_MAX_FFN = 262144,
	ARCH_MAX_HEADS = 512,
	ARCH_MAX_HEAD_DIM = 256,
	ARCH_MAX_CTX = 1 << 20
};

struct hparams {
	const struct arch *arch;
	int layers, embd, ffn;
	int heads, kv_heads; /* heads is a multiple of kv_heads */
	int head_dim, rot;   /* rot: how many of head_dim are rotated, even */
	int vocab;
	int ctx_train; /* tokens */
	float eps;
	/* angle = pos * scale * base^(-2i/rot) / freq_factor[i]; [1]: in layers with a window */
	struct {
		float base, scale;
	} rope[2];
	int window; /* keys that a query sees in layers with one, its own included; 0: no such layers */
	float embd_scale, query_scale;
	char name[128]; /* general.name, or "" */
};

/* Where a layer's tensors lie in the file. */
struct arch_layer {
	const struct gguf_tensor *attn_norm, *q, *k, *v, *o;
	const struct gguf_tensor *ffn_norm, *gate, *up, *down;
	/* NULL unless the architecture has them */
	const struct gguf_tensor *q_norm, *k_norm, *attn_post_norm, *ffn_post_norm;
};

struct arch_tensors {
	const struct gguf_tensor *embd, *output_norm;
	const struct gguf_tensor *output;     /* == embd when tied */
	const struct gguf_tensor *rope_freqs; /* [rot/2] divisors, or NULL */
	struct arch_layer *layers;            /* owned, hparams.layers of them */
};

/* -1: ERR_UNSUPPORTED (another architecture or a feature of it that the graph lacks, named) or
 * ERR_CORRUPT (a key or tensor is missing or has the wrong shape, named); nothing to free then. */
int arch_read(const struct gguf *g, struct hparams *hp, struct arch_tensors *t,
	      struct err *e);
void arch_tensors_fini(struct arch_tensors *t);

/* Does this layer see the window only? */
static inline bool arch_has_window(const struct hparams *hp, int layer)
{
	return hp->window && (layer + 1) % hp->arch->window_period != 0;
}

#endif
