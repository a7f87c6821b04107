/* Saved KV state: the index, the rows in memory, and what goes to disk when.
 *
 * Main thread.  The disk thread (kv_disk.c) sees an entry's rows only while the entry is WRITING or READING,
 * and then nobody here touches them: an entry dropped meanwhile is only marked, and goes when the answer
 * comes.  A reader may question the linear search over all entries: most differ from a prompt within the
 * first tokens, and a thousand of them cost less than one token. */
#include "engine/kv_store.h"

#include <math.h>
#include <poll.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/sm.h"
#include "engine/kv_disk.h"
#include "engine/model.h"

enum { HALF_LIFE_MS = 6 * 3600 * 1000, BIG_ROWS_BYTES = 4 << 20 };

enum entry_state {
	KV_RAM,     /* not on disk */
	KV_WRITING, /* in memory, on its way to disk */
	KV_BOTH,
	KV_DISK,
	KV_READING, /* on disk, memory is being filled */
	KV_LOST,    /* out of the index; goes with its last pin */
	KV_STATES
};

static const struct sm_state entry_states[KV_STATES] = {
	[KV_RAM] = {"ram", SM_TO(KV_WRITING) | SM_TO(KV_LOST)},
	[KV_WRITING] = {"writing", SM_TO(KV_BOTH) | SM_TO(KV_RAM) | SM_TO(KV_LOST)},
	[KV_BOTH] = {"both", SM_TO(KV_DISK) | SM_TO(KV_RAM) | SM_TO(KV_LOST)},
	[KV_DISK] = {"disk", SM_TO(KV_READING) | SM_TO(KV_BOTH) | SM_TO(KV_LOST)},
	[KV_READING] = {"reading", SM_TO(KV_BOTH) | SM_TO(KV_LOST)},
	[KV_LOST] = {"lost", 0},
};

struct kv_entry {
	unsigned state; /* enum entry_state */
	struct kv_key
		kind; /* of form; a form may not be known yet for what was found on disk */
	struct kv_key id;
	int n;
	int32_t *tokens; /* owned */
	uint8_t *rows;   /* owned; NULL when not in memory */
	size_t rows_bytes;
	uint64_t file_bytes; /* 0: not on disk */
	uint32_t hits;
	int64_t used_ms, saved_ms;
	int pins;
	bool doomed;   /* WRITING, READING: dropped when the answer comes */
	bool no_write; /* failed, or went for the budget of the disk */
	bool leave;    /* memory is given up once written */
};

struct form_item {
	struct form_item *next;
	struct kv_form form;
};

struct kv_store {
	struct pool *pool; /* borrowed */
	int64_t (*now_ms)(void);
	uint64_t ram_max, disk_max;
	struct form_item *forms;   /* owned */
	struct kv_disk *disk;      /* owned; NULL: memory only */
	struct kv_entry **entries; /* owned, n of them */
	int n, cap;
	int pending; /* answers that the disk thread owes */
	struct kv_store_stats stats;
};

/* --- entries ---------------------------------------------------------------------------------- */

static size_t rows_cost(size_t bytes)
{
	size_t huge = (size_t)2 << 20;

	return bytes < BIG_ROWS_BYTES ? bytes : (bytes + huge - 1) / huge * huge;
}

static size_t entry_cost(size_t rows_bytes, int n)
{
	return rows_cost(rows_bytes) + (size_t)n * sizeof(int32_t) +
	       sizeof(struct kv_entry);
}

static void rows_alloc(struct kv_store *s, struct kv_entry *e)
{
	e->rows = e->rows_bytes < BIG_ROWS_BYTES ? xmalloc(e->rows_bytes)
						 : big_alloc(e->rows_bytes);
	s->stats.ram_bytes += entry_cost(e->rows_bytes, e->n);
	s->stats.ram_entries++;
}

static void rows_free(struct kv_store *s, struct kv_entry *e)
{
	if (!e->rows)
		return;
	if (e->rows_bytes < BIG_ROWS_BYTES)
		free(e->rows);
	else
		big_free(e->rows, e->rows_bytes);
	e->rows = NULL;
	s->stats.ram_bytes -= entry_cost(e->rows_bytes, e->n);
	s->stats.ram_entries--;
}

