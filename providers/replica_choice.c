/* The choice of a replica, and what it is made from.  Pure, any thread.
 *
 * The question a reader will ask: why two counters of calls that /metrics has not seen.  A poll takes
 * a while; a call that begins after it was asked for is not in its answer, one from before is.
 * Counting by the poll's number keeps both right when polls fail, and can never go below zero. */
#include "providers/replica_choice.h"

enum { MAX_COUNT = 1000000 };

/* ---- Prometheus text */

static const struct {
	const char *name;
	int running, waiting; /* what one of it counts as */
	bool kv;
} names[] = {
	{"vllm:num_requests_running", 1, 0, false},
	{"vllm:num_requests_waiting", 0, 1, false},
	{"vllm:kv_cache_usage_perc", 0, 0, true},
	{"vllm:gpu_cache_usage_perc", 0, 0, true}, /* before vLLM 0.10 */
	{"llamacpp:requests_processing", 1, 0, false},
	{"llamacpp:requests_deferred", 0, 1, false},
	{"sglang:num_running_reqs", 1, 0, false},
	{"sglang:num_queue_reqs", 0, 1, false},
	{"sglang:token_usage", 0, 0, true},
	{"tgi_batch_current_size", 1, 0, false},
	{"tgi_queue_size", 0, 1, false},
	{"hob_running", 1, 0, false}, /* counts those that wait, too */
	{"hob_waiting", -1, 1, false},
};

/* "name{label=\"value\",...} 12.5 [timestamp]"; false: a comment or something else. */
static bool sample(struct str line, struct str *name, double *value)
{
	size_t n = 0, at;
	char text[64], *end;
	struct str rest;

	while (n < line.len && line.ptr[n] != '{' && line.ptr[n] != ' ' &&
	       line.ptr[n] != '\t')
		n++;
	*name = (struct str){line.ptr, n};
	at = n;
	if (at < line.len && line.ptr[at] == '{') { /* a label's value may hold a brace */
		bool quoted = false;

		for (at++; at < line.len && (quoted || line.ptr[at] != '}'); at++) {
			if (quoted && line.ptr[at] == '\\')
				at++;
			else if (line.ptr[at] == '"')
				quoted = !quoted;
		}
		at++;
	}
	if (at >= line.len || n == 0 || line.ptr[0] == '#')
		return false;
	rest = str_trim((struct str){line.ptr + at, line.len - at});
	if (rest.len == 0)
		return false;
	n = rest.len < sizeof text - 1 ? rest.len : sizeof text - 1;
	memcpy(text, rest.ptr, n);
	text[n] = 0;
	*value = strtod(text, &end);
	return end != text && *value >= 0 && *value <= MAX_COUNT; /* no NaN either */
}

static void add_sample(struct replica_metrics *m, size_t i, double value)
{
	m->running += names[i].running * (int)value;
	m->waiting += names[i].waiting * (int)value;
	if (names[i].kv && value > m->kv_usage)
		m->kv_usage = value;
}

static int count_within(int v)
{
	return v < 0 ? 0 : v > MAX_COUNT ? MAX_COUNT : v;
}

bool replica_metrics_parse(struct str text, struct replica_metrics *out)
{
	struct replica_metrics m = {0, 0, -1};
	bool known = false;
	int lines = 0;

	while (text.len) {
		const char *nl = memchr(text.ptr, '\n', text.len);
		size_t n = nl ? (size_t)(nl - text.ptr) : text.len;
		struct str name;
		double value;

		if (sample((struct str){text.ptr, n}, &name, &value))
			for (size_t i = 0; i < ARRAY_LEN(names); i++)
				if (str_eq(name, names[i].name) && lines++ < 1000) {
					add_sample(&m, i, value);
					known = true;
				}
		n += nl != NULL;
		text.ptr += n;
		text.len -= n;
	}
	m.running = count_within(m.running);
	m.waiting = count_within(m.waiting);
	if (known)
		*out = m;
	return known;
}

/* ---- one replica */

struct replica_ticket replica_call_began(struct replica_state *r)
{
	r->own++;
	r->after++;
	return (struct replica_ticket){r->poll};
}

void replica_call_ended(struct replica_state *r, struct replica_ticket t)
{
	ASSERT(r->own > 0);
	r->own--;
	if (t.poll == r->poll)
		r->after--;
	else if (t.poll >= r->seen)
		r->before--;
	ASSERT(r->after >= 0 && r->before >= 0);
}

void replica_poll_began(struct replica_state *r)
{
	r->poll++;
	r->before += r->after;
	r->after = 0;
}

void replica_poll_answered(struct replica_state *r, const struct replica_metrics *m,
			   uint64_t asked_ms)
{
	r->seen = r->poll;
	r->before = 0;
	r->metrics_ms = m ? asked_ms : 0;
	if (m)
		r->metrics = *m;
	replica_worked(r);
}

void replica_failed(struct replica_state *r, uint64_t now_ms)
{
	int shift = r->failures < 4 ? r->failures : 4;
	uint64_t away = (uint64_t)REPLICA_AWAY_MS << shift;

	if (!replica_is_up(r, now_ms))
		return;
	r->failures++;
	r->away_until_ms =
		now_ms + (away < REPLICA_AWAY_MAX_MS ? away : REPLICA_AWAY_MAX_MS);
}

void replica_worked(struct replica_state *r)
{
	r->failures = 0;
	r->away_until_ms = 0;
}

bool replica_is_up(const struct replica_state *r, uint64_t now_ms)
{
	return now_ms >= r->away_until_ms;
}

int replica_load(const struct replica_state *r, uint64_t now_ms)
{
	const struct replica_metrics *m = &r->metrics;

	if (!r->metrics_ms || now_ms - r->metrics_ms > REPLICA_METRICS_MAX_AGE_MS)
		return r->own;
	return m->running + 2 * (m->waiting + (m->kv_usage > REPLICA_KV_FULL)) +
	       r->before + r->after;
}

/* ---- all of them */

static int first_back(const struct replica_state *list, int n)
{
	int best = 0;

	for (int i = 1; i < n; i++)
		if (list[i].away_until_ms < list[best].away_until_ms)
			best = i;
	return best;
}

int replica_choose(const struct replica_state *list, int n, int home, unsigned turn,
		   uint64_t now_ms)
{
	int best = -1, least = 0;

	ASSERT(n >= 1 && home < n);
	for (int k = 0; k < n; k++) {
		int i = (int)((turn + (unsigned)k) % (unsigned)n);
		int load = replica_load(&list[i], now_ms);

		if (replica_is_up(&list[i], now_ms) && (best < 0 || load < least)) {
			best = i;
			least = load;
		}
	}
	if (best < 0)
		return first_back(list, n);
	if (home >= 0 && replica_is_up(&list[home], now_ms) &&
	    replica_load(&list[home], now_ms) <= least + REPLICA_STAY)
		return home;
	return best;
}

/* ---- conversations */

int replica_sessions_find(const struct replica_sessions *s, uint64_t key)
{
	for (int i = 0; i < REPLICA_SESSIONS; i++)
		if (s->list[i].used && s->list[i].key == key)
			return s->list[i].replica;
	return -1;
}

void replica_sessions_put(struct replica_sessions *s, uint64_t key, int replica)
{
	struct replica_session *oldest = s->list;

	for (int i = 0; i < REPLICA_SESSIONS; i++) {
		struct replica_session *e = &s->list[i];

		if (e->used && e->key == key) {
			oldest = e;
			break;
		}
		if (e->used < oldest->used)
			oldest = e;
	}
	*oldest = (struct replica_session){key, ++s->clock, replica};
}
