/* Architectures: what a model file must hold, read and cross-checked.
 *
 * One table row for each architecture the graph can compute.  arch_read() trusts nothing: sizes are
 * capped, and each tensor's shape must agree with the hyperparameters, so that the graph never
 * needs to look. */
#ifndef HOB_ARCH_H
#define HOB_ARCH_H

#include "engine/gguf.h"

struct arch {
	const char *name;      /* general.architecture */
	bool rope_interleaved; /* rotated pairs are (2i, 2i+1), not (i, i + rot/2) */
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
	float rope_base,
		rope_scale; /* angle = pos * rope_scale * base^(-2i/rot) / freq_factor[i] */
	char name[128];     /* general.name, or "" */
};

/* Where a layer's tensors lie in the file; all present. */
struct arch_layer {
	const struct gguf_tensor *attn_norm, *q, *k, *v, *o;
	const struct gguf_tensor *ffn_norm, *gate, *up, *down;
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

#endif
