/* A ring of the last requests.  Loop thread.
 *
 * Strings are copied and bounded here, since they come from clients and from servers far away; control
 * bytes become spaces, because some of the texts go into headers and onto terminals.  A number that is
 * no longer in the ring is ignored: the oldest request may outlive its entry. */
#include "route/route_log.h"

#include <math.h>
#include <time.h>
#include "base/clock.h"

enum { NAME_BYTES = 256, REASON_BYTES = 400, ERROR_BYTES = 300 };

struct attempt {
	char *model, *provider, *error; /* owned */
	enum err_code code;
	double ms;
};

struct entry {
	uint64_t n; /* 0 = never used */
	char id[REQUEST_ID_BYTES];
	int64_t at_unix_ms;
	char *asked, *route, *model, *provider, *reason, *error; /* owned or NULL */
	enum err_code code;
	struct attempt *attempts; /* owned array of ROUTE_LOG_ATTEMPTS, or NULL */
	int nattempts;            /* may be more than are kept */
	char outcome[12];
	double ttft_ms, total_ms, cost_usd; /* < 0 = unknown */
};

struct route_log {
	struct entry entries[ROUTE_LOG_MAX];
	uint64_t n; /* of the latest */
};

static void entry_fini(struct entry *e)
{
	for (int i = 0; e->attempts && i < ROUTE_LOG_ATTEMPTS; i++) {
		free(e->attempts[i].model);
		free(e->attempts[i].provider);
		free(e->attempts[i].error);
	}
	free(e->attempts);
	free(e->asked);
	free(e->route);
	free(e->model);
	free(e->provider);
	free(e->reason);
	free(e->error);
	*e = (struct entry){0};
}

struct route_log *route_log_new(void)
{
	return xcalloc(1, sizeof(struct route_log));
}

void route_log_free(struct route_log *l)
{
	if (!l)
		return;
	for (int i = 0; i < ROUTE_LOG_MAX; i++)
		entry_fini(&l->entries[i]);
	free(l);
}

/* A bounded copy without control bytes, cut between characters. */
static char *copy(const char *s, size_t max)
{
	size_t n = s ? strnlen(s, max) : 0;
	char *out;

	if (!s)
		return NULL;
	if (n == max)
		while (n > 0 && ((unsigned char)s[n] & 0xC0) == 0x80)
			n--;
	out = xstrndup(s, n);
	for (char *p = out; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7F)
			*p = ' ';
	return out;
}

static void set(char **to, const char *s, size_t max)
{
	free(*to);
	*to = copy(s, max);
}

static struct entry *slot(struct route_log *l, uint64_t n)
{
	struct entry *e = &l->entries[n % ROUTE_LOG_MAX];

	return n && e->n == n ? e : NULL;
}

uint64_t route_log_begin(struct route_log *l, const struct request *r)
{
	struct entry *e = &l->entries[++l->n % ROUTE_LOG_MAX];

	entry_fini(e);
	e->n = l->n;
	memcpy(e->id, r->id, sizeof e->id);
	e->at_unix_ms = clock_unix_ms();
	e->asked = copy(r->model, NAME_BYTES);
	snprintf(e->outcome, sizeof e->outcome, "running");
	e->ttft_ms = e->total_ms = e->cost_usd = -1;
	return e->n;
}

void route_log_attempt(struct route_log *l, uint64_t n, const struct route_attempt *a)
{
	struct entry *e = slot(l, n);
	struct attempt *to;

	if (!e || e->nattempts++ >= ROUTE_LOG_ATTEMPTS)
		return;
	if (!e->attempts)
		e->attempts = xcalloc(ROUTE_LOG_ATTEMPTS, sizeof *e->attempts);
	to = &e->attempts[e->nattempts - 1];
	to->model = copy(a->model, NAME_BYTES);
	to->provider = copy(a->provider, NAME_BYTES);
	to->error = copy(a->error.text, ERROR_BYTES);
	to->code = a->error.code;
	to->ms = a->ms;
}

