/* Circuit breakers and times to first token, a row for each (provider, model).
 *
 * Loop thread; pure: time comes in.  Rows are found by a hash and then by their names, in one array:
 * 512 compares of a number are cheaper than a table that has to be kept.  The question a reader will
 * ask: why OPEN becomes HALF_OPEN without a timer.  Nobody needs to know before somebody asks, so the
 * state that people see is computed from the time (state_at()) and written down at the next admission.
 * Outcomes carry no ticket: in HALF_OPEN any outcome counts as the probe's, also one of a call that was
 * admitted before the breaker opened.  It is as recent, and says as much. */
#include "route/health.h"

#include <math.h>
#include "base/sm.h"

/* A window is a ring of buckets: it forgets in steps of 6 s, and costs 40 bytes instead of a list. */
enum { BUCKETS = 10, BUCKET_MS = HEALTH_WINDOW_MS / BUCKETS };

struct bucket {
	uint64_t n; /* its number since time 0: says whether it is of this window */
	unsigned calls, failures;
};

struct row {
	char *provider, *model; /* owned */
	uint64_t hash, used_ms;

	/* breaker */
	unsigned state;
	bool probing; /* in HALF_OPEN: somebody is the probe */
	int in_a_row, in_flight;
	uint64_t until_ms, open_ms; /* until_ms: of OPEN; open_ms: the last length */
	struct bucket window[BUCKETS];
	char error[HEALTH_ERROR_BYTES];

	/* time to first token */
	bool has_ttft;
	double ewma_ms;
	uint64_t sampled_ms;

	/* local models */
	double prefill_ms_per_token; /* 0 = not known */
};

struct health {
	struct row rows[HEALTH_MAX];
	int n;
};

static const struct sm_state breaker_states[] = {
	[BREAKER_CLOSED] = {"closed", SM_TO(BREAKER_OPEN)},
	[BREAKER_OPEN] = {"open", SM_TO(BREAKER_HALF_OPEN)},
	[BREAKER_HALF_OPEN] = {"half-open", SM_TO(BREAKER_CLOSED) | SM_TO(BREAKER_OPEN)},
};

const char *breaker_state_name(enum breaker_state s)
{
	return (unsigned)s < ARRAY_LEN(breaker_states) ? breaker_states[s].name
						       : "unknown";
}

/* What a failure says of the server. */
enum verdict {
	SERVER_ANSWERED, /* the request was at fault: the server is alive */
	SERVER_ILL,
	OURS /* nothing was learnt */
};

static enum verdict verdict_of(enum err_code code)
{
	switch (code) {
	case ERR_TRANSPORT:
	case ERR_TIMEOUT:
	case ERR_UNAVAILABLE:
	case ERR_UPSTREAM:
	case ERR_BUSY: /* a quota of ours there is used up: as good as ill for us */
	case ERR_KEY:  /* each further call would be refused as well */
	case ERR_PAYMENT:
		return SERVER_ILL;
	case ERR_POLICY:
	case ERR_CONTEXT:
	case ERR_MODEL:
	case ERR_INVALID:
	case ERR_TOO_LARGE:
	case ERR_UNSUPPORTED:
		return SERVER_ANSWERED;
	default:
		return OURS;
	}
}

struct health *health_new(void)
{
	return xcalloc(1, sizeof(struct health));
}

static void row_fini(struct row *r)
{
	free(r->provider);
	free(r->model);
}

void health_free(struct health *h)
{
	if (!h)
		return;
	for (int i = 0; i < h->n; i++)
		row_fini(&h->rows[i]);
	free(h);
}

/* ---- rows */

static uint64_t fnv(uint64_t hash, const char *s)
{
	for (; *s; s++)
		hash = (hash ^ (unsigned char)*s) * UINT64_C(1099511628211);
	return hash * UINT64_C(1099511628211); /* ends the word */
}

static uint64_t hash_of(const char *provider, const char *model)
{
	return fnv(fnv(UINT64_C(14695981039346656037), provider), model);
}

static int find(const struct health *h, const char *provider, const char *model)
{
	uint64_t hash = hash_of(provider, model);

	for (int i = 0; i < h->n; i++)
		if (h->rows[i].hash == hash && !strcmp(h->rows[i].model, model) &&
		    !strcmp(h->rows[i].provider, provider))
			return i;
	return -1;
}

/* Idle ones first, then the one used longest ago. */
static int victim(const struct health *h)
{
	int best = 0;

	for (int i = 1; i < h->n; i++) {
		const struct row *r = &h->rows[i], *b = &h->rows[best];
		bool busy = r->in_flight > 0, best_busy = b->in_flight > 0;

		if (busy != best_busy ? best_busy : r->used_ms < b->used_ms)
			best = i;
	}
	return best;
}

