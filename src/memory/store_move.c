/* Conversations come into the store as JSON lines: a stranger's file, all of it or nothing.
 *
 * move_tree.c has checked what the lines say before anything is written here: hashes, roles, parents,
 * order.  The decision to question: a conversation whose id is taken is `known` when what is here has
 * reached the file's head already, however far it has gone on since; then only what is missing of its
 * branches and turns is added.  Otherwise it gets an id that follows from its own and its head, so that
 * the same file leads to the same conversation again. */
#include "memory/store_impl.h"

#include <math.h>
#include <sha2.h>
#include "base/clock.h"
#include "memory/move_tree.h"
#include "memory/store_move.h"
#include "memory/tree.h"
#include "memory/ulid.h"

enum { MAX_RENAMES = 8, DAY_MS = 86400000 };

struct fork { /* a conversation that may be a fork of one that comes later */
	char id[CONVERSATION_ID_BYTES], from[CONVERSATION_ID_BYTES];
};

struct import_job {
	struct store_job job;
	store_import_cb *cb;
	struct str lines; /* owned */
	struct store_imported done;
	char last[CONVERSATION_ID_BYTES];
	struct fork *forks; /* owned */
	int nforks, cap;
};

/* One conversation on its way in. */
struct coming {
	const struct move_tree *tree;
	char id[CONVERSATION_ID_BYTES];
	bool known;
	int64_t *rows; /* owned: of the tree's nodes */
};

/* ---- ids ---- */

/* The time in front of `id` and a hash of it and of the head behind; `early`: no time, since that of the
 * id is not to be believed. */
static void rename_to(char id[CONVERSATION_ID_BYTES], const char *head, bool early)
{
	static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
	uint8_t sum[SHA256_DIGEST_LENGTH];
	SHA2_CTX ctx;

	SHA256Init(&ctx);
	SHA256Update(&ctx, (const uint8_t *)id, strlen(id) + 1);
	SHA256Update(&ctx, (const uint8_t *)head, strlen(head));
	SHA256Final(sum, &ctx);
	for (int i = 0; early && i < 10; i++)
		id[i] = '0';
	for (int i = 10; i < CONVERSATION_ID_BYTES - 1; i++)
		id[i] = digits[sum[i - 10] & 31];
}

/* 1 when the conversation is here and has reached the head; 0 when it is here and has not; 2: it is not
 * here. */
static int look(struct sql *q, const char *id, int64_t head, struct err *e)
{
	sqlite3_stmt *st = sql_bind(q, SQL_SESSION_HEAD, "s", id);
	int64_t row = 0;
	int rc = sql_run_int(q, st, &row, e);

	if (rc <= 0)
		return rc < 0 ? -1 : 2;
	if (head == row)
		return 1;
	return head ? sql_run_int(q, sql_bind(q, SQL_SESSION_REACHES, "si", id, head),
				  &row, e)
		    : 1;
}

static int add_fork(struct import_job *j, const char *id, const char *from)
{
	struct fork *f;

	if (j->nforks == j->cap) {
		j->cap = j->cap ? j->cap * 2 : 16;
		j->forks = xrealloc(j->forks, (size_t)j->cap * sizeof(*j->forks));
	}
	f = &j->forks[j->nforks++];
	snprintf(f->id, sizeof(f->id), "%s", id);
	snprintf(f->from, sizeof(f->from), "%s", from);
	return 0;
}

/* Which conversation it becomes: its own id, where that is free or stands for the same. */
static int choose_id(struct sql *q, struct import_job *j, struct coming *c, struct err *e)
{
	const struct move_conversation *h = &c->tree->header.conversation;
	int64_t head = c->tree->head < 0 ? 0 : c->rows[c->tree->head];
	int found = 0;

	snprintf(c->id, sizeof(c->id), "%s", h->id);
	/* what is in memory only has ids of its own, and new ids come behind all that are here */
	if (store_is_incognito(c->id) || ulid_ms(c->id) > clock_unix_ms() + DAY_MS)
		rename_to(c->id, h->head, true);
	for (int i = 0; i < MAX_RENAMES; i++) {
		found = look(q, c->id, head, e);
		if (found != 0)
			break;
		rename_to(c->id, h->head, false);
	}
	if (found < 0)
		return -1;
	if (found == 0)
		return err_set(e, ERR_CONFLICT, "conversation '%s': no free id", h->id);
	c->known = found == 1;
	if (c->known)
		return 0;
	if (h->forked_from)
		return add_fork(j, c->id, h->forked_from);
	return strcmp(c->id, h->id) ? add_fork(j, c->id, h->id) : 0;
}

