/* The engine's models: files, each held once, and the instances that the router made of them by id.
 *
 * Main thread only; what the loader's threads do is in loader.h.  Two ids of one file (device, inode, size,
 * time) share its parsed part and its weights, and have a batch each.
 *
 *   instance     PROBING → PROBED                      the head is read
 *   (enum        PROBED → LOADING
 *   instance_    LOADING → LOADED | CANCELLING         CANCELLING: unload of a load, until its job has stopped
 *   state)       LOADED → PARKED                       its batch is freed
 *                PARKED → LOADED                       a new batch; the weights never left
 *                any → gone                            unloaded, or load_failed from PROBING and LOADING
 *
 *   file         parsed when a job brought its model; resident when its weights are mapped; cold when all
 *                instances that want the weights are parked.  Weights are dropped when no instance is LOADED or
 *                PARKED, the file is forgotten when there is no instance and no job.
 *
 * Functions answer by events, in the call or in a later shelf_turn(); an event must not call back in. */
#ifndef HOB_SHELF_H
#define HOB_SHELF_H

#include <sys/queue.h>

#include "engine/batch.h"
#include "engine/loader.h"

enum { SHELF_MAX_INSTANCES = 256, SHELF_PROGRESS_MS = 100 };

enum instance_state {
	INSTANCE_PROBING,
	INSTANCE_PROBED,
	INSTANCE_LOADING,
	INSTANCE_LOADED,
	INSTANCE_PARKED,
	INSTANCE_CANCELLING,
	INSTANCE_STATES
};

struct shelf_file;

struct instance {
	TAILQ_ENTRY(instance) link;
	int64_t id;
	unsigned state;          /* enum instance_state */
	struct shelf_file *file; /* it holds a reference */
	struct batch *batch;     /* owned; LOADED only */
	int ctx, slots; /* ctx: what the model can hold of what was asked, once parsed */
	uint64_t asked_us; /* when the load was asked for */
};
TAILQ_HEAD(instance_list, instance);

enum shelf_event_kind {
	SHELF_PROBED,  /* kv_bytes */
	SHELF_LOADING, /* done, total */
	SHELF_LOADED,  /* kv_bytes, source, load_us */
	SHELF_FAILED,  /* err; the id is free again */
	SHELF_PARKED,
	SHELF_UNLOADED /* the id is free again; model NULL */
};

struct shelf_event {
	enum shelf_event_kind kind;
	int64_t id;
	const struct model *model; /* PROBED, LOADED, PARKED */
	const struct instance *instance;
	size_t kv_bytes; /* caches when full, and buffers */
	uint64_t done, total, load_us;
	const char *source; /* "pack file", "converted", "parked", "shared"; literal */
	const struct err *err;
};

struct shelf_parts {
	const struct kernels *kernels; /* borrowed, as all here */
	struct pool *pool;
	struct pack_dir *packs; /* or NULL */
	struct kv_store *store; /* or NULL: what a batch loses is lost */
	int threads;            /* of one load */
	batch_event_fn *batch_event;
	void (*event)(void *arg, const struct shelf_event *ev);
	void *arg;
};

struct shelf;

struct shelf *shelf_new(const struct shelf_parts *p, struct err *e);
void shelf_free(struct shelf *s); /* waits for loads under way, cancelled; no events */

/* -1: what wire.h does not allow. */
int shelf_probe(struct shelf *s, int64_t id, const char *path, int ctx, int slots,
		struct err *e);
int shelf_load(struct shelf *s, int64_t id, const char *path, int ctx, int slots,
	       struct err *e);
int shelf_park(struct shelf *s, int64_t id, struct err *e);
/* An id that nobody knows is answered, too: its load may have failed while this was on its way. */
void shelf_unload(struct shelf *s, int64_t id);

/* All instances, for those who look for work: batch is NULL in those that have none. */
const struct instance_list *shelf_instances(const struct shelf *s);
struct instance *shelf_loaded(const struct shelf *s, int64_t id); /* LOADED, or NULL */
const struct model *instance_model(const struct instance *it);    /* once parsed */

int shelf_fd(const struct shelf *s);      /* readable: shelf_turn() has work */
int shelf_wait_ms(const struct shelf *s); /* until it has work anyway; -1: never */
void shelf_turn(struct shelf *s);

#endif