static struct row *get(struct health *h, const char *provider, const char *model,
		       uint64_t now)
{
	int i = find(h, provider, model);

	if (i < 0) {
		i = h->n < HEALTH_MAX ? h->n++ : victim(h);
		row_fini(&h->rows[i]);
		h->rows[i] = (struct row){.provider = xstrdup(provider),
					  .model = xstrdup(model),
					  .hash = hash_of(provider, model)};
	}
	if (now > h->rows[i].used_ms)
		h->rows[i].used_ms = now;
	return &h->rows[i];
}

static bool has_breaker(const char *provider)
{
	return strcmp(provider, "local") != 0; /* a name no remote one may have */
}

/* ---- the breaker */

static void move(struct row *r, enum breaker_state next)
{
	char what[128];

	snprintf(what, sizeof what, "breaker %.50s/%.60s", r->provider, r->model);
	sm_move(breaker_states, what, &r->state, next);
	r->probing = false;
}

static enum breaker_state state_at(const struct row *r, uint64_t now)
{
	return r->state == BREAKER_OPEN && now >= r->until_ms
		       ? BREAKER_HALF_OPEN
		       : (enum breaker_state)r->state;
}

static void settle_state(struct row *r, uint64_t now)
{
	if (r->state != (unsigned)state_at(r, now))
		move(r, BREAKER_HALF_OPEN);
}

static uint64_t retry_in(const struct row *r, uint64_t now)
{
	switch (state_at(r, now)) {
	case BREAKER_OPEN:
		return r->until_ms - now;
	case BREAKER_HALF_OPEN:
		return r->probing ? HEALTH_PROBE_WAIT_MS : 0;
	default:
		return 0;
	}
}

bool health_admit(struct health *h, const char *provider, const char *model, uint64_t now,
		  uint64_t *retry_in_ms)
{
	struct row *r = get(h, provider, model, now);

	settle_state(r, now);
	*retry_in_ms = retry_in(r, now);
	if (*retry_in_ms)
		return false;
	r->probing = r->state == BREAKER_HALF_OPEN;
	r->in_flight++;
	return true;
}

enum breaker_state health_state(const struct health *h, const char *provider,
				const char *model, uint64_t now, uint64_t *retry_in_ms)
{
	int i = find(h, provider, model);

	*retry_in_ms = i < 0 ? 0 : retry_in(&h->rows[i], now);
	return i < 0 ? BREAKER_CLOSED : state_at(&h->rows[i], now);
}

const char *health_error(const struct health *h, const char *provider, const char *model)
{
	int i = find(h, provider, model);

	return i < 0 ? "" : h->rows[i].error;
}

static void count(struct row *r, uint64_t now, bool failed)
{
	uint64_t n = now / BUCKET_MS;
	struct bucket *b = &r->window[n % BUCKETS];

	if (b->n != n)
		*b = (struct bucket){.n = n};
	b->calls++;
	b->failures += failed;
	r->in_a_row = failed ? r->in_a_row + 1 : 0;
}

static bool window_is_bad(const struct row *r, uint64_t now)
{
	uint64_t n = now / BUCKET_MS;
	unsigned calls = 0, failures = 0;

	for (int i = 0; i < BUCKETS; i++) {
		const struct bucket *b = &r->window[i];

		if (b->n > n || n - b->n >= BUCKETS)
			continue;
		calls += b->calls;
		failures += b->failures;
	}
	return calls >= HEALTH_WINDOW_MIN && failures * 2 > calls;
}

/* The first time is short; each probe that fails doubles it.  What the server says goes before that,
 * up to HEALTH_RETRY_AFTER_MAX_MS: a wrong header must not switch a model off for a day. */
static void trip(struct row *r, uint64_t now, uint64_t retry_after_ms)
{
	uint64_t wait =
		r->state == BREAKER_HALF_OPEN ? r->open_ms * 2 : HEALTH_OPEN_MIN_MS;

	if (wait < HEALTH_OPEN_MIN_MS)
		wait = HEALTH_OPEN_MIN_MS;
	if (wait > HEALTH_OPEN_MAX_MS)
		wait = HEALTH_OPEN_MAX_MS;
	r->open_ms = wait;
	if (retry_after_ms > HEALTH_RETRY_AFTER_MAX_MS)
		retry_after_ms = HEALTH_RETRY_AFTER_MAX_MS;
	r->until_ms = now + (retry_after_ms ? retry_after_ms : wait);
	move(r, BREAKER_OPEN);
}

static void answered(struct row *r, uint64_t now)
{
	settle_state(r, now);
	count(r, now, false);
	if (r->state != BREAKER_HALF_OPEN)
		return; /* in OPEN: the answer to an older call proves nothing of now */
	move(r, BREAKER_CLOSED);
	memset(r->window, 0, sizeof r->window); /* what was before the repair */
	r->error[0] = '\0';
}

