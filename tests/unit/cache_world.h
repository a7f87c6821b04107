/* What the tests of the cache share: a fake clock, fake loaders that check that each order
 * is lawful for its id, and a model's words in a line or two. */
#ifndef HOB_CACHE_WORLD_H
#define HOB_CACHE_WORLD_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/log.h"
#include "cache/cache.h"
#include "cache/ledger.h"

#define MIB UINT64_C(1048576)
enum { MAX_ASKED = 64, MAX_IDS = 200000 };

enum op { OP_PROBE, OP_LOAD, OP_PARK, OP_UNLOAD };

/* What the loader was asked for and has not answered. */
struct asked {
	enum op op;
	enum cache_backend backend;
	uint64_t id;
	char name[32], path[32];
	int ctx, nargs;
};

/* What a loader knows of an id: the test's own account, kept apart from the cache's. */
enum at {
	AT_NEVER,
	AT_PROBING,
	AT_PROBED,
	AT_LOADING,
	AT_LOADED,
	AT_PARKING,
	AT_PARKED,
	AT_UNLOADING,
	AT_OVER
};

struct world {
	struct cache *cache;
	uint64_t now_ms, free_bytes;
	struct asked asked[MAX_ASKED];
	int nasked;
	int loads, probes, parks, unloads; /* ever */
	unsigned char *at;                 /* by id */
	struct cache_settings settings;
};

struct answer {
	int times;
	struct cache_lease *lease;
	struct err err;
};

static inline uint64_t fake_now(void *arg)
{
	return ((struct world *)arg)->now_ms;
}

static inline uint64_t fake_free(void *arg)
{
	return ((struct world *)arg)->free_bytes;
}

static inline struct asked *note_op(struct world *w, enum op op, uint64_t id)
{
	struct asked *a = &w->asked[w->nasked++];

	assert_true(w->nasked <= MAX_ASKED);
	assert_true(id > 0 && id < MAX_IDS);
	*a = (struct asked){.op = op, .id = id};
	return a;
}

static inline void fake_probe(void *arg, uint64_t id, const char *path, int ctx,
			      int slots)
{
	struct world *w = arg;
	struct asked *a = note_op(w, OP_PROBE, id);

	(void)slots;
	assert_int_equal(w->at[id], AT_NEVER);
	w->at[id] = AT_PROBING;
	a->ctx = ctx;
	snprintf(a->path, sizeof a->path, "%s", path);
	w->probes++;
}

static inline void load_by(struct world *w, enum cache_backend b, uint64_t id,
			   const struct model *m, const char *path, int ctx)
{
	struct asked *a = note_op(w, OP_LOAD, id);

	assert_true(w->at[id] == AT_NEVER || w->at[id] == AT_PROBED ||
		    w->at[id] == AT_PARKED);
	w->at[id] = AT_LOADING;
	a->ctx = ctx;
	a->backend = b;
	a->nargs = m->settings.nargs;
	snprintf(a->path, sizeof a->path, "%s", path);
	snprintf(a->name, sizeof a->name, "%s", m->name);
	w->loads++;
}

static inline void fake_load(void *arg, uint64_t id, const struct model *m,
			     const char *path, int ctx, int slots)
{
	(void)slots;
	load_by(arg, CACHE_ENGINE, id, m, path, ctx);
}

static inline void child_load(void *arg, uint64_t id, const struct model *m,
			      const char *path, int ctx, int slots)
{
	(void)slots;
	load_by(arg, CACHE_CHILD, id, m, path, ctx);
}

static inline void fake_park(void *arg, uint64_t id)
{
	struct world *w = arg;

	note_op(w, OP_PARK, id);
	assert_int_equal(w->at[id], AT_LOADED);
	w->at[id] = AT_PARKING;
	w->parks++;
}

