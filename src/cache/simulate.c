/* The replay of a trace.  No thread of its own: `hob cache simulate` is its own program.
 *
 * The question a reader will ask: why this is not the cache itself with a fake clock and
 * fake loaders.  The cache decides for people who are waiting now; here all arrivals are
 * known, and a million of them should take a second.  Only what decides who leaves is
 * shared, the policy, because that is what is compared. */
#include "cache/simulate.h"

#include <errno.h>
#include "base/buf.h"
#include "base/json.h"
#include "cache/cache.h"

struct sim_model {
	uint64_t epoch, instance, file;
	uint64_t weights_bytes, kv_bytes, parked_bytes;
	double load_ms, promote_ms; /* 0: not known */
	bool pinned, completion;
};

struct sim_request {
	double at_ms, held_ms;
	int model; /* index; -1: the daemon starts */
	int order; /* in the file */
};

struct sim_trace {
	struct sim_model *models;     /* owned */
	struct sim_request *requests; /* owned, by time */
	int nmodels, nrequests, nreal;
};

/* ---- reading */

static int model_of(struct sim_trace *t, const struct sim_model *m, struct err *e)
{
	for (int i = t->nmodels - 1; i >= 0 && t->models[i].epoch == m->epoch; i--)
		if (t->models[i].instance == m->instance)
			return i;
	if (t->nmodels == SIM_MAX_MODELS)
		return err_set(e, ERR_TOO_LARGE, "more than %d models", SIM_MAX_MODELS);
	if ((t->nmodels & (t->nmodels - 1)) == 0)
		t->models =
			xrealloc(t->models, (size_t)(t->nmodels ? 2 * t->nmodels : 1) *
						    sizeof *t->models);
	t->models[t->nmodels] = *m;
	return t->nmodels++;
}

/* The latest sizes and times count for the whole replay: they are the measured ones. */
static void learn(struct sim_model *known, const struct sim_model *m)
{
	known->weights_bytes = m->weights_bytes;
	known->kv_bytes = m->kv_bytes;
	known->parked_bytes = m->parked_bytes;
	if (m->load_ms > 0)
		known->load_ms = m->load_ms;
	if (m->promote_ms > 0)
		known->promote_ms = m->promote_ms;
	known->pinned = m->pinned;
	known->completion = m->completion;
}

static int need(const cJSON *o, const char *key, uint64_t *out, struct err *e)
{
	double v;
	int rc = json_double(o, key, 0, 1e18, &v, e);

	if (rc == 0)
		return err_set(e, ERR_INVALID, "%s is missing", key);
	if (rc > 0)
		*out = (uint64_t)v;
	return rc < 0 ? -1 : 0;
}

static int add_request(struct sim_trace *t, const struct sim_request *r, struct err *e)
{
	if (t->nrequests == SIM_MAX_REQUESTS)
		return err_set(e, ERR_TOO_LARGE, "more than %d requests",
			       SIM_MAX_REQUESTS);
	if ((t->nrequests & (t->nrequests - 1)) == 0)
		t->requests = xrealloc(t->requests,
				       (size_t)(t->nrequests ? 2 * t->nrequests : 1) *
					       sizeof *t->requests);
	t->requests[t->nrequests] = *r;
	t->requests[t->nrequests].order = t->nrequests;
	t->nrequests++;
	t->nreal += r->model >= 0;
	return 0;
}

static int read_request(struct sim_trace *t, const cJSON *o, uint64_t epoch, double at_ms,
			struct err *e)
{
	struct sim_model m = {.epoch = epoch};
	struct sim_request r = {.at_ms = at_ms};

	if (need(o, "instance", &m.instance, e) < 0 || need(o, "file", &m.file, e) < 0 ||
	    need(o, "weights_bytes", &m.weights_bytes, e) < 0 ||
	    need(o, "kv_bytes", &m.kv_bytes, e) < 0)
		return -1;
	m.parked_bytes = m.weights_bytes;
	if (cJSON_HasObjectItem(o, "parked_bytes") &&
	    need(o, "parked_bytes", &m.parked_bytes, e) < 0)
		return -1;
	if (json_double(o, "load_ms", 0, 1e9, &m.load_ms, e) < 0 ||
	    json_double(o, "promote_ms", 0, 1e9, &m.promote_ms, e) < 0 ||
	    json_double(o, "held_ms", 0, 1e12, &r.held_ms, e) < 0 ||
	    json_bool(o, "pinned", &m.pinned, e) < 0 ||
	    json_bool(o, "completion", &m.completion, e) < 0)
		return -1;
	r.model = model_of(t, &m, e);
	if (r.model < 0)
		return -1;
	learn(&t->models[r.model], &m);
	return add_request(t, &r, e);
}

