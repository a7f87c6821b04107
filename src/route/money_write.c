/* What changed goes to the file: in the pool, one batch at a time, what somebody waits for at once.
 *
 * Loop thread; the store is used by one piece of work at a time and by nobody else meanwhile.  The
 * question a reader will ask: why a settled amount may wait a second and a reservation may not.  As long
 * as the reservation is in the file, a crash counts it; it leaves in the same transaction in which
 * the real amount enters. */
#include "base/log.h"
#include "base/sm.h"
#include "route/money_impl.h"

#include <errno.h>
#include <unistd.h>

enum {
	FLUSH_MS = 1000,
	RETRY_MS = 10000,    /* after a failure, when nobody waits */
	ASK_AGAIN_MS = 1000, /* after a failure, when somebody does */
	PENDING_MAX = 20000, /* changes that a broken disk may gather */
};

static const struct sm_state files[FILE_STATES] = {
	[FILE_NONE] = {"none", 0},
	[FILE_UNREAD] = {"unread",
			 SM_TO(FILE_GOOD) | SM_TO(FILE_FAILING) | SM_TO(FILE_NEWER)},
	[FILE_GOOD] = {"good", SM_TO(FILE_FAILING) | SM_TO(FILE_NEWER)},
	[FILE_FAILING] = {"failing",
			  SM_TO(FILE_GOOD) | SM_TO(FILE_FAILING) | SM_TO(FILE_NEWER)},
	[FILE_NEWER] = {"newer", 0},
};

static bool may_write(const struct money *m)
{
	return m->file != FILE_NONE && m->file != FILE_NEWER;
}

static void file_move(struct money *m, enum file_state to)
{
	if (m->file != to)
		sm_move(files, "money file", &m->file, to);
}

static void failed(struct money *m, enum file_state to)
{
	m->file_error = m->error;
	file_move(m, to);
	if (m->told)
		return;
	m->told = true;
	log_error("money: what is spent is not kept: %s%s", m->error.text,
		  money_any_cap(m) ? "; a cap is set, so remote models are refused"
				   : "; it stays in memory");
}

/* ---- what is to be written */

static void put_books(struct books *b, struct money_ops *ops)
{
	for (struct entry *e = b->gone; e; e = e->next)
		money_ops_add(ops,
			      &(struct money_op){.verb = MONEY_DROP_ROW,
						 .text = {(char *)e->key.provider,
							  (char *)e->key.model,
							  (char *)e->key.conversation},
						 .n = {e->key.day}});
	for (struct tally *t = b->gone_tallies; t; t = t->next)
		money_ops_add(ops, &(struct money_op){.verb = MONEY_DROP_CONVERSATION,
						      .text = {t->name}});
	for (struct entry *e = b->dirty; e; e = e->next_dirty)
		if (!e->gone)
			money_ops_add(
				ops,
				&(struct money_op){
					.verb = MONEY_PUT_ROW,
					.text = {(char *)e->key.provider,
						 (char *)e->key.model,
						 (char *)e->key.conversation},
					.n = {e->key.day, e->sums.requests,
					      e->sums.tokens_in, e->sums.tokens_cached,
					      e->sums.tokens_out, e->sums.cost,
					      e->sums.estimated, e->sums.unpriced}});
	for (struct tally *t = b->dirty_tallies; t; t = t->next_dirty)
		if (!t->gone)
			money_ops_add(ops,
				      &(struct money_op){.verb = MONEY_PUT_CONVERSATION,
							 .text = {t->name},
							 .n = {t->last_day, t->spent}});
	books_clean(b);
}

static void put_holds(struct money *m, struct money_ops *ops)
{
	struct money_hold *h;

	TAILQ_FOREACH(h, &m->holds, link)
	{
		if (h->given)
			continue;
		h->given = true;
		h->batch = m->batches;
		money_ops_add(ops,
			      &(struct money_op){.verb = MONEY_PUT_HOLD,
						 .text = {h->provider, h->model,
							  h->conversation, h->request},
						 .n = {h->id, h->day, h->at_ms,
						       h->unpriced ? -1 : h->most}});
	}
}

void money_put_estimate(struct money *m, const struct estimate *e)
{
	money_ops_add(
		&m->pending,
		&(struct money_op){.verb = MONEY_PUT_ESTIMATE,
				   .text = {(char *)e->key.provider, (char *)e->key.model,
					    (char *)e->key.conversation, e->request},
				   .n = {e->key.day, e->at_ms, e->cost, e->tokens_in,
					 e->tokens_out, e->unpriced}});
}