static inline void fake_unload(void *arg, uint64_t id)
{
	struct world *w = arg;

	assert_true(w->at[id] == AT_PROBED || w->at[id] == AT_LOADING ||
		    w->at[id] == AT_LOADED || w->at[id] == AT_PARKED);
	/* a load that was under way is not answered any more */
	for (int i = 0; i < w->nasked && w->at[id] == AT_LOADING; i++)
		if (w->asked[i].id == id) {
			memmove(&w->asked[i], &w->asked[i + 1],
				(size_t)(w->nasked - i - 1) * sizeof w->asked[0]);
			w->nasked--;
			break;
		}
	note_op(w, OP_UNLOAD, id);
	w->at[id] = AT_UNLOADING;
	w->unloads++;
}

enum with { WITH_LOAD, WITH_PARK = 1, WITH_PROBE = 2, WITH_CHILD = 4 };

/* with: flags of enum with. */
static inline void world_init_with(struct world *w, uint64_t budget, int with,
				   struct ledger *ledger)
{
	struct cache_parts parts = {.now_ms = fake_now,
				    .now_arg = w,
				    .free_bytes = fake_free,
				    .free_arg = w,
				    .ctx = 16,
				    .slots = 1,
				    .ledger = ledger};
	struct cache_loader engine = {.load = fake_load, .unload = fake_unload, .arg = w};
	struct cache_loader child = {.load = child_load, .unload = fake_unload, .arg = w};

	log_set_level(LOG_LV_ERROR);
	memset(w, 0, sizeof *w);
	w->now_ms = 1000;
	w->free_bytes = UINT64_MAX;
	w->at = calloc(MAX_IDS, 1);
	w->settings = (struct cache_settings){.budget_bytes = budget,
					      .parked_budget_bytes =
						      with & WITH_PARK ? budget : 0,
					      .keep_alive_ms = -1,
					      .min_stay_ms = 5000};
	parts.settings = w->settings;
	w->cache = cache_new(&parts);
	engine.park = with & WITH_PARK ? fake_park : NULL;
	engine.probe = with & WITH_PROBE ? fake_probe : NULL;
	cache_set_loader(w->cache, CACHE_ENGINE, &engine);
	if (with & WITH_CHILD)
		cache_set_loader(w->cache, CACHE_CHILD, &child);
}

static inline void world_init(struct world *w, uint64_t budget)
{
	world_init_with(w, budget, WITH_LOAD, NULL);
}

static inline void world_fini(struct world *w)
{
	cache_close(w->cache, NULL, NULL);
	free(w->at);
}

static inline struct asked take(struct world *w, int i)
{
	struct asked a = w->asked[i];

	assert_true(i < w->nasked);
	memmove(&w->asked[i], &w->asked[i + 1], (size_t)(w->nasked - i - 1) * sizeof a);
	w->nasked--;
	return a;
}

/* Takes the oldest order of this kind; there must be one. */
static inline struct asked take_op(struct world *w, enum op op)
{
	for (int i = 0; i < w->nasked; i++)
		if (w->asked[i].op == op)
			return take(w, i);
	fail_msg("nobody asked for operation %d", op);
	return (struct asked){0};
}

static inline struct cache_info info_of(uint64_t bytes, int ctx)
{
	return (struct cache_info){.sizes = {bytes, 0, bytes}, .ctx = ctx, .slots = 4};
}

static inline void answer_load_as(struct world *w, const struct cache_info *info)
{
	struct asked a = take_op(w, OP_LOAD);

	w->at[a.id] = AT_LOADED;
	cache_loader_loaded(w->cache, a.id, info);
	cache_run(w->cache);
}

static inline void answer_load(struct world *w, uint64_t bytes)
{
	struct cache_info info = info_of(bytes, 16);

	for (int i = 0; i < w->nasked; i++)
		if (w->asked[i].op == OP_LOAD) {
			info.ctx = w->asked[i].ctx;
			break;
		}
	answer_load_as(w, &info);
}

static inline void answer_unload(struct world *w)
{
	struct asked a = take_op(w, OP_UNLOAD);

	w->at[a.id] = AT_OVER;
	cache_loader_unloaded(w->cache, a.id);
	cache_run(w->cache);
}

static inline void answer_park(struct world *w, uint64_t bytes)
{
	struct asked a = take_op(w, OP_PARK);

	w->at[a.id] = AT_PARKED;
	cache_loader_parked(w->cache, a.id, bytes);
	cache_run(w->cache);
}

