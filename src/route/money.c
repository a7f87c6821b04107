/* Reservations, and what becomes of them: settled, estimated, corrected later, or given back.
 *
 * Loop thread.  The question a reader will ask: why an interrupted call counts at its upper bound.
 * Nobody can say what it cost before the provider does, and a cap that forgets calls when the daemon dies
 * is none; the provider's later word (money_late) replaces the estimate, also after a restart. */
#include "route/money.h"

#include <math.h>
#include <sys/random.h>
#include <time.h>
#include "base/log.h"
#include "route/money_impl.h"

static char *name_of(const char *s)
{
	return xstrndup(s ? s : "", MONEY_NAME_BYTES - 1);
}

/* ---- estimates */

static void estimate_free(struct money *m, struct estimate *e)
{
	TAILQ_REMOVE(&m->estimates, e, link);
	HASH_DEL(m->by_request, e);
	m->nestimates--;
	free((char *)e->key.provider);
	free((char *)e->key.model);
	free((char *)e->key.conversation);
	free(e->request);
	free(e);
}

static void estimate_drop(struct money *m, struct estimate *e)
{
	if (e->on_disk)
		money_ops_add(&m->pending, &(struct money_op){.verb = MONEY_DROP_ESTIMATE,
							      .text = {e->request}});
	estimate_free(m, e);
}

void money_forget_estimates(struct money *m)
{
	while (!TAILQ_EMPTY(&m->estimates))
		estimate_free(m, TAILQ_FIRST(&m->estimates));
}

static struct estimate *estimate_find(const struct money *m, const char *request)
{
	struct estimate *e;

	HASH_FIND_STR(m->by_request, request, e);
	return e;
}

/* k: copied.  A request id that is there already was estimated for good. */
static struct estimate *estimate_new(struct money *m, const struct entry_key *k,
				     const char *request, int64_t at_ms)
{
	struct estimate *e = estimate_find(m, request);

	if (e)
		estimate_drop(m, e);
	if (m->nestimates >= MONEY_MAX_ESTIMATES)
		estimate_drop(m, TAILQ_FIRST(&m->estimates));
	e = xcalloc(1, sizeof *e);
	e->key = (struct entry_key){k->day, xstrdup(k->provider), xstrdup(k->model),
				    xstrdup(k->conversation)};
	e->request = xstrdup(request);
	e->at_ms = at_ms;
	TAILQ_INSERT_TAIL(&m->estimates, e, link);
	HASH_ADD_KEYPTR(hh, m->by_request, e->request, strlen(e->request), e);
	m->nestimates++;
	return e;
}

static void estimate_keep(struct money *m, const struct entry_key *k, const char *request,
			  int64_t at_ms, const struct sums *s, bool finished)
{
	bool on_disk = s->cost > 0 || !finished;
	struct estimate *e;

	if (!*request || (!on_disk && m->nestimates >= MONEY_LOOSE_ESTIMATES))
		return;
	e = estimate_new(m, k, request, at_ms);
	e->cost = s->cost;
	e->tokens_in = s->tokens_in;
	e->tokens_out = s->tokens_out;
	e->unpriced = s->unpriced;
	e->on_disk = on_disk;
	if (on_disk)
		money_put_estimate(m, e);
}

/* ---- sums */

static void count(struct money *m, const struct entry_key *k, const struct sums *s)
{
	books_post(&m->books, books_entry(&m->books, k), s);
	books_converse(&m->books, k, s->cost);
}

static int64_t tokens(int n)
{
	return n < 0 ? 0 : n;
}

static struct sums sums_of(const struct money_hold *h, const struct usage *u,
			   const struct prices *p, bool finished, bool *sure)
{
	struct sums s = {.requests = 1,
			 .tokens_in = tokens(u->prompt_tokens),
			 .tokens_cached = tokens(u->cached_tokens),
			 .tokens_out = tokens(u->completion_tokens)};
	bool said = u->cost_usd >= 0 && isfinite(u->cost_usd);
	double cost = money_cost(p, u);

	*sure = said || (cost >= 0 && finished);
	s.cost = cost >= 0 ? amount_of(cost) : h->most;
	s.estimated = *sure ? 0 : s.cost;
	s.unpriced = cost < 0 && h->unpriced;
	return s;
}

/* ---- reservations */

static struct entry_key key_of(const struct money_hold *h)
{
	return (struct entry_key){h->day, h->provider, h->model, h->conversation};
}

static void hold_free(struct money_hold *h)
{
	struct money *m = h->money;
	struct entry_key k = key_of(h);

	books_reserve(&m->books, &k, -h->most);
	if (h->given)
		money_ops_add(&m->pending,
			      &(struct money_op){.verb = MONEY_DROP_HOLD, .n = {h->id}});
	if (h->safe)
		TAILQ_REMOVE(&m->waiting, h, wait_link);
	TAILQ_REMOVE(&m->holds, h, link);
	free(h->provider);
	free(h->model);
	free(h->conversation);
	free(h->request);
	free(h);
}

