/* What remote answers cost: counted once, held within the caps, there after a restart. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "money_world.h"
#include "route/money_books.h"

static const struct prices prices = {.input = 1e-6,
				     .output = 4e-6,
				     .cached = 0.25e-6,
				     .cache_write = -1,
				     .request = -1,
				     .image = -1};

#define NEAR(a, b) assert_true(fabs((a) - (b)) < 5e-10)

static void spend(struct world *w, double usd)
{
	struct usage u = usage_of(100, 50, usd);
	struct money_hold *h = reserve(w, NULL, usd, NULL);

	assert_non_null(h);
	money_settle(h, &u, &prices, "finished");
}

static void what_was_spent_is_there_after_a_restart(void **state)
{
	struct world w;
	struct stat sb;

	(void)state;
	world_init(&w);
	world_open(&w, NULL);
	spend(&w, 0.1);
	spend(&w, 0.2);
	NEAR(money_spent_today(w.money, NULL), 0.3);
	world_restart(&w);
	NEAR(money_spent_today(w.money, NULL), 0.3);
	NEAR(money_spent_today(w.money, "openrouter"), 0.3);
	NEAR(money_spent_today(w.money, "other"), 0);
	NEAR(world_total(&w, "cost_usd"), 0.3);
	NEAR(world_total(&w, "estimated_usd"), 0);
	assert_int_equal(world_total(&w, "requests"), 2);
	assert_int_equal(world_total(&w, "tokens_in"), 200);
	assert_int_equal(world_total(&w, "tokens_out"), 100);
	assert_int_equal(stat(w.path, &sb), 0);
	assert_int_equal(sb.st_mode & 0777, 0600);
	world_fini(&w);
}

static void a_daemon_that_spends_nothing_makes_no_file(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	world_open(&w, NULL);
	world_close(&w);
	assert_int_equal(world_files(&w, "", false), 0);
	world_fini(&w);
}

static void a_reservation_counts_until_it_is_given_back(void **state)
{
	struct money_hold *a, *b;
	struct err e = {0};
	struct world w;

	(void)state;
	world_init(&w);
	w.config.budget.daily = 1;
	world_open(&w, NULL);
	a = reserve(&w, NULL, 0.6, &e);
	assert_non_null(a);
	NEAR(money_left_today(w.money), 0.4);
	assert_null(reserve(&w, NULL, 0.5, &e)); /* both would be over it */
	assert_int_equal(e.code, ERR_PAYMENT);
	assert_int_equal(e.retry_after_ms, 0); /* not midnight: the other's end */
	assert_non_null(strstr(e.text, "calls under way up to 0.60"));
	b = reserve(&w, NULL, 0.4, &e); /* the cap itself may be used up */
	assert_non_null(b);
	NEAR(world_cap(&w, "day", "reserved_usd"), 1);
	money_release(a);
	money_release(b);
	NEAR(money_left_today(w.money), 1);
	NEAR(world_cap(&w, "day", "reserved_usd"), 0);
	assert_int_equal(world_total(&w, "requests"), 0);
	world_fini(&w);
}

static void a_cap_that_is_reached_says_what_to_do(void **state)
{
	struct err e = {0};
	struct world w;

	(void)state;
	world_init(&w);
	w.config.budget.daily = 5;
	world_open(&w, NULL);
	spend(&w, 4.98);
	assert_null(reserve(&w, NULL, 0.04, &e));
	assert_int_equal(e.code, ERR_PAYMENT);
	assert_string_equal(
		e.text,
		"today's cap of 5.00 USD is reached (spent 4.98, this prompt may "
		"cost up to 0.04); raise budget.daily or wait until midnight; local "
		"models still answer");
	assert_int_equal(e.retry_after_ms, 11 * 3600 * 1000); /* 13:00 in Berlin */
	assert_null(reserve(&w, NULL, 6, &e));
	assert_int_equal(e.retry_after_ms, 0);
	assert_non_null(strstr(e.text, "ask for fewer tokens"));
	w.now += 11 * 3600 * 1000;
	spend(&w, 0.04);
	NEAR(money_spent_today(w.money, NULL), 0.04);
	world_fini(&w);
}

