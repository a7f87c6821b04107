/* The sampler.  One per answer, on the engine's thread.
 *
 * Filters need the candidates in order, but only the first few of them: all go into a
 * heap, which costs one pass, and as many are taken out as a filter keeps.  Nothing sorts
 * the whole vocabulary. */
#include "engine/sampler.h"

#include <errno.h>
#include <math.h>
#include <sys/random.h>

#include "base/clock.h"

struct candidate {
	float logit;
	int id;
};

struct sampler {
	struct sampler_params p;
	int n;
	uint64_t state[4];      /* xoshiro256** */
	struct candidate *heap; /* owned, n; the most likely first when it is a heap */
	struct candidate *kept; /* owned, n */
};

/* Beyond this an exponential of differences would meet inf - inf. */
#define LOGIT_MAX 1e30f

struct sampler_params sampler_defaults(void)
{
	return (struct sampler_params){
		.temperature = SAMPLER_DEFAULT_TEMPERATURE,
		.top_p = SAMPLER_DEFAULT_TOP_P,
		.min_p = SAMPLER_DEFAULT_MIN_P,
		.top_k = SAMPLER_DEFAULT_TOP_K,
	};
}

uint64_t sampler_random_seed(void)
{
	uint64_t seed;
	ssize_t got;

	do
		got = getrandom(&seed, sizeof(seed), 0);
	while (got < 0 && errno == EINTR);
	/* Without the system call variety is all that is lost. */
	return got == sizeof(seed) ? seed : clock_mono_ms();
}

/* NaN goes to lo. */
static float clamp(float x, float lo, float hi)
{
	return x >= lo ? (x <= hi ? x : hi) : lo;
}

/* splitmix64: spreads a seed over the state, which must not be all zero. */
static uint64_t splitmix(uint64_t *x)
{
	uint64_t z = *x += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static uint64_t rotl(uint64_t x, int k)
{
	return x << k | x >> (64 - k);
}

/* xoshiro256** of Blackman and Vigna, and its top 53 bits as a number in [0, 1). */
static double draw(struct sampler *s)
{
	uint64_t *t = s->state, result = rotl(t[1] * 5, 7) * 9, shifted = t[1] << 17;

	t[2] ^= t[0];
	t[3] ^= t[1];
	t[1] ^= t[2];
	t[0] ^= t[3];
	t[2] ^= shifted;
	t[3] = rotl(t[3], 45);
	return (double)(result >> 11) * 0x1p-53;
}

struct sampler *sampler_new(const struct sampler_params *p, int vocab_size)
{
	struct sampler *s = xcalloc(1, sizeof(*s));
	uint64_t seed = p->seed;

	ASSERT(vocab_size > 0);
	s->p.temperature = clamp(p->temperature, 0, SAMPLER_MAX_TEMPERATURE);
	s->p.top_p = clamp(p->top_p, 0, 1);
	s->p.min_p = clamp(p->min_p, 0, 1);
	s->p.top_k = p->top_k > 0 && p->top_k < vocab_size ? p->top_k : 0;
	s->p.seed = p->seed;
	s->n = vocab_size;
	for (int i = 0; i < 4; i++)
		s->state[i] = splitmix(&seed);
	if (!sampler_is_greedy(s)) {
		s->heap = xcalloc((size_t)vocab_size, sizeof(*s->heap));
		s->kept = xcalloc((size_t)vocab_size, sizeof(*s->kept));
	}
	return s;
}

void sampler_free(struct sampler *s)
{
	if (!s)
		return;
	free(s->heap);
	free(s->kept);
	free(s);
}

bool sampler_is_greedy(const struct sampler *s)
{
	return s->p.temperature <= 0;
}

static int argmax(const float *logits, int n)
{
	int best = 0;
	float top = -INFINITY;

	for (int i = 0; i < n; i++) {
		if (logits[i] > top) { /* false for NaN */
			top = logits[i];
			best = i;
		}
	}
	return best;
}

static bool before(struct candidate a, struct candidate b)
{
	return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

static void sift_down(struct candidate *h, int n, int i)
{
	struct candidate c = h[i];

	for (;;) {
		int child = 2 * i + 1;

		if (child >= n)
			break;
		if (child + 1 < n && before(h[child + 1], h[child]))
			child++;
		if (!before(h[child], c))
			break;
		h[i] = h[child];
		i = child;
	}
	h[i] = c;
}

static void heapify(struct candidate *h, int n)
{
	for (int i = n / 2 - 1; i >= 0; i--)
		sift_down(h, n, i);
}

static struct candidate pop(struct candidate *h, int *n)
{
	struct candidate top = h[0];

	h[0] = h[--*n];
	if (*n > 0)
		sift_down(h, *n, 0);
	return top;
}

static double mass(const struct candidate *c, int n, float top)
{
	double sum = 0;

	for (int i = 0; i < n; i++)
		sum += expf(c[i].logit - top);
	return sum;
}

/* The most likely ones until they weigh top_p, at least one.  Takes them from the heap
 * when there was no top-k, else kept is in order already. */
static int keep_top_p(struct sampler *s, int nheap, int nkept)
{
	const bool ordered = nkept > 0;
	const float top = ordered ? s->kept[0].logit : s->heap[0].logit;
	double want, sum = 0;
	int n = 0, left = ordered ? nkept : nheap;

	want = (double)s->p.top_p * mass(ordered ? s->kept : s->heap, left, top);
	do {
		if (!ordered)
			s->kept[n] = pop(s->heap, &left);
		sum += expf(s->kept[n].logit - top);
		n++;
	} while (sum < want && (ordered ? n < nkept : left > 0));
	return n;
}

/* Fills kept, its number is returned; the most likely one is first. */
static int filter(struct sampler *s, const float *logits)
{
	int nheap = s->n, nkept = 0, n = 0;
	float least;

	for (int i = 0; i < s->n; i++)
		s->heap[i] =
			(struct candidate){clamp(logits[i], -LOGIT_MAX, LOGIT_MAX), i};
	heapify(s->heap, nheap);
	while (nkept < s->p.top_k)
		s->kept[nkept++] = pop(s->heap, &nheap);
	if (s->p.top_p < 1)
		nkept = keep_top_p(s, nheap, nkept);
	if (nkept == 0) {
		memcpy(s->kept, s->heap, (size_t)nheap * sizeof(*s->heap));
		nkept = nheap;
	}
	if (s->p.min_p <= 0)
		return nkept;
	/* p >= min_p * p_max, in logits. */
	least = s->kept[0].logit + logf(s->p.min_p);
	for (int i = 0; i < nkept; i++)
		if (i == 0 || s->kept[i].logit >= least)
			s->kept[n++] = s->kept[i];
	return n;
}

int sampler_pick(struct sampler *s, const float *logits)
{
	double sum = 0, target;
	float top;
	int n;

	if (sampler_is_greedy(s))
		return argmax(logits, s->n);
	n = filter(s, logits);
	top = s->kept[0].logit;
	for (int i = 0; i < n; i++) {
		/* The weight takes the logit's place. */
		s->kept[i].logit = expf((s->kept[i].logit - top) / s->p.temperature);
		sum += s->kept[i].logit;
	}
	target = draw(s) * sum;
	for (int i = 0; i < n; i++) {
		target -= s->kept[i].logit;
		if (target < 0)
			return s->kept[i].id;
	}
	return s->kept[0].id; /* rounding: the likeliest */
}