static struct money_hold *hold_new(struct money *m, const struct money_ask *a,
				   const char *request_id)
{
	struct money_hold *h = xcalloc(1, sizeof *h);
	struct cap caps[MONEY_CAPS];
	struct entry_key k;
	char *conversation = name_of(a->conversation);

	h->money = m;
	h->at_ms = money_now(m);
	h->day = money_day(h->at_ms);
	h->provider = name_of(a->provider);
	h->model = name_of(a->model);
	h->conversation = xstrdup(books_conversation(&m->books, conversation, h->day));
	h->request = name_of(request_id);
	h->id = m->next_id++;
	h->unpriced = !(a->most_usd >= 0);
	h->most = amount_above(a->most_usd);
	h->capped = h->most > 0 &&
		    money_caps(m, h->day, h->provider, h->conversation, caps) > 0;
	k = key_of(h);
	books_reserve(&m->books, &k, h->most);
	TAILQ_INSERT_TAIL(&m->holds, h, link);
	free(conversation);
	return h;
}

/* For travellers; it asks the file system. */
static void look_at_zone(struct money *m)
{
	int64_t now = money_now(m);

	if (now >= m->zone_ms && now - m->zone_ms < MONEY_ZONE_MS)
		return;
	m->zone_ms = now;
	tzset();
}

struct money_hold *money_reserve(struct money *m, const struct money_ask *a,
				 const char *request_id, struct err *e)
{
	struct money_hold *h;
	struct decided d;

	ASSERT(!m->closing);
	look_at_zone(m);
	money_decide(m, a, &d);
	if (d.verdict == MONEY_HARD) {
		if (m->file == FILE_FAILING)
			money_write_now(m); /* it may work again */
		err_set(e, ERR_PAYMENT, "%s", d.why);
		if (e)
			e->retry_after_ms = d.retry_after_ms;
		return NULL;
	}
	h = hold_new(m, a, request_id);
	if (h->capped)
		money_write_now(m);
	else
		money_changed(m);
	return h;
}

void money_settle(struct money_hold *h, const struct usage *u, const struct prices *p,
		  const char *status)
{
	struct money *m = h->money;
	struct entry_key k = key_of(h);
	bool sure, finished = !strcmp(status, "finished");
	struct sums s = sums_of(h, u ? u : &USAGE_UNKNOWN, p, finished, &sure);

	count(m, &k, &s);
	if (!sure)
		estimate_keep(m, &k, h->request, h->at_ms, &s, finished);
	hold_free(h);
	money_changed(m);
}

void money_release(struct money_hold *h)
{
	struct money *m = h->money;

	hold_free(h);
	money_changed(m);
}

void money_late(struct money *m, const char *request_id, int tokens_in, int tokens_out,
		double cost_usd)
{
	struct estimate *e = request_id ? estimate_find(m, request_id) : NULL;
	bool priced = cost_usd >= 0 && isfinite(cost_usd);
	struct sums s = {0};
	struct entry_key k;

	if (!e)
		return;
	if (tokens_in >= 0)
		s.tokens_in = tokens_in - e->tokens_in;
	if (tokens_out >= 0)
		s.tokens_out = tokens_out - e->tokens_out;
	if (priced) {
		s.cost = amount_of(cost_usd) - e->cost;
		s.estimated = -e->cost;
		s.unpriced = -e->unpriced;
	}
	k = e->key;
	if (!books_has(&m->books, &k))
		k.conversation = ""; /* it was folded meanwhile */
	books_post(&m->books, books_entry(&m->books, &k), &s);
	books_converse(&m->books, &e->key, s.cost);
	e->tokens_in += s.tokens_in;
	e->tokens_out += s.tokens_out;
	if (priced)
		estimate_drop(m, e);
	else if (e->on_disk)
		money_put_estimate(m, e);
	money_changed(m);
}

/* ---- what was in the file */

/* A forged file gets no negative amounts, and no day that is none. */
static bool sane(const struct money_op *op)
{
	bool ok = true;
	int64_t day = op->verb == MONEY_PUT_HOLD ? op->n[1] : op->n[0];

	for (int i = 0; i < MONEY_TEXTS; i++)
		ok &= !op->text[i] || strlen(op->text[i]) < MONEY_NAME_BYTES;
	for (int i = 1; i < MONEY_NUMBERS; i++)
		ok &= op->n[i] >= 0 || op->verb != MONEY_PUT_ROW;
	return ok && day > 0 && day <= 99991231;
}

