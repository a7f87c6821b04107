/* The thread that does the file work of saved KV state.
 *
 * Orders go in, answers come out, in the order of arrival; kv_disk_fd() becomes readable when there are
 * some.  What an order points at belongs to the disk thread until its answer is taken. */
#ifndef HOB_KV_DISK_H
#define HOB_KV_DISK_H

#include "base/queue.h"
#include "engine/kv_file.h"

enum kv_order_kind {
	KV_WRITE,  /* form, tokens, n, rows, hits -> info.file_bytes or err */
	KV_READ,   /* id, rows, bytes -> rows filled, or err */
	KV_REMOVE, /* id; answered when done */
	KV_SCAN,   /* no answer but KV_FOUND and KV_GONE, then KV_SCANNED */
	/* answers only */
	KV_FOUND, /* info: the taker owns its tokens */
	KV_GONE,  /* id: somebody removed it */
	KV_SCANNED
};

struct kv_order {
	struct queue_item item;
	enum kv_order_kind kind;
	void *owner; /* the asker's own */
	struct kv_key id;
	const struct kv_form *form;
	const int32_t *tokens;
	int n;
	uint32_t hits;
	uint8_t *rows;
	size_t bytes;
	struct kv_file_info info;
	struct err err; /* code ERR_NONE: done */
};

enum { KV_DISK_MAX_FILES = 4096 /* more are not looked at */ };

struct kv_disk;

/* Takes over the folder's descriptor. */
struct kv_disk *kv_disk_new(int dir);
/* Ends the thread: orders not begun are dropped, one being carried out ends within about a millisecond of
 * disk time.  Answers not taken go with it. */
void kv_disk_free(struct kv_disk *d); /* NULL is fine */
int kv_disk_fd(const struct kv_disk *d);
/* The order is copied. */
void kv_disk_ask(struct kv_disk *d, const struct kv_order *o);
/* Calls fn for each answer; never waits. */
void kv_disk_take(struct kv_disk *d, void (*fn)(void *arg, struct kv_order *o),
		  void *arg);

#endif
