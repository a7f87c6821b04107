/* The file of the accounts: opened exclusively, checked, read once, then only written.
 *
 * Any thread, one at a time.  The question a reader will ask: why exclusively.  Memory holds the truth
 * and writes whole sums; two daemons on one file would each forget what the other spent.  WAL with
 * synchronous=FULL costs one wait for the disk per transaction, and a reservation waits for it. */
#include "route/money_store.h"

#include <dirent.h>
#include "base/log.h"
#include "base/sqlfile.h"
#include "route/money.h"

enum {
	MONEY_APPLICATION_ID = 0x686f6224, /* "hob$" */
	MONEY_VERSION = 1,
	BUSY_MS = 1000,
	READ_MAX = 4 * MONEY_MAX_ROWS, /* of each table: a forged file has no say */
};

static const char schema[] =
	"BEGIN IMMEDIATE;"
	"CREATE TABLE IF NOT EXISTS spent ("
	"provider TEXT NOT NULL, model TEXT NOT NULL, conversation TEXT NOT NULL,"
	"day INTEGER NOT NULL, requests INTEGER NOT NULL, tokens_in INTEGER NOT NULL,"
	"tokens_cached INTEGER NOT NULL, tokens_out INTEGER NOT NULL,"
	"cost_nanousd INTEGER NOT NULL, estimated_nanousd INTEGER NOT NULL,"
	"unpriced INTEGER NOT NULL,"
	"PRIMARY KEY (day, provider, model, conversation)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS conversation ("
	"id TEXT PRIMARY KEY NOT NULL, last_day INTEGER NOT NULL,"
	"spent_nanousd INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS hold ("
	"provider TEXT NOT NULL, model TEXT NOT NULL, conversation TEXT NOT NULL,"
	"request TEXT NOT NULL, id INTEGER PRIMARY KEY, day INTEGER NOT NULL,"
	"at_unix_ms INTEGER NOT NULL, most_nanousd INTEGER NOT NULL) STRICT;"
	"CREATE TABLE IF NOT EXISTS estimate ("
	"provider TEXT NOT NULL, model TEXT NOT NULL, conversation TEXT NOT NULL,"
	"request TEXT PRIMARY KEY NOT NULL, day INTEGER NOT NULL,"
	"at_unix_ms INTEGER NOT NULL, cost_nanousd INTEGER NOT NULL,"
	"tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL,"
	"unpriced INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE TABLE IF NOT EXISTS written ("
	"one INTEGER PRIMARY KEY CHECK (one = 1), at TEXT NOT NULL) STRICT;"
	"COMMIT";

static const struct verb {
	const char *sql;
	int texts, numbers;
} verbs[MONEY_VERBS] = {
	[MONEY_PUT_ROW] = {"INSERT OR REPLACE INTO spent VALUES "
			   "(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)",
			   3, 8},
	[MONEY_PUT_CONVERSATION] = {"INSERT OR REPLACE INTO conversation VALUES "
				    "(?1,?2,?3)",
				    1, 2},
	[MONEY_PUT_HOLD] =
		{"INSERT OR REPLACE INTO hold VALUES (?1,?2,?3,?4,?5,?6,?7,?8)", 4, 4},
	[MONEY_PUT_ESTIMATE] = {"INSERT OR REPLACE INTO estimate VALUES "
				"(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)",
				4, 6},
	[MONEY_DROP_ROW] = {"DELETE FROM spent WHERE provider=?1 AND model=?2 AND "
			    "conversation=?3 AND day=?4",
			    3, 1},
	[MONEY_DROP_CONVERSATION] = {"DELETE FROM conversation WHERE id=?1", 1, 0},
	[MONEY_DROP_HOLD] = {"DELETE FROM hold WHERE id=?1", 0, 1},
	[MONEY_DROP_ESTIMATE] = {"DELETE FROM estimate WHERE request=?1", 1, 0},
	/* written with exec: four statements */
	[MONEY_DROP_ALL] = {NULL, 0, 0},
};