void route_log_started(struct route_log *l, uint64_t n, const char *route,
		       const char *model, const char *provider, const char *reason,
		       double ttft_ms)
{
	struct entry *e = slot(l, n);

	if (!e)
		return;
	set(&e->route, route, NAME_BYTES);
	set(&e->model, model, NAME_BYTES);
	set(&e->provider, provider, NAME_BYTES);
	set(&e->reason, reason, REASON_BYTES);
	e->ttft_ms = ttft_ms;
}

void route_log_ended(struct route_log *l, uint64_t n, const char *outcome,
		     const struct err *e, double total_ms, double cost_usd)
{
	struct entry *x = slot(l, n);

	if (!x)
		return;
	snprintf(x->outcome, sizeof x->outcome, "%s", outcome);
	if (e && e->code != ERR_NONE) {
		x->code = e->code;
		set(&x->error, e->text, ERROR_BYTES);
	}
	x->total_ms = total_ms;
	x->cost_usd = cost_usd;
}

/* ---- JSON */

static void add_code(struct buf *out, enum err_code code)
{
	buf_add_json_text(out, "code", code == ERR_NONE ? NULL : err_info(code)->name);
}

static void add_time(struct buf *out, int64_t unix_ms)
{
	time_t s = (time_t)(unix_ms / 1000);
	struct tm tm;
	char text[32];

	gmtime_r(&s, &tm);
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
	buf_addf(out, ",\"at\":\"%s.%03dZ\"", text, (int)(unix_ms % 1000));
}

static void add_attempts(struct buf *out, const struct entry *e)
{
	buf_adds(out, ",\"attempts\":[");
	for (int i = 0; i < e->nattempts && i < ROUTE_LOG_ATTEMPTS; i++) {
		const struct attempt *a = &e->attempts[i];

		buf_adds(out, i ? ",{" : "{");
		buf_add_json_text(out, "model", a->model);
		buf_add_json_text(out, "provider", a->provider);
		add_code(out, a->code);
		buf_add_json_text(out, "error", a->error);
		buf_add_json_number(out, "ms", a->ms >= 0, a->ms, 3);
		buf_addc(out, '}');
	}
	buf_addc(out, ']');
}

static void add_entry(struct buf *out, const struct entry *e)
{
	buf_addc(out, '{');
	buf_add_json_text(out, "id", e->id);
	add_time(out, e->at_unix_ms);
	buf_addf(out, ",\"at_ms\":%lld", (long long)e->at_unix_ms);
	buf_add_json_text(out, "asked", e->asked);
	buf_add_json_text(out, "route", e->route);
	buf_add_json_text(out, "model", e->model);
	buf_add_json_text(out, "provider", e->provider);
	buf_add_json_text(out, "reason", e->reason);
	add_attempts(out, e);
	buf_add_json_text(out, "outcome", e->outcome);
	add_code(out, e->code);
	buf_add_json_text(out, "error", e->error);
	buf_add_json_number(out, "ttft_ms", e->ttft_ms >= 0, e->ttft_ms, 3);
	buf_add_json_number(out, "total_ms", e->total_ms >= 0, e->total_ms, 3);
	buf_add_json_number(out, "cost_usd", e->cost_usd >= 0, e->cost_usd, 9);
	buf_addc(out, '}');
}

/* Asked for, answered by, or tried. */
static bool concerns(const struct entry *e, const char *model)
{
	if (!model || !strcmp(e->asked, model) || (e->model && !strcmp(e->model, model)))
		return true;
	for (int i = 0; i < e->nattempts && i < ROUTE_LOG_ATTEMPTS; i++)
		if (e->attempts[i].model && !strcmp(e->attempts[i].model, model))
			return true;
	return false;
}

void route_log_json(const struct route_log *l, const char *model, int limit,
		    struct buf *out)
{
	int told = 0;

	buf_adds(out, "{\"decisions\":[");
	for (uint64_t i = 0; i < ROUTE_LOG_MAX && i < l->n && told < limit; i++) {
		const struct entry *e = &l->entries[(l->n - i) % ROUTE_LOG_MAX];

		if (!concerns(e, model))
			continue;
		if (told++)
			buf_addc(out, ',');
		add_entry(out, e);
	}
	buf_adds(out, "]}");
}
