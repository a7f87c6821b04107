/* The disk thread: one order after the other, on the files of one folder.
 *
 * The struct's fields are grouped by owner.  The folder is the truth and other engines may write to it: before
 * each write it is listed again if it changed, and what appeared or went is told.  A reader may question one
 * thread for reads and writes: a job that waits for its KV may wait for a write before it; that is at most
 * one file, since reads overtake writes that have not begun. */
#include "engine/kv_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

struct kv_disk {
	struct queue in, out;
	int event;        /* counts answers */
	atomic_bool stop; /* main thread sets */
	pthread_t thread;

	/* disk thread */
	int dir;
	struct kv_key known[KV_DISK_MAX_FILES]; /* told to the asker */
	bool seen[KV_DISK_MAX_FILES];
	int nknown;
	struct timespec changed; /* of the folder, when last listed or changed by us */
	bool complained;         /* a full disk is told once until a write succeeds */
};

static void answer(struct kv_disk *d, struct kv_order *o)
{
	uint64_t one = 1;

	queue_push(&d->out, &o->item);
	if (write(d->event, &one, sizeof(one)) < 0)
		log_error("kv: eventfd: %s", strerror(errno));
}

static void tell(struct kv_disk *d, enum kv_order_kind kind, struct kv_key id,
		 const struct kv_file_info *info)
{
	struct kv_order *o = xcalloc(1, sizeof(*o));

	o->kind = kind;
	o->id = id;
	if (info)
		o->info = *info;
	answer(d, o);
}

/* --- what is known of the folder --------------------------------------------------------------- */

static int find_known(const struct kv_disk *d, struct kv_key id)
{
	for (int i = 0; i < d->nknown; i++)
		if (kv_key_eq(d->known[i], id))
			return i;
	return -1;
}

static void forget(struct kv_disk *d, struct kv_key id)
{
	int i = find_known(d, id);

	if (i < 0)
		return;
	d->known[i] = d->known[--d->nknown];
	d->seen[i] = d->seen[d->nknown];
}

static void learn(struct kv_disk *d, struct kv_key id)
{
	if (find_known(d, id) < 0 && d->nknown < KV_DISK_MAX_FILES) {
		d->seen[d->nknown] = true;
		d->known[d->nknown++] = id;
	}
}

/* What can never be used goes; what could not be read now stays. */
static bool refuse(struct kv_disk *d, struct kv_key id, const struct err *e)
{
	char name[KV_FILE_NAME_BYTES];

	if (e->code != ERR_CORRUPT && e->code != ERR_UNSUPPORTED)
		return false;
	kv_file_name(id, name);
	log_warn("kv: %s: %s; removed", name, e->text);
	kv_file_remove(d->dir, id);
	return true;
}

static void look_at(struct kv_disk *d, const char *name)
{
	struct kv_file_info info;
	struct err e = {0};
	struct kv_key id;
	int i;

	if (kv_file_sweep(d->dir, name) || !kv_file_id(name, &id))
		return;
	i = find_known(d, id);
	if (i >= 0) {
		d->seen[i] = true;
		return;
	}
	if (d->nknown == KV_DISK_MAX_FILES)
		return;
	if (kv_file_peek(d->dir, id, &info, &e) < 0) {
		refuse(d, id, &e);
		return;
	}
	learn(d, id);
	tell(d, KV_FOUND, id, &info);
}

static void note_change(struct kv_disk *d)
{
	struct stat st;

	if (fstat(d->dir, &st) == 0)
		d->changed = st.st_mtim;
}

static bool unchanged(const struct kv_disk *d)
{
	struct stat st;

	return fstat(d->dir, &st) == 0 && st.st_mtim.tv_sec == d->changed.tv_sec &&
	       st.st_mtim.tv_nsec == d->changed.tv_nsec;
}

