/* Conversations as rows and heads, and turns as rows: the operations; tree_heads.c and tree_lists.c
 * have the rules. */
#include "memory/store_impl.h"

#include "base/clock.h"
#include "memory/store_heads.h"
#include "memory/tree.h"

/* ---- rows ---- */

enum row_ask { ROW_LIST, ROW_GET, ROW_CREATE, ROW_CHANGE, ROW_MOVE, ROW_FORK };

/* What is asked about a row is answered with rows: one shape of job. */
struct row_job {
	struct store_job job;
	store_list_cb *cb;
	enum row_ask ask;
	struct store_list_ask list_ask; /* its string is owned, as all here */
	char *conversation, *to;
	struct store_change change;
	struct tree_list list;
};

static int run_list(struct sql *q, struct store_job *job)
{
	struct row_job *j = (struct row_job *)job;

	return tree_list(q, &j->list_ask, &j->list, &job->err);
}

/* Does what is asked; `id` is the conversation whose row is the answer. */
static int act(struct sql *q, struct row_job *j, char id[CONVERSATION_ID_BYTES],
	       struct err *e)
{
	int64_t now = clock_unix_ms();
	char made[CONVERSATION_ID_BYTES];

	if (j->ask == ROW_CREATE) {
		if (tree_create(q, now, id, e) < 0)
			return -1;
		return tree_change(q, id, &j->change, e);
	}
	if (tree_resolve_old(q, j->conversation, id, e) < 0)
		return -1;
	switch (j->ask) {
	case ROW_CHANGE:
		return tree_change(q, id, &j->change, e);
	case ROW_MOVE:
		return tree_move_head(q, id, j->to, now, e);
	case ROW_FORK:
		if (tree_fork(q, id, j->to, now, made, e) < 0)
			return -1;
		memcpy(id, made, sizeof(made));
		return 0;
	default:
		return 0;
	}
}

static int run_row(struct sql *q, struct store_job *job)
{
	struct row_job *j = (struct row_job *)job;
	char id[CONVERSATION_ID_BYTES];

	if (act(q, j, id, &job->err) < 0)
		return -1;
	return tree_get(q, id, &j->list, &job->err);
}

static void tell_rows(struct store_job *job)
{
	struct row_job *j = (struct row_job *)job;
	bool ok = job->err.code == ERR_NONE;

	j->cb(job->arg, &job->err, ok ? j->list.items : NULL, ok ? j->list.n : 0);
}

static void free_rows(struct store_job *job)
{
	struct row_job *j = (struct row_job *)job;

	free((char *)j->list_ask.before);
	free(j->conversation);
	free(j->to);
	free((char *)j->change.title);
	free((char *)j->change.model);
	free((char *)j->change.metadata);
	tree_list_free(&j->list);
}

static const struct store_op row_ops[] = {
	[ROW_LIST] = {"list conversations", STORE_ASIDE, run_list, tell_rows, free_rows},
	[ROW_GET] = {"read a conversation's row", 0, run_row, tell_rows, free_rows},
	[ROW_CREATE] = {"make a conversation", STORE_WRITES, run_row, tell_rows,
			free_rows},
	[ROW_CHANGE] = {"change a conversation", STORE_WRITES, run_row, tell_rows,
			free_rows},
	[ROW_MOVE] = {"move a conversation's head", STORE_WRITES, run_row, tell_rows,
		      free_rows},
	[ROW_FORK] = {"fork a conversation", STORE_WRITES, run_row, tell_rows, free_rows},
};

static struct row_job *row_job(enum row_ask ask, const char *conversation,
			       store_list_cb *cb, void *arg)
{
	struct row_job *j = store_job_new(sizeof(*j), &row_ops[ask], arg);

	j->cb = cb;
	j->ask = ask;
	j->conversation = store_copy_or_null(&j->job, conversation);
	return j;
}

static void copy_change(struct row_job *j, const struct store_change *c)
{
	j->change = *c;
	j->change.title = store_copy_or_null(&j->job, c->title);
	j->change.model = store_copy_or_null(&j->job, c->model);
	j->change.metadata = store_copy_or_null(&j->job, c->metadata);
}

void store_list(struct store *s, const struct store_list_ask *ask, store_list_cb *cb,
		void *arg)
{
	struct row_job *j = row_job(ROW_LIST, NULL, cb, arg);

	j->list_ask = *ask;
	j->list_ask.before = store_copy_or_null(&j->job, ask->before);
	store_submit(s, &j->job);
}

void store_get(struct store *s, const char *conversation, store_list_cb *cb, void *arg)
{
	store_submit(s, &row_job(ROW_GET, conversation, cb, arg)->job);
}

void store_create(struct store *s, const struct store_change *c, store_list_cb *cb,
		  void *arg)
{
	struct row_job *j = row_job(ROW_CREATE, NULL, cb, arg);

	copy_change(j, c);
	store_submit(s, &j->job);
}

void store_change(struct store *s, const char *conversation, const struct store_change *c,
		  store_list_cb *cb, void *arg)
{
	struct row_job *j = row_job(ROW_CHANGE, conversation, cb, arg);

	copy_change(j, c);
	store_submit(s, &j->job);
}

void store_move_head(struct store *s, const char *conversation, const char *to,
		     store_list_cb *cb, void *arg)
{
	struct row_job *j = row_job(ROW_MOVE, conversation, cb, arg);

	j->to = store_copy_str(&j->job, to);
	store_submit(s, &j->job);
}

void store_fork(struct store *s, const char *conversation, const char *at,
		store_list_cb *cb, void *arg)
{
	struct row_job *j = row_job(ROW_FORK, conversation, cb, arg);

	j->to = store_copy_or_null(&j->job, at);
	store_submit(s, &j->job);
}