static const char *const reads[MONEY_PUTS] = {
	[MONEY_PUT_ROW] = "SELECT * FROM spent ORDER BY day DESC LIMIT ?1",
	[MONEY_PUT_CONVERSATION] =
		"SELECT * FROM conversation ORDER BY last_day DESC LIMIT ?1",
	[MONEY_PUT_HOLD] = "SELECT * FROM hold ORDER BY id DESC LIMIT ?1",
	[MONEY_PUT_ESTIMATE] = "SELECT * FROM estimate ORDER BY at_unix_ms LIMIT ?1",
};

/* ---- lists of changes */

void money_ops_add(struct money_ops *o, const struct money_op *op)
{
	struct money_op *to;

	if (o->n == o->cap) {
		o->cap = o->cap ? 2 * o->cap : 16;
		o->list = xrealloc(o->list, (size_t)o->cap * sizeof *o->list);
	}
	to = &o->list[o->n++];
	*to = *op;
	for (int i = 0; i < MONEY_TEXTS; i++)
		to->text[i] = op->text[i] ? xstrdup(op->text[i]) : NULL;
}

void money_ops_free(struct money_ops *o)
{
	for (int i = 0; i < o->n; i++)
		for (int k = 0; k < MONEY_TEXTS; k++)
			free(o->list[i].text[k]);
	free(o->list);
	*o = (struct money_ops){0};
}

/* ---- opening */

/* The lock comes with the first transaction, here that of the schema, and stays. */
static int prepare(struct money_store *s, bool *newer)
{
	int rc = sqlite3_busy_timeout(s->db, BUSY_MS);

	rc = sqlfile_exec(s->db, rc, "PRAGMA locking_mode=EXCLUSIVE");
	if (rc == SQLITE_OK)
		rc = sqlfile_identify(s->db, MONEY_APPLICATION_ID, MONEY_VERSION, newer);
	if (*newer)
		return rc;
	rc = sqlfile_exec(s->db, rc, "PRAGMA journal_mode=WAL");
	rc = sqlfile_exec(s->db, rc, "PRAGMA synchronous=FULL");
	rc = sqlfile_exec(s->db, rc, "PRAGMA journal_size_limit=1048576");
	rc = sqlfile_exec(s->db, rc, schema);
	for (int i = 0; i < MONEY_VERBS && rc == SQLITE_OK; i++)
		if (verbs[i].sql)
			rc = sqlite3_prepare_v3(s->db, verbs[i].sql, -1,
						SQLITE_PREPARE_PERSISTENT, &s->st[i],
						NULL);
	return rc;
}

void money_store_close(struct money_store *s)
{
	for (int i = 0; i < MONEY_VERBS; i++) {
		sqlite3_finalize(s->st[i]);
		s->st[i] = NULL;
	}
	sqlite3_close(s->db);
	s->db = NULL;
}

static int open_file(struct money_store *s, bool *newer)
{
	int rc = sqlfile_connect(s->path, &s->db);

	*newer = false;
	if (rc == SQLITE_OK)
		rc = prepare(s, newer);
	if (rc != SQLITE_OK || *newer)
		money_store_close(s);
	return rc;
}

static bool set_aside(const char *path, const char *word)
{
	char *aside = sqlfile_set_aside(path, word, NULL);

	if (!aside)
		return false;
	log_error("money: the accounts in '%s' were damaged; set aside as '%s'", path,
		  aside);
	free(aside);
	return true;
}

static int sqlite_err(const char *path, int rc, struct err *e)
{
	if (sqlfile_is_damage(rc))
		return err_set(e, ERR_CORRUPT, "'%.200s' was damaged", path);
	if ((rc & 0xff) == SQLITE_FULL)
		return err_set(e, ERR_DISK_FULL, "'%.200s': the disk is full", path);
	if ((rc & 0xff) == SQLITE_BUSY)
		return err_set(e, ERR_CONFLICT, "'%.200s' is in use by another hob",
			       path);
	return err_set(e, ERR_IO, "'%.200s': %s", path, sqlite3_errstr(rc));
}

/* ---- reading */

static char *text_of(sqlite3_stmt *st, int column)
{
	const unsigned char *text = sqlite3_column_text(st, column);

	return text ? (char *)text : (char *)"";
}

