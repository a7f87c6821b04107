/* How near the matrix kernels come to the machine: one column against a plain read of the
 * same bytes, many against the int8 peak of the cores.  usage: kernels [backend
 * [threads]]
 *
 * Limits are measured just before and after each kernel, because a shared host swings
 * within minutes; "steady" says whether the two agreed within 15 %, and a share without
 * it is worth nothing. Prints a table, and JSON in the last line. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kernels/half.h"
#include "kernels/kernels.h"
#include "kernels/pool.h"

enum { RUNS = 21, PEAK_ROUNDS = 200000, PEAK_CHAINS = 10 };

struct bench {
	const struct kernels *be;
	struct pool *pool;
	struct kmat w;
	size_t bytes; /* of w.data */
	struct kacts a;
	float *y;
	int n;
	void *scratch[POOL_MAX_THREADS];
	uint64_t sink[POOL_MAX_THREADS];
};

static void *huge(size_t bytes)
{
	size_t page = 2 << 20, size = (bytes + page - 1) / page * page;
	void *p = aligned_alloc(page, size);

	if (!p)
		abort();
	madvise(p, size, MADV_HUGEPAGE); /* a refusal costs some 5 % of GEMM */
	return p;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void run_matmul(void *arg, int ith, int nth)
{
	struct bench *b = arg;
	int pairs = b->w.panels / 2;

	b->be->matmul(&b->w, &b->a, b->n, b->y, b->w.rows, KMM_STORE,
		      pairs * ith / nth * 2, pairs * (ith + 1) / nth * 2,
		      b->scratch[ith]);
}

#if defined(__x86_64__)
#define TARGET __attribute__((target("avx2")))
typedef long long vector __attribute__((vector_size(32), aligned(32)));

TARGET static void run_read(void *arg, int ith, int nth)
{
	struct bench *b = arg;
	size_t share = b->bytes / (size_t)nth / 256 * 256;
	const vector *p = (const void *)(b->w.data + share * (size_t)ith);
	vector s[8] = {0};

	for (size_t i = 0; i < share / 32; i += 8)
#pragma GCC unroll 8
		for (int j = 0; j < 8; j++)
			s[j] |= p[i + (size_t)j];
	for (int j = 0; j < 8; j++)
		b->sink[ith] += (uint64_t)s[j][0];
}

static double peak_macs(const struct bench *b)
{
	double lanes = strcmp(b->be->name, "avx512") == 0 ? 64 : 0;

	return lanes * PEAK_ROUNDS * PEAK_CHAINS;
}

/* Assembler, because the compiler would fold ten equal chains into one. */
static void run_peak(void *arg, int ith, int nth)
{
	(void)arg, (void)ith, (void)nth;
#define DOT(n) "vpdpbusd %%zmm0, %%zmm0, %%zmm" #n "\n\t"
	for (int r = 0; r < PEAK_ROUNDS; r++)
		__asm__ volatile(DOT(1) DOT(2) DOT(3) DOT(4) DOT(5) DOT(6) DOT(7) DOT(8)
					 DOT(9) DOT(10)::
						 : "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",
						   "xmm6", "xmm7", "xmm8", "xmm9",
						   "xmm10");
}
#else
static void run_read(void *arg, int ith, int nth)
{
	struct bench *b = arg;
	size_t share = b->bytes / (size_t)nth / 8;
	const uint64_t *p = (const uint64_t *)b->w.data + share * (size_t)ith;

	for (size_t i = 0; i < share; i++)
		b->sink[ith] |= p[i];
}

static double peak_macs(const struct bench *b)
{
	(void)b;
	return 0;
}

static void run_peak(void *arg, int ith, int nth)
{
	(void)arg, (void)ith, (void)nth;
}
#endif

static double median_seconds(struct bench *b, void (*fn)(void *, int, int))
{
	double sorted[RUNS], t;

	for (int r = 0; r < RUNS; r++) {
		int i = r;

		t = now();
		pool_run(b->pool, fn, b);
		t = now() - t;
		for (; i > 0 && sorted[i - 1] > t; i--)
			sorted[i] = sorted[i - 1];
		sorted[i] = t;
	}
	return sorted[RUNS / 2];
}

static uint32_t random_u32(uint64_t *s)
{
	*s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
	return (uint32_t)(*s >> 24);
}

/* Random bytes are weights; the exponents of the f16 are tamed so that no NaN slows
 * anything. */
static void fill(struct bench *b, enum quant_type type, int rows, int cols)
{
	uint64_t seed = 88172645463325252u;
	size_t row = quant_row_bytes(type, cols);
	uint8_t *file = malloc(row * 16);

	if (!file || !kmat_plan(&b->w, type, rows, cols, &b->bytes))
		abort();
	b->w.data = huge(b->bytes);
	for (size_t i = 0; i < row * 16; i++)
		file[i] = (uint8_t)(random_u32(&seed) & 0x9f);
	kmat_pack_tail(&b->w);
	for (int r = 0; r < rows; r += 16)
		kmat_pack(&b->w, type, file, r, rows - r < 16 ? rows - r : 16);
	free(file);
}

static void one(const struct kernels *be, struct pool *pool, enum quant_type type,
		int rows, int cols, int n, bool first)
{
	struct bench b = {.be = be, .pool = pool, .n = n};
	void (*limit)(void *, int, int) = n == 1 ? run_read : run_peak;
	double work, limit_work, before, seconds, after, share = 0, peak;
	uint64_t seed = 1;
	float *x = huge((size_t)n * (size_t)cols * 4);
	void *memory = huge(kacts_bytes(cols, n));

	fill(&b, type, rows, cols);
	b.y = huge((size_t)n * (size_t)rows * 4);
	for (int i = 0; i < pool_threads(pool); i++)
		b.scratch[i] = huge(kernels_scratch_bytes(cols));
	for (int i = 0; i < n * cols; i++)
		x[i] = (float)(random_u32(&seed) % 2001) / 1000 - 1;
	kacts_init(&b.a, memory, cols, n);
	be->quantise(&b.a, x, cols, 0, n);
	work = n == 1 ? (double)b.bytes : (double)rows * cols * n;
	limit_work = n == 1 ? (double)b.bytes : peak_macs(&b) * pool_threads(pool);
	before = median_seconds(&b, limit);
	seconds = median_seconds(&b, run_matmul);
	after = median_seconds(&b, limit);
	peak = limit_work * 2 / (before + after);
	if (peak > 0)
		share = work / seconds / peak;
	fprintf(stderr, "%-5s %6d x %4d x %4d %8.1f %-6s %4.0f%% of %6.1f %s\n",
		quant_name(type), rows, cols, n, work / seconds * 1e-9,
		n == 1 ? "GB/s" : "GMAC/s", share * 100, peak * 1e-9,
		before < after * 1.15 && after < before * 1.15 ? "steady" : "UNSTEADY");
	printf("%s{\"type\":\"%s\",\"rows\":%d,\"cols\":%d,\"n\":%d,\"%s\":%.2f,"
	       "\"share\":%.3f,"
	       "\"steady\":%s}",
	       first ? "" : ",", quant_name(type), rows, cols, n,
	       n == 1 ? "gb_s" : "gmac_s", work / seconds * 1e-9, share,
	       before < after * 1.15 && after < before * 1.15 ? "true" : "false");
	for (int i = 0; i < pool_threads(pool); i++)
		free(b.scratch[i]);
	free(b.w.data), free(b.y), free(x), free(memory);
}

int main(int argc, char **argv)
{
	static const struct {
		enum quant_type type;
		int rows, cols, n;
	} jobs[] = {
		{QT_Q4_1, 409600, 1024, 1}, {QT_Q8_0, 204800, 1024, 1},
		{QT_Q6_K, 204800, 1024, 1}, {QT_F16, 102400, 1024, 1},
		{QT_Q4_1, 1536, 576, 1},    {QT_Q4_1, 1536, 576, 4},
		{QT_Q4_1, 1536, 576, 60},   {QT_Q4_1, 1536, 576, 256},
		{QT_Q4_1, 576, 1536, 256},  {QT_Q4_1, 4096, 4096, 252},
		{QT_Q8_0, 1536, 576, 256},  {QT_Q8_0, 4096, 4096, 252},
		{QT_Q5_K, 4096, 4096, 252}, {QT_Q6_K, 4096, 4096, 252},
		{QT_F16, 1536, 576, 256},
	};
	const struct kernels *be = kernels_by_name(argc > 1 ? argv[1] : "auto");
	int threads = argc > 2 ? (int)strtol(argv[2], NULL, 10)
			       : (int)sysconf(_SC_NPROCESSORS_ONLN);
	struct pool *pool = pool_new(threads);

	if (!be) {
		fprintf(stderr, "this CPU has no such backend\n");
		return 77;
	}
	fprintf(stderr, "%s, %d threads\n", be->name, pool_threads(pool));
	printf("{\"bench\":\"kernels\",\"backend\":\"%s\",\"threads\":%d,\"results\":[",
	       be->name, pool_threads(pool));
	for (size_t i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++)
		one(be, pool, jobs[i].type, jobs[i].rows, jobs[i].cols, jobs[i].n,
		    i == 0);
	printf("]}\n");
	pool_free(pool);
	return 0;
}
