/* The only lock in the program outside libraries: a list between threads. */
#include "base/queue.h"

void queue_init(struct queue *q, size_t max)
{
	*q = (struct queue){.max = max};
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->ready, NULL);
}

void queue_fini(struct queue *q)
{
	ASSERT(!q->head);
	pthread_cond_destroy(&q->ready);
	pthread_mutex_destroy(&q->lock);
}

bool queue_push(struct queue *q, struct queue_item *it)
{
	bool ok;

	pthread_mutex_lock(&q->lock);
	ok = !q->closed && (q->max == 0 || q->len < q->max);
	if (ok) {
		it->next = NULL;
		if (q->tail)
			q->tail->next = it;
		else
			q->head = it;
		q->tail = it;
		q->len++;
		pthread_cond_signal(&q->ready);
	}
	pthread_mutex_unlock(&q->lock);
	return ok;
}

static struct queue_item *take_locked(struct queue *q)
{
	struct queue_item *all = q->head;

	q->head = q->tail = NULL;
	q->len = 0;
	return all;
}

struct queue_item *queue_take_all(struct queue *q)
{
	struct queue_item *all;

	pthread_mutex_lock(&q->lock);
	all = take_locked(q);
	pthread_mutex_unlock(&q->lock);
	return all;
}

struct queue_item *queue_wait_all(struct queue *q)
{
	struct queue_item *all;

	pthread_mutex_lock(&q->lock);
	while (!q->head && !q->closed)
		pthread_cond_wait(&q->ready, &q->lock);
	all = take_locked(q);
	pthread_mutex_unlock(&q->lock);
	return all;
}

void queue_close(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->closed = true;
	pthread_cond_broadcast(&q->ready);
	pthread_mutex_unlock(&q->lock);
}