/* ---- messages without a model call ---- */

struct append_job {
	struct store_job job;
	store_path_cb *cb;
	char *conversation;       /* owned */
	struct message *messages; /* owned */
	int n;
	char id[CONVERSATION_ID_BYTES];
	struct tree_path path;
};

static int run_append(struct sql *q, struct store_job *job)
{
	struct append_job *j = (struct append_job *)job;

	if (tree_resolve_old(q, j->conversation, j->id, &job->err) < 0 ||
	    tree_add(q, j->id, j->messages, j->n, clock_unix_ms(), &job->err) < 0)
		return -1;
	return tree_path(q, j->id, NULL, NULL, &j->path, &job->err);
}

static void tell_append(struct store_job *job)
{
	struct append_job *j = (struct append_job *)job;
	bool ok = job->err.code == ERR_NONE;
	struct store_path p = store_path_of(j->id, &j->path);

	j->cb(job->arg, &job->err, ok ? &p : NULL);
}

static void free_append(struct store_job *job)
{
	struct append_job *j = (struct append_job *)job;

	free(j->conversation);
	store_free_messages(j->messages, j->n);
	tree_path_free(&j->path);
}

static const struct store_op append_op = {"add messages", STORE_WRITES, run_append,
					  tell_append, free_append};

void store_append(struct store *s, const char *conversation, const struct message *m,
		  int n, store_path_cb *cb, void *arg)
{
	struct append_job *j = store_job_new(sizeof(*j), &append_op, arg);

	j->cb = cb;
	j->conversation = store_copy_str(&j->job, conversation);
	j->messages = store_copy_messages(&j->job, m, n);
	j->n = n;
	store_submit(s, &j->job);
}

/* ---- turns as rows ---- */

struct turns_job {
	struct store_job job;
	store_turns_cb *cb;
	char *conversation, *request; /* owned; one of them */
	int limit;
	struct tree_turns turns;
};

static int run_turns(struct sql *q, struct store_job *job)
{
	struct turns_job *j = (struct turns_job *)job;
	char id[CONVERSATION_ID_BYTES];

	if (j->conversation && tree_resolve_old(q, j->conversation, id, &job->err) < 0)
		return -1;
	return tree_turns(q, j->conversation ? id : NULL, j->request, j->limit, &j->turns,
			  &job->err);
}

static void tell_turns(struct store_job *job)
{
	struct turns_job *j = (struct turns_job *)job;
	bool ok = job->err.code == ERR_NONE;

	j->cb(job->arg, &job->err, ok ? j->turns.items : NULL, ok ? j->turns.n : 0);
}

static void free_turns(struct store_job *job)
{
	struct turns_job *j = (struct turns_job *)job;

	free(j->conversation);
	free(j->request);
	tree_turns_free(&j->turns);
}

static const struct store_op turns_op = {"read turns", 0, run_turns, tell_turns,
					 free_turns};

void store_turns(struct store *s, const char *conversation, int limit, store_turns_cb *cb,
		 void *arg)
{
	struct turns_job *j = store_job_new(sizeof(*j), &turns_op, arg);

	j->cb = cb;
	j->conversation = store_copy_str(&j->job, conversation);
	j->limit = limit;
	store_submit(s, &j->job);
}

void store_turn_of(struct store *s, const char *request, store_turns_cb *cb, void *arg)
{
	struct turns_job *j = store_job_new(sizeof(*j), &turns_op, arg);

	j->cb = cb;
	j->request = store_copy_str(&j->job, request);
	store_submit(s, &j->job);
}

struct unname_job {
	struct store_job job;
	store_done_cb *cb;
	char *request; /* owned */
};

static int run_unname(struct sql *q, struct store_job *job)
{
	return tree_turn_unname(q, ((struct unname_job *)job)->request, &job->err);
}

static void tell_unname(struct store_job *job)
{
	((struct unname_job *)job)->cb(job->arg, &job->err);
}

static void free_unname(struct store_job *job)
{
	free(((struct unname_job *)job)->request);
}

static const struct store_op unname_op = {"take a turn's name away", STORE_WRITES,
					  run_unname, tell_unname, free_unname};

void store_turn_unname(struct store *s, const char *request, store_done_cb *cb, void *arg)
{
	struct unname_job *j = store_job_new(sizeof(*j), &unname_op, arg);

	j->cb = cb;
	j->request = store_copy_str(&j->job, request);
	store_submit(s, &j->job);
}

/* ---- deleting ---- */

struct delete_job {
	struct store_job job;
	store_done_cb *cb;
	char *conversation; /* owned */
};

static int run_delete(struct sql *q, struct store_job *job)
{
	struct delete_job *j = (struct delete_job *)job;
	char id[CONVERSATION_ID_BYTES];

	if (tree_resolve_old(q, j->conversation, id, &job->err) < 0)
		return -1;
	return tree_delete(q, id, &job->err);
}

static void tell_delete(struct store_job *job)
{
	((struct delete_job *)job)->cb(job->arg, &job->err);
}

static void free_delete(struct store_job *job)
{
	free(((struct delete_job *)job)->conversation);
}

static const struct store_op delete_op = {"delete a conversation",
					  STORE_WRITES | STORE_FORGETS, run_delete,
					  tell_delete, free_delete};

void store_delete(struct store *s, const char *conversation, store_done_cb *cb, void *arg)
{
	struct delete_job *j = store_job_new(sizeof(*j), &delete_op, arg);

	j->cb = cb;
	j->conversation = store_copy_str(&j->job, conversation);
	store_submit(s, &j->job);
}
