/* Full-text search over what the conversations still reach.
 *
 * A store thread, beside the writer.  First the matches are ranked by id alone, then, best first, each
 * is looked at: who reaches it, and the text around it.  What to question is the way from a message to its
 * conversation: no path is walked from a head, that would be one for each conversation.  The
 * children are followed instead, the newest first, and the newest turn that asked or answered one of
 * them names the conversation; indexes alone know all of that.
 *
 * bm25 reads every match twice, so it ranks up to SEARCH_RANKED of them; when there are more, the words
 * are too common for it to say much, and the newest come first.
 */
#include "memory/store_impl.h"

#include "memory/search_query.h"
#include "memory/store_search.h"

enum {
	SEARCH_MAX_LIMIT = 200,
	SEARCH_RANKED = STORE_MAX_RANKED,
	SEARCH_NEAR = 16,         /* messages behind a hit that say whose it is */
	SEARCH_FAR = 1000000,     /* where those say nothing: imported without a turn */
	SEARCH_MARK_BYTES = 20,   /* 16 digits, two control characters, NUL */
	SEARCH_MAX_SNIPPET = 600, /* bytes: one word may be a megabyte */
	HASH_BYTES = 16,
};

struct candidate {
	int64_t id;
	double rank;
};

struct search_job {
	struct store_job job;
	store_hits_cb *cb;
	char *query, *conversation; /* owned */
	int limit;
	struct store_hit *hits; /* owned, with their strings */
	int n;
};

static char *column_dup(sqlite3_stmt *st, int col)
{
	const char *text = (const char *)sqlite3_column_text(st, col);

	return xstrdup(text ? text : "");
}

/* ---- the text around ---- */

/* What stands around a match in SQLite's answer: the text cannot know it, so it cannot forge it. */
struct marks {
	char open[SEARCH_MARK_BYTES], close[SEARCH_MARK_BYTES];
	size_t len;
};

static void make_marks(struct marks *m)
{
	uint64_t nonce;

	sqlite3_randomness(sizeof(nonce), &nonce);
	snprintf(m->open, sizeof(m->open), "\002%016llx\002", (unsigned long long)nonce);
	snprintf(m->close, sizeof(m->close), "\003%016llx\003",
		 (unsigned long long)nonce);
	m->len = strlen(m->open);
}

static bool at_mark(const char *p, const char *mark, size_t len)
{
	return *p == *mark && !strncmp(p, mark, len);
}

/* Ours become U+0002 and U+0003, the text's own control characters blanks; broken UTF-8 likewise. */
static char *clean_snippet(const char *p, const struct marks *m)
{
	struct buf b = {0};
	bool open = false;

	while (*p && b.len < SEARCH_MAX_SNIPPET) {
		bool opens = at_mark(p, m->open, m->len),
		     closes = at_mark(p, m->close, m->len);
		size_t n = opens || closes ? 0 : str_utf8_len((struct str){p, strlen(p)});

		if (opens || closes) {
			if (opens != open)
				buf_addc(&b, opens ? '\002' : '\003');
			open = opens;
			p += m->len;
		} else if (n == 0 || (unsigned char)*p < ' ' || *p == 0x7f) {
			buf_addc(&b, ' ');
			p++;
		} else {
			buf_add(&b, p, n);
			p += n;
		}
	}
	if (open)
		buf_addc(&b, '\003');
	if (*p)
		buf_adds(&b, "…");
	return b.data ? buf_take(&b, NULL) : xstrdup("");
}

/* ---- ranking ---- */

static int compare(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	return x->id > y->id ? -1 : x->id < y->id; /* of equals the newer */
}

/* Steps through (id, rank) to the end. */
static int gather(struct sql *q, sqlite3_stmt *st, struct candidate **out, size_t *n,
		  struct err *e)
{
	size_t cap = 0;
	int rc;

	free(*out);
	*out = NULL;
	while ((rc = sql_step(q, st, e)) == 1) {
		if (*n == cap) {
			cap = cap ? cap * 2 : 256;
			*out = xrealloc(*out, cap * sizeof(**out));
		}
		(*out)[(*n)++] = (struct candidate){sqlite3_column_int64(st, 0),
						    sqlite3_column_double(st, 1)};
	}
	return rc;
}

static int rank(struct sql *q, const struct search_job *j, const char *match,
		struct candidate **out, size_t *n, struct err *e)
{
	if (!j->conversation) {
		if (gather(q,
			   sql_bind(q, SQL_SEARCH_NEWEST, "si", match,
				    (int64_t)SEARCH_RANKED + 1),
			   out, n, e) < 0)
			return -1;
		if (*n > SEARCH_RANKED)
			return 0;
		*n = 0;
	}
	if (gather(q,
		   j->conversation
			   ? sql_bind(q, SQL_SEARCH_IN, "ss", match, j->conversation)
			   : sql_bind(q, SQL_SEARCH, "s", match),
		   out, n, e) < 0)
		return -1;
	if (*n > 0)
		qsort(*out, *n, sizeof(**out), compare);
	return 0;
}

/* ---- one hit ---- */

static int conversation_of(struct sql *q, sqlite3_stmt *st, struct store_hit *h,
			   struct err *e)
{
	int rc = sql_step(q, st, e);

	if (rc != 1)
		return rc;
	h->conversation = column_dup(st, 0);
	h->title = column_dup(st, 1);
	sqlite3_reset(st);
	return 1;
}

/* 1 and the conversation, 0 = nobody reaches it, -1.  Without a turn among the next messages it may
 * still be one that was imported, or appended, and never asked about. */
