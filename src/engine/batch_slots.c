/* Who holds a slot: admission by class, restoring from the store, preemption, saving.
 *
 * Main thread.  A preempted sequence gives its slot back like one that has ended, and what it held is saved when
 * the slot is overwritten.  To go on it is admitted again with all its tokens as the prompt: the graph's
 * rows are the same to the bit however they are cut, so the next logits are those it would have had, even when
 * nothing was saved. */
#include "base/clock.h"
#include "base/sm.h"
#include "engine/batch_impl.h"

static const struct sm_state seq_states[SEQ_NR] = {
	[SEQ_WAITING] = {"waiting",
			 SM_TO(SEQ_RESTORING) | SM_TO(SEQ_PREFILL) | SM_TO(SEQ_GONE)},
	[SEQ_RESTORING] = {"restoring",
			   SM_TO(SEQ_PREFILL) | SM_TO(SEQ_WAITING) | SM_TO(SEQ_GONE)},
	[SEQ_PREFILL] = {"prefill",
			 SM_TO(SEQ_DECODE) | SM_TO(SEQ_WAITING) | SM_TO(SEQ_GONE)},
	[SEQ_DECODE] = {"decode", SM_TO(SEQ_WAITING) | SM_TO(SEQ_GONE)},
	[SEQ_GONE] = {"gone", 0},
};

void seq_move(struct seq *s, enum seq_state next)
{
	sm_move(seq_states, "sequence", &s->state, next);
}

void seq_leave_slot(struct batch *b, struct seq *s)
{
	if (s->entry)
		kv_store_unpin(b->store, s->entry);
	if (s->slot)
		kv_give(b->kv, s->slot);
	s->entry = NULL;
	s->slot = NULL;
}

/* --- saving ------------------------------------------------------------------------------------ */

void batch_use_store(struct batch *b, struct kv_store *store, struct kv_key model)
{
	struct kkv *layers = xcalloc((size_t)b->kv->layers, sizeof(*layers));

	for (int i = 0; i < b->kv->layers; i++)
		layers[i] = kv_layer_shape(b->kv, i);
	b->store = store;
	b->form = kv_store_form(store, model, b->k->name, layers, b->kv->layers);
	free(layers);
}

static void save_slot(struct batch *b, const struct kv_slot *slot)
{
	kv_store_save(b->store, b->form, slot->layers, slot->tokens, slot->n);
}

/* Before a slot is cut back to `keep` tokens for somebody else. */
static void save_losses(struct batch *b, const struct kv_slot *slot, int keep)
{
	if (b->store && !slot->is_volatile && slot->n - keep >= KV_SAVE_TOKENS)
		save_slot(b, slot);
}

void batch_save_all(struct batch *b)
{
	for (int i = 0; b->store && i < b->kv->nslots; i++)
		if (b->kv->slots[i].n >= KV_SAVE_TOKENS && !b->kv->slots[i].is_volatile)
			save_slot(b, &b->kv->slots[i]);
	if (b->store)
		kv_store_flush(b->store);
}

/* Idle slots are emptied; jobs are as volatile ones from now on. */
void batch_forget(struct batch *b)
{
	for (struct seq *s = b->seqs; s; s = s->next)
		s->is_volatile = true;
	for (int i = 0; i < b->kv->nslots; i++) {
		struct kv_slot *s = &b->kv->slots[i];

		s->is_volatile = true;
		if (!s->taken)
			s->n = s->kept = 0;
	}
}

int batch_idle(struct batch *b)
{
	uint64_t now = clock_mono_ms();
	int least = -1;

	for (int i = 0; b->store && kv_store_fd(b->store) >= 0 && i < b->kv->nslots;
	     i++) {
		struct kv_slot *s = &b->kv->slots[i];
		uint64_t due = s->idle_ms + BATCH_IDLE_MS;

		if (s->taken || s->is_volatile || s->n < KV_DISK_MIN_TOKENS ||
		    s->n - s->kept < KV_SAVE_TOKENS)
			continue;
		if (due > now) {
			if (least < 0 || (int)(due - now) < least)
				least = (int)(due - now);
			continue;
		}
		kv_store_save_to_disk(b->store, b->form, s->layers, s->tokens, s->n);
		s->kept = s->n; /* no second try: if there was no room, there is none */
	}
	return least;
}

