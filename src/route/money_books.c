/* Sums by day, provider, model and conversation, and the tallies that the caps ask for.
 *
 * Loop thread.  A cap is asked before each remote call, so nothing here walks through the rows but
 * folding, once a day: two hash tables with chains, whose sizes are bounded because the rows are.
 * The question a reader will ask: why a conversation has a tally of its own in the file and a day
 * has none.  The rows of a conversation fold after a while; those of a day never do. */
#include "route/money_books.h"

#include "route/money.h"

/* ---- hashing: FNV-1a, over names that come from our own configuration and clients on this machine */

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
	const unsigned char *s = p;

	while (n--)
		h = (h ^ *s++) * 0x100000001b3ull;
	return h;
}

static uint64_t key_hash(const struct entry_key *k)
{
	uint64_t h = mix(0xcbf29ce484222325ull, &k->day, sizeof k->day);

	h = mix(h, k->provider, strlen(k->provider) + 1);
	h = mix(h, k->model, strlen(k->model) + 1);
	return mix(h, k->conversation, strlen(k->conversation) + 1);
}

static uint64_t tally_hash(int period, const char *name)
{
	uint64_t h = mix(0xcbf29ce484222325ull, &period, sizeof period);

	return mix(h, name, strlen(name) + 1);
}

/* ---- rows */

static struct entry *find_entry(const struct books *b, const struct entry_key *k,
				uint64_t hash)
{
	struct entry *e = b->entries[hash % BOOKS_BUCKETS];

	while (e &&
	       (e->hash != hash || e->key.day != k->day ||
		strcmp(e->key.provider, k->provider) || strcmp(e->key.model, k->model) ||
		strcmp(e->key.conversation, k->conversation)))
		e = e->next;
	return e;
}

static struct entry *make_entry(struct books *b, const struct entry_key *k, uint64_t hash)
{
	struct entry *e = xcalloc(1, sizeof *e);

	e->hash = hash;
	e->key = (struct entry_key){k->day, xstrdup(k->provider), xstrdup(k->model),
				    xstrdup(k->conversation)};
	e->next = b->entries[hash % BOOKS_BUCKETS];
	b->entries[hash % BOOKS_BUCKETS] = e;
	b->nentries++;
	return e;
}

static void entry_free(struct entry *e)
{
	free((char *)e->key.provider);
	free((char *)e->key.model);
	free((char *)e->key.conversation);
	free(e);
}

static void touch(struct books *b, struct entry *e)
{
	if (e->dirty || e->gone)
		return;
	e->dirty = true;
	e->next_dirty = b->dirty;
	b->dirty = e;
}

static struct entry *find_or_make(struct books *b, const struct entry_key *k, bool make)
{
	uint64_t hash = key_hash(k);
	struct entry *e = find_entry(b, k, hash);

	return e || !make ? e : make_entry(b, k, hash);
}

static void fold_entry(struct books *b, struct entry *e)
{
	struct entry_key k = e->key;
	struct entry *into;

	k.conversation = "";
	into = find_or_make(b, &k, true);
	sums_add(&into->sums, &e->sums);
	touch(b, into);
	e->gone = true;
	b->nentries--;
	e->next = b->gone;
	b->gone = e;
}

/* The rows to fold are unlinked first: what they fold into may land in any bucket. */
static void fold_entries(struct books *b, int before_day)
{
	struct entry *old = NULL;

	for (int i = 0; i < BOOKS_BUCKETS; i++) {
		struct entry **at = &b->entries[i], *e;

		while ((e = *at)) {
			if (e->key.day >= before_day || !*e->key.conversation) {
				at = &e->next;
				continue;
			}
			*at = e->next;
			e->next = old;
			old = e;
		}
	}
	while (old) {
		struct entry *e = old;

		old = e->next;
		fold_entry(b, e);
	}
}

struct entry *books_entry(struct books *b, const struct entry_key *k)
{
	struct entry_key folded = *k;
	struct entry *e = find_or_make(b, k, false);

	if (!e && b->nentries >= MONEY_MAX_ROWS)
		fold_entries(b, k->day);
	if (e || b->nentries < MONEY_MAX_ROWS)
		return e ? e : find_or_make(b, k, true);
	folded.conversation = "";
	e = find_or_make(b, &folded, false);
	if (e)
		return e;
	/* As many of these as there are days and providers, at most. */
	folded.model = MONEY_OTHER;
	return find_or_make(b, &folded, true);
}

/* ---- tallies */

static struct tally *find_tally(const struct books *b, int period, const char *name,
				uint64_t hash)
{
	struct tally *t = b->tallies[hash % BOOKS_BUCKETS];

	while (t && (t->hash != hash || t->period != period || strcmp(t->name, name)))
		t = t->next;
	return t;
}

const struct tally *books_tally(const struct books *b, int period, const char *name)
{
	return find_tally(b, period, name, tally_hash(period, name));
}

static struct tally *tally_of(struct books *b, int period, const char *name)
{
	uint64_t hash = tally_hash(period, name);
	struct tally *t = find_tally(b, period, name, hash);

	if (t)
		return t;
	t = xcalloc(1, sizeof *t);
	t->hash = hash;
	t->period = period;
	t->name = xstrdup(name);
	t->next = b->tallies[hash % BOOKS_BUCKETS];
	b->tallies[hash % BOOKS_BUCKETS] = t;
	b->nconversations += !period;
	return t;
}

