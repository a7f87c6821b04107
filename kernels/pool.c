/* The team of threads that computes.  Owner thread: whoever calls pool_run(), one at a
 * time.
 *
 * A token takes some 150 barriers and a futex wake takes 5 to 20 us, so threads spin:
 * inside a run always, between runs for about 50 us, then they sleep.  A waiter that has
 * spun for long yields now and then, because on an oversubscribed machine the thread it
 * waits for may need this very core. */
#include "kernels/pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <sched.h>
#include <unistd.h>

enum {
	LINE = 64,
	SPIN_NS = 50000, /* between runs, before sleeping */
	SPINS_PER_CHECK = 64,
	SPINS_BEFORE_YIELD = 4096 /* tens of us: a healthy barrier never gets there */
};

struct pool_thread {
	_Alignas(LINE) struct pool *pool;
	pthread_t thread;
	int ith;
};

struct pool {
	/* each on its own line: writers of one must not disturb spinners on another */
	_Alignas(LINE) atomic_uint arrived;
	_Alignas(LINE) atomic_uint phase;
	_Alignas(LINE) atomic_uint done;
	_Alignas(LINE) atomic_uint run; /* counts runs; the futex word */
	_Alignas(LINE) atomic_uint sleepers;

	/* written by the owner before `run` moves */
	_Alignas(LINE) void (*fn)(void *arg, int ith, int nth);
	void *arg;
	bool quit;
	int nth;
	struct pool_thread threads[POOL_MAX_THREADS];
};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static inline void relax_long(unsigned *spins)
{
	if (++*spins > SPINS_BEFORE_YIELD && *spins % SPINS_PER_CHECK == 0)
		sched_yield();
	else
		relax();
}

static long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static bool spin_for_run(struct pool *p, unsigned seen)
{
	long long end = now_ns() + SPIN_NS;

	do {
		for (int i = 0; i < SPINS_PER_CHECK; i++) {
			if (atomic_load_explicit(&p->run, memory_order_acquire) != seen)
				return true;
			relax();
		}
	} while (now_ns() < end);
	return false;
}

/* The owner moves `run`, then reads `sleepers`; we do it the other way round.  Both are
 * sequentially consistent, so one of us sees the other, and the kernel checks the word
 * again. */
static void sleep_for_run(struct pool *p, unsigned seen)
{
	atomic_fetch_add(&p->sleepers, 1);
	while (atomic_load(&p->run) == seen)
		syscall(SYS_futex, &p->run, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
	atomic_fetch_sub(&p->sleepers, 1);
}

static void *worker(void *arg)
{
	struct pool_thread *t = arg;
	struct pool *p = t->pool;
	unsigned seen = 0;

	for (;;) {
		if (!spin_for_run(p, seen))
			sleep_for_run(p, seen);
		seen++;
		if (p->quit)
			return NULL;
		p->fn(p->arg, t->ith, p->nth);
		atomic_fetch_add_explicit(&p->done, 1, memory_order_release);
	}
}

static void start_run(struct pool *p)
{
	atomic_store_explicit(&p->done, 0, memory_order_relaxed);
	atomic_fetch_add(&p->run, 1);
	if (atomic_load(&p->sleepers) > 0)
		syscall(SYS_futex, &p->run, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Threads learn nth with each run, so a machine that grants fewer threads gets a smaller
 * team. */
struct pool *pool_new(int threads)
{
	struct pool *p = aligned_alloc(LINE, sizeof(*p));

	if (!p)
		abort();
	*p = (struct pool){.nth = 1};
	if (threads > POOL_MAX_THREADS)
		threads = POOL_MAX_THREADS;
	for (int i = 1; i < threads; i++) {
		p->threads[i] = (struct pool_thread){.pool = p, .ith = i};
		if (pthread_create(&p->threads[i].thread, NULL, worker, &p->threads[i]) !=
		    0)
			break;
		p->nth++;
	}
	return p;
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	p->quit = true;
	start_run(p);
	for (int i = 1; i < p->nth; i++)
		pthread_join(p->threads[i].thread, NULL);
	free(p);
}

int pool_threads(const struct pool *p)
{
	return p->nth;
}

void pool_run(struct pool *p, void (*fn)(void *arg, int ith, int nth), void *arg)
{
	unsigned others = (unsigned)p->nth - 1, spins = 0;

	if (others == 0) {
		fn(arg, 0, 1);
		return;
	}
	p->fn = fn;
	p->arg = arg;
	start_run(p);
	fn(arg, 0, p->nth);
	while (atomic_load_explicit(&p->done, memory_order_acquire) != others)
		relax_long(&spins);
}

void pool_barrier(struct pool *p, int ith)
{
	unsigned phase, last = (unsigned)p->nth - 1, spins = 0;

	(void)ith; /* a tree barrier for many threads would want it */
	if (last == 0)
		return;
	phase = atomic_load_explicit(&p->phase, memory_order_relaxed);
	if (atomic_fetch_add_explicit(&p->arrived, 1, memory_order_acq_rel) == last) {
		atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
		atomic_store_explicit(&p->phase, phase + 1, memory_order_release);
		return;
	}
	while (atomic_load_explicit(&p->phase, memory_order_acquire) == phase)
		relax_long(&spins);
}
