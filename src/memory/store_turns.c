/* Paths and turns: what every prompt with a conversation asks of the store.
 *
 * Each operation copies its question on the loop thread, runs on the store's and answers on the
 * loop thread again; tree_turns.c has the rules. */
#include "memory/store_impl.h"

#include "base/clock.h"
#include "memory/tree.h"

/* ---- the path ---- */

struct store_path store_path_of(const char *id, const struct tree_path *p)
{
	return (struct store_path){
		.conversation = id,
		.messages = p->messages,
		.n = p->n,
		.summaries = p->summaries,
		.nsummaries = p->nsummaries,
		.notes = p->notes,
		.nnotes = p->nnotes,
		.is_private = p->is_private,
	};
}

struct path_job {
	struct store_job job;
	store_path_cb *cb;
	char *conversation, *parent, *model, *tokenizer; /* owned */
	char id[CONVERSATION_ID_BYTES];
	struct tree_path path;
};

static int run_path(struct sql *q, struct store_job *job)
{
	struct path_job *j = (struct path_job *)job;

	if (tree_resolve(q, j->conversation, j->model, clock_unix_ms(), j->id,
			 &job->err) < 0)
		return -1;
	return tree_path(q, j->id, j->parent, j->tokenizer, &j->path, &job->err);
}

static void tell_path(struct store_job *job)
{
	struct path_job *j = (struct path_job *)job;
	bool ok = job->err.code == ERR_NONE;
	struct store_path p = store_path_of(j->id, &j->path);

	j->cb(job->arg, &job->err, ok ? &p : NULL);
}

static void free_path(struct store_job *job)
{
	struct path_job *j = (struct path_job *)job;

	free(j->conversation);
	free(j->parent);
	free(j->model);
	free(j->tokenizer);
	tree_path_free(&j->path);
}

static const struct store_op path_op = {"read a conversation", 0, run_path, tell_path,
					free_path};

void store_path(struct store *s, const struct store_path_ask *ask, store_path_cb *cb,
		void *arg)
{
	struct path_job *j = store_job_new(sizeof(*j), &path_op, arg);

	j->cb = cb;
	j->conversation = store_copy_str(&j->job, ask->conversation);
	j->parent = store_copy_or_null(&j->job, ask->parent);
	j->model = store_copy_str(&j->job, ask->model);
	j->tokenizer = store_copy_or_null(&j->job, ask->tokenizer);
	if (!strcmp(j->conversation, "new"))
		j->job.flags |= STORE_WRITES;
	store_submit(s, &j->job);
}

/* ---- before the model call ---- */

struct begin_job {
	struct store_job job;
	store_turn_cb *cb;
	struct store_turn_begin ask; /* its strings and messages are owned */
	char id[CONVERSATION_ID_BYTES];
	int64_t turn;
};

static int run_begin(struct sql *q, struct store_job *job)
{
	struct begin_job *j = (struct begin_job *)job;
	const struct store_turn_begin *a = &j->ask;
	int64_t now = clock_unix_ms();

	struct tree_known known;

	if (a->conversation ? tree_resolve(q, a->conversation, a->model, now, j->id,
					   &job->err) < 0
			    : tree_turn_where(q, a, now, j->id, &known, &job->err) < 0)
		return -1;
	return tree_turn_begin(q, j->id, a, a->conversation ? NULL : &known, now,
			       &j->turn, &job->err);
}

static void tell_begin(struct store_job *job)
{
	struct begin_job *j = (struct begin_job *)job;
	bool ok = job->err.code == ERR_NONE;

	j->cb(job->arg, &job->err, ok ? j->id : NULL, ok ? j->turn : 0);
}

static void free_begin(struct store_job *job)
{
	struct begin_job *j = (struct begin_job *)job;

	free((char *)j->ask.conversation);
	free((char *)j->ask.parent);
	free((char *)j->ask.model);
	free((char *)j->ask.provider);
	free((char *)j->ask.request);
	free((char *)j->ask.params);
	store_free_messages((struct message *)j->ask.messages, j->ask.n);
}

static const struct store_op begin_op = {"begin a turn", STORE_WRITES, run_begin,
					 tell_begin, free_begin};

void store_turn_begin(struct store *s, const struct store_turn_begin *ask,
		      store_turn_cb *cb, void *arg)
{
	struct begin_job *j = store_job_new(sizeof(*j), &begin_op, arg);

	j->cb = cb;
	j->ask = *ask;
	j->ask.conversation = store_copy_or_null(&j->job, ask->conversation);
	j->ask.parent = store_copy_or_null(&j->job, ask->parent);
	j->ask.model = store_copy_str(&j->job, ask->model);
	j->ask.provider = store_copy_str(&j->job, ask->provider);
	j->ask.request = store_copy_or_null(
		&j->job, ask->request && ask->request[0] ? ask->request : NULL);
	j->ask.params = ask->params && strlen(ask->params) <= STORE_MAX_PARAMS_BYTES
				? store_copy_str(&j->job, ask->params)
				: NULL;
	j->ask.messages = store_copy_messages(&j->job, ask->messages, ask->n);
	store_submit(s, &j->job);
}

