/* The accounts against a model that a child could check: lists of charges and holds, added up each time.
 *
 * Random reservations, ends, late prices, changed caps, jumping clocks, restarts and crashes.  At each
 * step the accounts must refuse exactly what the model refuses, and so no window is ever over its cap by
 * more than what calls cost above their own reservation.
 *
 * HOB_MONEY_SEEDS (20) changes the effort; a failure names its seed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "money_world.h"
#include "route/money_books.h"
#include "sanitized.h"

enum { STEPS = 400, HOLDS = 24, CONVERSATIONS = 4, SPAN_DAYS = 80 };

static const char *const providers[] = {"openrouter", "other"};
static const char *const conversations[] = {NULL, "c1", "c2", "c3"};

/* What was charged, or is held. */
struct charge {
	int day, provider, conversation;
	int64_t cost, over;   /* over: what it cost above its reservation */
	bool estimated, open; /* open: a late price would be taken */
	bool finished;        /* and not by a hold that was found at a start */
	int64_t at;
	int id;
	struct money_hold *hold;
};

struct model {
	struct charge charges[STEPS + HOLDS], holds[HOLDS];
	int ncharges, nholds, nids, folder;
};

struct run {
	struct world w;
	struct model m;
	uint64_t random;
	int seed, step, refused;
};

static uint64_t draw(struct run *r, uint64_t below)
{
	r->random ^= r->random << 13;
	r->random ^= r->random >> 7;
	r->random ^= r->random << 17;
	return r->random % below;
}

static int today(const struct run *r)
{
	time_t t = r->w.now / 1000;
	struct tm tm;

	localtime_r(&t, &tm);
	return (tm.tm_year + 1900) * 10000 + (tm.tm_mon + 1) * 100 + tm.tm_mday;
}