static void take_row(struct money *m, const struct money_op *op)
{
	struct entry_key k = {(int)op->n[0], op->text[0], op->text[1], op->text[2]};
	struct sums s = {op->n[1], op->n[2], op->n[3], op->n[4],
			 op->n[5], op->n[6], op->n[7]};

	books_post(&m->books, books_entry(&m->books, &k), &s);
}

static void take_conversation(struct money *m, const struct money_op *op)
{
	struct entry_key k = {(int)op->n[0], "", "", op->text[0]};

	books_converse(&m->books, &k, op->n[1] < 0 ? 0 : op->n[1]);
}

static void take_estimate(struct money *m, const struct money_op *op)
{
	struct entry_key k = {(int)op->n[0], op->text[0], op->text[1], op->text[2]};
	struct estimate *e = estimate_new(m, &k, op->text[3], op->n[1]);

	e->cost = op->n[2] < 0 ? 0 : op->n[2];
	e->tokens_in = op->n[3];
	e->tokens_out = op->n[4];
	e->unpriced = op->n[5];
	e->on_disk = true;
}

static void take_hold(struct money *m, const struct money_op *op)
{
	struct entry_key k = {(int)op->n[1], op->text[0], op->text[1], op->text[2]};
	int64_t most = op->n[3] < 0 ? 0 : op->n[3];
	struct sums s = {
		.requests = 1, .cost = most, .estimated = most, .unpriced = op->n[3] < 0};

	count(m, &k, &s);
	estimate_keep(m, &k, op->text[3], op->n[2], &s, false);
	money_ops_add(&m->pending,
		      &(struct money_op){.verb = MONEY_DROP_HOLD, .n = {op->n[0]}});
}

/* Sums first: where the books were empty they are then as the file has them. */
void money_take(struct money *m, const struct money_ops *all)
{
	static void (*const take[MONEY_PUTS])(struct money *, const struct money_op *) = {
		[MONEY_PUT_ROW] = take_row,
		[MONEY_PUT_CONVERSATION] = take_conversation,
		[MONEY_PUT_ESTIMATE] = take_estimate,
		[MONEY_PUT_HOLD] = take_hold,
	};
	static const enum money_verb order[] = {MONEY_PUT_ROW, MONEY_PUT_CONVERSATION,
						MONEY_PUT_ESTIMATE, MONEY_PUT_HOLD};
	bool empty = !m->books.nentries && !m->books.dirty_tallies;
	int interrupted = 0;

	for (size_t v = 0; v < ARRAY_LEN(order); v++) {
		for (int i = 0; i < all->n; i++) {
			if (all->list[i].verb != order[v] || !sane(&all->list[i]))
				continue;
			take[order[v]](m, &all->list[i]);
			interrupted += order[v] == MONEY_PUT_HOLD;
		}
		if (order[v] == MONEY_PUT_CONVERSATION && empty && !m->books.gone)
			books_clean(&m->books);
	}
	if (interrupted)
		log_warn("money: %d calls were interrupted when hob last ended; they "
			 "count with what they might have cost",
			 interrupted);
}

void money_tidy(struct money *m)
{
	int64_t now = money_now(m);
	int today = money_day(now);
	struct estimate *e, *next;

	for (e = TAILQ_FIRST(&m->estimates); e; e = next) {
		next = TAILQ_NEXT(e, link);
		if (llabs(now - e->at_ms) > MONEY_LATE_MS)
			estimate_drop(m, e);
	}
	if (today == m->tidied_day)
		return;
	m->tidied_day = today;
	books_fold(&m->books, money_day_before(now, MONEY_DETAIL_DAYS));
}

/* ---- the interface */

struct money *money_new(const struct money_parts *p)
{
	struct money *m = xcalloc(1, sizeof *m);
	uint64_t random = 0;

	m->loop = p->loop;
	m->now_unix_ms = p->now_unix_ms;
	m->now_arg = p->arg;
	m->path = p->path ? xstrdup(p->path) : NULL;
	TAILQ_INIT(&m->holds);
	TAILQ_INIT(&m->waiting);
	TAILQ_INIT(&m->estimates);
	books_init(&m->books);
	/* Ids that no earlier run has used: its holds may still be in the file. */
	if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
		random = (uint64_t)money_now(m) << 20;
	m->next_id = (int64_t)(random >> 2);
	money_open(m);
	return m;
}

void money_set_config(struct money *m, const struct config *c)
{
	char name[256];

	m->config = c;
	if (money_any_cap(m) && m->corrupt &&
	    money_store_was_corrupt(m->path, name, sizeof name))
		log_error("money: a cap is set and the accounts were damaged: remote "
			  "models are refused until '%s' is removed",
			  name);
}

void money_close(struct money *m, void (*done)(void *arg), void *arg)
{
	m->done = done;
	m->done_arg = arg;
	while (!TAILQ_EMPTY(&m->holds))
		money_settle(TAILQ_FIRST(&m->holds), NULL, NULL, "interrupted");
	money_end(m);
}
