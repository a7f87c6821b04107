/* Notes, summaries and token counts: the operations; tree_notes.c has the rules. */
#include "memory/store_notes.h"

#include "base/clock.h"
#include "memory/store_impl.h"
#include "memory/tree.h"

/* ---- notes ---- */

struct notes_job {
	struct store_job job;
	store_notes_cb *cb;
	char *scope, *text; /* owned */
	struct tree_notes notes;
};

static int run_notes(struct sql *q, struct store_job *job)
{
	struct notes_job *j = (struct notes_job *)job;
	char id[CONVERSATION_ID_BYTES];
	struct tree_head head;

	if (!j->scope)
		return tree_notes(q, NULL, &j->notes, &job->err);
	if (tree_resolve_old(q, j->scope, id, &job->err) < 0 ||
	    tree_head(q, id, &head, &job->err) < 0)
		return -1;
	return tree_notes(q, id, &j->notes, &job->err);
}

static int run_note_add(struct sql *q, struct store_job *job)
{
	struct notes_job *j = (struct notes_job *)job;
	char id[CONVERSATION_ID_BYTES] = "";

	if (j->scope[0] && tree_resolve_old(q, j->scope, id, &job->err) < 0)
		return -1;
	return tree_note_add(q, id, j->text, clock_unix_ms(), &j->notes, &job->err);
}

static void tell_notes(struct store_job *job)
{
	struct notes_job *j = (struct notes_job *)job;
	bool ok = job->err.code == ERR_NONE;

	j->cb(job->arg, &job->err, ok ? j->notes.items : NULL, ok ? j->notes.n : 0);
}

static void free_notes(struct store_job *job)
{
	struct notes_job *j = (struct notes_job *)job;

	free(j->scope);
	free(j->text);
	tree_notes_free(&j->notes);
}

static const struct store_op notes_op = {"read notes", 0, run_notes, tell_notes,
					 free_notes};
static const struct store_op note_add_op = {"add a note", STORE_WRITES, run_note_add,
					    tell_notes, free_notes};

void store_notes(struct store *s, const char *conversation, store_notes_cb *cb, void *arg)
{
	struct notes_job *j = store_job_new(sizeof(*j), &notes_op, arg);

	j->cb = cb;
	j->scope = store_copy_or_null(&j->job, conversation);
	store_submit(s, &j->job);
}

void store_note_add(struct store *s, const char *scope, const char *text,
		    store_notes_cb *cb, void *arg)
{
	struct notes_job *j = store_job_new(sizeof(*j), &note_add_op, arg);

	j->cb = cb;
	j->scope = store_copy_str(&j->job, scope);
	j->text = store_copy_str(&j->job, text);
	store_submit(s, &j->job);
}

struct note_delete_job {
	struct store_job job;
	store_done_cb *cb;
	int64_t id;
};

static int run_note_delete(struct sql *q, struct store_job *job)
{
	return tree_note_delete(q, ((struct note_delete_job *)job)->id, &job->err);
}

static void tell_note_delete(struct store_job *job)
{
	((struct note_delete_job *)job)->cb(job->arg, &job->err);
}

static const struct store_op note_delete_op = {"delete a note",
					       STORE_WRITES | STORE_FORGETS,
					       run_note_delete, tell_note_delete, NULL};

void store_note_delete(struct store *s, int64_t id, store_done_cb *cb, void *arg)
{
	struct note_delete_job *j = store_job_new(sizeof(*j), &note_delete_op, arg);

	j->cb = cb;
	j->id = id;
	store_submit(s, &j->job);
}

/* ---- summaries ---- */

struct summary_job {
	struct store_job job;
	store_done_cb *cb; /* or NULL */
	int64_t upto;
	char *model, *text; /* owned */
	int tokens;
};

static int run_summary(struct sql *q, struct store_job *job)
{
	struct summary_job *j = (struct summary_job *)job;

	return tree_summary_put(q, j->upto, j->model, j->text, j->tokens, clock_unix_ms(),
				&job->err);
}

static void tell_summary(struct store_job *job)
{
	struct summary_job *j = (struct summary_job *)job;

	if (j->cb)
		j->cb(job->arg, &job->err);
}

static void free_summary(struct store_job *job)
{
	struct summary_job *j = (struct summary_job *)job;

	free(j->model);
	free(j->text);
}

static const struct store_op summary_op = {"keep a summary", STORE_WRITES, run_summary,
					   tell_summary, free_summary};

void store_summary_put(struct store *s, int64_t upto_message, const char *model,
		       const char *text, int tokens, store_done_cb *cb, void *arg)
{
	struct summary_job *j = store_job_new(sizeof(*j), &summary_op, arg);

	j->cb = cb;
	j->upto = upto_message;
	j->model = store_copy_str(&j->job, model);
	j->text = store_copy_str(&j->job, text);
	j->tokens = tokens;
	store_submit(s, &j->job);
}

/* ---- token counts ---- */

struct counts_job {
	struct store_job job;
	char *tokenizer;   /* owned */
	int64_t *messages; /* owned */
	int *tokens;       /* owned */
	int n;
};

static int run_counts(struct sql *q, struct store_job *job)
{
	struct counts_job *j = (struct counts_job *)job;

	for (int i = 0; i < j->n; i++)
		if (tree_count_put(q, j->tokenizer, j->messages[i], j->tokens[i],
				   &job->err) < 0)
			return -1;
	return 0;
}

static void free_counts(struct store_job *job)
{
	struct counts_job *j = (struct counts_job *)job;

	free(j->tokenizer);
	free(j->messages);
	free(j->tokens);
}

static const struct store_op counts_op = {"keep token counts",
					  STORE_WRITES | STORE_OPTIONAL, run_counts, NULL,
					  free_counts};

void store_counts_put(struct store *s, const char *tokenizer, const int64_t *messages,
		      const int *tokens, int n)
{
	struct counts_job *j = store_job_new(sizeof(*j), &counts_op, NULL);
	size_t size = (size_t)(n > 0 ? n : 0);

	j->tokenizer = store_copy_str(&j->job, tokenizer);
	j->messages = xcalloc(size + 1, sizeof(*j->messages));
	j->tokens = xcalloc(size + 1, sizeof(*j->tokens));
	for (size_t i = 0; i < size; i++) {
		j->messages[i] = messages[i];
		j->tokens[i] = tokens[i];
	}
	j->n = (int)size;
	j->job.bytes += size * (sizeof(*messages) + sizeof(*tokens));
	store_submit(s, &j->job);
}
