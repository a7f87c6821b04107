/* What the caps say of a call that wants to begin.
 *
 * Loop thread; reads the books and changes nothing.  A window is a local calendar day or month, found
 * by its number: daylight saving and clocks that jump change which number it is, never a sum. */
#include <math.h>
#include <time.h>
#include "base/clock.h"
#include "route/money_impl.h"

/* ---- calendar */

int64_t money_now(const struct money *m)
{
	return m->now_unix_ms ? m->now_unix_ms(m->now_arg) : clock_unix_ms();
}

static struct tm local(int64_t unix_ms)
{
	time_t t = (time_t)(unix_ms / 1000);
	struct tm tm = {0};

	localtime_r(&t, &tm);
	return tm;
}

static int day_of(const struct tm *tm)
{
	return (tm->tm_year + 1900) * 10000 + (tm->tm_mon + 1) * 100 + tm->tm_mday;
}

int money_day(int64_t unix_ms)
{
	struct tm tm = local(unix_ms);

	return day_of(&tm);
}

int money_day_before(int64_t unix_ms, int n)
{
	struct tm tm = local(unix_ms);

	tm.tm_mday -= n;
	tm.tm_hour = 12; /* there is a noon on every day */
	tm.tm_min = tm.tm_sec = 0;
	tm.tm_isdst = -1;
	mktime(&tm);
	return day_of(&tm);
}

/* Until the next day, or the next month, begins.  Some zones skip midnight itself. */
static int64_t window_left_ms(int64_t unix_ms, bool month)
{
	struct tm tm = local(unix_ms);
	int today = day_of(&tm);
	time_t end;

	tm.tm_mday = month ? 1 : tm.tm_mday + 1;
	tm.tm_mon += month;
	tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
	tm.tm_isdst = -1;
	end = mktime(&tm);
	while (end != (time_t)-1 && money_day((int64_t)end * 1000) <= today)
		end += 3600;
	return (int64_t)end * 1000 - unix_ms;
}

/* ---- which caps there are */

static const struct config_provider *provider_of(const struct money *m, const char *name)
{
	for (int i = 0; m->config && i < m->config->nproviders; i++)
		if (!strcmp(m->config->providers[i].name, name))
			return &m->config->providers[i];
	return NULL;
}

bool money_any_cap(const struct money *m)
{
	const struct config *c = m->config;

	if (!c)
		return false;
	for (int i = 0; i < c->nproviders; i++)
		if (c->providers[i].daily_cap_usd > 0 ||
		    c->providers[i].monthly_cap_usd > 0)
			return true;
	return c->budget.daily > 0 || c->budget.monthly > 0 || c->budget.conversation > 0;
}

static int add_cap(const struct money *m, struct cap *out, int n, enum cap_kind kind,
		   int period, const char *name, double usd)
{
	const struct tally *t;

	if (!(usd > 0))
		return n;
	t = books_tally(&m->books, period, name);
	out[n] = (struct cap){kind,           period,           name,
			      amount_of(usd), t ? t->spent : 0, t ? t->reserved : 0};
	return n + 1;
}

int money_caps(const struct money *m, int day, const char *provider,
	       const char *conversation, struct cap out[MONEY_CAPS])
{
	const struct config_provider *p = provider_of(m, provider);
	int n = 0;

	if (!m->config)
		return 0;
	n = add_cap(m, out, n, CAP_DAY, day, "", m->config->budget.daily);
	n = add_cap(m, out, n, CAP_MONTH, day / 100, "", m->config->budget.monthly);
	if (p) {
		n = add_cap(m, out, n, CAP_PROVIDER_DAY, day, p->name, p->daily_cap_usd);
		n = add_cap(m, out, n, CAP_PROVIDER_MONTH, day / 100, p->name,
			    p->monthly_cap_usd);
	}
	if (conversation && *conversation &&
	    m->books.nconversations >= MONEY_MAX_CONVERSATIONS &&
	    !books_tally(&m->books, 0, conversation))
		conversation = MONEY_OTHER;
	if (conversation && *conversation)
		n = add_cap(m, out, n, CAP_CONVERSATION, 0, conversation,
			    m->config->budget.conversation);
	return n;
}