static void entry_free(struct kv_store *s, struct kv_entry *e)
{
	rows_free(s, e);
	free(e->tokens);
	free(e);
}

static struct kv_entry *entry_new(struct kv_store *s, struct kv_key kind, int32_t *tokens,
				  int n)
{
	struct kv_entry *e = xcalloc(1, sizeof(*e));

	e->kind = kind;
	e->tokens = tokens;
	e->n = n;
	e->id = kv_sequence_key(kind, tokens, n);
	e->used_ms = e->saved_ms = s->now_ms();
	if (s->n == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 64;
		s->entries = xrealloc(s->entries, (size_t)s->cap * sizeof(*s->entries));
	}
	s->entries[s->n++] = e;
	return e;
}

static void move(struct kv_entry *e, enum entry_state next)
{
	sm_move(entry_states, "kv entry", &e->state, next);
}

static void set_file(struct kv_store *s, struct kv_entry *e, uint64_t bytes)
{
	s->stats.disk_entries += (bytes > 0) - (e->file_bytes > 0);
	s->stats.disk_bytes += bytes - e->file_bytes;
	e->file_bytes = bytes;
}

static void remove_file(struct kv_store *s, struct kv_entry *e)
{
	if (!e->file_bytes)
		return;
	s->pending++;
	kv_disk_ask(s->disk, &(struct kv_order){.kind = KV_REMOVE, .id = e->id});
	set_file(s, e, 0);
}

/* Out of the index; its file is left alone. */
static void lose(struct kv_store *s, struct kv_entry *e)
{
	int i = 0;

	while (s->entries[i] != e)
		i++;
	s->entries[i] = s->entries[--s->n];
	set_file(s, e, 0);
	move(e, KV_LOST);
	if (!e->pins)
		entry_free(s, e);
}

static bool in_flight(const struct kv_entry *e)
{
	return e->state == KV_WRITING || e->state == KV_READING;
}

/* Out of the index with its file; later when the disk thread has it. */
static void drop(struct kv_store *s, struct kv_entry *e)
{
	if (in_flight(e)) {
		e->doomed = true;
		return;
	}
	remove_file(s, e);
	lose(s, e);
}

static int common_tokens(const struct kv_entry *e, const int32_t *tokens, int n)
{
	int max = e->n < n ? e->n : n, i = 0;

	while (i < max && e->tokens[i] == tokens[i])
		i++;
	return i;
}

static double score(const struct kv_entry *e, int64_t now)
{
	double age = (double)(now > e->used_ms ? now - e->used_ms : 0);
	double whole = (double)((e->n + KV_ROWS_STEP - 1) / KV_ROWS_STEP);

	return ((double)e->hits + 1) * exp2(-age / HALF_LIFE_MS) * whole /
	       (double)e->rows_bytes;
}

/* The worst of those that may go; equal ones: the older. */
static struct kv_entry *worst(const struct kv_store *s,
			      bool (*may)(const struct kv_entry *e))
{
	struct kv_entry *best = NULL;
	int64_t now = s->now_ms();
	double least = 0;

	for (int i = 0; i < s->n; i++) {
		struct kv_entry *e = s->entries[i];
		double v;

		if (!may(e))
			continue;
		v = score(e, now);
		if (!best || v < least || (v == least && e->used_ms < best->used_ms)) {
			best = e;
			least = v;
		}
	}
	return best;
}

/* --- to disk ---------------------------------------------------------------------------------- */

static bool on_disk_idle(const struct kv_entry *e)
{
	return e->state == KV_BOTH || e->state == KV_DISK;
}

static void evict_file(struct kv_store *s, struct kv_entry *e)
{
	s->stats.evicted++;
	remove_file(s, e);
	if (e->state == KV_DISK) {
		lose(s, e);
		return;
	}
	e->no_write = true;
	move(e, KV_RAM);
}

static bool disk_room(struct kv_store *s, uint64_t bytes)
{
	struct kv_entry *e;

	if (bytes > s->disk_max)
		return false;
	while (s->stats.disk_bytes + bytes > s->disk_max) {
		e = worst(s, on_disk_idle);
		if (!e)
			return false;
		evict_file(s, e);
	}
	return true;
}

