/* A team of threads that run one function together, with barriers that spin.
 *
 * The caller is thread 0.  Between runs the others spin for about 50 us, then sleep on a futex.
 * One owner thread at a time; no nesting. */
#ifndef HOB_POOL_H
#define HOB_POOL_H

struct pool;

struct pool *pool_new(int threads); /* 1..POOL_MAX_THREADS; 1 starts none */
void pool_free(struct pool *p);
int pool_threads(const struct pool *p);
/* Runs fn(arg, ith, nth) on all threads, returns when all are done. */
void pool_run(struct pool *p, void (*fn)(void *arg, int ith, int nth), void *arg);
void pool_barrier(struct pool *p, int ith); /* inside fn, by every thread */

enum { POOL_MAX_THREADS = 64 };

#endif