static int64_t cap_used(const struct cap *c)
{
	return amount_add(c->spent, c->reserved);
}

enum money_verdict money_cap_state(const struct money *m, const struct cap *c)
{
	if (cap_used(c) >= c->limit)
		return MONEY_HARD;
	return (double)cap_used(c) >= m->config->budget.soft * (double)c->limit
		       ? MONEY_SOFT
		       : MONEY_OK;
}

/* ---- what to say */

static const struct {
	const char *whose, *key, *until;
	bool of_provider, month, ends;
} kinds[] = {
	[CAP_DAY] = {"today's", "budget.daily", "wait until midnight", false, false,
		     true},
	[CAP_MONTH] = {"this month's", "budget.monthly", "wait until the 1st", false,
		       true, true},
	[CAP_PROVIDER_DAY] = {"today's", "daily_cap of the provider",
			      "wait until midnight", true, false, true},
	[CAP_PROVIDER_MONTH] = {"this month's", "monthly_cap of the provider",
				"wait until the 1st", true, true, true},
	[CAP_CONVERSATION] = {"this conversation's", "budget.conversation",
			      "begin another conversation", false, false, false},
};

/* " of openrouter", or nothing. */
static const char *whose(const struct cap *c, char out[80])
{
	snprintf(out, 80, kinds[c->kind].of_provider ? " of %.60s" : "%.0s", c->name);
	return out;
}

static void say_hard(const struct cap *c, int64_t most, struct decided *d)
{
	char limit[AMOUNT_BYTES], spent[AMOUNT_BYTES], may[AMOUNT_BYTES],
		held[AMOUNT_BYTES], name[80], running[80] = "";

	if (c->reserved)
		snprintf(running, sizeof running, ", calls under way up to %s",
			 amount_short(c->reserved, held));
	snprintf(d->why, sizeof d->why,
		 "%s cap of %s USD%s is reached (spent %s%s, this prompt may cost up to "
		 "%s); raise %s or %s; local models still answer",
		 kinds[c->kind].whose, amount_short(c->limit, limit), whose(c, name),
		 amount_short(c->spent, spent), running, amount_short(most, may),
		 kinds[c->kind].key,
		 most > c->limit ? "ask for fewer tokens" : kinds[c->kind].until);
}

static void say_soft(const struct cap *c, struct decided *d)
{
	char limit[AMOUNT_BYTES], name[80];

	snprintf(d->why, sizeof d->why, "%d %% of %s %s USD%s is spent",
		 (int)(100 * (double)cap_used(c) / (double)c->limit),
		 kinds[c->kind].whose, amount_short(c->limit, limit), whose(c, name));
}

/* When a blocked call would get through: INT64_MAX: not by waiting; 0: when others have ended. */
static int64_t blocked_ms(const struct cap *c, int64_t most, int64_t now)
{
	if (most > c->limit)
		return INT64_MAX;
	if (amount_add(c->spent, most) <= c->limit)
		return 0;
	return kinds[c->kind].ends ? window_left_ms(now, kinds[c->kind].month)
				   : INT64_MAX;
}

static void refuse_blind(const struct money_ask *a, struct decided *d)
{
	d->verdict = MONEY_HARD;
	snprintf(d->why, sizeof d->why,
		 "the price of '%.100s' of %.60s is unknown and a cap is set: set "
		 "price_input and price_output of the model; local models still answer",
		 a->model, a->provider);
}