static void from_a_share_of_a_cap_on_it_warns(void **state)
{
	struct money_ask a = ask_of("openrouter", "v/m", NULL, 0.1);
	char why[200];
	struct world w;

	(void)state;
	world_init(&w);
	w.config.budget.daily = 5;
	world_open(&w, NULL);
	spend(&w, 3.99);
	assert_int_equal(money_ask(w.money, &a, why, sizeof why), MONEY_OK);
	assert_string_equal(why, "");
	spend(&w, 0.01);
	assert_int_equal(money_ask(w.money, &a, why, sizeof why), MONEY_SOFT);
	assert_string_equal(why, "80 % of today's 5.00 USD is spent");
	w.providers[0].daily_cap_usd = 4;
	assert_int_equal(money_ask(w.money, &a, why, sizeof why), MONEY_HARD);
	assert_non_null(strstr(why, "today's cap of 4.00 USD of openrouter is reached"));
	a.most_usd = 0; /* a model that costs nothing */
	assert_int_equal(money_ask(w.money, &a, why, sizeof why), MONEY_OK);
	world_fini(&w);
}

static void without_a_price_no_cap_can_be_kept(void **state)
{
	struct money_ask a = ask_of("openrouter", "v/m", "c1", -1);
	struct usage u = usage_of(10, 20, -1);
	struct prices none = {-1, -1, -1, -1, -1, -1};
	struct money_hold *h;
	char why[300];
	struct world w;

	(void)state;
	world_init(&w);
	world_open(&w, NULL);
	w.providers[1].daily_cap_usd = 1; /* another's */
	assert_int_equal(money_ask(w.money, &a, why, sizeof why), MONEY_OK);
	h = money_reserve(w.money, &a, "r", NULL);
	money_settle(h, &u, &none, "finished");
	assert_int_equal(world_total(&w, "unpriced"), 1);
	w.config.budget.conversation = 1;
	assert_int_equal(money_ask(w.money, &a, why, sizeof why), MONEY_HARD);
	assert_non_null(strstr(why, "price_input and price_output"));
	a.conversation = NULL;
	assert_int_equal(money_ask(w.money, &a, why, sizeof why), MONEY_OK);
	a.request_budget_usd = 1;
	assert_int_equal(money_ask(w.money, &a, why, sizeof why), MONEY_HARD);
	a.request_budget_usd = -1;
	a.provider = "other";
	assert_int_equal(money_ask(w.money, &a, why, sizeof why), MONEY_HARD);
	money_late(w.money, "r", -1, -1, 0.5); /* somebody knew in the end */
	assert_int_equal(world_total(&w, "unpriced"), 0);
	NEAR(world_total(&w, "cost_usd"), 0.5);
	world_fini(&w);
}

static void a_request_has_a_budget_of_its_own(void **state)
{
	struct money_ask a = ask_of("openrouter", "v/m", NULL, 0.02);
	char why[300];
	struct world w;

	(void)state;
	world_init(&w);
	world_open(&w, NULL);
	a.request_budget_usd = 0.02;
	assert_int_equal(money_ask(w.money, &a, why, sizeof why), MONEY_OK);
	a.request_budget_usd = 0.01;
	assert_int_equal(money_ask(w.money, &a, why, sizeof why), MONEY_HARD);
	assert_non_null(strstr(why, "may cost up to 0.02 USD, its own budget is 0.01"));
	world_fini(&w);
}

static void a_conversation_has_its_cap_over_days_and_restarts(void **state)
{
	struct money_ask a = ask_of("openrouter", "v/m", "c1", 0.3);
	struct err e = {0};
	char why[300];
	struct world w;

	(void)state;
	world_init(&w);
	w.config.budget.conversation = 1;
	world_open(&w, NULL);
	spend(&w, 0.5);
	w.now += 40ll * 86400000;
	spend(&w, 0.4);
	world_restart(&w);
	assert_null(money_reserve(w.money, &a, NULL, &e));
	assert_non_null(strstr(e.text, "this conversation's cap of 1.00 USD"));
	assert_int_equal(e.retry_after_ms, 0);
	a.conversation = "c2";
	assert_int_equal(money_ask(w.money, &a, why, sizeof why), MONEY_OK);
	a.conversation = NULL;
	assert_int_equal(money_ask(w.money, &a, why, sizeof why), MONEY_OK);
	NEAR(world_cap(&w, "conversation", "spent_usd"), 0.9);
	world_fini(&w);
}

