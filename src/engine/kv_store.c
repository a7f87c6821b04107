/* Saved KV state: what is stored and found, what goes to disk when, and the answers of the disk thread.
 *
 * Main thread.  The disk thread (kv_disk.c) sees an entry's rows only while the entry is WRITING or READING,
 * and then nobody here touches them: an entry dropped meanwhile is only marked, and goes when the answer
 * comes.  A reader may question the linear search over all entries: most differ from a prompt within the
 * first tokens, and a thousand of them cost less than one token. */
#include "engine/kv_store_impl.h"

#include <poll.h>

#include "base/clock.h"
#include "base/log.h"

/* --- saving ------------------------------------------------------------------------------------ */

static struct kv_entry *find_container(const struct kv_store *s, struct kv_key kind,
				       const int32_t *tokens, int n)
{
	struct kv_entry *found = NULL;

	for (int i = 0; i < s->n; i++) {
		struct kv_entry *e = s->entries[i];

		if (!e->doomed && e->n >= n && kv_key_eq(e->kind, kind) &&
		    kv_entry_common(e, tokens, n) == n && (!found || e->rows))
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
		    kv_entry_common(p, e->tokens, e->n) < p->n)
			continue;
		if (files || p->state == KV_RAM)
			kv_entry_drop(s, p);
		else if (p->state == KV_BOTH && !p->pins)
			kv_evict_rows(s, p);
	}
}

/* Rows for what only the disk has. */
static void attach(struct kv_store *s, struct kv_entry *e, const struct kv_form *f,
		   const struct kkv *layers)
{
	if (!kv_ram_room(s, kv_entry_cost(e->rows_bytes, e->n)))
		return;
	kv_rows_alloc(s, e);
	kv_rows_save(f, layers, e->n, e->rows, s->pool);
	e->leave = false;
	kv_entry_move(e, KV_BOTH);
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
	if (!kv_index_room(s) || !kv_ram_room(s, kv_entry_cost(bytes, n)))
		return refuse(s);
	copy = xmalloc(ids);
	memcpy(copy, tokens, ids);
	*out = e = kv_entry_new(s, f->kind, copy, n);
	e->rows_bytes = bytes;
	kv_rows_alloc(s, e);
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
	if (kv_writable(s, e)) {
		e->leave = true;
		kv_write_out(s, e);
	}
	return true;
}

/* --- to disk ---------------------------------------------------------------------------------- */

void kv_store_forget(struct kv_store *s)
{
	/* from the end: what goes is replaced by the last one */
	for (int i = s->n; i-- > 0;)
		kv_entry_drop(s, s->entries[i]);
}

void kv_store_flush(struct kv_store *s)
{
	for (;;) {
		struct kv_entry *best = NULL;
		int64_t now = s->now_ms();

		for (int i = 0; s->disk && i < s->n; i++)
			if (kv_writable(s, s->entries[i]) &&
			    (!best || kv_entry_score(s->entries[i], now) >
					      kv_entry_score(best, now)))
				best = s->entries[i];
		if (!best)
			return;
		kv_write_out(s, best);
	}
}

int kv_store_tick(struct kv_store *s)
{
	int64_t now = s->now_ms(), least = -1;

	for (int i = 0; s->disk && i < s->n; i++) {
		struct kv_entry *e = s->entries[i];
		int64_t rest = e->saved_ms + KV_WRITE_MS - now;

		if (!kv_writable(s, e))
			continue;
		if (rest <= 0)
			kv_write_out(s, e);
		else if (least < 0 || rest < least)
			least = rest;
	}
	/* A clock that was set back must not wait for days. */
	return least > KV_WRITE_MS ? KV_WRITE_MS : (int)least;
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
		k = kv_entry_common(e, prompt, n - 1);
		if (k > *common) {
			*common = k;
			best = e;
		}
	}
	return best;
}

static bool read_in(struct kv_store *s, struct kv_entry *e)
{
	if (!kv_ram_room(s, kv_entry_cost(e->rows_bytes, e->n)))
		return false;
	kv_rows_alloc(s, e);
	kv_entry_move(e, KV_READING);
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
	const struct kv_form *f = kv_form_of(s, e->kind);

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
		kv_entry_free(s, e);
}

/* --- answers of the disk thread ------------------------------------------------------------------- */

static void on_written(struct kv_store *s, struct kv_entry *e, const struct kv_order *o)
{
	if (o->err.code != ERR_NONE) {
		kv_entry_set_file(s, e, 0);
		e->no_write = true;
		kv_entry_move(e, KV_RAM);
	} else {
		kv_entry_set_file(s, e, o->info.file_bytes);
		s->stats.written++;
		kv_entry_move(e, KV_BOTH);
	}
	if (e->doomed) {
		kv_entry_drop(s, e);
		return;
	}
	if (e->state != KV_BOTH)
		return;
	if (e->leave && !e->pins)
		kv_evict_rows(s, e);
	drop_prefixes(s, e, true);
}

static void on_read(struct kv_store *s, struct kv_entry *e, const struct kv_order *o)
{
	if (o->err.code != ERR_NONE) {
		s->stats.lost++;
		kv_rows_free(s, e);
		kv_entry_lose(s, e);
		return;
	}
	kv_entry_move(e, KV_BOTH);
	s->stats.disk_hits++;
	if (e->doomed)
		kv_entry_drop(s, e);
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
		kv_entry_set_file(s, e, i->file_bytes);
		kv_entry_move(e, KV_WRITING);
		kv_entry_move(e, KV_BOTH);
	}
	if (e || !kv_index_room(s)) {
		kv_file_info_fini(i);
		return;
	}
	e = kv_entry_new(s, i->kind, i->tokens, i->n);
	i->tokens = NULL;
	e->state = KV_DISK;
	e->rows_bytes = i->rows_bytes;
	e->hits = i->hits;
	e->used_ms = i->used_ms;
	kv_entry_set_file(s, e, i->file_bytes);
	if (find_container(s, e->kind, e->tokens, e->n) == e)
		drop_prefixes(s, e, true);
	kv_disk_room(s, 0);
}

static void on_gone(struct kv_store *s, struct kv_key id)
{
	struct kv_entry *e = by_id(s, id);

	if (!e || kv_entry_in_flight(e))
		return;
	if (e->state == KV_DISK) {
		kv_entry_lose(s, e);
	} else if (e->state == KV_BOTH) {
		kv_entry_set_file(s, e, 0);
		kv_entry_move(e, KV_RAM);
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
		kv_entry_free(s, s->entries[i]);
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
	known = kv_form_of(s, i->form.kind);
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
