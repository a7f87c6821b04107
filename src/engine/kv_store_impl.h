/* What the files of the store share: kv_store.c (finding, saving, life) and kv_room.c (entries, and which of
 * them go when there is no room). */
#ifndef HOB_KV_STORE_IMPL_H
#define HOB_KV_STORE_IMPL_H

#include "engine/kv_disk.h"
#include "engine/kv_store.h"

enum entry_state {
	KV_RAM,     /* not on disk */
	KV_WRITING, /* in memory, on its way to disk */
	KV_BOTH,
	KV_DISK,
	KV_READING, /* on disk, memory is being filled */
	KV_LOST,    /* out of the index; goes with its last pin */
	KV_STATES
};

struct kv_entry {
	unsigned state;     /* enum entry_state */
	struct kv_key kind; /* its form may be unknown as yet: of another model's file */
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

void kv_rows_alloc(struct kv_store *s, struct kv_entry *e);
void kv_rows_free(struct kv_store *s, struct kv_entry *e);
void kv_entry_free(struct kv_store *s, struct kv_entry *e);
struct kv_entry *kv_entry_new(struct kv_store *s, struct kv_key kind, int32_t *tokens,
			      int n);
void kv_entry_move(struct kv_entry *e, enum entry_state next);
void kv_entry_set_file(struct kv_store *s, struct kv_entry *e, uint64_t bytes);
/* Out of the index; its file is left alone. */
void kv_entry_lose(struct kv_store *s, struct kv_entry *e);
bool kv_entry_in_flight(const struct kv_entry *e);
/* Out of the index with its file; later when the disk thread has it. */
void kv_entry_drop(struct kv_store *s, struct kv_entry *e);
int kv_entry_common(const struct kv_entry *e, const int32_t *tokens, int n);
/* The less, the sooner it goes. */
double kv_entry_score(const struct kv_entry *e, int64_t now);
/* Removes files until so many bytes fit; false: they cannot. */
bool kv_disk_room(struct kv_store *s, uint64_t bytes);
/* Ought it to be written? */
bool kv_writable(const struct kv_store *s, const struct kv_entry *e);
const struct kv_form *kv_form_of(const struct kv_store *s, struct kv_key kind);
/* Sends it to the disk thread, if there is room. */
void kv_write_out(struct kv_store *s, struct kv_entry *e);
/* Out of memory; out of the index when it is on no disk. */
void kv_evict_rows(struct kv_store *s, struct kv_entry *e);
/* Gives memory up until so many bytes fit; false: they cannot, and nothing went. */
bool kv_ram_room(struct kv_store *s, uint64_t bytes);
/* For one more entry. */
bool kv_index_room(struct kv_store *s);
size_t kv_entry_cost(size_t rows_bytes, int n);

#endif