static void scan(struct kv_disk *d)
{
	int fd = openat(d->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;

	if (!list) {
		log_warn("kv: list the folder: %s", strerror(errno));
		if (fd >= 0)
			close(fd);
		return;
	}
	memset(d->seen, 0, sizeof(d->seen));
	while (!atomic_load(&d->stop) && (entry = readdir(list)) != NULL)
		look_at(d, entry->d_name);
	closedir(list);
	for (int i = d->nknown - 1; i >= 0 && !atomic_load(&d->stop); i--)
		if (!d->seen[i]) {
			struct kv_key id = d->known[i];

			forget(d, id);
			tell(d, KV_GONE, id, NULL);
		}
	note_change(d);
}

/* --- orders -------------------------------------------------------------------------------------- */

static void do_write(struct kv_disk *d, struct kv_order *o)
{
	if (!unchanged(d))
		scan(d);
	if (kv_file_write(d->dir, o->form, o->tokens, o->n, o->rows, o->hits, &d->stop,
			  &o->info.file_bytes, &o->err) == 0) {
		learn(d, o->id);
		d->complained = false;
	} else if (o->err.code != ERR_CANCELLED && !d->complained) {
		log_warn("kv: saving to disk: %s; state stays in memory only",
			 o->err.text);
		d->complained = true;
	}
	note_change(d);
}

static void do_read(struct kv_disk *d, struct kv_order *o)
{
	if (kv_file_read(d->dir, o->id, o->rows, o->bytes, &d->stop, &o->err) == 0)
		return;
	if (refuse(d, o->id, &o->err))
		note_change(d);
	forget(d, o->id);
}

static void carry_out(struct kv_disk *d, struct kv_order *o)
{
	switch (o->kind) {
	case KV_WRITE:
		do_write(d, o);
		break;
	case KV_READ:
		do_read(d, o);
		break;
	case KV_REMOVE:
		kv_file_remove(d->dir, o->id);
		forget(d, o->id);
		note_change(d);
		break;
	case KV_SCAN:
		scan(d);
		o->kind = KV_SCANNED;
		break;
	default:
		ASSERT(!"an order");
	}
	answer(d, o);
}

static struct kv_order *order_of(struct queue_item *it)
{
	return it ? CONTAINER_OF(it, struct kv_order, item) : NULL;
}

static void append(struct queue_item **list, struct queue_item *chain)
{
	while (*list)
		list = &(*list)->next;
	*list = chain;
}

/* Reads overtake writes; they never overtake a removal or a scan, and nothing else changes its place. */
static struct kv_order *next_order(struct queue_item **list)
{
	struct queue_item **p = list, *it;

	while (*p && order_of(*p)->kind == KV_WRITE)
		p = &(*p)->next;
	if (!*p || order_of(*p)->kind != KV_READ)
		p = list;
	it = *p;
	*p = it->next;
	return order_of(it);
}

static void free_chain(struct queue_item *list)
{
	while (list) {
		struct kv_order *o = order_of(list);

		list = list->next;
		if (o->kind == KV_FOUND)
			kv_file_info_fini(&o->info);
		free(o);
	}
}

/* At the end: removing takes no time, and what is not removed would be found again. */
static void remove_all(struct kv_disk *d, struct queue_item *list)
{
	for (; list; list = list->next)
		if (order_of(list)->kind == KV_REMOVE)
			kv_file_remove(d->dir, order_of(list)->id);
}

static void *disk_main(void *arg)
{
	struct kv_disk *d = arg;
	struct queue_item *list = NULL;

	for (;;) {
		append(&list, list ? queue_take_all(&d->in) : queue_wait_all(&d->in));
		if (!list || atomic_load(&d->stop))
			break;
		carry_out(d, next_order(&list));
	}
	append(&list, queue_take_all(&d->in));
	remove_all(d, list);
	free_chain(list);
	return NULL;
}

/* --- for the asker ---------------------------------------------------------------------------------- */

struct kv_disk *kv_disk_new(int dir)
{
	struct kv_disk *d = xcalloc(1, sizeof(*d));
	sigset_t all, old;

	d->dir = dir;
	d->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ASSERT(d->event >= 0);
	queue_init(&d->in, 0);
	queue_init(&d->out, 0);
	/* Signals are the main thread's; SIGXFSZ would kill us where a write may simply fail. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ASSERT(pthread_create(&d->thread, NULL, disk_main, d) == 0);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return d;
}

void kv_disk_free(struct kv_disk *d)
{
	if (!d)
		return;
	atomic_store(&d->stop, true);
	queue_close(&d->in);
	pthread_join(d->thread, NULL);
	free_chain(queue_take_all(&d->in));
	free_chain(queue_take_all(&d->out));
	queue_fini(&d->in);
	queue_fini(&d->out);
	close(d->event);
	close(d->dir);
	free(d);
}

int kv_disk_fd(const struct kv_disk *d)
{
	return d->event;
}

void kv_disk_ask(struct kv_disk *d, const struct kv_order *o)
{
	struct kv_order *mine = xmalloc(sizeof(*mine));

	*mine = *o;
	ASSERT(queue_push(&d->in, &mine->item));
}

void kv_disk_take(struct kv_disk *d, void (*fn)(void *arg, struct kv_order *o), void *arg)
{
	struct queue_item *list;
	uint64_t n;

	if (read(d->event, &n, sizeof(n)) < 0 && errno != EAGAIN)
		log_error("kv: eventfd: %s", strerror(errno));
	list = queue_take_all(&d->out);
	while (list) {
		struct kv_order *o = order_of(list);

		list = list->next;
		fn(arg, o);
		free(o);
	}
}