static bool writable(const struct kv_store *s, const struct kv_entry *e)
{
	return s->disk && e->state == KV_RAM && !e->no_write &&
	       e->n >= KV_DISK_MIN_TOKENS;
}

static const struct kv_form *form_of(const struct kv_store *s, struct kv_key kind)
{
	for (const struct form_item *i = s->forms; i; i = i->next)
		if (kv_key_eq(i->form.kind, kind))
			return &i->form;
	return NULL;
}

static uint64_t file_size(const struct kv_form *f, const struct kv_entry *e)
{
	return sizeof(struct kv_file_head) + (uint64_t)f->nlayers * sizeof(*f->layers) +
	       (uint64_t)e->n * sizeof(int32_t) + e->rows_bytes;
}

static void write_out(struct kv_store *s, struct kv_entry *e)
{
	const struct kv_form *f = form_of(s, e->kind);
	uint64_t bytes = file_size(f, e);

	if (!disk_room(s, bytes)) {
		e->no_write = true;
		return;
	}
	/* Counts from now on, so that two writes do not take the same room. */
	set_file(s, e, bytes);
	move(e, KV_WRITING);
	s->pending++;
	kv_disk_ask(s->disk, &(struct kv_order){.kind = KV_WRITE,
						.owner = e,
						.id = e->id,
						.form = f,
						.tokens = e->tokens,
						.n = e->n,
						.hits = e->hits,
						.rows = e->rows,
						.bytes = e->rows_bytes});
}

void kv_store_flush(struct kv_store *s)
{
	for (;;) {
		struct kv_entry *best = NULL;
		int64_t now = s->now_ms();

		for (int i = 0; s->disk && i < s->n; i++)
			if (writable(s, s->entries[i]) &&
			    (!best || score(s->entries[i], now) > score(best, now)))
				best = s->entries[i];
		if (!best)
			return;
		write_out(s, best);
	}
}

int kv_store_tick(struct kv_store *s)
{
	int64_t now = s->now_ms(), least = -1;

	for (int i = 0; s->disk && i < s->n; i++) {
		struct kv_entry *e = s->entries[i];
		int64_t rest = e->saved_ms + KV_WRITE_MS - now;

		if (!writable(s, e))
			continue;
		if (rest <= 0)
			write_out(s, e);
		else if (least < 0 || rest < least)
			least = rest;
	}
	/* A clock that was set back must not wait for days. */
	return least > KV_WRITE_MS ? KV_WRITE_MS : (int)least;
}

/* --- room in memory ------------------------------------------------------------------------------ */

static bool in_memory_idle(const struct kv_entry *e)
{
	return (e->state == KV_RAM || e->state == KV_BOTH) && !e->pins;
}

static void evict_rows(struct kv_store *s, struct kv_entry *e)
{
	s->stats.evicted++;
	if (e->state == KV_RAM) {
		lose(s, e);
		return;
	}
	rows_free(s, e);
	move(e, KV_DISK);
}

/* Nothing goes unless enough can. */
static bool ram_room(struct kv_store *s, uint64_t bytes)
{
	uint64_t idle = 0;

	for (int i = 0; i < s->n; i++)
		if (in_memory_idle(s->entries[i]))
			idle += entry_cost(s->entries[i]->rows_bytes, s->entries[i]->n);
	if (s->stats.ram_bytes - idle + bytes > s->ram_max)
		return false;
	while (s->stats.ram_bytes + bytes > s->ram_max)
		evict_rows(s, worst(s, in_memory_idle));
	return true;
}

static bool any_idle(const struct kv_entry *e)
{
	return !in_flight(e) && !e->pins;
}

/* False: all are in use. */
static bool index_room(struct kv_store *s)
{
	while (s->n >= KV_STORE_MAX_ENTRIES) {
		struct kv_entry *e = worst(s, any_idle);

		if (!e)
			return false;
		drop(s, e);
	}
	return true;
}

/* --- saving ------------------------------------------------------------------------------------ */

static struct kv_entry *find_container(const struct kv_store *s, struct kv_key kind,
				       const int32_t *tokens, int n)
{
	struct kv_entry *found = NULL;

	for (int i = 0; i < s->n; i++) {
		struct kv_entry *e = s->entries[i];

		if (!e->doomed && e->n >= n && kv_key_eq(e->kind, kind) &&
		    common_tokens(e, tokens, n) == n && (!found || e->rows))
			found = e;
	}
	return found;
}