/* Drops what waits and says everything again. */
static void put_all(struct money *m)
{
	struct money_hold *h;
	struct estimate *e;

	money_ops_free(&m->pending);
	money_ops_add(&m->pending, &(struct money_op){.verb = MONEY_DROP_ALL});
	books_all_dirty(&m->books);
	TAILQ_FOREACH(h, &m->holds, link)
	h->given = false;
	TAILQ_FOREACH(e, &m->estimates, link)
	if (e->on_disk)
		money_put_estimate(m, e);
}

static void take_batch(struct money *m)
{
	m->batches++;
	if (m->anew)
		put_all(m);
	m->ops = m->pending;
	m->pending = (struct money_ops){0};
	put_books(&m->books, &m->ops);
	put_holds(m, &m->ops);
}

/* What was not written goes first next time: the later word on a key must be the last. */
static void put_back(struct money *m)
{
	struct money_ops later = m->pending;

	m->pending = m->ops;
	m->ops = (struct money_ops){0};
	for (int i = 0; i < later.n; i++)
		money_ops_add(&m->pending, &later.list[i]);
	money_ops_free(&later);
	if (m->pending.n > PENDING_MAX && m->read)
		m->anew = true;
}

/* A file that failed is tried again even when there is nothing new to say. */
static bool has_changes(const struct money *m)
{
	const struct books *b = &m->books;
	const struct money_hold *h = TAILQ_LAST(&m->holds, money_holds);

	return m->anew || m->file == FILE_FAILING || m->pending.n || b->dirty ||
	       b->gone || b->dirty_tallies || b->gone_tallies || (h && !h->given);
}

/* ---- writing; the work is the pool's */

static void write_work(uv_work_t *req)
{
	struct money *m = req->data;

	m->opened = MONEY_OPENED;
	m->fresh = false;
	m->rc = 0;
	m->store.whole = m->read;
	if (!m->store.db) {
		m->opened = money_store_open(&m->store, &m->all, &m->error);
		m->fresh = m->opened == MONEY_OPENED && !m->read;
		m->rc = m->opened == MONEY_OPENED ? 0 : -1;
	}
	if (m->rc == 0 && !m->fresh)
		m->rc = money_store_write(&m->store, &m->ops, &m->error);
}

static void written(struct money *m)
{
	money_ops_free(&m->ops);
	m->written = m->batches;
	m->anew = false;
	file_move(m, FILE_GOOD);
	if (m->told)
		log_info("money: what is spent is kept again");
	m->told = false;
}

/* True: another batch should follow at once. */
static bool batch_done(struct money *m)
{
	if (m->rc == 0 && !m->fresh) {
		written(m);
		return m->urgent;
	}
	put_back(m);
	if (m->fresh) {
		m->read = true;
		m->corrupt = money_store_was_corrupt(m->path, NULL, 0);
		money_take(m, &m->all);
		money_ops_free(&m->all);
		return true;
	}
	if (m->opened == MONEY_NEWER) {
		money_ops_free(&m->pending);
		failed(m, FILE_NEWER);
		return false;
	}
	if (m->error.code == ERR_CORRUPT && !m->anew && m->read) {
		m->anew = true;
		return true;
	}
	failed(m, FILE_FAILING);
	return false;
}

static void start_batch(struct money *m);
static void finish(struct money *m);

static void on_written(uv_work_t *req, int status)
{
	struct money *m = req->data;
	bool again;

	UNUSED(status);
	m->writing = false;
	again = batch_done(m);
	money_tell_safe(m);
	if (m->writing)
		return; /* one of those who were told has begun the next */
	if (again || (m->closing && m->file == FILE_GOOD && has_changes(m)))
		start_batch(m);
	else if (m->closing)
		finish(m);
	else if (has_changes(m))
		money_changed(m);
}

static void start_batch(struct money *m)
{
	bool again = true;

	m->urgent = false;
	m->work.data = m;
	if (m->loop) {
		take_batch(m);
		m->writing = true;
		m->tried_ms = uv_now(m->loop);
		uv_timer_stop(&m->timer);
		uv_queue_work(m->loop, &m->work, write_work, on_written);
		return;
	}
	while (again) {
		take_batch(m);
		write_work(&m->work);
		again = batch_done(m);
	}
	money_tell_safe(m);
}

static void on_timer(uv_timer_t *t)
{
	struct money *m = t->data;

	if (m->writing || !may_write(m))
		return;
	money_tidy(m);
	if (has_changes(m))
		start_batch(m);
}