static int whose(struct sql *q, int64_t message, struct store_hit *h, struct err *e)
{
	int rc = conversation_of(
		q, sql_bind(q, SQL_SEARCH_TURN, "ii", message, (int64_t)SEARCH_NEAR), h,
		e);

	if (rc == 0)
		rc = conversation_of(
			q,
			sql_bind(q, SQL_SEARCH_TURN, "ii", message, (int64_t)SEARCH_FAR),
			h, e);
	if (rc == 0)
		rc = conversation_of(
			q,
			sql_bind(q, SQL_SEARCH_HEAD, "ii", message, (int64_t)SEARCH_FAR),
			h, e);
	return rc;
}

static int named(struct sql *q, const char *conversation, struct store_hit *h,
		 struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_SEARCH_NAMED, "s", conversation);
	int rc = sql_step(q, st, e);

	if (rc != 1)
		return rc;
	h->conversation = xstrdup(conversation);
	h->title = column_dup(st, 0);
	sqlite3_reset(st);
	return 1;
}

static int describe(struct sql *q, const char *match, int64_t message,
		    const struct marks *marks, struct store_hit *h, struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_SEARCH_SNIPPET, "siss", match, message,
				    marks->open, marks->close);
	char hash[STORE_HASH_TEXT_BYTES] = "";
	const unsigned char *bytes;
	int rc = sql_step(q, st, e);

	if (rc != 1)
		return rc;
	bytes = sqlite3_column_blob(st, 0);
	for (int i = 0; bytes && i < HASH_BYTES && i < sqlite3_column_bytes(st, 0); i++)
		snprintf(hash + 2 * i, 3, "%02x", bytes[i]);
	h->hash = xstrdup(hash);
	if (!role_by_name((const char *)sqlite3_column_text(st, 1), &h->role))
		h->role = ROLE_USER;
	h->created_ms = sqlite3_column_int64(st, 2);
	h->snippet = clean_snippet((const char *)sqlite3_column_text(st, 3), marks);
	sqlite3_reset(st);
	return 1;
}

static void free_hit(struct store_hit *h)
{
	free((char *)h->conversation);
	free((char *)h->title);
	free((char *)h->hash);
	free((char *)h->snippet);
	*h = (struct store_hit){0};
}

/* 1 when it is one that somebody reaches. */
static int make_hit(struct sql *q, const struct search_job *j, const char *match,
		    int64_t message, const struct marks *marks, struct store_hit *h,
		    struct err *e)
{
	int rc;

	rc = j->conversation ? named(q, j->conversation, h, e) : whose(q, message, h, e);
	if (rc == 1)
		rc = describe(q, match, message, marks, h, e);
	if (rc != 1)
		free_hit(h);
	return rc;
}

/* ---- the job ---- */

static int exists(struct sql *q, const char *conversation, struct err *e)
{
	struct store_hit h = {0};
	int rc = named(q, conversation, &h, e);

	free_hit(&h);
	if (rc == 0)
		return err_set(e, ERR_NOT_FOUND, "no conversation '%.40s'", conversation);
	return rc < 0 ? -1 : 0;
}

static int run_search(struct sql *q, struct store_job *job)
{
	struct search_job *j = (struct search_job *)job;
	struct candidate *list = NULL;
	struct buf match = {0};
	struct marks marks;
	size_t n = 0;
	int rc = search_query(str_of(j->query), &match, &job->err);

	make_marks(&marks);
	if (rc == 0 && j->conversation)
		rc = exists(q, j->conversation, &job->err);
	if (rc == 0)
		rc = rank(q, j, match.data, &list, &n, &job->err);
	j->hits = xcalloc((size_t)j->limit, sizeof(*j->hits));
	for (size_t i = 0; rc >= 0 && i < n && j->n < j->limit; i++) {
		struct store_hit *h = &j->hits[j->n];

		rc = make_hit(q, j, match.data, list[i].id, &marks, h, &job->err);
		h->rank = list[i].rank;
		j->n += rc == 1;
	}
	buf_free(&match);
	free(list);
	return rc < 0 ? -1 : 0;
}

static void tell_search(struct store_job *job)
{
	struct search_job *j = (struct search_job *)job;
	bool ok = job->err.code == ERR_NONE;

	j->cb(job->arg, &job->err, ok ? j->hits : NULL, ok ? j->n : 0);
}

static void free_search(struct store_job *job)
{
	struct search_job *j = (struct search_job *)job;

	for (int i = 0; i < j->n; i++)
		free_hit(&j->hits[i]);
	free(j->hits);
	free(j->query);
	free(j->conversation);
}

static const struct store_op search_op = {"search", STORE_ASIDE, run_search, tell_search,
					  free_search};

void store_search(struct store *s, const struct store_search_ask *ask, store_hits_cb *cb,
		  void *arg)
{
	struct search_job *j = store_job_new(sizeof(*j), &search_op, arg);
	size_t len = ask->query ? strlen(ask->query) : 0;

	j->cb = cb;
	/* one byte over the limit is enough to be refused by */
	j->query =
		store_copy(&j->job, ask->query,
			   len > STORE_MAX_QUERY_BYTES ? STORE_MAX_QUERY_BYTES + 1 : len);
	j->conversation = store_copy_or_null(&j->job, ask->conversation);
	j->limit = ask->limit < 1                  ? 1
		   : ask->limit > SEARCH_MAX_LIMIT ? SEARCH_MAX_LIMIT
						   : ask->limit;
	store_submit(s, &j->job);
}
