/* Logits to a token.
 *
 * Order: top-k, top-p, min-p, temperature, then the draw: the filters see the model's own
 * distribution, and temperature only reshapes what is left (llama.cpp's order).
 * Temperature 0 is greedy: the highest logit, lowest index on a tie.  NaN counts as minus
 * infinity.  The same seed and logits give the same tokens on every machine with the same
 * libm. One per answer; no lock. */
#ifndef HOB_SAMPLER_H
#define HOB_SAMPLER_H

#include "base/base.h"

/* When not given: the values that llama.cpp documents for its sampling options, which small models
 * need; OpenAI's 1.0 without a filter makes them ramble. */
#define SAMPLER_DEFAULT_TEMPERATURE 0.8f
#define SAMPLER_DEFAULT_TOP_P       0.95f
#define SAMPLER_DEFAULT_MIN_P       0.05f
#define SAMPLER_DEFAULT_TOP_K       40
#define SAMPLER_MAX_TEMPERATURE     100.0f

struct sampler_params {
	float temperature; /* 0 = greedy */
	float top_p;       /* 0..1; 1 = off */
	float min_p;       /* 0..1; 0 = off */
	int top_k;         /* 0 = off */
	uint64_t seed;
};

struct sampler; /* holds the state of the generator and room for the candidates */

struct sampler_params sampler_defaults(void); /* seed 0 */
/* A seed for requests without one, from the system. */
uint64_t sampler_random_seed(void);
/* Values outside their range are clamped. */
struct sampler *sampler_new(const struct sampler_params *p, int vocab_size);
void sampler_free(struct sampler *s); /* NULL is fine */
bool sampler_is_greedy(
	const struct sampler *s); /* then the caller may use kernels->argmax */
/* Reads vocab_size logits, returns an index among them. */
int sampler_pick(struct sampler *s, const float *logits);
/* The generator's state is advanced by exactly one draw a pick (none when greedy). */

#endif
