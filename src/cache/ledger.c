/* The measured sizes and times of models: rows in memory, and their copy in SQLite.
 *
 * Loop thread; the connection is used by one piece of work in the pool at a time and by
 * nobody else meanwhile.  The question a reader will ask: why all rows are in memory.
 * There are a few thousand small ones at most, the loop may not wait for a disk, and so a
 * broken or full disk costs nothing but the memory of a restart. */
#include "cache/ledger.h"

#include <errno.h>
#include <unistd.h>
#include "base/log.h"
#include "base/sqlfile.h"

enum {
	LEDGER_APPLICATION_ID = 0x686f624c, /* "hobL" */
	LEDGER_VERSION = 1,
	BUSY_MS = 1000,
};

struct slot {
	struct ledger_row row;
	bool dirty;
};

/* What one piece of work writes. */
struct batch {
	struct ledger_row *put; /* owned */
	struct ledger_key *drop;
	int nput, ndrop;
	int rc; /* of SQLite */
};

struct ledger {
	/* loop thread */
	uv_loop_t *loop;
	char *path; /* owned; NULL: memory only */
	struct slot *slots;
	int n, ndirty;
	struct ledger_key *dropped; /* owned: to be deleted from the file */
	int ndropped;
	bool writing, closing, told; /* told: of a failure, until a write succeeds */
	void (*done)(void *arg);
	void *done_arg;

	/* the work's while `writing`, else the loop's */
	sqlite3 *db; /* owned; NULL: not open */
	struct batch batch;
	uv_work_t work;
	uv_timer_t closer; /* so that done comes in a later turn */
};

static const char schema[] =
	"CREATE TABLE IF NOT EXISTS measured ("
	"dev INTEGER NOT NULL, ino INTEGER NOT NULL, bytes INTEGER NOT NULL,"
	"mtime_ms INTEGER NOT NULL, ctx INTEGER NOT NULL, slots INTEGER NOT NULL,"
	"backend INTEGER NOT NULL, kv_type TEXT NOT NULL,"
	"weights_bytes INTEGER NOT NULL, kv_bytes INTEGER NOT NULL,"
	"parked_bytes INTEGER NOT NULL, load_ms REAL NOT NULL, promote_ms REAL NOT NULL,"
	"lease_ms REAL NOT NULL, loads INTEGER NOT NULL, used_unix_ms INTEGER NOT NULL,"
	"PRIMARY KEY (dev, ino, bytes, mtime_ms, ctx, slots, backend, kv_type)"
	") STRICT, WITHOUT ROWID";

#define KEY_IS                                                                        \
	"dev=?1 AND ino=?2 AND bytes=?3 AND mtime_ms=?4 AND ctx=?5 AND slots=?6 AND " \
	"backend=?7 AND kv_type=?8"

/* ---- the file; any thread, one at a time */

/* A file of another version is as useless to us as a broken one, a newer hob's too. */
static int prepare(sqlite3 *db)
{
	bool newer;
	int rc;

	sqlite3_busy_timeout(db, BUSY_MS);
	/* What a power cut breaks is found by the check and measured again: not worth a wait
	 * for the disk at the daemon's start. */
	rc = sqlfile_exec(db, SQLITE_OK, "PRAGMA synchronous=OFF");
	if (rc == SQLITE_OK)
		rc = sqlfile_identify(db, LEDGER_APPLICATION_ID, LEDGER_VERSION, &newer);
	if (rc == SQLITE_OK && newer)
		rc = SQLITE_NOTADB;
	return sqlfile_exec(db, rc, schema);
}

static int open_file(struct ledger *l)
{
	int rc = sqlfile_connect(l->path, &l->db);

	if (rc == SQLITE_OK)
		rc = prepare(l->db);
	if (rc == SQLITE_OK)
		return rc;
	sqlite3_close(l->db);
	l->db = NULL;
	return rc;
}

static bool set_aside(const char *path)
{
	char *aside = sqlfile_set_aside(path, "corrupt", NULL);

	if (!aside)
		return false;
	log_warn("cache: the measured sizes in '%s' were damaged; set aside as '%s', and "
		 "begun anew",
		 path, aside);
	free(aside);
	return true;
}