static int read_object(struct sim_trace *t, const cJSON *o, uint64_t *epoch,
		       struct err *e)
{
	struct sim_request start = {.model = -1};
	const char *event = "";
	double at_ms = 0;
	int rc = -1, got;

	got = json_string(o, "event", &event, e);
	if (got > 0 && strcmp(event, "request") && strcmp(event, "start")) {
		rc = 0;
	} else if (got == 0) {
		err_set(e, ERR_INVALID, "event is missing");
	} else if (got > 0) {
		got = json_double(o, "t", 0, 1e15, &at_ms, e);
		if (got == 0)
			err_set(e, ERR_INVALID, "t is missing");
		start.at_ms = at_ms;
		if (got > 0 && !strcmp(event, "start")) {
			++*epoch;
			rc = add_request(t, &start, e);
		} else if (got > 0) {
			rc = read_request(t, o, *epoch, at_ms, e);
		}
	}
	return rc;
}

/* A daemon that was killed left half a line: it is the last, or a start follows. */
struct torn {
	bool here;
	struct err why;
	uint64_t line;
};

static int read_line(struct sim_trace *t, struct str s, uint64_t line, uint64_t *epoch,
		     struct torn *torn, struct err *e)
{
	cJSON *o = json_parse(s, e);
	uint64_t before = *epoch;
	int rc = 0;

	if (!o && !torn->here)
		*torn = (struct torn){true, *e, line};
	else if (!o)
		rc = -1;
	else
		rc = read_object(t, o, epoch, e);
	cJSON_Delete(o);
	if (torn->here && line > torn->line) {
		if (rc < 0 || *epoch == before)
			return -1;
		torn->here = false;
	}
	return rc;
}

static struct str chomp(const char *text, size_t len, bool *whole)
{
	*whole = len && text[len - 1] == '\n';
	while (len && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		len--;
	return str_trim((struct str){text, len});
}

static int by_time(const void *pa, const void *pb)
{
	const struct sim_request *a = pa, *b = pb;

	if (a->at_ms != b->at_ms)
		return a->at_ms < b->at_ms ? -1 : 1;
	return a->order < b->order ? -1 : 1;
}

struct sim_trace *sim_read(const char *path, struct err *e)
{
	struct sim_trace *t = xcalloc(1, sizeof *t);
	FILE *f = fopen(path, "re");
	uint64_t epoch = 0, line = 0;
	struct torn torn = {0};
	bool whole = true;
	char *text = NULL;
	size_t cap = 0;
	ssize_t len;
	int rc = 0;