static void a_cancelled_stream_is_an_estimate_until_the_provider_speaks(void **state)
{
	struct usage u = usage_of(1000, 100, -1);
	struct world w;

	(void)state;
	world_init(&w);
	world_open(&w, NULL);
	money_settle(reserve(&w, "gen-1", 0.5, NULL), &u, &prices, "cancelled");
	NEAR(world_total(&w, "cost_usd"), 0.0014);
	NEAR(world_total(&w, "estimated_usd"), 0.0014);
	world_restart(&w);
	money_late(w.money, "gen-2", 1, 1, 9); /* nobody's */
	money_late(w.money, "gen-1", 1010, -1, -1);
	NEAR(world_total(&w, "cost_usd"), 0.0014);
	assert_int_equal(world_total(&w, "tokens_in"), 1010);
	world_restart(&w);
	money_late(w.money, "gen-1", 1020, 90, 0.0015);
	money_late(w.money, "gen-1", 1020, 90, 0.0015); /* once is enough */
	world_restart(&w);
	NEAR(world_total(&w, "cost_usd"), 0.0015);
	NEAR(world_total(&w, "estimated_usd"), 0);
	NEAR(money_spent_today(w.money, "openrouter"), 0.0015);
	assert_int_equal(world_total(&w, "tokens_in"), 1020);
	assert_int_equal(world_total(&w, "tokens_out"), 90);
	assert_int_equal(world_total(&w, "requests"), 1);
	world_fini(&w);
}

static void an_estimate_waits_a_day_for_the_price(void **state)
{
	struct usage u = usage_of(1000, 100, -1);
	struct world w;

	(void)state;
	world_init(&w);
	world_open(&w, NULL);
	money_settle(reserve(&w, "gen-1", 0.5, NULL), &u, &prices, "cancelled");
	w.now += MONEY_LATE_MS + 1;
	world_restart(&w);
	money_late(w.money, "gen-1", 1, 1, 9);
	NEAR(world_total(&w, "cost_usd"), 0.0014);
	world_fini(&w);
}

static void where_usage_is_unknown_the_reservation_counts(void **state)
{
	struct usage u = USAGE_UNKNOWN;
	struct world w;

	(void)state;
	world_init(&w);
	world_open(&w, NULL);
	money_settle(reserve(&w, "g", 0.25, NULL), &u, &prices, "failed");
	NEAR(world_total(&w, "cost_usd"), 0.25);
	NEAR(world_total(&w, "estimated_usd"), 0.25);
	world_fini(&w);
}