static int open_or_renew(struct ledger *l)
{
	int rc = open_file(l);

	if (sqlfile_is_damage(rc) && set_aside(l->path))
		rc = open_file(l);
	return rc;
}

static void bind_key(sqlite3_stmt *st, const struct ledger_key *k)
{
	sqlite3_bind_int64(st, 1, (int64_t)k->dev);
	sqlite3_bind_int64(st, 2, (int64_t)k->ino);
	sqlite3_bind_int64(st, 3, (int64_t)k->bytes);
	sqlite3_bind_int64(st, 4, k->mtime_ms);
	sqlite3_bind_int(st, 5, k->ctx);
	sqlite3_bind_int(st, 6, k->slots);
	sqlite3_bind_int(st, 7, k->backend);
	sqlite3_bind_text(st, 8, k->kv_type, -1, SQLITE_STATIC);
}

static int step_once(sqlite3_stmt *st)
{
	int rc = sqlite3_step(st);

	sqlite3_reset(st);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int write_puts(sqlite3 *db, const struct batch *b)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db,
				    "INSERT OR REPLACE INTO measured VALUES (?1,?2,?3,?4,"
				    "?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16)",
				    -1, &st, NULL);

	for (int i = 0; i < b->nput && rc == SQLITE_OK; i++) {
		const struct ledger_row *r = &b->put[i];

		bind_key(st, &r->key);
		sqlite3_bind_int64(st, 9, (int64_t)r->weights_bytes);
		sqlite3_bind_int64(st, 10, (int64_t)r->kv_bytes);
		sqlite3_bind_int64(st, 11, (int64_t)r->parked_bytes);
		sqlite3_bind_double(st, 12, r->load_ms);
		sqlite3_bind_double(st, 13, r->promote_ms);
		sqlite3_bind_double(st, 14, r->lease_ms);
		sqlite3_bind_int64(st, 15, (int64_t)r->loads);
		sqlite3_bind_int64(st, 16, r->used_unix_ms);
		rc = step_once(st);
	}
	sqlite3_finalize(st);
	return rc;
}

static int write_drops(sqlite3 *db, const struct batch *b)
{
	sqlite3_stmt *st = NULL;
	int rc = SQLITE_OK;

	if (b->ndrop)
		rc = sqlite3_prepare_v2(db, "DELETE FROM measured WHERE " KEY_IS, -1, &st,
					NULL);
	for (int i = 0; i < b->ndrop && rc == SQLITE_OK; i++) {
		bind_key(st, &b->drop[i]);
		rc = step_once(st);
	}
	sqlite3_finalize(st);
	return rc;
}

static int write_batch(sqlite3 *db, const struct batch *b)
{
	int rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);

	if (rc == SQLITE_OK)
		rc = write_drops(db, b);
	if (rc == SQLITE_OK)
		rc = write_puts(db, b);
	rc = sqlfile_exec(db, rc, "COMMIT");
	if (rc != SQLITE_OK && !sqlite3_get_autocommit(db))
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

/* Pool thread (or the loop's when there is no loop). */
static void write_work(uv_work_t *req)
{
	struct ledger *l = req->data;
	struct batch *b = &l->batch;

	b->rc = l->db ? SQLITE_OK : open_or_renew(l);
	if (b->rc == SQLITE_OK)
		b->rc = write_batch(l->db, b);
	if (!sqlfile_is_damage(b->rc))
		return;
	sqlite3_close(l->db);
	l->db = NULL;
	if (set_aside(l->path))
		b->rc = open_file(l);
	if (b->rc == SQLITE_OK)
		b->rc = SQLITE_ABORT; /* begun anew: all rows are to be written again */
}

/* ---- reading, at the start */

static bool key_same(const struct ledger_key *a, const struct ledger_key *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->bytes == b->bytes &&
	       a->mtime_ms == b->mtime_ms && a->ctx == b->ctx && a->slots == b->slots &&
	       a->backend == b->backend && !strcmp(a->kv_type, b->kv_type);
}

static uint64_t not_negative(sqlite3_stmt *st, int column)
{
	int64_t v = sqlite3_column_int64(st, column);

	return v > 0 ? (uint64_t)v : 0;
}