	if (!f) {
		err_sys(e, errno, "open the trace '%s'", path);
		sim_free(t);
		return NULL;
	}
	while (rc == 0 && (len = getline(&text, &cap, f)) >= 0) {
		struct str s = chomp(text, (size_t)len, &whole);

		line++;
		if (s.len)
			rc = read_line(t, s, line, &epoch, &torn, e);
	}
	if (torn.here && (rc < 0 || whole)) {
		*e = torn.why;
		line = torn.line;
		rc = -1;
	}
	if (rc == 0 && ferror(f))
		rc = err_sys(e, errno, "read");
	if (rc < 0)
		err_wrap(e, "trace '%s', line %llu", path, (unsigned long long)line);
	free(text);
	fclose(f);
	if (rc < 0) {
		sim_free(t);
		return NULL;
	}
	if (t->nrequests)
		qsort(t->requests, (size_t)t->nrequests, sizeof *t->requests, by_time);
	return t;
}

void sim_free(struct sim_trace *t)
{
	if (!t)
		return;
	free(t->models);
	free(t->requests);
	free(t);
}

int sim_requests(const struct sim_trace *t)
{
	return t->nreal;
}

int sim_models(const struct sim_trace *t)
{
	return t->nmodels;
}

/* ---- the machine */

struct sim_seat { /* of one that is resident or parked */
	int model;
	bool resident, parked;
	double ready_ms, busy_ms, last_ms, stay_ms; /* points in time */
	double uses, score;
};

struct sim {
	const struct sim_trace *t;
	const struct sim_settings *s;
	struct sim_result *r;
	struct sim_seat seats[POLICY_MAX_ENTRIES];
	int n;
	double inflation;
};

static double load_ms(const struct sim_model *m)
{
	return m->load_ms > 0 ? m->load_ms : (double)m->weights_bytes / SIM_BYTES_PER_MS;
}

static double promote_ms(const struct sim_model *m)
{
	return m->promote_ms > 0 ? m->promote_ms : load_ms(m);
}

static const struct sim_model *model_at(const struct sim *x, int seat)
{
	return &x->t->models[x->seats[seat].model];
}

static int group_at(const struct sim *x, int seat)
{
	for (int i = 0; i < seat; i++)
		if (model_at(x, i)->file == model_at(x, seat)->file)
			return i;
	return seat;
}

static void drop_seat(struct sim *x, int i)
{
	x->seats[i] = x->seats[--x->n];
}

static uint64_t as_ms(double v)
{
	return v > 0 ? (uint64_t)v : 0;
}

static void list_seats(const struct sim *x, int self, double now, bool parked,
		       struct policy_entry *list)
{
	for (int i = 0; i < x->n; i++) {
		const struct sim_seat *s = &x->seats[i];
		const struct sim_model *m = model_at(x, i);
		bool in = (parked ? s->parked : s->resident) && i != self;

		list[i] = (struct policy_entry){
			.own_bytes = in && !parked ? m->kv_bytes : 0,
			.shared_bytes = !in      ? 0
					: parked ? m->parked_bytes
						 : m->weights_bytes,
			.group = group_at(x, i),
			.leases = !parked && (s->busy_ms > now || s->ready_ms > now),
			.pinned = m->pinned && in,
			.movable = in,
			.fresh = !parked && s->stay_ms > now,
			.completion = m->completion,
			.last_used_ms = as_ms(s->last_ms),
			.score = s->score};
	}
}

/* Parks it if it can; the oldest parked ones make room for it. */
static void park(struct sim *x, int seat)
{
	struct policy_entry list[POLICY_MAX_ENTRIES];
	struct policy_ask ask = {.budget_bytes = x->s->parked_budget_bytes,
				 .free_bytes = UINT64_MAX,
				 .shared_bytes = model_at(x, seat)->parked_bytes,
				 .group = group_at(x, seat),
				 .completion = true};
	struct policy_plan p;

	if (ask.budget_bytes == 0)
		return;
	list_seats(x, seat, 0, true, list);
	policy_plan(list, x->n, &ask, &p);
	if (!p.fits)
		return;
	for (int i = 0; i < p.nvictims; i++)
		x->seats[p.victims[i]].parked = false;
	x->seats[seat].parked = true;
	x->r->parks++;
}

static void evict(struct sim *x, int seat)
{
	struct sim_seat *s = &x->seats[seat];

	s->resident = false;
	if (s->score > x->inflation)
		x->inflation = s->score;
	park(x, seat);
}

static void sweep(struct sim *x)
{
	for (int i = x->n - 1; i >= 0; i--)
		if (!x->seats[i].resident && !x->seats[i].parked)
			drop_seat(x, i);
}

static void expire(struct sim *x, double now)
{
	for (int i = 0; i < x->n; i++) {
		struct sim_seat *s = &x->seats[i];

		if (x->s->keep_alive_ms < 0 || !s->resident || model_at(x, i)->pinned ||
		    s->ready_ms > now || s->busy_ms > now ||
		    s->last_ms + (double)x->s->keep_alive_ms > now)
			continue;
		evict(x, i);
		x->r->expired++;
	}
	sweep(x);
}

static int seat_of(const struct sim *x, int model)
{
	for (int i = 0; i < x->n; i++)
		if (x->seats[i].model == model)
			return i;
	return -1;
}

/* The next time that somebody becomes idle or loses its protection. */
static double next_change(const struct sim *x, double now)
{
	double best = -1;

	for (int i = 0; i < x->n; i++) {
		const double at[] = {x->seats[i].busy_ms, x->seats[i].ready_ms,
				     x->seats[i].stay_ms};

		for (size_t k = 0; k < ARRAY_LEN(at); k++)
			if (x->seats[i].resident && at[k] > now &&
			    (best < 0 || at[k] < best))
				best = at[k];
	}
	return best;
}

/* When there is room, with the victims gone; < 0: never. */
static double make_room(struct sim *x, int seat, double now)
{
	const struct sim_model *m = model_at(x, seat);
	struct policy_entry list[POLICY_MAX_ENTRIES];
	struct policy_ask ask = {.kind = x->s->policy,
				 .budget_bytes = x->s->budget_bytes,
				 .free_bytes = UINT64_MAX,
				 .reserve_bytes = x->s->reserve_completion_bytes,
				 .own_bytes = m->kv_bytes,
				 .shared_bytes = m->weights_bytes,
				 .group = group_at(x, seat),
				 .completion = m->completion};
	struct policy_plan p;

	for (;;) {
		list_seats(x, seat, now, false, list);
		policy_plan(list, x->n, &ask, &p);
		if (p.fits || !p.fits_when_idle)
			break;
		now = next_change(x, now);
		if (now < 0)
			return -1;
	}
	if (!p.fits)
		return -1;
	for (int i = 0; i < p.nvictims; i++) {
		evict(x, p.victims[i]);
		x->r->evictions++;
	}
	return now;
}

static void bring_up(struct sim *x, int seat, double now)
{
	struct sim_seat *s = &x->seats[seat];
	const struct sim_model *m = model_at(x, seat);
	double ms = s->parked ? promote_ms(m) : load_ms(m);
	double stay = ms < CACHE_STAY_FLOOR_MS ? 0 : 2 * ms;

	*(s->parked ? &x->r->promotions : &x->r->loads) += 1;
	*(s->parked ? &x->r->bytes_promoted : &x->r->bytes_loaded) += m->weights_bytes;
	s->resident = true;
	s->parked = false;
	s->ready_ms = now + ms;
	if (stay > (double)x->s->min_stay_ms)
		stay = (double)x->s->min_stay_ms;
	s->stay_ms = s->ready_ms + stay;
}

static void use(struct sim *x, int seat, const struct sim_request *q)
{
	struct sim_seat *s = &x->seats[seat];
	const struct sim_model *m = model_at(x, seat);
	double from = s->ready_ms > q->at_ms ? s->ready_ms : q->at_ms;
	double waited = from - q->at_ms;
	double cost = x->s->parked_budget_bytes ? promote_ms(m) : load_ms(m);

	x->r->waited_ms += waited;
	if (waited > x->r->waited_max_ms)
		x->r->waited_max_ms = waited;
	if (from + q->held_ms > s->busy_ms)
		s->busy_ms = from + q->held_ms;
	s->last_ms = s->busy_ms;
	s->uses++;
	s->score =
		policy_score(x->inflation, s->uses, cost, m->weights_bytes + m->kv_bytes);
}

static void request(struct sim *x, const struct sim_request *q)
{
	int seat = seat_of(x, q->model);
	double now = q->at_ms;

	x->r->requests++;
	if (seat < 0 && x->n == POLICY_MAX_ENTRIES) {
		x->r->refused++;
		return;
	}
	if (seat < 0) {
		seat = x->n++;
		x->seats[seat] = (struct sim_seat){.model = q->model};
	}
	if (!x->seats[seat].resident) {
		now = make_room(x, seat, now);
		if (now < 0)
			x->r->refused++;
		else
			bring_up(x, seat, now);
	} else if (x->seats[seat].ready_ms <= now) {
		x->r->hits++;
	}
	if (now >= 0)
		use(x, seat, q);
	sweep(x);
}

void sim_run(const struct sim_trace *t, const struct sim_settings *s,
	     struct sim_result *out)
{
	struct sim *x = xcalloc(1, sizeof *x);

	memset(out, 0, sizeof *out);
	x->t = t;
	x->s = s;
	x->r = out;
	for (int i = 0; i < t->nrequests; i++) {
		const struct sim_request *q = &t->requests[i];

		if (q->model < 0) {
			x->n = 0;
			continue;
		}
		expire(x, q->at_ms);
		request(x, q);
	}
	if (out->requests)
		out->hit_ratio = (double)out->hits / (double)out->requests;
	free(x);
}

uint64_t sim_working_set(const struct sim_trace *t)
{
	uint64_t most = 0, sum = 0, epoch = 0;

	for (int i = 0; i < t->nmodels; i++) {
		const struct sim_model *m = &t->models[i];
		bool first = true;

		if (m->epoch != epoch)
			sum = 0;
		epoch = m->epoch;
		for (int k = i - 1; k >= 0 && t->models[k].epoch == epoch; k--)
			first &= t->models[k].file != m->file;
		sum += m->kv_bytes + (first ? m->weights_bytes : 0);
		if (sum > most)
			most = sum;
	}
	return most;
}