/* --- admission ----------------------------------------------------------------------------------- */

static void begin(struct batch *b, struct seq *s)
{
	s->done = s->slot->n;
	seq_move(s, SEQ_PREFILL);
	if (s->started)
		return;
	s->started = true;
	s->cached = s->done;
	batch_emit(b, s, (struct batch_event){.kind = BATCH_STARTED});
}

/* What waited for its KV goes on: with it, or without it if the file was no good. */
static void restore(struct batch *b, struct seq *s)
{
	if (kv_entry_is(s->entry) == KV_IS_HERE) {
		kv_store_load(b->store, s->entry, s->slot->layers, s->restore);
		kv_restored(s->slot, b->kv, s->all.ids, s->restore);
	}
	kv_store_unpin(b->store, s->entry);
	s->entry = NULL;
	begin(b, s);
}

/* With a saved beginning in hand another slot's tokens need not be destroyed for the few that it shares. */
static struct kv_slot *cheapest(struct batch *b, const struct seq *s,
				struct kv_slot *slot, int *common)
{
	if (slot->n - *common < KV_SAVE_TOKENS)
		return slot;
	slot = kv_oldest(b->kv);
	*common = kv_common(slot, s->all.ids, (int)s->all.n);
	return slot;
}

static bool admit_one(struct batch *b, struct seq *s)
{
	int n = (int)s->all.n, common;
	struct kv_slot *slot = kv_choose(b->kv, s->all.ids, n, &common);

	if (!slot)
		return false;
	/* Saving and restoring are part of the time to the first token. */
	if (!s->started)
		s->slot_us = clock_mono_us();
	if (b->store)
		s->entry = kv_store_find(b->store, b->form, s->all.ids, n,
					 common + KV_SAVE_TOKENS, &s->restore);
	if (s->entry)
		slot = cheapest(b, s, slot, &common);
	save_losses(b, slot, common);
	kv_claim(b->kv, slot, common);
	/* what it shares with the one before is its own prompt too */
	slot->is_volatile = s->is_volatile;
	s->slot = slot;
	if (!s->entry) {
		begin(b, s);
		return true;
	}
	seq_move(s, SEQ_RESTORING);
	if (kv_entry_is(s->entry) != KV_IS_COMING)
		restore(b, s);
	return true;
}

/* The youngest of the lowest class that holds a slot, if that class is below: the list is in that order. */
static struct seq *victim_for(const struct batch *b, enum batch_class class)
{
	struct seq *last = NULL;

	for (struct seq *s = b->seqs; s; s = s->next)
		if (s->slot)
			last = s;
	return last && last->class > class ? last : NULL;
}

static bool preempt_for(struct batch *b, enum batch_class class)
{
	struct seq *v = victim_for(b, class);

	if (!v)
		return false;
	seq_leave_slot(b, v);
	seq_move(v, SEQ_WAITING);
	return true;
}

static struct seq *first_waiting(const struct batch *b)
{
	struct seq *s = b->seqs;

	while (s && s->state != SEQ_WAITING)
		s = s->next;
	return s;
}

/* One that was preempted is behind the one it made room for, and in front of its class: it came first. */
void batch_admit(struct batch *b)
{
	struct seq *s;

	for (s = b->seqs; s; s = s->next)
		if (s->state == SEQ_RESTORING && kv_entry_is(s->entry) != KV_IS_COMING)
			restore(b, s);
	while ((s = first_waiting(b)) != NULL)
		if (!admit_one(b, s) && !preempt_for(b, s->class))
			return;
}

bool batch_may_admit(const struct batch *b)
{
	const struct seq *s;

	for (s = b->seqs; s; s = s->next)
		if (s->state == SEQ_RESTORING && kv_entry_is(s->entry) != KV_IS_COMING)
			return true;
	s = first_waiting(b);
	return s && (kv_oldest(b->kv) || victim_for(b, s->class));
}