static int read_table(sqlite3 *db, enum money_verb verb, struct money_ops *all)
{
	const struct verb *v = &verbs[verb];
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db, reads[verb], -1, &st, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int(st, 1, READ_MAX);
	while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		struct money_op op = {.verb = verb};

		for (int i = 0; i < v->texts; i++)
			op.text[i] = text_of(st, i);
		for (int i = 0; i < v->numbers; i++)
			op.n[i] = sqlite3_column_int64(st, v->texts + i);
		money_ops_add(all, &op);
		rc = SQLITE_OK;
	}
	sqlite3_finalize(st);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int open_and_read(struct money_store *s, struct money_ops *all, bool *newer)
{
	int rc = open_file(s, newer);

	for (int i = 0; i < MONEY_PUTS && rc == SQLITE_OK && !*newer; i++)
		rc = read_table(s->db, i, all);
	if (rc != SQLITE_OK) {
		money_store_close(s);
		money_ops_free(all);
	}
	return rc;
}

enum money_opened money_store_open(struct money_store *s, struct money_ops *all,
				   struct err *e)
{
	bool newer;
	int rc = open_and_read(s, all, &newer);

	if (sqlfile_is_damage(rc) && set_aside(s->path, s->whole ? "damaged" : "corrupt"))
		rc = open_and_read(s, all, &newer);
	if (rc == SQLITE_OK && !newer)
		return MONEY_OPENED;
	if (rc == SQLITE_OK) {
		err_set(e, ERR_UNSUPPORTED, "'%.200s' was written by a newer hob",
			s->path);
		return MONEY_NEWER;
	}
	sqlite_err(s->path, rc, e);
	return MONEY_NOT_OPEN;
}

bool money_store_was_corrupt(const char *path, char *name, size_t bytes)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash ? xstrndup(path, (size_t)(slash - path) + 1) : xstrdup("./");
	char *start = xasprintf("%s.corrupt-", slash ? slash + 1 : path);
	DIR *d = opendir(folder);
	struct dirent *f;
	bool found = false;

	while (d && !found && (f = readdir(d))) {
		found = !strncmp(f->d_name, start, strlen(start));
		if (found && name)
			snprintf(name, bytes, "%s%s", folder, f->d_name);
	}
	if (d)
		closedir(d);
	free(folder);
	free(start);
	return found;
}

/* ---- writing */

static int drop_all(sqlite3 *db)
{
	return sqlite3_exec(db,
			    "DELETE FROM spent; DELETE FROM conversation;"
			    "DELETE FROM hold; DELETE FROM estimate",
			    NULL, NULL, NULL);
}

static int apply(struct money_store *s, const struct money_op *op)
{
	const struct verb *v = &verbs[op->verb];
	sqlite3_stmt *st = s->st[op->verb];
	int rc;

	if (op->verb == MONEY_DROP_ALL)
		return drop_all(s->db);
	for (int i = 0; i < v->texts; i++)
		sqlite3_bind_text(st, i + 1, op->text[i] ? op->text[i] : "", -1,
				  SQLITE_STATIC);
	for (int i = 0; i < v->numbers; i++)
		sqlite3_bind_int64(st, v->texts + i + 1, op->n[i]);
	rc = sqlite3_step(st);
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int money_store_write(struct money_store *s, const struct money_ops *ops, struct err *e)
{
	int rc = sqlite3_exec(s->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);

	for (int i = 0; i < ops->n && rc == SQLITE_OK; i++)
		rc = apply(s, &ops->list[i]);
	/* Something is written in any case, so that an empty write tells whether writing works. */
	rc = sqlfile_exec(s->db, rc,
			  "INSERT OR REPLACE INTO written VALUES (1, datetime('now'))");
	rc = sqlfile_exec(s->db, rc, "COMMIT");
	if (rc == SQLITE_OK)
		return 0;
	if (!sqlite3_get_autocommit(s->db))
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	if (sqlfile_is_damage(rc)) {
		money_store_close(s);
		set_aside(s->path, "damaged");
	}
	return sqlite_err(s->path, rc, e);
}
