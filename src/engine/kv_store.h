/* Saved KV state of all models of an engine: what was said stays computed.
 *
 * Sequences of tokens with their rows, found by the longest common beginning.  Issue 4 speaks of the hash
 * chain of a conversation's messages as the key; token prefixes are stricter (a template, a tokenizer or a
 * system prompt that changed cannot lie) and serve clients that name no conversation, too; a chain maps to
 * one sequence of tokens, so nothing is lost.  Sequences of different kinds (model, layout, backend:
 * kv_rows.h) never meet.
 *
 * Memory is bounded by ram_bytes, files by disk_bytes; the worst score goes first:
 * (hits + 1) * 2^(-age / 6 h) * tokens / bytes, which is ds4's (its kvstore, per research/gpu.md §5.1) with
 * the age applied to what was never hit, too: else an entry nobody came back to is as good as a fresh one.
 * Entries of KV_DISK_MIN_TOKENS or more are written to disk by a thread of their own: KV_WRITE_MS after they were
 * saved, at once when memory is half full (so that evicting one is free of waiting), on kv_store_flush().
 *
 * Main thread; the pool helps with copies. */
#ifndef HOB_KV_STORE_H
#define HOB_KV_STORE_H

#include "engine/kv_rows.h"

enum {
	/* Shorter ones are not kept: they are computed again within one chunk (GRAPH_MAX_ROWS). */
	KV_SAVE_TOKENS = 64,
	/* A file costs a seek and an inode; 256 tokens are one forward pass. */
	KV_DISK_MIN_TOKENS = 256,
	KV_WRITE_MS = 5000,
	KV_CLOSE_MS =
		1500, /* kv_store_free() waits no longer; the router kills after 2 s */
	KV_STORE_MAX_ENTRIES = 4096
};

struct kv_store_options {
	const char *dir; /* NULL or disk_bytes 0: memory only */
	uint64_t ram_bytes, disk_bytes;
	struct pool *pool;       /* borrowed; may be NULL */
	int64_t (*now_ms)(void); /* NULL: clock_unix_ms */
};

struct kv_store_stats {
	int entries, ram_entries, disk_entries, pinned;
	uint64_t ram_bytes, disk_bytes; /* now */
	uint64_t saved, refused;        /* kv_store_save(): stored; no room */
	uint64_t hits, disk_hits,
		lost; /* restores; of them from disk; files that failed */
	uint64_t written, evicted;
};

struct kv_store;
struct kv_entry;

/* A folder that cannot be used is one line in the log: memory only, then. */
struct kv_store *kv_store_new(const struct kv_store_options *o);
/* Writes what is not on disk yet, best first, for KV_CLOSE_MS at most.  Nothing may be pinned. NULL is fine. */
void kv_store_free(struct kv_store *s);

/* The form of a model's rows; lives as long as the store. */
const struct kv_form *kv_store_form(struct kv_store *s, struct kv_key model,
				    const char *backend, const struct kkv *layers,
				    int nlayers);

/* Keeps the first n tokens.  Fewer than KV_SAVE_TOKENS, or contained in an entry: nothing to do.  Entries that
 * are a prefix of it go.  False: no room could be made. */
bool kv_store_save(struct kv_store *s, const struct kv_form *f, const struct kkv *layers,
		   const int32_t *tokens, int n);
/* The same for a sequence whose slot stays as it is: goes to disk at once and takes no memory after. */
bool kv_store_save_to_disk(struct kv_store *s, const struct kv_form *f,
			   const struct kkv *layers, const int32_t *tokens, int n);

/* The entry with the longest common beginning with the prompt, at least min tokens (the last token of a
 * prompt is never counted, it must be computed); pinned.  NULL: none.  An entry on disk starts to come in. */
struct kv_entry *kv_store_find(struct kv_store *s, const struct kv_form *f,
			       const int32_t *prompt, int n, int min, int *common);
enum kv_entry_is { KV_IS_COMING, KV_IS_HERE, KV_IS_LOST };
enum kv_entry_is kv_entry_is(const struct kv_entry *e);
/* Copies the first n positions of an entry that is here. */
void kv_store_load(struct kv_store *s, struct kv_entry *e, const struct kkv *layers,
		   int n);
void kv_store_unpin(struct kv_store *s, struct kv_entry *e);

/* Writes what has waited long enough.  Milliseconds until there may be more to do, -1: nothing waits. */
int kv_store_tick(struct kv_store *s);
void kv_store_flush(struct kv_store *s); /* all of it, now */
/* Readable when kv_store_poll() has something to take; -1 without a disk. */
int kv_store_fd(const struct kv_store *s);
void kv_store_poll(struct kv_store *s);
/* All of it, in memory and on disk, what is on its way there as soon as it has arrived. */
void kv_store_forget(struct kv_store *s);
/* Until the disk thread has answered everything, or ms passed (then false). */
bool kv_store_settle(struct kv_store *s, int ms);
struct kv_store_stats kv_store_stats(const struct kv_store *s);

#endif