/* ---- nodes ---- */

/* The same as for what is said here: memory.max_message and max_attachment. */
static int within_limits(const struct sql *q, const struct move_message *m, struct err *e)
{
	uint64_t text = q->max_message_bytes, more = q->max_attachment_bytes;

	if (text && (strlen(m->text) > text ||
		     (more && m->raw_json && strlen(m->raw_json) > text + more)))
		return err_set(e, ERR_TOO_LARGE,
			       "a message of %zu bytes is not kept: max_message and "
			       "max_attachment are %llu and %llu",
			       m->parts.len, (unsigned long long)text,
			       (unsigned long long)more);
	return 0;
}

static int put_node(struct sql *q, struct import_job *j, struct coming *c, int at,
		    struct err *e)
{
	const struct move_node *n = &c->tree->nodes[at];
	const struct move_message *m = &n->line.message;
	int64_t parent = n->parent < 0 ? 0 : c->rows[n->parent];
	sqlite3_stmt *st =
		sql_bind(q, SQL_MESSAGE_FIND, "b", (void *)m->hash, MOVE_HASH_BYTES);
	int rc = sql_run_int(q, st, &c->rows[at], e);

	if (rc != 0)
		return rc < 0 ? -1 : 0;
	if (within_limits(q, m, e) < 0)
		return -1;
	j->done.messages++;
	return tree_insert(q, m->hash, parent,
			   &(struct tree_node){.role = role_name(m->role),
					       .parts = m->parts,
					       .reasoning = m->reasoning},
			   m->created_ms, &c->rows[at], e);
}

/* ---- turns ---- */

static int64_t row_of(const struct coming *c, const char *hash)
{
	int at = move_tree_find(c->tree, hash);

	return at < 0 ? 0 : c->rows[at];
}

/* 1: it is here.  *named: its request's name is free. */
static int turn_known(struct sql *q, const struct coming *c, const struct store_turn *t,
		      bool *named, struct err *e)
{
	int64_t same = 0;
	int rc = 0;

	*named = false;
	if (*t->request) {
		rc = sql_run_int(
			q, sql_bind(q, SQL_MOVE_TURN_SESSION, "ss", t->request, c->id),
			&same, e);
		*named = rc == 0;
	}
	if (rc < 0 || same)
		return rc < 0 ? -1 : 1;
	if (!c->known)
		return 0;
	return sql_run_int(q,
			   sql_bind(q, SQL_MOVE_TURN_LIKE, "siIis", c->id,
				    row_of(c, t->prompt), row_of(c, t->reply),
				    t->created_ms, t->status),
			   &same, e);
}

static int put_turn(struct sql *q, const struct coming *c, const struct move_turn *turn,
		    struct err *e)
{
	const struct store_turn *t = &turn->row;
	int64_t cost = t->cost_usd < 0 ? -1 : (int64_t)llround(t->cost_usd * 1e9);
	sqlite3_stmt *st;
	bool named;
	int rc = turn_known(q, c, t, &named, e);

	if (rc != 0)
		return rc < 0 ? -1 : 0;
	st = sql_bind(q, SQL_MOVE_TURN_ADD, "isIiIsssssnnnnnIis", ++q->last_turn, c->id,
		      row_of(c, t->base), row_of(c, t->prompt), row_of(c, t->reply),
		      t->status, t->model, t->provider, turn->partial, t->error,
		      t->tokens_in, t->tokens_cached, t->tokens_out, t->ttft_ms,
		      t->total_ms, cost, t->created_ms, named ? t->request : NULL);
	if (st && cost == 0) /* 'I' makes 0 NULL: free of charge is not unknown */
		sqlite3_bind_int64(st, 16, 0);
	return sql_run(q, st, e);
}