/* What e contains is not needed in memory any more; files go only when e itself has one, so that a crash
 * does not lose both. */
static void drop_prefixes(struct kv_store *s, const struct kv_entry *e, bool files)
{
	for (int i = s->n - 1; i >= 0; i--) {
		struct kv_entry *p = s->entries[i];

		if (p == e || p->n > e->n || !kv_key_eq(p->kind, e->kind) || p->doomed ||
		    common_tokens(p, e->tokens, e->n) < p->n)
			continue;
		if (files || p->state == KV_RAM)
			drop(s, p);
		else if (p->state == KV_BOTH && !p->pins)
			evict_rows(s, p);
	}
}

/* Rows for what only the disk has. */
static void attach(struct kv_store *s, struct kv_entry *e, const struct kv_form *f,
		   const struct kkv *layers)
{
	if (!ram_room(s, entry_cost(e->rows_bytes, e->n)))
		return;
	rows_alloc(s, e);
	kv_rows_save(f, layers, e->n, e->rows, s->pool);
	e->leave = false;
	move(e, KV_BOTH);
}

static bool refuse(struct kv_store *s)
{
	s->stats.refused++;
	return false;
}

static bool save(struct kv_store *s, const struct kv_form *f, const struct kkv *layers,
		 const int32_t *tokens, int n, struct kv_entry **out)
{
	struct kv_entry *e = find_container(s, f->kind, tokens, n);
	size_t bytes = kv_rows_bytes(f, n), ids = (size_t)n * sizeof(*tokens);
	int32_t *copy;

	*out = e;
	if (e) {
		e->used_ms = s->now_ms();
		if (e->state == KV_DISK && e->n == n)
			attach(s, e, f, layers);
		return true;
	}
	if (!index_room(s) || !ram_room(s, entry_cost(bytes, n)))
		return refuse(s);
	copy = xmalloc(ids);
	memcpy(copy, tokens, ids);
	*out = e = entry_new(s, f->kind, copy, n);
	e->rows_bytes = bytes;
	rows_alloc(s, e);
	kv_rows_save(f, layers, n, e->rows, s->pool);
	s->stats.saved++;
	drop_prefixes(s, e, false);
	return true;
}

bool kv_store_save(struct kv_store *s, const struct kv_form *f, const struct kkv *layers,
		   const int32_t *tokens, int n)
{
	struct kv_entry *e;
	bool ok;

	if (n < KV_SAVE_TOKENS)
		return true;
	ok = save(s, f, layers, tokens, n, &e);
	if (e)
		e->leave = false;
	if (s->stats.ram_bytes > s->ram_max / 2)
		kv_store_flush(s);
	return ok;
}

bool kv_store_save_to_disk(struct kv_store *s, const struct kv_form *f,
			   const struct kkv *layers, const int32_t *tokens, int n)
{
	struct kv_entry *e = s->disk && n >= KV_DISK_MIN_TOKENS
				     ? find_container(s, f->kind, tokens, n)
				     : NULL;

	if (!s->disk || n < KV_DISK_MIN_TOKENS || (e && e->file_bytes))
		return true;
	if (!save(s, f, layers, tokens, n, &e))
		return false;
	if (writable(s, e)) {
		e->leave = true;
		write_out(s, e);
	}
	return true;
}

/* --- finding ------------------------------------------------------------------------------------ */

static struct kv_entry *longest(const struct kv_store *s, struct kv_key kind,
				const int32_t *prompt, int n, bool here, int *common)
{
	struct kv_entry *best = NULL;

	*common = 0;
	for (int i = 0; i < s->n; i++) {
		struct kv_entry *e = s->entries[i];
		int k;

		if (e->doomed || !kv_key_eq(e->kind, kind) ||
		    (here && kv_entry_is(e) != KV_IS_HERE))
			continue;
		k = common_tokens(e, prompt, n - 1);
		if (k > *common) {
			*common = k;
			best = e;
		}
	}
	return best;
}

