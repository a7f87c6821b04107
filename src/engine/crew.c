/* Fork and join over pieces of work.  Any thread.
 *
 * A thread costs some 20 us to start, pieces take a millisecond: nothing is kept between calls.  When no thread
 * can be started the caller does it all. */
#include "engine/crew.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/base.h"
#include "kernels/pool.h"

/* On Linux a thread has its own, and those it starts inherit it.  A quarter or so of a core that an answer wants as well: the load goes on, and the answer, too. */
enum { CREW_NICE = 5 };

struct crew {
	crew_fn *fn;
	void *arg;
	int pieces;
	const atomic_bool *cancel;
	atomic_int next;
	atomic_bool failed;
};

void crew_lower_priority(void)
{
	/* Cannot fail for a thread of ours; if it did, answers would be a little slower. */
	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), CREW_NICE);
}

static void work(struct crew *c)
{
	while (!atomic_load_explicit(&c->failed, memory_order_relaxed)) {
		int piece = atomic_fetch_add(&c->next, 1);

		if (piece >= c->pieces)
			return;
		if (atomic_load(c->cancel) || !c->fn(c->arg, piece))
			atomic_store(&c->failed, true);
	}
}

static void *thread(void *arg)
{
	work(arg);
	return NULL;
}

bool crew_run(int threads, int pieces, crew_fn *fn, void *arg, const atomic_bool *cancel)
{
	struct crew c = {.fn = fn, .arg = arg, .pieces = pieces, .cancel = cancel};
	pthread_t t[POOL_MAX_THREADS];
	int n = 0;

	if (threads > pieces)
		threads = pieces;
	while (n < threads - 1 && n < POOL_MAX_THREADS &&
	       pthread_create(&t[n], NULL, thread, &c) == 0)
		n++;
	work(&c);
	while (n > 0)
		pthread_join(t[--n], NULL);
	return !atomic_load(&c.failed);
}