static bool over_request(const struct money_ask *a, int64_t most, struct decided *d)
{
	char may[AMOUNT_BYTES], budget[AMOUNT_BYTES];

	if (!(a->request_budget_usd >= 0) || most <= amount_of(a->request_budget_usd))
		return false;
	d->verdict = MONEY_HARD;
	snprintf(
		d->why, sizeof d->why,
		"this prompt may cost up to %s USD, its own budget is %s; raise it or ask "
		"for fewer tokens; local models still answer",
		amount_short(most, may),
		amount_short(amount_of(a->request_budget_usd), budget));
	return true;
}

/* Of several caps that refuse, the one is told that refuses longest. */
static void weigh(const struct money *m, const struct cap *caps, int n, int64_t most,
		  int64_t now, struct decided *d)
{
	int64_t longest = -1;

	for (int i = 0; i < n; i++) {
		const struct cap *c = &caps[i];
		int64_t wait;

		if (amount_add(cap_used(c), most) <= c->limit) {
			if (d->verdict == MONEY_OK && money_cap_state(m, c) != MONEY_OK) {
				d->verdict = MONEY_SOFT;
				say_soft(c, d);
			}
			continue;
		}
		wait = blocked_ms(c, most, now);
		if (wait <= longest)
			continue;
		longest = wait;
		d->verdict = MONEY_HARD;
		say_hard(c, most, d);
	}
	if (longest > 0 && longest < INT64_MAX)
		d->retry_after_ms = longest > UINT32_MAX ? UINT32_MAX : (uint32_t)longest;
}

bool money_file_broken(const struct money *m, char *why, size_t bytes)
{
	if (m->file == FILE_NEWER)
		snprintf(why, bytes,
			 "what is spent cannot be kept: %.220s; use that hob or remove "
			 "the file",
			 m->file_error.text);
	else if (m->file == FILE_FAILING)
		snprintf(why, bytes, "what is spent cannot be written: %.260s",
			 m->file_error.text);
	else if (m->corrupt)
		snprintf(why, bytes,
			 "the accounts were damaged and what was spent is not known: "
			 "remove '%.200s' to count from what is left",
			 m->corrupt_name);
	else
		return false;
	return true;
}

void money_decide(const struct money *m, const struct money_ask *a, struct decided *d)
{
	int64_t now = money_now(m), most = amount_above(a->most_usd);
	bool blind = !(a->most_usd >= 0);
	struct cap caps[MONEY_CAPS];
	char why[300], conversation[MONEY_NAME_BYTES];
	int n;

	*d = (struct decided){.verdict = MONEY_OK};
	if (!blind && most == 0)
		return;
	snprintf(conversation, sizeof conversation, "%s",
		 a->conversation ? a->conversation : "");
	n = money_caps(m, money_day(now), a->provider, conversation, caps);
	if (blind && (n > 0 || a->request_budget_usd >= 0)) {
		refuse_blind(a, d);
	} else if (n > 0 && money_file_broken(m, why, sizeof why)) {
		d->verdict = MONEY_HARD;
		snprintf(d->why, sizeof d->why,
			 "%s, and a cap is set; local models still answer", why);
	} else if (!over_request(a, most, d)) {
		weigh(m, caps, n, most, now, d);
	}
}

enum money_verdict money_ask(const struct money *m, const struct money_ask *a, char *why,
			     size_t bytes)
{
	struct decided d;

	money_decide(m, a, &d);
	snprintf(why, bytes, "%s", d.why);
	return d.verdict;
}

/* ---- what others ask */

double money_left_today(const struct money *m)
{
	struct cap c;

	if (!m->config || !add_cap(m, &c, 0, CAP_DAY, money_day(money_now(m)), "",
				   m->config->budget.daily))
		return INFINITY;
	return cap_used(&c) >= c.limit ? 0 : amount_usd(c.limit - cap_used(&c));
}

double money_spent_today(const struct money *m, const char *provider)
{
	const struct tally *t =
		books_tally(&m->books, money_day(money_now(m)), provider ? provider : "");

	return t ? amount_usd(t->spent) : 0;
}
