/* A first-in first-out list between threads: many producers, one consumer, bounded.
 * Intrusive: the item embeds a struct queue_item.  The consumer is woken by whatever the
 * owner chooses (a uv_async_t, or queue_wait). */
#ifndef HOB_QUEUE_H
#define HOB_QUEUE_H

#include <pthread.h>
#include "base/base.h"

struct queue_item {
	struct queue_item *next;
};

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t ready;
	struct queue_item *head, *tail; /* under lock */
	size_t len, max;                /* under lock; max 0 = unbounded */
	bool closed;                    /* under lock */
};

void queue_init(struct queue *q, size_t max);
void queue_fini(struct queue *q); /* must be empty */
bool queue_push(struct queue *q,
		struct queue_item *it); /* false: full or closed, caller keeps it */
struct queue_item *
queue_take_all(struct queue *q); /* a chain in order, or NULL; never waits */
struct queue_item *
queue_wait_all(struct queue *q);   /* waits; NULL only when closed and empty */
void queue_close(struct queue *q); /* no more pushes; wakes the consumer */

#endif
