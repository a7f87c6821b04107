/* Who crashed how often in a row: back-off, and the breaker after LLAMA_MAX_CRASHES.
 *
 * Loop thread.  A row belongs to a file, not to a load: ids change with each of them.  Few
 * rows are kept, the oldest goes: what it would have told is found out again by one crash. */
#include "providers/llama_server_impl.h"

#include "base/clock.h"

static struct crash_row *row_find(const struct llama_servers *l, const char *path)
{
	struct crash_row *r;

	TAILQ_FOREACH(r, &l->crashes, link)
	if (!strcmp(r->path, path))
		return r;
	return NULL;
}

static void row_free(struct llama_servers *l, struct crash_row *r)
{
	TAILQ_REMOVE(&l->crashes, r, link);
	l->ncrash_rows--;
	free(r->path);
	free(r);
}

static uint64_t pause_ms(unsigned in_a_row)
{
	uint64_t ms = LLAMA_BREAK_MIN_MS;

	if (in_a_row < LLAMA_MAX_CRASHES)
		return in_a_row == 1 ? LLAMA_BACKOFF_MIN_MS : LLAMA_BACKOFF_MAX_MS;
	for (unsigned i = LLAMA_MAX_CRASHES; i < in_a_row && ms < LLAMA_BREAK_MAX_MS; i++)
		ms *= 2;
	return ms < LLAMA_BREAK_MAX_MS ? ms : LLAMA_BREAK_MAX_MS;
}

void crash_note(struct llama_server *s, const char *why)
{
	struct llama_servers *l = s->all;
	struct crash_row *r = row_find(l, s->path);

	l->ncrashes++;
	if (r) {
		TAILQ_REMOVE(&l->crashes, r, link);
	} else {
		r = xcalloc(1, sizeof *r);
		r->path = xstrdup(s->path);
		l->ncrash_rows++;
	}
	TAILQ_INSERT_HEAD(&l->crashes, r, link);
	r->file_bytes = s->file_bytes;
	r->mtime_ns = s->mtime_ns;
	r->in_a_row++;
	r->retry_ms = clock_mono_ms() + pause_ms(r->in_a_row);
	snprintf(r->why, sizeof r->why, "%s", why);
	if (l->ncrash_rows > LLAMA_MAX_CRASH_ROWS)
		row_free(l, TAILQ_LAST(&l->crashes, crash_list));
}

void crash_forget(struct llama_server *s)
{
	struct crash_row *r = row_find(s->all, s->path);

	if (r)
		row_free(s->all, r);
}

int64_t crash_wait(struct llama_server *s, struct err *e)
{
	const struct crash_row *r = row_find(s->all, s->path);
	uint64_t now = clock_mono_ms();
	unsigned seconds;

	if (!r || now >= r->retry_ms)
		return 0;
	if (r->file_bytes != s->file_bytes || r->mtime_ns != s->mtime_ns) {
		crash_forget(s);
		return 0;
	}
	if (r->in_a_row < LLAMA_MAX_CRASHES)
		return (int64_t)(r->retry_ms - now);
	seconds = (unsigned)((r->retry_ms - now + 999) / 1000);
	err_set(e, ERR_UNAVAILABLE,
		"%s of '%.100s' failed %u times in a row (%.200s); it is tried again in "
		"%u s",
		s->kind->name, s->name, r->in_a_row, r->why, seconds);
	e->retry_after_ms = 1000 * seconds;
	return -1;
}

void crash_free(struct llama_servers *l)
{
	while (!TAILQ_EMPTY(&l->crashes))
		row_free(l, TAILQ_FIRST(&l->crashes));
}