static bool read_in(struct kv_store *s, struct kv_entry *e)
{
	if (!ram_room(s, entry_cost(e->rows_bytes, e->n)))
		return false;
	rows_alloc(s, e);
	move(e, KV_READING);
	s->pending++;
	kv_disk_ask(s->disk, &(struct kv_order){.kind = KV_READ,
						.owner = e,
						.id = e->id,
						.rows = e->rows,
						.bytes = e->rows_bytes});
	return true;
}

static void pin(struct kv_store *s, struct kv_entry *e)
{
	e->pins++;
	s->stats.pinned++;
}

struct kv_entry *kv_store_find(struct kv_store *s, const struct kv_form *f,
			       const int32_t *prompt, int n, int min, int *common)
{
	int here_n, any_n;
	struct kv_entry *here = longest(s, f->kind, prompt, n, true, &here_n);
	struct kv_entry *any = longest(s, f->kind, prompt, n, false, &any_n);

	if (here)
		pin(s, here); /* or making room might take it */
	/* Reading must be worth more than computing the difference in one chunk. */
	if (any && any != here && any_n >= min && any_n >= here_n + KV_SAVE_TOKENS &&
	    (any->state != KV_DISK || read_in(s, any))) {
		pin(s, any);
		if (here)
			kv_store_unpin(s, here);
		*common = any_n;
		return any;
	}
	*common = here_n;
	if (here && here_n < min) {
		kv_store_unpin(s, here);
		return NULL;
	}
	return here;
}

enum kv_entry_is kv_entry_is(const struct kv_entry *e)
{
	if (e->rows && e->state != KV_READING)
		return KV_IS_HERE;
	return e->state == KV_LOST ? KV_IS_LOST : KV_IS_COMING;
}

void kv_store_load(struct kv_store *s, struct kv_entry *e, const struct kkv *layers,
		   int n)
{
	const struct kv_form *f = form_of(s, e->kind);

	ASSERT(f && e->pins && kv_entry_is(e) == KV_IS_HERE);
	kv_rows_load(f, layers, e->rows, e->n, n, s->pool);
	e->hits++;
	e->used_ms = s->now_ms();
	s->stats.hits++;
}

void kv_store_unpin(struct kv_store *s, struct kv_entry *e)
{
	ASSERT(e->pins > 0);
	s->stats.pinned--;
	if (--e->pins == 0 && e->state == KV_LOST)
		entry_free(s, e);
}

/* --- answers of the disk thread ------------------------------------------------------------------- */

static void on_written(struct kv_store *s, struct kv_entry *e, const struct kv_order *o)
{
	if (o->err.code != ERR_NONE) {
		set_file(s, e, 0);
		e->no_write = true;
		move(e, KV_RAM);
	} else {
		set_file(s, e, o->info.file_bytes);
		s->stats.written++;
		move(e, KV_BOTH);
	}
	if (e->doomed) {
		drop(s, e);
		return;
	}
	if (e->state != KV_BOTH)
		return;
	if (e->leave && !e->pins)
		evict_rows(s, e);
	drop_prefixes(s, e, true);
}

static void on_read(struct kv_store *s, struct kv_entry *e, const struct kv_order *o)
{
	if (o->err.code != ERR_NONE) {
		s->stats.lost++;
		rows_free(s, e);
		lose(s, e);
		return;
	}
	move(e, KV_BOTH);
	s->stats.disk_hits++;
	if (e->doomed)
		drop(s, e);
}

static struct kv_entry *by_id(const struct kv_store *s, struct kv_key id)
{
	for (int i = 0; i < s->n; i++)
		if (kv_key_eq(s->entries[i]->id, id))
			return s->entries[i];
	return NULL;
}

/* A file that we did not know: from an earlier run, or of another engine. */
static void on_found(struct kv_store *s, struct kv_order *o)
{
	struct kv_file_info *i = &o->info;
	struct kv_entry *e = by_id(s, o->id);

	if (e && e->state == KV_RAM) {
		set_file(s, e, i->file_bytes);
		move(e, KV_WRITING);
		move(e, KV_BOTH);
	}
	if (e || !index_room(s)) {
		kv_file_info_fini(i);
		return;
	}
	e = entry_new(s, i->kind, i->tokens, i->n);
	i->tokens = NULL;
	e->state = KV_DISK;
	e->rows_bytes = i->rows_bytes;
	e->hits = i->hits;
	e->used_ms = i->used_ms;
	set_file(s, e, i->file_bytes);
	if (find_container(s, e->kind, e->tokens, e->n) == e)
		drop_prefixes(s, e, true);
	disk_room(s, 0);
}

