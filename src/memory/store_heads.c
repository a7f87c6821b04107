/* Conversations as rows: listed, looked at, deleted. */
#include "memory/store_impl.h"

#include "memory/store_heads.h"
#include "memory/tree.h"

/* ---- lists ---- */

struct list_job {
	struct store_job job;
	store_list_cb *cb;
	char *conversation; /* owned; NULL: all */
	int limit;
	struct tree_list list;
};

/* An existing conversation by id or "last"; "new" is none. */
static int resolve_old(struct sql *q, const char *conversation,
		       char id[CONVERSATION_ID_BYTES], struct err *e)
{
	if (!strcmp(conversation, "new"))
		return err_set(e, ERR_INVALID, "'new' is not a conversation yet");
	return tree_resolve(q, conversation, NULL, 0, id, e);
}

static int run_list(struct sql *q, struct store_job *job)
{
	struct list_job *j = (struct list_job *)job;
	char id[CONVERSATION_ID_BYTES];

	if (!j->conversation)
		return tree_list(q, NULL, j->limit, &j->list, &job->err);
	if (resolve_old(q, j->conversation, id, &job->err) < 0)
		return -1;
	return tree_list(q, id, 1, &j->list, &job->err);
}

static void tell_list(struct store_job *job)
{
	struct list_job *j = (struct list_job *)job;
	bool ok = job->err.code == ERR_NONE;

	j->cb(job->arg, &job->err, ok ? j->list.items : NULL, ok ? j->list.n : 0);
}

static void free_list(struct store_job *job)
{
	struct list_job *j = (struct list_job *)job;

	free(j->conversation);
	tree_list_free(&j->list);
}

static const struct store_op list_op = {"list conversations", 0, run_list, tell_list,
					free_list};
static const struct store_op get_op = {"read a conversation's row", 0, run_list,
				       tell_list, free_list};

void store_list(struct store *s, const struct store_list_ask *ask, store_list_cb *cb,
		void *arg)
{
	struct list_job *j = store_job_new(sizeof(*j), &list_op, arg);

	j->cb = cb;
	j->limit = ask->limit;
	store_submit(s, &j->job);
}

void store_get(struct store *s, const char *conversation, store_list_cb *cb, void *arg)
{
	struct list_job *j = store_job_new(sizeof(*j), &get_op, arg);

	j->cb = cb;
	j->conversation = store_copy_str(&j->job, conversation);
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

	if (resolve_old(q, j->conversation, id, &job->err) < 0)
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