static inline void answer_probe(struct world *w, uint64_t weights, uint64_t kv)
{
	struct asked a = take_op(w, OP_PROBE);
	struct cache_sizes s = {weights, kv, weights};

	w->at[a.id] = AT_PROBED;
	cache_loader_probed(w->cache, a.id, &s);
	cache_run(w->cache);
}

static inline void fail_op(struct world *w, enum op op, enum err_code code,
			   const char *text)
{
	struct asked a = take_op(w, op);
	struct err e;

	w->at[a.id] = AT_OVER;
	err_set(&e, code, "%s", text);
	cache_loader_failed(w->cache, a.id, &e);
	cache_run(w->cache);
}

static inline void engine_dies(struct world *w, const char *why)
{
	w->nasked = 0;
	for (int i = 0; i < MAX_IDS; i++)
		if (w->at[i] != AT_NEVER)
			w->at[i] = AT_OVER;
	cache_loader_died(w->cache, CACHE_ENGINE, why);
	cache_run(w->cache);
}

static inline struct model model(char *name, uint64_t mib)
{
	struct model m = {.name = name,
			  .path = name,
			  .bytes = mib * MIB,
			  .mtime_ms = 1,
			  .dev = 1,
			  .settings = {.keep_alive_ms = KEEP_ALIVE_DEFAULT}};

	for (const char *s = name; *s; s++)
		m.ino = m.ino * 31 + (unsigned char)*s;
	return m;
}

static inline void on_answer(void *arg, struct cache_lease *lease, const struct err *e)
{
	struct answer *a = arg;

	a->times++;
	a->lease = lease;
	assert_true(!lease != !e);
	if (e)
		a->err = *e;
}

static inline struct cache_waiter *ask_as(struct world *w, struct answer *a,
					  const struct cache_want *want)
{
	struct cache_waiter *waiter;

	memset(a, 0, sizeof *a);
	waiter = cache_acquire(w->cache, want, on_answer, a);
	assert_int_equal(a->times, 0);
	return waiter;
}

static inline struct cache_want want_of(const struct world *w, const struct model *m,
					uint64_t for_ms)
{
	return (struct cache_want){.model = m,
				   .class = CLASS_INTERACTIVE,
				   .deadline_ms = w->now_ms + for_ms,
				   .keep_alive_ms = CACHE_KEEP_DEFAULT};
}

static inline struct cache_waiter *ask(struct world *w, struct answer *a, struct model m,
				       uint64_t for_ms)
{
	struct cache_want want = want_of(w, &m, for_ms);

	return ask_as(w, a, &want);
}

/* Loads it and gives the lease back. */
static inline void warm(struct world *w, struct model m)
{
	struct answer a;

	ask(w, &a, m, 1000);
	cache_run(w->cache);
	answer_load(w, m.bytes);
	assert_non_null(a.lease);
	cache_release(a.lease);
	w->now_ms += 10;
	cache_run(w->cache);
}

static inline void give(struct world *w, struct answer *a)
{
	cache_release(a->lease);
	a->lease = NULL;
	cache_run(w->cache);
}

static inline void pass(struct world *w, uint64_t ms)
{
	w->now_ms += ms;
	cache_run(w->cache);
}

static inline enum cache_state state_of(const struct world *w, const char *name)
{
	struct cache_row row;

	return cache_find(w->cache, name, &row) ? row.state : CACHE_DISK;
}

static inline uint64_t used(const struct world *w)
{
	struct cache_totals t;

	cache_totals(w->cache, &t);
	return t.used_bytes;
}

static inline void assert_text(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("'%s' does not say '%s'", text, part);
}

/* The newest decision about it of this kind says so. */
static inline void assert_decided(const struct world *w, const char *name,
				  enum decision_kind kind, const char *part)
{
	struct decision d[CACHE_DECISIONS];
	int n = cache_decisions(w->cache, name, d, CACHE_DECISIONS);

	for (int i = 0; i < n; i++)
		if (d[i].kind == kind) {
			assert_text(d[i].text, part);
			return;
		}
	fail_msg("no decision to %s '%s'", decision_name(kind), name);
}

#endif