static double sane_ms(sqlite3_stmt *st, int column)
{
	double v = sqlite3_column_double(st, column);

	return v > 0 && v < 1e9 ? v : 0;
}

static struct ledger_row read_row(sqlite3_stmt *st)
{
	const char *kv_type = (const char *)sqlite3_column_text(st, 7);
	struct ledger_row r = {.key = {.dev = (uint64_t)sqlite3_column_int64(st, 0),
				       .ino = (uint64_t)sqlite3_column_int64(st, 1),
				       .bytes = (uint64_t)sqlite3_column_int64(st, 2),
				       .mtime_ms = sqlite3_column_int64(st, 3),
				       .ctx = sqlite3_column_int(st, 4),
				       .slots = sqlite3_column_int(st, 5),
				       .backend = sqlite3_column_int(st, 6)},
			       .weights_bytes = not_negative(st, 8),
			       .kv_bytes = not_negative(st, 9),
			       .parked_bytes = not_negative(st, 10),
			       .load_ms = sane_ms(st, 11),
			       .promote_ms = sane_ms(st, 12),
			       .lease_ms = sane_ms(st, 13),
			       .loads = not_negative(st, 14),
			       .used_unix_ms = sqlite3_column_int64(st, 15)};

	snprintf(r.key.kv_type, sizeof r.key.kv_type, "%s", kv_type ? kv_type : "");
	return r;
}