#define CHECK(x)                                                                \
	do {                                                                    \
		if (!(x))                                                       \
			fail_msg("seed %d, step %d: %s", r->seed, r->step, #x); \
	} while (0)

/* ---- the model */

/* A window: everything with that day or month, that provider (-1: all), that conversation (-1: all). */
struct window {
	int period, provider, conversation;
	double limit;
};

static bool inside(const struct window *w, const struct charge *c)
{
	if (w->conversation >= 0)
		return c->conversation == w->conversation;
	return (w->period > 999999 ? c->day : c->day / 100) == w->period &&
	       (w->provider < 0 || c->provider == w->provider);
}

static int64_t spent_in(const struct run *r, const struct window *w, int64_t *over)
{
	int64_t sum = 0;

	*over = 0;
	for (int i = 0; i < r->m.ncharges; i++)
		if (inside(w, &r->m.charges[i])) {
			sum += r->m.charges[i].cost;
			*over += r->m.charges[i].over;
		}
	return sum;
}

static int64_t held_in(const struct run *r, const struct window *w)
{
	int64_t sum = 0;

	for (int i = 0; i < r->m.nholds; i++)
		if (inside(w, &r->m.holds[i]))
			sum += r->m.holds[i].cost;
	return sum;
}

static int windows(const struct run *r, int provider, int conversation,
		   struct window out[5])
{
	const struct config_budget *b = &r->w.config.budget;
	const struct config_provider *p = &r->w.providers[provider];
	int day = today(r), n = 0;
	struct window all[5] = {
		{day, -1, -1, b->daily},
		{day / 100, -1, -1, b->monthly},
		{day, provider, -1, p->daily_cap_usd},
		{day / 100, provider, -1, p->monthly_cap_usd},
		{0, -1, conversation, conversation ? b->conversation : 0},
	};

	for (int i = 0; i < 5; i++)
		if (all[i].limit > 0)
			out[n++] = all[i];
	return n;
}

static bool would_refuse(const struct run *r, int provider, int conversation,
			 int64_t most)
{
	struct window w[5];
	int n = windows(r, provider, conversation, w);
	bool refuse = most < 0 && n > 0;
	int64_t over;

	for (int i = 0; i < n && most > 0; i++)
		refuse |= spent_in(r, &w[i], &over) + held_in(r, &w[i]) + most >
			  amount_of(w[i].limit);
	return refuse;
}

/* ---- steps */

static void do_reserve(struct run *r)
{
	int provider = (int)draw(r, 2), conversation = (int)draw(r, CONVERSATIONS);
	int64_t most = (int64_t)draw(r, 300000000);
	struct charge *c = &r->m.holds[r->m.nholds];
	struct money_ask a;
	struct err e = {0};
	char id[24];
	bool refuse;

	if (r->m.nholds == HOLDS || r->m.ncharges >= STEPS)
		return;
	if (draw(r, 20) == 0)
		most = draw(r, 2) ? -1 : 0;
	a = ask_of(providers[provider], "v/m", conversations[conversation],
		   most < 0 ? -1 : amount_usd(most));
	snprintf(id, sizeof id, "gen-%d", ++r->m.nids);
	refuse = would_refuse(r, provider, conversation, most);
	c->hold = money_reserve(r->w.money, &a, id, &e);
	CHECK(!c->hold == refuse);
	r->refused += refuse;
	if (!c->hold)
		return;
	*c = (struct charge){.hold = c->hold,
			     .day = today(r),
			     .provider = provider,
			     .conversation = conversation,
			     .cost = most < 0 ? 0 : most,
			     .at = r->w.now,
			     .id = r->m.nids};
	r->m.nholds++;
}

static struct charge take_hold(struct run *r, int i)
{
	struct charge c = r->m.holds[i];

	r->m.holds[i] = r->m.holds[--r->m.nholds];
	return c;
}

static void do_settle(struct run *r)
{
	static const struct prices p = {1e-6, 4e-6, -1, -1, -1, -1};
	struct usage u = USAGE_UNKNOWN;
	struct charge c;
	int64_t most;
	int kind = (int)draw(r, 4);

	if (!r->m.nholds)
		return;
	c = take_hold(r, (int)draw(r, (uint64_t)r->m.nholds));
	most = c.cost;
	if (kind == 0) { /* nothing is known */
		c.estimated = c.open = c.finished = true;
	} else if (kind == 1) { /* cancelled: 1,000 and 100 tokens were seen */
		u.prompt_tokens = 1000;
		u.completion_tokens = 100;
		c.cost = 1400000;
		c.estimated = c.open = true;
	} else { /* exact; now and then above the reservation */
		c.cost = (int64_t)draw(r, (uint64_t)most + 1);
		if (draw(r, 10) == 0)
			c.cost = most + (int64_t)draw(r, 50000000);
		u.cost_usd = amount_usd(c.cost);
	}
	c.over = c.cost > most ? c.cost - most : 0;
	money_settle(c.hold, &u, &p, kind == 1 ? "cancelled" : "finished");
	r->m.charges[r->m.ncharges++] = c;
}

static void do_release(struct run *r)
{
	if (r->m.nholds)
		money_release(take_hold(r, (int)draw(r, (uint64_t)r->m.nholds)).hold);
}

/* Also for calls that were never estimated: those must stay as they are. */
static void do_late(struct run *r)
{
	int64_t cost = (int64_t)draw(r, 400000000);
	struct charge *c;
	char id[24];

	if (!r->m.ncharges)
		return;
	c = &r->m.charges[draw(r, (uint64_t)r->m.ncharges)];
	snprintf(id, sizeof id, "gen-%d", c->id);
	money_late(r->w.money, id, 5, 5, amount_usd(cost));
	if (!c->open)
		return;
	c->over += cost > c->cost ? cost - c->cost : 0;
	c->cost = cost;
	c->open = c->estimated = false;
}

static void do_clock(struct run *r)
{
	int64_t day = 86400000, first = WORLD_NOON, last = WORLD_NOON + SPAN_DAYS * day;
	int64_t now = r->w.now;

	switch (draw(r, 4)) {
	case 0:
		now += (int64_t)draw(r, 3 * (uint64_t)day);
		break;
	case 1:
		now -= (int64_t)draw(r, 2 * (uint64_t)day);
		break;
	default:
		now += (int64_t)draw(r, 3600000);
	}
	r->w.now = now < first ? first : now > last ? last : now;
}

static double some_cap(struct run *r, double usd)
{
	return draw(r, 3) ? usd * (double)(1 + draw(r, 10)) : 0;
}

static void do_caps(struct run *r)
{
	r->w.config.budget.daily = some_cap(r, 0.3);
	r->w.config.budget.monthly = some_cap(r, 1);
	r->w.config.budget.conversation = some_cap(r, 0.5);
	r->w.providers[0].daily_cap_usd = some_cap(r, 0.2);
	r->w.providers[1].monthly_cap_usd = some_cap(r, 0.8);
	money_set_config(r->w.money, &r->w.config);
}

/* All that was held counts at its upper bound. */
static void holds_become_charges(struct run *r)
{
	while (r->m.nholds) {
		struct charge c = take_hold(r, 0);

		c.estimated = c.open = true;
		r->m.charges[r->m.ncharges++] = c;
	}
	for (int i = 0; i < r->m.ncharges; i++) {
		struct charge *c = &r->m.charges[i];

		/* one that finished and counts nothing is not worth a row */
		if (llabs(r->w.now - c->at) > MONEY_LATE_MS || (c->finished && c->cost == 0))
			c->open = false;
	}
}

static void do_restart(struct run *r)
{
	if (r->m.ncharges + r->m.nholds > STEPS)
		return;
	world_restart(&r->w);
	holds_become_charges(r);
}

/* What a kill leaves: the files as they are between two calls. */
static void do_crash(struct run *r)
{
	char from[96];
	char *cmd;

	if (r->m.ncharges + r->m.nholds > STEPS || world_files(&r->w, "", false) == 0)
		return;
	snprintf(from, sizeof from, "%s", r->w.path);
	snprintf(r->w.path, sizeof r->w.path, "%s/s%d.db", r->w.dir, ++r->m.folder);
	cmd = xasprintf("cp %s %s && { test ! -e %s-wal || cp %s-wal %s-wal; }", from,
			r->w.path, from, from, r->w.path);
	assert_int_equal(system(cmd), 0);
	free(cmd);
	world_close(&r->w);
	world_open(&r->w, NULL);
	holds_become_charges(r);
}

/* ---- what must hold */

static int64_t nano(double usd)
{
	return llround(usd * 1e9);
}

static void check_sums(struct run *r)
{
	int64_t cost = 0, estimated = 0;

	for (int i = 0; i < r->m.ncharges; i++) {
		cost += r->m.charges[i].cost;
		estimated += r->m.charges[i].estimated ? r->m.charges[i].cost : 0;
	}
	CHECK(nano(world_total(&r->w, "cost_usd")) == cost);
	CHECK(nano(world_total(&r->w, "estimated_usd")) == estimated);
	CHECK((int)world_total(&r->w, "requests") == r->m.ncharges);
}

static void check_windows(struct run *r)
{
	struct window w = {today(r), -1, -1, 0};
	int64_t over, spent = spent_in(r, &w, &over);
	double cap = r->w.config.budget.daily;

	CHECK(nano(money_spent_today(r->w.money, NULL)) == spent);
	w.provider = 1;
	CHECK(nano(money_spent_today(r->w.money, "other")) == spent_in(r, &w, &over));
	w.provider = -1;
	if (cap > 0) {
		int64_t used = spent_in(r, &w, &over) + held_in(r, &w);
		int64_t left = amount_of(cap) - used;

		CHECK(nano(money_left_today(r->w.money)) == (left > 0 ? left : 0));
		CHECK(nano(world_cap(&r->w, "day", "reserved_usd")) == held_in(r, &w));
	}
}

/* With caps that never change, nothing but a call's own excess breaks them. */
static void check_never_over(struct run *r)
{
	for (int i = 0; i < 2; i++) {
		struct window w[5];
		int n = windows(r, i, i + 1, w);

		for (int k = 0; k < n; k++) {
			int64_t over, spent = spent_in(r, &w[k], &over);

			CHECK(spent + held_in(r, &w[k]) <= amount_of(w[k].limit) + over);
		}
	}
}

static void one_step(struct run *r, bool caps_change)
{
	uint64_t what = draw(r, 100);

	if (what < 45)
		do_reserve(r);
	else if (what < 70)
		do_settle(r);
	else if (what < 77)
		do_release(r);
	else if (what < 84)
		do_late(r);
	else if (what < 92)
		do_clock(r);
	else if (what < 94 && caps_change)
		do_caps(r);
	else if (what < 97)
		do_restart(r);
	else
		do_crash(r);
}

static int one_run(int seed, bool caps_change)
{
	struct run *r = xcalloc(1, sizeof *r);
	int refused;

	r->seed = seed;
	r->random = 0x9e3779b97f4a7c15ull * (uint64_t)(seed + 1);
	world_init(&r->w);
	log_set_level(LOG_LV_ERROR);
	world_open(&r->w, NULL);
	do_caps(r);
	for (r->step = 0; r->step < STEPS; r->step++) {
		one_step(r, caps_change);
		check_windows(r);
		if (!caps_change)
			check_never_over(r);
		if (r->step % 20 == 0)
			check_sums(r);
	}
	while (r->m.nholds)
		do_release(r);
	check_sums(r);
	r->w.config.budget.daily = 1;
	CHECK(world_cap(&r->w, "day", "reserved_usd") == 0);
	CHECK(world_files(&r->w, "corrupt", false) == 0);
	refused = r->refused;
	world_fini(&r->w);
	free(r);
	return refused;
}

static int seeds(void)
{
	const char *s = getenv("HOB_MONEY_SEEDS");

	return s ? (int)strtol(s, NULL, 10) : SANITIZED ? 6 : 20;
}

static void accounts_and_model_agree_whatever_happens(void **state)
{
	int refused = 0;

	(void)state;
	for (int i = 0; i < seeds(); i++)
		refused += one_run(i, true);
	assert_true(refused > 0);
}

static void no_window_is_over_its_cap(void **state)
{
	int refused = 0;

	(void)state;
	for (int i = 0; i < seeds(); i++)
		refused += one_run(1000 + i, false);
	assert_true(refused > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accounts_and_model_agree_whatever_happens),
		cmocka_unit_test(no_window_is_over_its_cap),
	};

	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	tzset();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
