/* A hundred thousand random events against a small account of its own of what is true:
 * what the loaders were told (cache_world.h checks that each order is lawful), whose lease
 * is on which id, who waits until when, and what fits.  A failure prints seed and event. */
#include "cache_world.h"

enum { NAMES = 8, FILES = 6, PEOPLE = 24, EVENTS = 100000 };

struct person {
	struct cache_waiter *waiter;
	struct cache_lease *lease;
	uint64_t deadline_ms;
	int times;
	bool used, cancelled, preload;
};

struct run {
	struct world w;
	struct person people[PEOPLE];
	unsigned seed, state;
	int event;
	bool c_pinned;          /* by command */
	unsigned char *backend; /* by id */
	int evictions_seen, larger, deaths;
	bool began; /* a load, in the latest turns */
	struct cache_listener ear;
};

#define CHECK(r, cond)                                                                   \
	do {                                                                             \
		if (!(cond))                                                             \
			fail_msg("seed %u, event %d: %s", (r)->seed, (r)->event, #cond); \
	} while (0)

static unsigned pick(struct run *r, unsigned n)
{
	r->state = r->state * 1664525u + 1013904223u;
	return (r->state >> 8) % n;
}

/* ---- what is true of the models: names a..f are files 0..5, g and h lead to 1 and 2 */

static int file_of(int name)
{
	return name < FILES ? name : name - FILES + 1;
}

static uint64_t weights_of(int file)
{
	return (6 + (uint64_t)file * 6) * MIB;
}

static uint64_t kv_of(int ctx)
{
	return (uint64_t)ctx / 8 * MIB;
}

static struct model random_model(struct run *r)
{
	static char *const names[NAMES] = {"a", "b", "c", "d", "e", "f", "g", "h"};
	static char paths[FILES][2][8];
	int i = (int)pick(r, NAMES), file = file_of(i), version = pick(r, 25) == 0;
	struct model m = model(names[i], 1);

	snprintf(paths[file][version], sizeof paths[file][version], "%d.%d", file,
		 version);
	m.path = paths[file][version];
	m.bytes = weights_of(file);
	m.mtime_ms = version;
	m.ino = 100 + (uint64_t)file;
	m.settings.ctx = pick(r, 4) ? 16 : 32;
	m.settings.pinned = m.name[0] == 'a';
	m.settings.role = m.name[0] == 'b' ? MODEL_COMPLETION : MODEL_ANY;
	return m;
}

/* ---- events */

static void on_lease(void *arg, struct cache_lease *lease, const struct err *e)
{
	struct person *p = arg;

	assert_true(!lease != !e);
	assert_false(p->cancelled);
	assert_int_equal(p->times++, 0);
	p->waiter = NULL;
	p->lease = lease;
}

static void on_loaded(void *arg, const struct err *e)
{
	struct person *p = arg;

	(void)e;
	assert_false(p->cancelled);
	assert_int_equal(p->times++, 0);
	p->waiter = NULL;
}

static void event_ask(struct run *r, struct person *p)
{
	struct model m = random_model(r);
	struct cache_want want = want_of(&r->w, &m, pick(r, 20000));

	if (p->used)
		return;
	*p = (struct person){.used = true, .deadline_ms = want.deadline_ms};
	want.class = (enum request_class)pick(r, 3);
	want.client = pick(r, 4);
	if (pick(r, 5) == 0)
		want.keep_alive_ms = (int64_t)pick(r, 3) * 2000 - 1000;
	if (pick(r, 10) == 0) {
		p->preload = true;
		p->waiter = cache_load(r->w.cache, &want, on_loaded, p);
	} else {
		p->waiter = cache_acquire(r->w.cache, &want, on_lease, p);
	}
	CHECK(r, p->times == 0);
}

static void event_drop(struct person *p)
{
	if (p->waiter) {
		p->cancelled = true;
		cache_cancel(p->waiter);
	}
	cache_release(p->lease);
	memset(p, 0, sizeof *p);
}

static struct cache_info random_info(struct run *r, const struct asked *a)
{
	struct cache_info info = {
		.ctx = a->ctx, .slots = 1 + (int)pick(r, 3), .load_ms = pick(r, 400)};
	int file = a->path[0] - '0';

	info.sizes =
		(struct cache_sizes){weights_of(file), kv_of(a->ctx), weights_of(file)};
	if (pick(r, 12) == 0) {
		info.sizes.kv_bytes += pick(r, 60) * MIB;
		r->larger++;
	}
	return info;
}

static void answer_up(struct run *r, const struct asked *a)
{
	struct world *w = &r->w;
	struct cache_info info = random_info(r, a);
	bool bad = pick(r, 25) == 0 || (a->path[0] == '5' && a->backend == CACHE_ENGINE);
	struct err e;

	if (pick(r, 4) == 0)
		cache_loader_progress(w->cache, a->id, pick(r, 100), 100);
	if (bad) {
		err_set(&e,
			a->path[0] == '5' ? ERR_UNSUPPORTED
			: pick(r, 40)     ? ERR_IO
					  : ERR_CORRUPT,
			"no luck");
		w->at[a->id] = AT_OVER;
		cache_loader_failed(w->cache, a->id, &e);
	} else if (a->op == OP_PROBE) {
		w->at[a->id] = AT_PROBED;
		cache_loader_probed(w->cache, a->id, &info.sizes);
	} else {
		w->at[a->id] = AT_LOADED;
		cache_loader_loaded(w->cache, a->id, &info);
	}
}

static void event_answer(struct run *r)
{
	struct world *w = &r->w;
	struct asked a;

	if (w->nasked == 0)
		return;
	a = take(w, (int)pick(r, (unsigned)w->nasked));
	switch (a.op) {
	case OP_PROBE:
	case OP_LOAD:
		answer_up(r, &a);
		break;
	case OP_PARK:
		w->at[a.id] = AT_PARKED;
		cache_loader_parked(w->cache, a.id, pick(r, 60) * MIB);
		break;
	case OP_UNLOAD:
		w->at[a.id] = AT_OVER;
		cache_loader_unloaded(w->cache, a.id);
		break;
	}
}

static void note_backends(struct run *r)
{
	for (int i = 0; i < r->w.nasked; i++)
		if (r->w.asked[i].op == OP_LOAD)
			r->backend[r->w.asked[i].id] =
				(unsigned char)r->w.asked[i].backend;
}

static void forget_id(struct world *w, uint64_t id)
{
	w->at[id] = AT_OVER;
	for (int i = w->nasked - 1; i >= 0; i--)
		if (w->asked[i].id == id)
			take(w, i);
}

static void event_death(struct run *r)
{
	enum cache_backend b = pick(r, 3) ? CACHE_ENGINE : CACHE_CHILD;
	uint64_t one = 0;

	r->deaths++;
	for (uint64_t id = 1; id < MAX_IDS; id++) {
		if (r->w.at[id] == AT_NEVER)
			break;
		if (r->w.at[id] == AT_OVER)
			continue;
		if (b == CACHE_CHILD && r->backend[id] == CACHE_CHILD)
			one = id;
		if (b == CACHE_ENGINE && r->backend[id] == CACHE_ENGINE)
			forget_id(&r->w, id);
	}
	if (b == CACHE_ENGINE) {
		cache_loader_died(r->w.cache, b, "chance");
	} else if (one) {
		forget_id(&r->w, one);
		cache_loader_gone(r->w.cache, one, "chance");
	}
}

static void event_order(struct run *r)
{
	static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h", "?"};
	const char *name = names[pick(r, 9)];
	struct model c = model("c", 1);
	struct err e;

	switch (pick(r, 4)) {
	case 0:
		cache_unload(r->w.cache, name, pick(r, 2), &e);
		break;
	case 1:
		r->c_pinned = pick(r, 2);
		CHECK(r, cache_pin(r->w.cache, &c, r->c_pinned, &e) == 0);
		break;
	case 2:
		cache_keep_alive(r->w.cache, name, (int64_t)pick(r, 5000) - 1, &e);
		break;
	default:
		r->w.settings.budget_bytes = (60 + pick(r, 60)) * MIB;
		r->w.settings.parked_budget_bytes = pick(r, 4) ? pick(r, 80) * MIB : 0;
		r->w.settings.reserve_completion_bytes = pick(r, 2) * 20 * MIB;
		r->w.settings.policy = pick(r, 2) ? POLICY_GDSF : POLICY_LRU;
		r->w.settings.keep_alive_ms = pick(r, 2) ? -1 : (int64_t)pick(r, 9000);
		r->w.settings.max_queue = 1 + (int)pick(r, 12);
		cache_set(r->w.cache, &r->w.settings);
		r->w.free_bytes = pick(r, 4) ? UINT64_MAX : pick(r, 120) * MIB;
	}
}

/* ---- what must be true after each */

static bool same_weights(const struct cache_row *a, const struct cache_row *b)
{
	return a->backend == b->backend && !strcmp(a->path, b->path);
}

static const struct cache_sizes *sizes_of(const struct cache_row *row)
{
	return row->state == CACHE_LOADING || row->state == CACHE_CANCELLING
		       ? &row->predicted
		       : &row->measured;
}

enum which { STAYING, PARKED, ALL_THERE };

/* Bytes in a tier: KV of each, weights of each file once. */
static uint64_t bytes_in(const struct cache_row *rows, int n, enum which which)
{
	uint64_t sum = 0;

	for (int i = 0; i < n; i++) {
		bool parked = which == PARKED;
		uint64_t most = 0;
		bool first = true, any = false;

		for (int k = 0; k < n; k++) {
			const struct cache_row *o = &rows[k];
			bool up = o->state == CACHE_LOADING || o->state == CACHE_READY ||
				  o->state == CACHE_DRAINING;
			bool in =
				which == STAYING ? up
				: which == ALL_THERE
					? o->bytes > 0
					: o->parked_bytes && o->state != CACHE_UNLOADING;
			uint64_t bytes =
				parked ? o->parked_bytes : sizes_of(o)->weights_bytes;

			if (!in || !same_weights(&rows[i], o))
				continue;
			if (k == i)
				any = true;
			if (k < i)
				first = false;
			if (bytes > most)
				most = bytes;
		}
		if (any && !parked)
			sum += sizes_of(&rows[i])->kv_bytes;
		if (any && first)
			sum += most;
	}
	return sum;
}

static void check_row(struct run *r, const struct cache_row *row)
{
	bool up = row->state == CACHE_READY || row->state == CACHE_DRAINING;
	int sum = 0;

	CHECK(r, up || row->leases == 0);
	for (int k = 0; k < CACHE_CLASSES; k++)
		sum += row->leases_by_class[k];
	CHECK(r, sum == row->leases);
	CHECK(r, row->leases_by_class[CLASS_COMPLETION] <= row->slots || !up);
	CHECK(r, sum <= CACHE_CLASSES * row->slots || !up);
	CHECK(r, row->state != CACHE_DISK || (!row->bytes && !row->parked_bytes));
	CHECK(r, row->state != CACHE_FAILED || row->waiters == 0);
}

/* For the reader of a failure. */
static void show(const struct run *r, const struct cache_row *rows, int n)
{
	printf("seed %u event %d: budget %.0f parked %.0f MiB\n", r->seed, r->event,
	       (double)r->w.settings.budget_bytes / MIB,
	       (double)r->w.settings.parked_budget_bytes / MIB);
	for (int i = 0; i < n; i++)
		printf("  %s %s %s/%d: %s, in %.0f MiB, parked %.0f MiB, %d leases, "
		       "%d waiters%s\n",
		       rows[i].name, rows[i].path, cache_backend_name(rows[i].backend),
		       rows[i].ctx, cache_state_name(rows[i].state),
		       (double)rows[i].bytes / MIB, (double)rows[i].parked_bytes / MIB,
		       rows[i].leases, rows[i].waiters, rows[i].pinned ? ", pinned" : "");
}

static void check_bytes(struct run *r, const struct cache_row *rows, int n)
{
	uint64_t in = bytes_in(rows, n, STAYING), parked = bytes_in(rows, n, PARKED);

	/* a load begins only when those who leave have left */
	if (r->began)
		CHECK(r, bytes_in(rows, n, ALL_THERE) <= r->w.settings.budget_bytes);
	r->began = false;
	for (int i = 0; i < n && in > r->w.settings.budget_bytes; i++) {
		const struct cache_row *row = &rows[i];

		/* the budget shrank, or one was larger: whoever can leave, leaves */
		bool stays = row->state != CACHE_READY || row->leases || row->pinned ||
			     !strcmp(row->path, "1.0") || !strcmp(row->path, "1.1");

		if (!stays)
			show(r, rows, n);
		CHECK(r, stays);
	}
	for (int i = 0; i < n && parked > r->w.settings.parked_budget_bytes; i++) {
		bool stays = rows[i].state != CACHE_PARKED || rows[i].waiters ||
			     !rows[i].parked_bytes || rows[i].pinned;

		if (!stays)
			show(r, rows, n);
		CHECK(r, stays);
	}
}

static void check(struct run *r)
{
	struct cache_row rows[POLICY_MAX_ENTRIES];
	struct cache_totals t;
	int n = cache_count(r->w.cache), valid = 0, loading = 0;

	for (int i = 0; i < n; i++) {
		cache_row(r->w.cache, i, &rows[i]);
		check_row(r, &rows[i]);
		loading += rows[i].state == CACHE_LOADING;
		loading += rows[i].state == CACHE_PROBING;
	}
	CHECK(r, loading <= CACHE_MAX_LOADS);
	check_bytes(r, rows, n);
	for (int i = 0; i < PEOPLE; i++) {
		const struct person *p = &r->people[i];

		if (cache_lease_valid(p->lease)) {
			valid++;
			CHECK(r, r->w.at[cache_lease_id(p->lease)] == AT_LOADED);
		}
		if (p->used && r->w.now_ms >= p->deadline_ms)
			CHECK(r, p->times == 1);
	}
	cache_totals(r->w.cache, &t);
	CHECK(r, valid == t.leases);
}

static bool leads_here(const struct cache_row *row, const char *name)
{
	for (int i = 0; i < row->nnames && i < CACHE_ROW_NAMES; i++)
		if (!strcmp(row->names[i], name))
			return true;
	return false;
}

/* No pinned one leaves by the policy, only by an order or when it was larger. */
static void on_moved(struct cache_listener *l, const struct cache_row *row,
		     enum cache_state from)
{
	struct run *r = CONTAINER_OF(l, struct run, ear);
	bool pinned = leads_here(row, "a") || (leads_here(row, "c") && r->c_pinned);
	struct decision d[CACHE_DECISIONS];
	int n;

	(void)from;
	r->began |= row->state == CACHE_LOADING;
	if (row->state != CACHE_PARKING && row->state != CACHE_UNLOADING)
		return;
	r->evictions_seen++;
	CHECK(r, pinned == row->pinned);
	n = pinned ? cache_decisions(r->w.cache, NULL, d, CACHE_DECISIONS) : 0;
	for (int i = 0; i < n; i++) {
		if (d[i].instance != row->instance)
			continue;
		CHECK(r, d[i].kind != DECIDE_EXPIRE);
		CHECK(r, !strstr(d[i].text, "makes room"));
		CHECK(r, !strstr(d[i].text, "over the budget"));
		return;
	}
}

static void one_event(struct run *r)
{
	struct person *p = &r->people[pick(r, PEOPLE)];
	unsigned what = pick(r, 1000);

	if (what < 250)
		event_ask(r, p);
	else if (what < 560)
		event_drop(p);
	else if (what < 930)
		event_answer(r);
	else if (what < 970)
		r->w.now_ms += pick(r, 2000);
	else if (what < 997)
		event_order(r);
	else
		event_death(r);
	note_backends(r);
	for (int turns = 0; cache_run(r->w.cache) <= r->w.now_ms; turns++)
		CHECK(r, turns < 10); /* it comes to rest */
	note_backends(r);
}

static void storm(unsigned seed)
{
	struct run *r = calloc(1, sizeof *r);
	struct cache_totals t;

	r->seed = seed;
	r->state = seed * 2654435761u;
	r->backend = calloc(MAX_IDS, 1);
	r->ear.moved = on_moved;
	world_init_with(&r->w, 100 * MIB, WITH_PARK | WITH_PROBE | WITH_CHILD, NULL);
	r->w.settings.reserve_completion_bytes = 20 * MIB;
	cache_set(r->w.cache, &r->w.settings);
	cache_listen(r->w.cache, &r->ear);
	for (r->event = 0; r->event < EVENTS; r->event++) {
		one_event(r);
		check(r);
	}
	cache_totals(r->w.cache, &t);
	printf("seed %u: %llu loads, %llu promotions, %llu evictions, %llu parked, %llu hits, "
	       "%llu refused, %llu timeouts, %llu cancelled, %llu expired, %d larger, %d "
	       "deaths\n",
	       seed, (unsigned long long)t.loads, (unsigned long long)t.promotions,
	       (unsigned long long)t.evictions, (unsigned long long)t.parks,
	       (unsigned long long)t.hits, (unsigned long long)t.refused,
	       (unsigned long long)t.timeouts, (unsigned long long)t.cancelled,
	       (unsigned long long)t.expired, r->larger, r->deaths);
	/* all of it did happen */
	assert_true(t.loads > 500 && t.promotions > 100 && t.evictions > 500 &&
		    t.parks > 100 && t.hits > 500 && t.refused > 100 && t.timeouts > 50 &&
		    t.cancelled > 20 && t.expired > 20 && r->larger > 50 &&
		    r->deaths > 100 && r->evictions_seen > 500);
	for (int i = 0; i < PEOPLE; i++)
		event_drop(&r->people[i]);
	world_fini(&r->w);
	free(r->backend);
	free(r);
}

static void a_hundred_thousand_random_events_break_no_invariant(void **state)
{
	(void)state;
	storm(1);
}

static void another_hundred_thousand_neither(void **state)
{
	(void)state;
	storm(2);
	storm(3);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hundred_thousand_random_events_break_no_invariant),
		cmocka_unit_test(another_hundred_thousand_neither),
	};

	if (argc > 1) { /* one seed by hand */
		storm((unsigned)strtoul(argv[1], NULL, 10));
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
