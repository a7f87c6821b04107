/* Entries of the store, what each costs, and who goes for whom.
 *
 * Main thread.  An entry that the disk thread works on is never touched: one dropped meanwhile is only
 * marked, and goes when the answer comes. */
#include <math.h>

#include "base/sm.h"
#include "engine/kv_store_impl.h"
#include "engine/model.h"

enum { HALF_LIFE_MS = 6 * 3600 * 1000, BIG_ROWS_BYTES = 4 << 20 };

static const struct sm_state entry_states[KV_STATES] = {
	[KV_RAM] = {"ram", SM_TO(KV_WRITING) | SM_TO(KV_LOST)},
	[KV_WRITING] = {"writing", SM_TO(KV_BOTH) | SM_TO(KV_RAM) | SM_TO(KV_LOST)},
	[KV_BOTH] = {"both", SM_TO(KV_DISK) | SM_TO(KV_RAM) | SM_TO(KV_LOST)},
	[KV_DISK] = {"disk", SM_TO(KV_READING) | SM_TO(KV_BOTH) | SM_TO(KV_LOST)},
	[KV_READING] = {"reading", SM_TO(KV_BOTH) | SM_TO(KV_LOST)},
	[KV_LOST] = {"lost", 0},
};

/* --- entries ---------------------------------------------------------------------------------- */

static size_t rows_cost(size_t bytes)
{
	size_t huge = (size_t)2 << 20;

	return bytes < BIG_ROWS_BYTES ? bytes : (bytes + huge - 1) / huge * huge;
}

size_t kv_entry_cost(size_t rows_bytes, int n)
{
	return rows_cost(rows_bytes) + (size_t)n * sizeof(int32_t) +
	       sizeof(struct kv_entry);
}

void kv_rows_alloc(struct kv_store *s, struct kv_entry *e)
{
	e->rows = e->rows_bytes < BIG_ROWS_BYTES ? xmalloc(e->rows_bytes)
						 : big_alloc(e->rows_bytes);
	s->stats.ram_bytes += kv_entry_cost(e->rows_bytes, e->n);
	s->stats.ram_entries++;
}

void kv_rows_free(struct kv_store *s, struct kv_entry *e)
{
	if (!e->rows)
		return;
	if (e->rows_bytes < BIG_ROWS_BYTES)
		free(e->rows);
	else
		big_free(e->rows, e->rows_bytes);
	e->rows = NULL;
	s->stats.ram_bytes -= kv_entry_cost(e->rows_bytes, e->n);
	s->stats.ram_entries--;
}

void kv_entry_free(struct kv_store *s, struct kv_entry *e)
{
	kv_rows_free(s, e);
	free(e->tokens);
	free(e);
}

struct kv_entry *kv_entry_new(struct kv_store *s, struct kv_key kind, int32_t *tokens,
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

void kv_entry_move(struct kv_entry *e, enum entry_state next)
{
	sm_move(entry_states, "kv entry", &e->state, next);
}

void kv_entry_set_file(struct kv_store *s, struct kv_entry *e, uint64_t bytes)
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
	kv_entry_set_file(s, e, 0);
}

/* Out of the index; its file is left alone. */
void kv_entry_lose(struct kv_store *s, struct kv_entry *e)
{
	int i = 0;

	while (s->entries[i] != e)
		i++;
	s->entries[i] = s->entries[--s->n];
	kv_entry_set_file(s, e, 0);
	kv_entry_move(e, KV_LOST);
	if (!e->pins)
		kv_entry_free(s, e);
}

bool kv_entry_in_flight(const struct kv_entry *e)
{
	return e->state == KV_WRITING || e->state == KV_READING;
}

/* Out of the index with its file; later when the disk thread has it. */
void kv_entry_drop(struct kv_store *s, struct kv_entry *e)
{
	if (kv_entry_in_flight(e)) {
		e->doomed = true;
		return;
	}
	remove_file(s, e);
	kv_entry_lose(s, e);
}

int kv_entry_common(const struct kv_entry *e, const int32_t *tokens, int n)
{
	int max = e->n < n ? e->n : n, i = 0;

	while (i < max && e->tokens[i] == tokens[i])
		i++;
	return i;
}

double kv_entry_score(const struct kv_entry *e, int64_t now)
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
		v = kv_entry_score(e, now);
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
		kv_entry_lose(s, e);
		return;
	}
	e->no_write = true;
	kv_entry_move(e, KV_RAM);
}

bool kv_disk_room(struct kv_store *s, uint64_t bytes)
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

bool kv_writable(const struct kv_store *s, const struct kv_entry *e)
{
	return s->disk && e->state == KV_RAM && !e->no_write &&
	       e->n >= KV_DISK_MIN_TOKENS;
}

const struct kv_form *kv_form_of(const struct kv_store *s, struct kv_key kind)
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

void kv_write_out(struct kv_store *s, struct kv_entry *e)
{
	const struct kv_form *f = kv_form_of(s, e->kind);
	uint64_t bytes = file_size(f, e);

	if (!kv_disk_room(s, bytes)) {
		e->no_write = true;
		return;
	}
	/* Counts from now on, so that two writes do not take the same room. */
	kv_entry_set_file(s, e, bytes);
	kv_entry_move(e, KV_WRITING);
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

/* --- room in memory ------------------------------------------------------------------------------ */

static bool in_memory_idle(const struct kv_entry *e)
{
	return (e->state == KV_RAM || e->state == KV_BOTH) && !e->pins;
}

void kv_evict_rows(struct kv_store *s, struct kv_entry *e)
{
	s->stats.evicted++;
	if (e->state == KV_RAM) {
		kv_entry_lose(s, e);
		return;
	}
	kv_rows_free(s, e);
	kv_entry_move(e, KV_DISK);
}

/* Nothing goes unless enough can. */
bool kv_ram_room(struct kv_store *s, uint64_t bytes)
{
	uint64_t idle = 0;

	for (int i = 0; i < s->n; i++)
		if (in_memory_idle(s->entries[i]))
			idle += kv_entry_cost(s->entries[i]->rows_bytes,
					      s->entries[i]->n);
	if (s->stats.ram_bytes - idle + bytes > s->ram_max)
		return false;
	while (s->stats.ram_bytes + bytes > s->ram_max)
		kv_evict_rows(s, worst(s, in_memory_idle));
	return true;
}

static bool any_idle(const struct kv_entry *e)
{
	return !kv_entry_in_flight(e) && !e->pins;
}

/* False: all are in use. */
bool kv_index_room(struct kv_store *s)
{
	while (s->n >= KV_STORE_MAX_ENTRIES) {
		struct kv_entry *e = worst(s, any_idle);

		if (!e)
			return false;
		kv_entry_drop(s, e);
	}
	return true;
}