static struct row *end_call(struct health *h, const char *provider, const char *model,
			    uint64_t now)
{
	struct row *r = get(h, provider, model, now);

	if (r->in_flight > 0)
		r->in_flight--;
	return r;
}

/* ---- time to first token */

static void sample(struct row *r, uint64_t now, double ms)
{
	double age = now > r->sampled_ms ? (double)(now - r->sampled_ms) : 0;
	double keep = exp(-age / HEALTH_TAU_MS);

	if (!r->has_ttft || ms > r->ewma_ms)
		r->ewma_ms = ms;
	else
		r->ewma_ms = r->ewma_ms * keep + ms * (1 - keep);
	r->has_ttft = true;
	r->sampled_ms = now;
}

/* As of now: what nobody has measured for long goes back to what an unknown model counts as, or one
 * slow answer would keep a model from ever being asked again. */
static double ttft_at(const struct row *r, uint64_t now)
{
	double age = now > r->sampled_ms ? (double)(now - r->sampled_ms) : 0;

	if (!r->has_ttft)
		return HEALTH_SEED_MS;
	return HEALTH_SEED_MS +
	       (r->ewma_ms - HEALTH_SEED_MS) * exp(-age / HEALTH_FORGET_MS);
}

double health_ttft_ms(const struct health *h, const char *provider, const char *model,
		      uint64_t now)
{
	int i = find(h, provider, model);

	if (i < 0)
		return HEALTH_SEED_MS;
	return ttft_at(&h->rows[i], now) * (h->rows[i].in_flight + 1);
}

/* ---- outcomes */

void health_success(struct health *h, const char *provider, const char *model,
		    uint64_t now, double ttft_ms)
{
	struct row *r = end_call(h, provider, model, now);

	if (ttft_ms >= 0 && isfinite(ttft_ms))
		sample(r, now, ttft_ms);
	answered(r, now);
}

static void failed(struct row *r, uint64_t now, const struct err *e)
{
	settle_state(r, now);
	count(r, now, true);
	snprintf(r->error, sizeof r->error, "%.*s", (int)sizeof r->error - 1, e->text);
	if (r->state == BREAKER_HALF_OPEN)
		trip(r, now, e->retry_after_ms);
	else if (r->state == BREAKER_CLOSED &&
		 (r->in_a_row >= HEALTH_IN_A_ROW || window_is_bad(r, now) ||
		  (e->code == ERR_BUSY && e->retry_after_ms)))
		trip(r, now, e->retry_after_ms);
}

void health_failure(struct health *h, const char *provider, const char *model,
		    uint64_t now, const struct err *e)
{
	enum verdict v = has_breaker(provider) ? verdict_of(e->code) : OURS;
	struct row *r;

	if (v == OURS) {
		health_abandon(h, provider, model, now);
		return;
	}
	r = end_call(h, provider, model, now);
	if (v == SERVER_ANSWERED)
		answered(r, now);
	else
		failed(r, now, e);
}

void health_abandon(struct health *h, const char *provider, const char *model,
		    uint64_t now)
{
	struct row *r = end_call(h, provider, model, now);

	r->probing = false; /* another may try */
}

/* ---- local models */

/* A quarter of each new sample: prompts differ in length, and the cache in how full it is. */
static void mix(double *mean, double x)
{
	*mean = *mean > 0 ? *mean * 0.75 + x * 0.25 : x;
}

void health_local_speed(struct health *h, const char *model, int prompt_tokens,
			double prefill_ms)
{
	struct row *r = get(h, "local", model, 0);

	if (prompt_tokens >= HEALTH_SPEED_MIN_TOKENS && prefill_ms > 0)
		mix(&r->prefill_ms_per_token, prefill_ms / prompt_tokens);
}

double health_prefill_ms_per_token(const struct health *h, const char *model)
{
	int i = find(h, "local", model);

	return i < 0 ? 0 : h->rows[i].prefill_ms_per_token;
}

/* ---- views */

int health_count(const struct health *h)
{
	return h->n;
}

void health_row(const struct health *h, int i, uint64_t now, struct health_row *out)
{
	const struct row *r = &h->rows[i];

	ASSERT(i >= 0 && i < h->n);
	*out = (struct health_row){.provider = r->provider,
				   .model = r->model,
				   .error = r->error,
				   .state = state_at(r, now),
				   .in_a_row = r->in_a_row,
				   .in_flight = r->in_flight,
				   .retry_in_ms = retry_in(r, now),
				   .ttft_ms = r->has_ttft ? ttft_at(r, now) : -1};
}