void money_changed(struct money *m)
{
	if (!may_write(m) || m->writing)
		return; /* on_written() looks again */
	if (!m->loop)
		money_write_now(m);
	else if (!uv_is_active((uv_handle_t *)&m->timer) && !m->closing)
		uv_timer_start(&m->timer, on_timer,
			       m->file == FILE_FAILING ? RETRY_MS : FLUSH_MS, 0);
}

/* A disk that failed is not asked at every call. */
void money_write_now(struct money *m)
{
	if (!may_write(m))
		return;
	m->urgent = true;
	if (m->writing)
		return;
	if (m->loop && m->file == FILE_FAILING && !m->closing &&
	    uv_now(m->loop) - m->tried_ms < ASK_AGAIN_MS)
		return;
	start_batch(m);
}

/* ---- those who wait */

static bool is_safe(const struct money *m, const struct money_hold *h)
{
	return !h->capped || m->file == FILE_NONE || (h->batch && h->batch <= m->written);
}

/* A callback may end any hold, so the list is begun again after each. */
void money_tell_safe(struct money *m)
{
	bool broken = m->file == FILE_FAILING || m->file == FILE_NEWER;
	struct money_hold *h;

	for (;;) {
		void (*safe)(void *arg, const struct err *e);
		struct err e = {0};

		TAILQ_FOREACH(h, &m->waiting, wait_link)
		if (broken || is_safe(m, h))
			break;
		if (!h)
			return;
		if (!is_safe(m, h))
			err_set(&e, ERR_PAYMENT,
				"what this call may cost cannot be written: %.200s; a cap is "
				"set, so it is refused; local models still answer",
				m->file_error.text);
		TAILQ_REMOVE(&m->waiting, h, wait_link);
		safe = h->safe;
		h->safe = NULL;
		safe(h->safe_arg, e.code ? &e : NULL);
	}
}

static void on_soon(uv_idle_t *idle)
{
	uv_idle_stop(idle);
	money_tell_safe(idle->data);
}

void money_when_safe(struct money_hold *h, void (*cb)(void *arg, const struct err *e),
		     void *arg)
{
	struct money *m = h->money;

	ASSERT(!h->safe);
	h->safe = cb;
	h->safe_arg = arg;
	TAILQ_INSERT_TAIL(&m->waiting, h, wait_link);
	if (!m->loop)
		money_tell_safe(m);
	else if (is_safe(m, h) || !m->writing)
		uv_idle_start(&m->soon, on_soon);
}

/* ---- beginning and end */

void money_open(struct money *m)
{
	if (m->loop) {
		uv_timer_init(m->loop, &m->timer);
		uv_idle_init(m->loop, &m->soon);
		uv_unref((uv_handle_t *)&m->timer);
		m->timer.data = m->soon.data = m;
		m->open_handles = 2;
	}
	if (!m->path)
		return;
	m->file = FILE_UNREAD;
	m->store.path = m->path;
	/* Where there is none yet, the first write makes it, on its own thread. */
	m->read = access(m->path, F_OK) < 0 && errno == ENOENT;
	if (!m->read) {
		m->opened = money_store_open(&m->store, &m->all, &m->error);
		m->read = m->opened == MONEY_OPENED;
		if (m->read)
			file_move(m, FILE_GOOD);
		else
			failed(m, m->opened == MONEY_NEWER ? FILE_NEWER : FILE_FAILING);
		money_take(m, &m->all);
		money_ops_free(&m->all);
	}
	m->corrupt = money_store_was_corrupt(m->path, NULL, 0);
	money_tidy(m);
	if (has_changes(m))
		money_changed(m);
}

static void money_free(struct money *m)
{
	money_store_close(&m->store);
	money_forget_estimates(m);
	money_ops_free(&m->pending);
	money_ops_free(&m->ops);
	books_fini(&m->books);
	free(m->path);
	free(m);
}

static void on_closed(uv_handle_t *handle)
{
	struct money *m = handle->data;
	void (*done)(void *arg) = m->done;
	void *arg = m->done_arg;

	if (--m->open_handles > 0)
		return;
	money_free(m);
	if (done)
		done(arg);
}

static void finish(struct money *m)
{
	void (*done)(void *arg) = m->done;
	void *arg = m->done_arg;

	if (m->loop) {
		uv_close((uv_handle_t *)&m->timer, on_closed);
		uv_close((uv_handle_t *)&m->soon, on_closed);
		return;
	}
	money_free(m);
	if (done)
		done(arg);
}

void money_end(struct money *m)
{
	m->closing = true;
	if (has_changes(m))
		money_write_now(m);
	if (!m->writing)
		finish(m);
}