static void on_gone(struct kv_store *s, struct kv_key id)
{
	struct kv_entry *e = by_id(s, id);

	if (!e || in_flight(e))
		return;
	if (e->state == KV_DISK) {
		lose(s, e);
	} else if (e->state == KV_BOTH) {
		set_file(s, e, 0);
		move(e, KV_RAM);
	}
}

static void on_answer(void *arg, struct kv_order *o)
{
	struct kv_store *s = arg;

	switch (o->kind) {
	case KV_WRITE:
		s->pending--;
		on_written(s, o->owner, o);
		break;
	case KV_READ:
		s->pending--;
		on_read(s, o->owner, o);
		break;
	case KV_REMOVE:
	case KV_SCANNED:
		s->pending--;
		break;
	case KV_FOUND:
		on_found(s, o);
		break;
	case KV_GONE:
		on_gone(s, o->id);
		break;
	default:
		ASSERT(!"an answer");
	}
}

int kv_store_fd(const struct kv_store *s)
{
	return s->disk ? kv_disk_fd(s->disk) : -1;
}

void kv_store_poll(struct kv_store *s)
{
	if (s->disk)
		kv_disk_take(s->disk, on_answer, s);
}

bool kv_store_settle(struct kv_store *s, int ms)
{
	uint64_t end = clock_mono_ms() + (uint64_t)ms;

	kv_store_poll(s);
	while (s->pending) {
		struct pollfd p = {.fd = kv_store_fd(s), .events = POLLIN};
		uint64_t now = clock_mono_ms();

		if (now >= end)
			return false;
		poll(&p, 1, (int)(end - now));
		kv_store_poll(s);
	}
	return true;
}

/* --- life -------------------------------------------------------------------------------------- */

struct kv_store *kv_store_new(const struct kv_store_options *o)
{
	struct kv_store *s = xcalloc(1, sizeof(*s));
	struct err e = {0};
	int dir;

	s->pool = o->pool;
	s->now_ms = o->now_ms ? o->now_ms : clock_unix_ms;
	s->ram_max = o->ram_bytes;
	s->disk_max = o->disk_bytes;
	if (!o->dir || !o->disk_bytes)
		return s;
	dir = kv_dir_open(o->dir, &e);
	if (dir < 0) {
		log_warn("kv: %s; state is kept in memory only", e.text);
		return s;
	}
	s->disk = kv_disk_new(dir);
	s->pending++;
	kv_disk_ask(s->disk, &(struct kv_order){.kind = KV_SCAN});
	return s;
}

void kv_store_free(struct kv_store *s)
{
	if (!s)
		return;
	ASSERT(s->stats.pinned == 0);
	if (s->disk) {
		kv_store_flush(s);
		if (!kv_store_settle(s, KV_CLOSE_MS))
			log_warn("kv: not all state could be saved in time");
		kv_disk_free(s->disk);
	}
	for (int i = 0; i < s->n; i++)
		entry_free(s, s->entries[i]);
	while (s->forms) {
		struct form_item *i = s->forms;

		s->forms = i->next;
		kv_form_fini(&i->form);
		free(i);
	}
	free(s->entries);
	free(s);
}

const struct kv_form *kv_store_form(struct kv_store *s, struct kv_key model,
				    const char *backend, const struct kkv *layers,
				    int nlayers)
{
	struct form_item *i = xcalloc(1, sizeof(*i));
	const struct kv_form *known;

	kv_form_init(&i->form, model, backend, layers, nlayers);
	known = form_of(s, i->form.kind);
	if (known) {
		kv_form_fini(&i->form);
		free(i);
		return known;
	}
	i->next = s->forms;
	s->forms = i;
	return &i->form;
}

struct kv_store_stats kv_store_stats(const struct kv_store *s)
{
	struct kv_store_stats st = s->stats;

	st.entries = s->n;
	return st;
}