static void tally_free(struct tally *t)
{
	free(t->name);
	free(t);
}

static void tally_remove(struct books *b, struct tally *t)
{
	struct tally **at = &b->tallies[t->hash % BOOKS_BUCKETS];

	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	b->nconversations -= !t->period;
	if (!t->last_day) { /* nothing was ever spent: it is in no file and on no list */
		tally_free(t);
		return;
	}
	t->gone = true;
	t->next = b->gone_tallies;
	b->gone_tallies = t;
}

static void forget_conversations(struct books *b, int before_day)
{
	for (int i = 0; i < BOOKS_BUCKETS; i++) {
		struct tally *t, *next;

		for (t = b->tallies[i]; t; t = next) {
			next = t->next;
			if (!t->period && t->last_day < before_day && !t->reserved)
				tally_remove(b, t);
		}
	}
}

const char *books_conversation(struct books *b, const char *name, int day)
{
	if (!*name || b->nconversations < MONEY_MAX_CONVERSATIONS ||
	    books_tally(b, 0, name))
		return name;
	forget_conversations(b, day);
	return b->nconversations < MONEY_MAX_CONVERSATIONS ? name : MONEY_OTHER;
}

static int64_t not_below_0(int64_t n)
{
	return n < 0 ? 0 : n;
}

static void tally_spend(struct tally *t, int64_t delta)
{
	t->spent = not_below_0(amount_add(t->spent, delta));
}

void books_post(struct books *b, struct entry *row, const struct sums *delta)
{
	int day = row->key.day, month = day / 100;

	sums_add(&row->sums, delta);
	touch(b, row);
	tally_spend(tally_of(b, day, ""), delta->cost);
	tally_spend(tally_of(b, month, ""), delta->cost);
	tally_spend(tally_of(b, day, row->key.provider), delta->cost);
	tally_spend(tally_of(b, month, row->key.provider), delta->cost);
}

static void tally_hold(struct tally *t, int64_t delta)
{
	t->reserved = not_below_0(amount_add(t->reserved, delta));
}

void books_reserve(struct books *b, const struct entry_key *k, int64_t delta)
{
	struct tally *t;

	tally_hold(tally_of(b, k->day, ""), delta);
	tally_hold(tally_of(b, k->day / 100, ""), delta);
	tally_hold(tally_of(b, k->day, k->provider), delta);
	tally_hold(tally_of(b, k->day / 100, k->provider), delta);
	if (!*k->conversation)
		return;
	t = tally_of(b, 0, k->conversation);
	tally_hold(t, delta);
	if (!t->spent && !t->reserved && !t->last_day)
		tally_remove(b, t);
}

void books_converse(struct books *b, const struct entry_key *k, int64_t delta)
{
	struct tally *t;

	if (!*k->conversation)
		return;
	t = tally_of(b, 0, k->conversation);
	tally_spend(t, delta);
	if (k->day > t->last_day)
		t->last_day = k->day;
	if (!t->dirty) {
		t->dirty = true;
		t->next_dirty = b->dirty_tallies;
		b->dirty_tallies = t;
	}
}

bool books_has(const struct books *b, const struct entry_key *k)
{
	return find_entry(b, k, key_hash(k)) != NULL;
}

void books_fold(struct books *b, int before_day)
{
	fold_entries(b, before_day);
	forget_conversations(b, before_day);
}

/* ---- for the writer */

void books_all_dirty(struct books *b)
{
	for (int i = 0; i < BOOKS_BUCKETS; i++) {
		for (struct entry *e = b->entries[i]; e; e = e->next)
			touch(b, e);
		for (struct tally *t = b->tallies[i]; t; t = t->next) {
			if (t->period || t->dirty || !t->last_day)
				continue;
			t->dirty = true;
			t->next_dirty = b->dirty_tallies;
			b->dirty_tallies = t;
		}
	}
}

void books_clean(struct books *b)
{
	for (struct entry *e = b->dirty; e; e = e->next_dirty)
		e->dirty = false;
	for (struct tally *t = b->dirty_tallies; t; t = t->next_dirty)
		t->dirty = false;
	b->dirty = NULL;
	b->dirty_tallies = NULL;
	while (b->gone) {
		struct entry *e = b->gone;

		b->gone = e->next;
		entry_free(e);
	}
	while (b->gone_tallies) {
		struct tally *t = b->gone_tallies;

		b->gone_tallies = t->next;
		tally_free(t);
	}
}

void books_init(struct books *b)
{
	*b = (struct books){.entries = xcalloc(BOOKS_BUCKETS, sizeof *b->entries),
			    .tallies = xcalloc(BOOKS_BUCKETS, sizeof *b->tallies)};
}

void books_fini(struct books *b)
{
	books_clean(b);
	for (int i = 0; i < BOOKS_BUCKETS; i++) {
		while (b->entries[i]) {
			struct entry *e = b->entries[i];

			b->entries[i] = e->next;
			entry_free(e);
		}
		while (b->tallies[i]) {
			struct tally *t = b->tallies[i];

			b->tallies[i] = t->next;
			tally_free(t);
		}
	}
	free(b->entries);
	free(b->tallies);
}