/* Leaves that neither the head nor a turn reaches would be nobody's. */
static int put_tips(struct sql *q, const struct coming *c, struct err *e)
{
	const struct move_tree *t = c->tree;
	bool *reached = xcalloc((size_t)t->n + 1, sizeof(*reached));
	int rc = 0;

	if (t->head >= 0)
		reached[t->head] = true;
	for (int i = 0; i < t->nturns; i++) {
		const struct store_turn *r = &t->turns[i].turn.row;
		const int at[] = {move_tree_find(t, r->base),
				  move_tree_find(t, r->prompt),
				  move_tree_find(t, r->reply)};

		for (size_t k = 0; k < ARRAY_LEN(at); k++)
			if (at[k] >= 0)
				reached[at[k]] = true;
	}
	for (int i = 0; rc == 0 && i < t->n; i++)
		if (t->nodes[i].is_leaf && !reached[i])
			rc = sql_run(q, sql_bind(q, SQL_TIP_ADD, "si", c->id, c->rows[i]),
				     e);
	free(reached);
	return rc;
}

/* ---- conversations ---- */

static int put_conversation(struct sql *q, struct coming *c, struct err *e)
{
	const struct move_conversation *h = &c->tree->header.conversation;
	int64_t head = c->tree->head < 0 ? 0 : c->rows[c->tree->head];

	return sql_run(q,
		       sql_bind(q, SQL_MOVE_SESSION_ADD, "ssssIiiiis", c->id, h->title,
				h->title_by, h->model, head, (int64_t)h->pinned,
				(int64_t)h->is_private, h->created_ms, h->updated_ms,
				h->metadata),
		       e);
}

static int put_tree(struct sql *q, struct import_job *j, struct coming *c, struct err *e)
{
	for (int i = 0; i < c->tree->n; i++)
		if (put_node(q, j, c, i, e) < 0)
			return -1;
	if (choose_id(q, j, c, e) < 0 || (!c->known && put_conversation(q, c, e) < 0))
		return -1;
	for (int i = 0; i < c->tree->nturns; i++)
		if (put_turn(q, c, &c->tree->turns[i].turn, e) < 0)
			return -1;
	if (put_tips(q, c, e) < 0)
		return -1;
	*(c->known ? &j->done.known : &j->done.conversations) += 1;
	snprintf(j->last, sizeof(j->last), "%s", c->id);
	return 0;
}

static int run_import(struct sql *q, struct store_job *job)
{
	struct import_job *j = (struct import_job *)job;
	struct str rest = j->lines;
	struct move_tree tree;
	int line_no = 0, rc;

	if (q->in_memory)
		return err_set(&job->err, ERR_UNSUPPORTED,
			       "nothing is imported into memory that is forgotten");
	while ((rc = move_tree_read(&rest, &line_no, &tree, &job->err)) == 1) {
		struct coming c = {.tree = &tree};

		c.rows = xcalloc((size_t)tree.n + 1, sizeof(*c.rows));
		rc = put_tree(q, j, &c, &job->err);
		free(c.rows);
		move_tree_free(&tree);
		if (rc < 0)
			return -1;
	}
	for (int i = 0; rc == 0 && i < j->nforks; i++)
		rc = sql_run(q,
			     sql_bind(q, SQL_MOVE_FORKED, "ss", j->forks[i].id,
				      j->forks[i].from),
			     &job->err);
	if (rc == 0 && !*j->last)
		rc = err_set(&job->err, ERR_INVALID, "no conversation in it");
	return rc;
}

static void tell_import(struct store_job *job)
{
	struct import_job *j = (struct import_job *)job;
	bool ok = job->err.code == ERR_NONE;

	j->done.last = j->last;
	j->cb(job->arg, &job->err, ok ? &j->done : NULL);
}

static void free_import(struct store_job *job)
{
	struct import_job *j = (struct import_job *)job;

	free((char *)j->lines.ptr);
	free(j->forks);
}

static const struct store_op import_op = {"import", STORE_WRITES, run_import, tell_import,
					  free_import};

void store_import(struct store *s, struct str jsonl, store_import_cb *cb, void *arg)
{
	struct import_job *j = store_job_new(sizeof(*j), &import_op, arg);
	char *lines;

	j->cb = cb;
	lines = xmalloc(jsonl.len +
			1); /* not store_copy: a NUL byte is the reader's to refuse */
	if (jsonl.len)
		memcpy(lines, jsonl.ptr, jsonl.len);
	j->lines = (struct str){lines, jsonl.len};
	j->job.bytes += jsonl.len;
	store_submit(s, &j->job);
}