/* ---- while it runs ---- */

struct partial_job {
	struct store_job job;
	int64_t turn;
	char *text; /* owned */
};

static int run_partial(struct sql *q, struct store_job *job)
{
	struct partial_job *j = (struct partial_job *)job;

	return tree_turn_partial(q, j->turn, j->text, strlen(j->text), &job->err);
}

static void free_partial(struct store_job *job)
{
	free(((struct partial_job *)job)->text);
}

static const struct store_op partial_op = {"keep a partial answer",
					   STORE_WRITES | STORE_OPTIONAL, run_partial,
					   NULL, free_partial};

void store_turn_partial(struct store *s, int64_t turn, const char *text, size_t len)
{
	struct partial_job *j = store_job_new(sizeof(*j), &partial_op, NULL);

	j->turn = turn;
	j->text = store_copy(&j->job, text, len);
	store_submit(s, &j->job);
}

/* ---- its end ---- */

struct end_job {
	struct store_job job;
	store_end_cb *cb;
	int64_t turn;
	struct store_turn_end end; /* its strings are owned */
	struct tree_ended kept;
};

/* What cannot be kept for what it is ends its turn all the same: one that runs for ever would hold its
 * conversation.  That is committed, and told as the error that it was. */
static int end_unkept(struct sql *q, struct end_job *j, const struct err *why)
{
	struct store_turn_end end = j->end;

	end.status = "error";
	end.text = "";
	end.len = 0;
	end.raw_json = end.reasoning = NULL;
	end.error = why->text;
	return tree_turn_end(q, j->turn, &end, clock_unix_ms(), &j->kept, &j->job.err);
}

static int run_end(struct sql *q, struct store_job *job)
{
	struct end_job *j = (struct end_job *)job;
	struct err why;

	if (tree_turn_end(q, j->turn, &j->end, clock_unix_ms(), &j->kept, &job->err) == 0)
		return 0;
	why = job->err;
	if (why.code != ERR_TOO_LARGE)
		return -1;
	job->err = (struct err){0};
	if (end_unkept(q, j, &why) < 0)
		return -1;
	job->err = why;
	return 0;
}

static void tell_end(struct store_job *job)
{
	struct end_job *j = (struct end_job *)job;

	bool ok = job->err.code == ERR_NONE;

	j->cb(job->arg, &job->err, ok ? j->kept.prompt : "", ok ? j->kept.reply : "");
}

static void free_end(struct store_job *job)
{
	struct store_turn_end *end = &((struct end_job *)job)->end;

	free((char *)end->status);
	free((char *)end->text);
	free((char *)end->raw_json);
	free((char *)end->reasoning);
	free((char *)end->error);
	free((char *)end->model);
	free((char *)end->provider);
	free((char *)end->finish);
}

static const struct store_op end_op = {"end a turn", STORE_WRITES | STORE_RESERVED,
				       run_end, tell_end, free_end};

void store_turn_end(struct store *s, int64_t turn, const struct store_turn_end *end,
		    store_end_cb *cb, void *arg)
{
	struct end_job *j = store_job_new(sizeof(*j), &end_op, arg);

	j->cb = cb;
	j->turn = turn;
	j->end = *end;
	j->end.text = store_copy(&j->job, end->text, end->len);
	j->end.len = strlen(j->end.text);
	j->end.status = store_copy_str(&j->job, end->status);
	j->end.raw_json = store_copy_or_null(&j->job, end->raw_json);
	j->end.reasoning = store_copy_or_null(&j->job, end->reasoning);
	j->end.error = store_copy_or_null(&j->job, end->error);
	j->end.model = store_copy_or_null(&j->job, end->model);
	j->end.provider = store_copy_or_null(&j->job, end->provider);
	j->end.finish = store_copy_or_null(&j->job, end->finish);
	store_submit(s, &j->job);
}

bool store_repeats_system(const struct store_message *path, int n,
			  const struct message *m)
{
	for (int i = 0; m->role == ROLE_SYSTEM && i < n; i++)
		if (path[i].role == ROLE_SYSTEM && !strcmp(path[i].text, m->text))
			return true;
	return false;
}

bool store_is_incognito(const char *conversation)
{
	return conversation[0] == 'Z';
}