/* A process that dies in the middle of a call. */
static void die_with_a_reservation(struct world *w)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		world_open(w, NULL);
		reserve(w, "gen-7", 0.75, NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void what_was_reserved_by_the_dead_counts(void **state)
{
	struct err e = {0};
	struct world w;

	(void)state;
	world_init(&w);
	w.config.budget.daily = 1;
	die_with_a_reservation(&w);
	world_open(&w, NULL);
	NEAR(money_spent_today(w.money, NULL), 0.75);
	NEAR(world_total(&w, "estimated_usd"), 0.75);
	assert_null(reserve(&w, NULL, 0.3, &e));
	world_restart(&w); /* once */
	NEAR(money_spent_today(w.money, NULL), 0.75);
	money_late(w.money, "gen-7", 5, 5, 0.01);
	NEAR(money_spent_today(w.money, NULL), 0.01);
	world_fini(&w);
}

static void write_junk(const struct world *w)
{
	FILE *f = fopen(w->path, "w");

	assert_non_null(f);
	for (int i = 0; i < 5000; i++)
		fputs("no database ", f);
	fclose(f);
}

static void a_damaged_file_never_lifts_a_cap(void **state)
{
	struct money_ask a = ask_of("openrouter", "v/m", NULL, 0.1);
	struct err e = {0};
	struct world w;

	(void)state;
	world_init(&w);
	log_set_level((enum log_level) - 1);
	write_junk(&w);
	world_open(&w, NULL);
	assert_int_equal(world_files(&w, ".corrupt-", false), 1);
	spend(&w, 0.1); /* without caps it is only counted anew */
	w.config.budget.daily = 100;
	assert_null(money_reserve(w.money, &a, NULL, &e));
	assert_int_equal(e.code, ERR_PAYMENT);
	assert_non_null(strstr(e.text, "remove '"));
	a.most_usd = 0;
	money_release(money_reserve(w.money, &a, NULL, &e));
	a.most_usd = 0.1;
	world_restart(&w); /* which forgets nothing */
	assert_null(money_reserve(w.money, &a, NULL, &e));
	world_files(&w, ".corrupt-", true);
	money_release(money_reserve(w.money, &a, NULL, &e));
	NEAR(money_spent_today(w.money, NULL), 0.1);
	world_fini(&w);
}

static void sql(const struct world *w, const char *text)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(w->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void a_newer_hobs_file_is_not_touched(void **state)
{
	struct err e = {0};
	struct world w;

	(void)state;
	world_init(&w);
	log_set_level((enum log_level) - 1);
	world_open(&w, NULL);
	spend(&w, 1);
	world_close(&w);
	sql(&w, "PRAGMA user_version=99; UPDATE spent SET requests=77");
	world_open(&w, NULL);
	spend(&w, 0.5);
	NEAR(money_spent_today(w.money, NULL), 0.5); /* it may mean other things there */
	w.config.budget.monthly = 100;
	assert_null(reserve(&w, NULL, 0.1, &e));
	assert_non_null(strstr(e.text, "newer hob"));
	world_close(&w);
	sql(&w, "PRAGMA user_version=1");
	world_open(&w, NULL);
	assert_int_equal(world_total(&w, "requests"), 77);
	world_fini(&w);
}

static void two_hobs_do_not_share_a_budget_unknowingly(void **state)
{
	struct world w, other;
	struct err e = {0};

	(void)state;
	world_init(&w);
	log_set_level((enum log_level) - 1);
	w.config.budget.daily = 10;
	world_open(&w, NULL);
	spend(&w, 1);
	other = w;
	world_open(&other, NULL);
	assert_null(reserve(&other, NULL, 1, &e));
	assert_non_null(strstr(e.text, "another hob"));
	world_close(&w);
	assert_null(reserve(&other, NULL, 1, &e)); /* asks again, for the next one */
	assert_non_null(reserve(&other, NULL, 1, &e));
	NEAR(money_spent_today(other.money, NULL), 1);
	w.money = other.money;
	world_fini(&w);
}

static void what_could_not_be_written_is_written_later(void **state)
{
	struct rlimit old, tiny;
	struct err e = {0};
	struct world w;

	(void)state;
	world_init(&w);
	log_set_level((enum log_level) - 1);
	signal(SIGXFSZ, SIG_IGN);
	world_open(&w, NULL);
	spend(&w, 1);
	getrlimit(RLIMIT_FSIZE, &old);
	tiny = (struct rlimit){100, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
	spend(&w, 2); /* no cap: nobody is hurt */
	w.config.budget.daily = 100;
	assert_null(reserve(&w, NULL, 0.1, &e));
	assert_int_equal(e.code, ERR_PAYMENT);
	assert_non_null(strstr(e.text, "cannot be written"));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_null(reserve(&w, NULL, 0.1, &e)); /* this one finds that it works again */
	money_release(reserve(&w, NULL, 0.1, &e));
	world_restart(&w);
	NEAR(money_spent_today(w.money, NULL), 3);
	world_fini(&w);
}

static int64_t at(int y, int mo, int d, int h, int mi)
{
	struct tm tm = {.tm_year = y - 1900,
			.tm_mon = mo - 1,
			.tm_mday = d,
			.tm_hour = h,
			.tm_min = mi,
			.tm_isdst = -1};

	return (int64_t)mktime(&tm) * 1000;
}

static uint32_t wait_at(struct world *w, int64_t now)
{
	struct err e = {0};

	w->now = now;
	spend(w, 1);
	assert_null(reserve(w, NULL, 0.5, &e));
	return e.retry_after_ms;
}

static void windows_follow_the_local_calendar(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	w.config.budget.daily = 1;
	world_open(&w, NULL);
	assert_int_equal(wait_at(&w, at(2026, 10, 24, 23, 59)), 60 * 1000);
	assert_int_equal(wait_at(&w, at(2026, 10, 25, 0, 0)), 25 * 3600 * 1000);
	assert_int_equal(wait_at(&w, at(2027, 3, 28, 0, 0)), 23 * 3600 * 1000);
	assert_int_equal(wait_at(&w, at(2026, 12, 31, 23, 0)), 3600 * 1000);
	/* back by a day: that day's money is gone already */
	w.now = at(2026, 10, 24, 12, 0);
	assert_null(reserve(&w, NULL, 0.5, NULL));
	w.now = at(2026, 10, 23, 12, 0);
	spend(&w, 1);
	w.config.budget.daily = 0;
	w.config.budget.monthly = 1;
	assert_int_equal(wait_at(&w, at(2027, 2, 28, 23, 0)), 3600 * 1000);
	assert_int_equal(wait_at(&w, at(2027, 12, 1, 0, 0)), 31u * 86400 * 1000);
	world_fini(&w);
}

static void a_day_may_begin_at_one(void **state)
{
	const char *berlin = getenv("TZ");
	char *keep = xstrdup(berlin);
	struct world w;

	(void)state;
	setenv("TZ", "<-03>3<-02>,M10.3.0/0,M2.3.0/0", 1); /* Brazil, until 2018 */
	tzset();
	world_init(&w);
	w.config.budget.daily = 1;
	world_open(&w, NULL);
	assert_int_equal(wait_at(&w, at(2026, 10, 17, 23, 0)), 3600 * 1000);
	world_fini(&w);
	setenv("TZ", keep, 1);
	tzset();
	free(keep);
}

static void a_call_over_midnight_counts_on_the_day_it_began(void **state)
{
	struct usage u = usage_of(1, 1, 0.5);
	struct money_hold *h;
	struct world w;

	(void)state;
	world_init(&w);
	w.config.budget.daily = 1;
	w.now = at(2026, 11, 30, 23, 59);
	world_open(&w, NULL);
	h = reserve(&w, NULL, 1, NULL);
	w.now = at(2026, 12, 1, 0, 1);
	NEAR(money_left_today(w.money), 1);
	money_settle(h, &u, &prices, "finished");
	NEAR(money_spent_today(w.money, NULL), 0);
	w.now = at(2026, 11, 30, 23, 58);
	NEAR(money_spent_today(w.money, NULL), 0.5);
	world_fini(&w);
}

static int rows(struct world *w, unsigned by)
{
	cJSON *tree = world_json(w, MONEY_MAX_DAYS, by);
	int n = cJSON_GetArraySize(cJSON_GetObjectItem(tree, "rows"));

	cJSON_Delete(tree);
	return n;
}

static void old_conversations_fold_into_their_days(void **state)
{
	const unsigned by = MONEY_BY_DAY | MONEY_BY_MODEL | MONEY_BY_CONVERSATION;
	struct usage u = usage_of(1, 1, 0.5);
	struct world w;

	(void)state;
	world_init(&w);
	world_open(&w, NULL);
	for (int i = 0; i < 5; i++) {
		char name[8];
		struct money_ask a = ask_of("openrouter", "v/m", name, 0.5);

		snprintf(name, sizeof name, "c%d", i);
		money_settle(money_reserve(w.money, &a, NULL, NULL), &u, &prices,
			     "finished");
	}
	assert_int_equal(rows(&w, by), 5);
	w.now += (MONEY_DETAIL_DAYS + 1) * 86400000ll;
	world_restart(&w);
	assert_int_equal(rows(&w, by), 1);
	NEAR(world_total(&w, "cost_usd"), 2.5);
	world_restart(&w);
	assert_int_equal(rows(&w, by), 1);
	NEAR(world_total(&w, "cost_usd"), 2.5);
	world_fini(&w);
}

static void the_books_stay_within_their_limits(void **state)
{
	struct books b;
	struct sums one = {.requests = 1, .cost = 1}, sum = {0};
	char name[32];

	(void)state;
	books_init(&b);
	for (int i = 0; i < MONEY_MAX_ROWS + 1000; i++) {
		struct entry_key k = {20261121 + i % 2, "p", "m", name};

		snprintf(name, sizeof name, "c%d", i);
		k.conversation = books_conversation(&b, name, k.day);
		books_post(&b, books_entry(&b, &k), &one);
		books_converse(&b, &k, 1);
		assert_true(b.nentries <= MONEY_MAX_ROWS + 2);
		assert_true(b.nconversations <= MONEY_MAX_CONVERSATIONS + 1);
	}
	for (int i = 0; i < BOOKS_BUCKETS; i++)
		for (struct entry *e = b.entries[i]; e; e = e->next)
			sums_add(&sum, &e->sums);
	assert_int_equal(sum.requests, MONEY_MAX_ROWS + 1000);
	assert_int_equal(books_tally(&b, 202611, "")->spent, MONEY_MAX_ROWS + 1000);
	books_fini(&b);
}

static void amounts_are_integers_and_never_wrap(void **state)
{
	char out[AMOUNT_BYTES];
	struct sums a = {.cost = INT64_MAX - 1}, more = {.cost = 5};

	(void)state;
	assert_int_equal(amount_of(0.1) + amount_of(0.2), amount_of(0.3));
	assert_int_equal(amount_above(0.04), 40000000);
	assert_int_equal(amount_above(1.5e-9), 2);
	assert_int_equal(amount_of(NAN), 0);
	assert_int_equal(amount_of(INFINITY), AMOUNT_MAX);
	assert_int_equal(amount_of(-1), 0);
	sums_add(&a, &more);
	assert_int_equal(a.cost, INT64_MAX);
	assert_string_equal(amount_exact(125000, out), "0.000125");
	assert_string_equal(amount_exact(5000000000, out), "5");
	assert_string_equal(amount_exact(-1, out), "-0.000000001");
	assert_string_equal(amount_short(4980000000, out), "4.98");
	assert_string_equal(amount_short(5000000000, out), "5.00");
	assert_string_equal(amount_short(1234567891, out), "1.2346");
	assert_string_equal(amount_short(42100, out), "0.0000421");
	assert_string_equal(amount_short(0, out), "0.00");
}

static void a_price_is_multiplied_out(void **state)
{
	struct usage u = usage_of(1000, 10, -1);
	struct prices p = prices;

	(void)state;
	NEAR(money_most(&p, 1000, 100, 0), 0.0014);
	assert_true(money_most(&p, -1, 100, 0) < 0);
	p.cache_write = 2e-6; /* all of the prompt might be written there */
	p.image = 0.01;
	p.request = 0.001;
	NEAR(money_most(&p, 1000, 100, 2), 0.0234);
	NEAR(money_cost(&prices, &u), 0.00104);
	u.cached_tokens = 400;
	NEAR(money_cost(&prices, &u), 0.00074);
	u.cache_write_tokens = 5000; /* at most what is left of the prompt */
	NEAR(money_cost(&p, &u), 0.0001 + 0.0012 + 0.00004 + 0.001);
	u.cost_usd = 0.5;
	NEAR(money_cost(&p, &u), 0.5);
	u = usage_of(5, -1, -1);
	assert_true(money_cost(&p, &u) < 0);
	p.output = -1;
	assert_true(money_most(&p, 1, 1, 0) < 0);
}

static void the_view_sums_by_what_was_asked(void **state)
{
	struct usage u = usage_of(10, 5, 0.25);
	cJSON *tree;
	const cJSON *row;
	struct world w;

	(void)state;
	world_init(&w);
	w.providers[1].monthly_cap_usd = 1;
	world_open(&w, NULL);
	spend(&w, 0.5);
	w.now += 86400000;
	for (int i = 0; i < 2; i++) {
		struct money_ask a = ask_of("other", i ? "b" : "a", NULL, 0.25);

		money_settle(money_reserve(w.money, &a, NULL, NULL), &u, &prices,
			     "finished");
	}
	assert_int_equal(rows(&w, MONEY_BY_DAY), 2);
	assert_int_equal(rows(&w, MONEY_BY_MODEL), 3);
	assert_int_equal(rows(&w, MONEY_BY_PROVIDER), 2);
	assert_int_equal(rows(&w, MONEY_BY_CONVERSATION), 2);
	tree = world_json(&w, 1, MONEY_BY_DAY | MONEY_BY_PROVIDER);
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(tree, "rows")), 1);
	row = cJSON_GetArrayItem(cJSON_GetObjectItem(tree, "rows"), 0);
	assert_string_equal(cJSON_GetObjectItem(row, "day")->valuestring, "2026-11-22");
	assert_string_equal(cJSON_GetObjectItem(row, "provider")->valuestring, "other");
	NEAR(cJSON_GetObjectItem(row, "cost_usd")->valuedouble, 0.5);
	assert_int_equal(cJSON_GetObjectItem(row, "requests")->valueint, 2);
	cJSON_Delete(tree);
	NEAR(world_cap(&w, "provider other month", "spent_usd"), 0.5);
	NEAR(world_cap(&w, "provider other month", "limit_usd"), 1);
	assert_true(world_cap(&w, "day", "limit_usd") < 0);
	world_fini(&w);
}

/* ---- with a loop */

struct waiter {
	int safe, refused, turns;
	struct err e;
	struct money_hold *release; /* NULL: none */
};

static void on_safe(void *arg, const struct err *e)
{
	struct waiter *x = arg;

	x->safe += !e;
	x->refused += e != NULL;
	if (e)
		x->e = *e;
	if (x->release)
		money_release(x->release);
}

/* The daemon holds the file; what is committed can be seen in a copy of it. */
static int holds_in_file(const struct world *w)
{
	char *copy = xasprintf("%s/copy", w->dir);
	char *cmd =
		xasprintf("cp %s %s && cp %s-wal %s-wal", w->path, copy, w->path, copy);
	sqlite3 *db;
	sqlite3_stmt *st;
	int n = -1;

	assert_int_equal(system(cmd), 0);
	assert_int_equal(sqlite3_open(copy, &db), SQLITE_OK);
	assert_int_equal(
		sqlite3_prepare_v2(db, "SELECT count(*) FROM hold", -1, &st, NULL),
		SQLITE_OK);
	if (sqlite3_step(st) == SQLITE_ROW)
		n = sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	sqlite3_close(db);
	free(copy);
	free(cmd);
	return n;
}

static void a_call_begins_when_its_reservation_is_in_the_file(void **state)
{
	struct waiter a = {0}, b = {0}, gone = {0};
	struct money_hold *h, *h2;
	struct world w;
	uv_loop_t loop;

	(void)state;
	world_init(&w);
	w.config.budget.daily = 10;
	uv_loop_init(&loop);
	world_open(&w, &loop);
	h = reserve(&w, NULL, 1, NULL);
	money_when_safe(h, on_safe, &a);
	money_when_safe(h2 = reserve(&w, NULL, 1, NULL), on_safe, &gone);
	money_release(h2); /* and is never told */
	money_when_safe(reserve(&w, NULL, 1, NULL), on_safe, &b);
	assert_int_equal(a.safe, 0); /* in a later turn */
	while (a.safe + a.refused < 1 || b.safe + b.refused < 1)
		uv_run(&loop, UV_RUN_ONCE);
	assert_int_equal(a.safe, 1);
	assert_int_equal(b.safe, 1);
	assert_int_equal(gone.safe + gone.refused, 0);
	assert_int_equal(holds_in_file(&w), 2);
	world_close(&w); /* settles what runs, as an estimate */
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	world_open(&w, NULL);
	NEAR(world_total(&w, "estimated_usd"), 2);
	world_fini(&w);
}

static void without_a_cap_nobody_waits_for_the_disk(void **state)
{
	struct waiter a = {0};
	struct money_hold *h;
	struct world w;
	uv_loop_t loop;

	(void)state;
	world_init(&w);
	uv_loop_init(&loop);
	world_open(&w, &loop);
	h = reserve(&w, NULL, 1, NULL);
	money_when_safe(h, on_safe, &a);
	assert_int_equal(a.safe, 0);
	uv_run(&loop, UV_RUN_NOWAIT);
	assert_int_equal(a.safe, 1);
	assert_int_equal(world_files(&w, "", false), 0); /* nothing written so far */
	money_release(h);
	world_close(&w);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	world_fini(&w);
}

static void a_reservation_that_cannot_be_written_is_refused(void **state)
{
	struct waiter a = {0};
	struct err e = {0};
	struct world w;
	uv_loop_t loop;

	(void)state;
	world_init(&w);
	log_set_level((enum log_level) - 1);
	w.config.budget.daily = 10;
	uv_loop_init(&loop);
	snprintf(w.path, sizeof w.path, "%s/none/spend.db", w.dir);
	world_open(&w, &loop);
	a.release = reserve(&w, NULL, 1, NULL);
	money_when_safe(a.release, on_safe, &a);
	while (a.safe + a.refused < 1)
		uv_run(&loop, UV_RUN_ONCE);
	assert_int_equal(a.refused, 1);
	assert_int_equal(a.e.code, ERR_PAYMENT);
	assert_non_null(strstr(a.e.text, "cannot be written"));
	assert_null(reserve(&w, NULL, 1, &e));
	assert_int_equal(e.code, ERR_PAYMENT);
	NEAR(world_cap(&w, "day", "reserved_usd"), 0);
	world_close(&w);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_spent_is_there_after_a_restart),
		cmocka_unit_test(a_daemon_that_spends_nothing_makes_no_file),
		cmocka_unit_test(a_reservation_counts_until_it_is_given_back),
		cmocka_unit_test(a_cap_that_is_reached_says_what_to_do),
		cmocka_unit_test(from_a_share_of_a_cap_on_it_warns),
		cmocka_unit_test(without_a_price_no_cap_can_be_kept),
		cmocka_unit_test(a_request_has_a_budget_of_its_own),
		cmocka_unit_test(a_conversation_has_its_cap_over_days_and_restarts),
		cmocka_unit_test(
			a_cancelled_stream_is_an_estimate_until_the_provider_speaks),
		cmocka_unit_test(an_estimate_waits_a_day_for_the_price),
		cmocka_unit_test(where_usage_is_unknown_the_reservation_counts),
		cmocka_unit_test(what_was_reserved_by_the_dead_counts),
		cmocka_unit_test(a_damaged_file_never_lifts_a_cap),
		cmocka_unit_test(a_newer_hobs_file_is_not_touched),
		cmocka_unit_test(two_hobs_do_not_share_a_budget_unknowingly),
		cmocka_unit_test(what_could_not_be_written_is_written_later),
		cmocka_unit_test(windows_follow_the_local_calendar),
		cmocka_unit_test(a_day_may_begin_at_one),
		cmocka_unit_test(a_call_over_midnight_counts_on_the_day_it_began),
		cmocka_unit_test(old_conversations_fold_into_their_days),
		cmocka_unit_test(the_books_stay_within_their_limits),
		cmocka_unit_test(amounts_are_integers_and_never_wrap),
		cmocka_unit_test(a_price_is_multiplied_out),
		cmocka_unit_test(the_view_sums_by_what_was_asked),
		cmocka_unit_test(a_call_begins_when_its_reservation_is_in_the_file),
		cmocka_unit_test(without_a_cap_nobody_waits_for_the_disk),
		cmocka_unit_test(a_reservation_that_cannot_be_written_is_refused),
	};

	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	tzset();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