static int read_rows(struct ledger *l)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(
		l->db, "SELECT * FROM measured ORDER BY used_unix_ms DESC LIMIT ?1", -1,
		&st, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int(st, 1, LEDGER_MAX_ROWS);
	while (rc == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
		l->slots[l->n++].row = read_row(st);
	sqlite3_finalize(st);
	return rc;
}

static void tell(struct ledger *l, int rc)
{
	if (l->told)
		return;
	l->told = true;
	log_warn("cache: measured sizes are not kept in '%s': %s; they stay in memory",
		 l->path, sqlite3_errstr(rc));
}

/* ---- writing, as it becomes known */

static void take_batch(struct ledger *l)
{
	struct batch *b = &l->batch;

	*b = (struct batch){.drop = l->dropped, .ndrop = l->ndropped};
	l->dropped = NULL;
	l->ndropped = 0;
	b->put = xcalloc((size_t)l->ndirty + 1, sizeof *b->put);
	for (int i = 0; i < l->n; i++) {
		if (l->slots[i].dirty)
			b->put[b->nput++] = l->slots[i].row;
		l->slots[i].dirty = false;
	}
	l->ndirty = 0;
}

/* After a failure the rows wait for the next put, not for a timer: a full disk would
 * otherwise be tried again and again. */
static void batch_done(struct ledger *l)
{
	struct batch *b = &l->batch;
	bool anew = b->rc == SQLITE_ABORT;

	if (b->rc == SQLITE_OK)
		l->told = false;
	else if (!anew)
		tell(l, b->rc);
	for (int i = 0; i < l->n; i++) {
		struct slot *s = &l->slots[i];
		bool again = anew;

		for (int k = 0; k < b->nput && b->rc != SQLITE_OK && !again; k++)
			again = key_same(&b->put[k].key, &s->row.key);
		if (again && !s->dirty) {
			s->dirty = true;
			l->ndirty++;
		}
	}
	free(b->put);
	free(b->drop);
	*b = (struct batch){.rc = b->rc};
}

static void ledger_free(struct ledger *l)
{
	sqlite3_close(l->db);
	free(l->dropped);
	free(l->slots);
	free(l->path);
	free(l);
}

static void on_closed(uv_handle_t *h)
{
	struct ledger *l = h->data;
	void (*done)(void *arg) = l->done;
	void *arg = l->done_arg;

	ledger_free(l);
	if (done)
		done(arg);
}

static void flush(struct ledger *l);

static void on_written(uv_work_t *req, int status)
{
	struct ledger *l = req->data;
	bool ok;

	UNUSED(status);
	l->writing = false;
	batch_done(l);
	ok = l->batch.rc == SQLITE_OK || l->batch.rc == SQLITE_ABORT;
	if (ok && (l->ndirty || l->ndropped))
		flush(l);
	else if (l->closing)
		uv_close((uv_handle_t *)&l->closer, on_closed);
}

static void flush(struct ledger *l)
{
	if (!l->path || l->writing || (!l->ndirty && !l->ndropped))
		return;
	take_batch(l);
	l->work.data = l;
	if (!l->loop) {
		write_work(&l->work);
		batch_done(l);
		return;
	}
	l->writing = true;
	uv_queue_work(l->loop, &l->work, write_work, on_written);
}

/* ---- the interface */

struct ledger *ledger_new(uv_loop_t *loop, const char *path)
{
	struct ledger *l = xcalloc(1, sizeof *l);
	int rc;

	l->loop = loop;
	l->path = path ? xstrdup(path) : NULL;
	l->slots = xcalloc(LEDGER_MAX_ROWS, sizeof *l->slots);
	if (loop) {
		uv_timer_init(loop, &l->closer);
		uv_unref((uv_handle_t *)&l->closer);
		l->closer.data = l;
	}
	/* Where there is none yet, the first write makes it, on its own thread. */
	if (!path || (access(path, F_OK) < 0 && errno == ENOENT))
		return l;
	rc = open_or_renew(l);
	if (rc == SQLITE_OK)
		rc = read_rows(l);
	if (rc != SQLITE_OK)
		tell(l, rc);
	return l;
}

void ledger_close(struct ledger *l, void (*done)(void *arg), void *arg)
{
	if (!l) {
		if (done)
			done(arg);
		return;
	}
	l->closing = true;
	l->done = done;
	l->done_arg = arg;
	flush(l);
	if (!l->loop) {
		ledger_free(l);
		if (done)
			done(arg);
	} else if (!l->writing) {
		uv_close((uv_handle_t *)&l->closer, on_closed);
	}
}

static struct slot *find(const struct ledger *l, const struct ledger_key *key)
{
	for (int i = 0; i < l->n; i++)
		if (key_same(&l->slots[i].row.key, key))
			return &l->slots[i];
	return NULL;
}

const struct ledger_row *ledger_find(const struct ledger *l, const struct ledger_key *key)
{
	const struct slot *s = find(l, key);

	return s ? &s->row : NULL;
}

const struct ledger_row *ledger_near(const struct ledger *l, const struct ledger_key *key)
{
	const struct ledger_row *best = NULL;

	for (int i = 0; i < l->n; i++) {
		const struct ledger_row *r = &l->slots[i].row;

		if (r->key.dev == key->dev && r->key.ino == key->ino &&
		    r->key.bytes == key->bytes && r->key.mtime_ms == key->mtime_ms &&
		    r->key.backend == key->backend &&
		    (!best || r->used_unix_ms > best->used_unix_ms))
			best = r;
	}
	return best;
}

static struct slot *replace_oldest(struct ledger *l)
{
	struct slot *oldest = &l->slots[0];

	for (int i = 1; i < l->n; i++)
		if (l->slots[i].row.used_unix_ms < oldest->row.used_unix_ms)
			oldest = &l->slots[i];
	if (l->path && l->ndropped < LEDGER_MAX_ROWS) {
		l->dropped = xrealloc(l->dropped,
				      (size_t)(l->ndropped + 1) * sizeof *l->dropped);
		l->dropped[l->ndropped++] = oldest->row.key;
	}
	l->ndirty -= oldest->dirty;
	oldest->dirty = false;
	return oldest;
}

void ledger_put(struct ledger *l, const struct ledger_row *row)
{
	struct slot *s = find(l, &row->key);

	if (!s)
		s = l->n < LEDGER_MAX_ROWS ? &l->slots[l->n++] : replace_oldest(l);
	s->row = *row;
	if (!s->dirty)
		l->ndirty++;
	s->dirty = true;
	flush(l);
}

int ledger_count(const struct ledger *l)
{
	return l->n;
}

const struct ledger_row *ledger_at(const struct ledger *l, int i)
{
	ASSERT(i >= 0 && i < l->n);
	return &l->slots[i].row;
}
