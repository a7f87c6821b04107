/* Reserving, mapping and unmapping the place of a model's weights.
 *
 * Huge pages either way: measured with SmolLM2 on one thread of a virtual machine, weights mapped in pages of 4 KiB
 * decode at 0.88 of the speed of anonymous huge pages, because each miss of the TLB walks two tables of pages.
 * Hence the alignment and the advice here, and pack_dir_maps_huge(). */
#include "engine/weights.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_BYTES ((size_t)2 << 20)

#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

static size_t range_bytes(const struct weights *w)
{
	return w->head_bytes + w->bytes;
}

int weights_reserve(struct weights *w, size_t bytes, struct err *e)
{
	size_t want, skip;
	uint8_t *p;

	*w = (struct weights){.head_bytes = pack_head_bytes(bytes), .bytes = bytes};
	want = pack_page_up(range_bytes(w));
	p = mmap(NULL, want + HUGE_BYTES, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return err_set(e, ERR_MEMORY, "no address space for %zu bytes of weights",
			       bytes);
	skip = (HUGE_BYTES - (uintptr_t)p % HUGE_BYTES) % HUGE_BYTES;
	if (skip)
		munmap(p, skip);
	munmap(p + skip + want, HUGE_BYTES - skip);
	w->base = p + skip;
	return 0;
}

uint8_t *weights_data(const struct weights *w)
{
	return w->base + w->head_bytes;
}

void weights_fini(struct weights *w)
{
	if (!w->base)
		return;
	pack_close(w->pack);
	munmap(w->base, pack_page_up(range_bytes(w)));
	*w = (struct weights){0};
}

int weights_anonymous(struct weights *w, struct err *e)
{
	size_t n = pack_page_up(range_bytes(w));
	void *p = mmap(w->base, n, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	ASSERT(w->kind == WEIGHTS_NONE);
	if (p == MAP_FAILED)
		return err_set(e, ERR_MEMORY, "no memory for %zu bytes of weights: %s",
			       w->bytes, strerror(errno));
	madvise(w->base, n, MADV_HUGEPAGE);
	w->kind = WEIGHTS_ANONYMOUS;
	return 0;
}

int weights_map(struct weights *w, struct pack *pack, struct err *e)
{
	size_t n = pack_bytes(pack);
	void *p;

	ASSERT(w->kind != WEIGHTS_PACK && n == range_bytes(w));
	p = mmap(w->base, n, PROT_READ, MAP_SHARED | MAP_FIXED, pack_fd(pack), 0);
	if (p == MAP_FAILED)
		return err_sys(e, errno, "mmap of a pack file");
	madvise(w->base, n, MADV_HUGEPAGE);
	w->kind = WEIGHTS_PACK;
	w->pack = pack;
	return 0;
}

void weights_drop(struct weights *w)
{
	void *p;

	if (w->kind == WEIGHTS_NONE)
		return;
	/* One call replaces the mapping, so the addresses are never free for another thread's. */
	p = mmap(w->base, pack_page_up(range_bytes(w)), PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	ASSERT(p != MAP_FAILED);
	pack_close(w->pack);
	w->pack = NULL;
	w->kind = WEIGHTS_NONE;
}

void weights_cold(struct weights *w)
{
	if (w->kind != WEIGHTS_NONE)
		madvise(w->base, pack_page_up(range_bytes(w)), MADV_COLD);
}

static void touch(const volatile uint8_t *p, size_t n)
{
	size_t step = (size_t)sysconf(_SC_PAGESIZE);

	for (size_t i = 0; i < n; i += step)
		(void)p[i];
}

bool weights_populate(struct weights *w, size_t at, size_t n)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t from = (uintptr_t)weights_data(w) + at, to = from + n;

	ASSERT(w->kind != WEIGHTS_NONE && at <= w->bytes && n <= w->bytes - at);
	from = from / page * page;
	if (madvise((void *)from, to - from, MADV_POPULATE_READ) == 0)
		return true;
	/* EINVAL: Linux before 5.14.  Anything else would be a SIGBUS for who touches it. */
	if (errno != EINVAL)
		return errno == EINTR || errno == EAGAIN || errno == ENOMEM;
	touch((const uint8_t *)from, to - from);
	return true;
}
