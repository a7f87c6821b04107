/* llm's older schema: a conversation is a list of responses, each with its prompt.
 *
 * A command's thread.  `system` stands in each response; a repeated one is said once.  Columns and
 * tables that an early version lacks are read as empty. */
#include "base/json.h"
#include "memory/import_llm.h"

/* Rows of a table that hangs on a response; NULL when this version has no such table. */
static sqlite3_stmt *rows_of(struct llm *x, const char *sql, const char *response)
{
	struct err ignored = {0};

	return llm_query(x, sql, response, &ignored);
}

static void add_fragments(struct llm *x, const char *sql, const char *response,
			  struct buf *out)
{
	sqlite3_stmt *st = rows_of(x, sql, response);

	while (llm_step(x, st, NULL)) {
		char *text = llm_text(st, 0);

		buf_adds(out, text);
		buf_addc(out, '\n');
		free(text);
	}
	sqlite3_finalize(st);
}

static cJSON *calls_of(struct llm *x, const char *response)
{
	sqlite3_stmt *st = rows_of(x,
				   "SELECT coalesce(tool_call_id, 'call_' || id), name, "
				   "arguments FROM tool_calls WHERE response_id = ?1 "
				   "ORDER BY id",
				   response);
	cJSON *calls = NULL;

	while (llm_step(x, st, NULL)) {
		char *id = llm_text(st, 0), *name = llm_text(st, 1),
		     *arguments = llm_text(st, 2);

		llm_add_call(&calls, id, name, *arguments ? arguments : "{}");
		free(id);
		free(name);
		free(arguments);
	}
	sqlite3_finalize(st);
	return calls;
}

/* What tools gave, before the response that was told of it. */
static int add_results(struct llm *x, const char *response, int at, int64_t created_ms)
{
	sqlite3_stmt *st = rows_of(x,
				   "SELECT coalesce(tool_call_id, 'call_' || id), output "
				   "FROM tool_results WHERE response_id = ?1 ORDER BY id",
				   response);

	while (llm_step(x, st, NULL)) {
		char *id = llm_text(st, 0), *output = llm_text(st, 1);
		struct llm_message m = {.role = ROLE_TOOL,
					.text = output,
					.call_id = id,
					.created_ms = created_ms};

		at = llm_add(x, at, &m);
		free(id);
		free(output);
	}
	sqlite3_finalize(st);
	return at;
}

static int add_prompt(struct llm *x, const char *response, const char *prompt, int at,
		      int64_t created_ms)
{
	struct llm_message m = {.role = ROLE_USER, .created_ms = created_ms};
	struct buf text = {0};
	sqlite3_stmt *st;

	add_fragments(
		x,
		"SELECT f.content FROM prompt_fragments p JOIN fragments f ON "
		"f.id = p.fragment_id WHERE p.response_id = ?1 ORDER BY p.\"order\"",
		response, &text);
	buf_adds(&text, prompt);
	st = rows_of(x,
		     "SELECT a.type, a.path, a.url, a.content FROM prompt_attachments p "
		     "JOIN attachments a ON a.id = p.attachment_id "
		     "WHERE p.response_id = ?1 ORDER BY p.\"order\"",
		     response);
	while (llm_step(x, st, NULL))
		llm_attachment(x, st, 0, &text, &m.images);
	sqlite3_finalize(st);
	m.text = text.data;
	if (text.len || m.images)
		at = llm_add(x, at, &m);
	buf_free(&text);
	return at;
}

static int add_system(struct llm *x, const char *response, const char *system, int at,
		      struct buf *said, int64_t created_ms)
{
	struct llm_message m = {.role = ROLE_SYSTEM, .created_ms = created_ms};
	struct buf text = {0};

	add_fragments(
		x,
		"SELECT f.content FROM system_fragments p JOIN fragments f ON "
		"f.id = p.fragment_id WHERE p.response_id = ?1 ORDER BY p.\"order\"",
		response, &text);
	buf_adds(&text, system);
	if (text.len && !str_eq(buf_str(said), text.data)) {
		m.text = text.data;
		at = llm_add(x, at, &m);
		buf_clear(said);
		buf_add(said, text.data, text.len);
	}
	buf_free(&text);
	return at;
}

enum { ID, MODEL, PROMPT, SYSTEM, RESPONSE, MS, TIME, IN, OUT, REASONING };

/* One response: its system prompt, tools' results, prompt and answer behind `at`. */
static int add_response(struct llm *x, sqlite3_stmt *st, int at, struct buf *said)
{
	char *id = llm_text(st, ID), *model = llm_text(st, MODEL),
	     *prompt = llm_text(st, PROMPT), *system = llm_text(st, SYSTEM),
	     *response = llm_text(st, RESPONSE), *reasoning = llm_text(st, REASONING);
	struct draft_turn t = {.base = at,
			       .reply = -1,
			       .model = model,
			       .provider = "llm",
			       .tokens_in = llm_number(st, IN),
			       .tokens_out = llm_number(st, OUT),
			       .total_ms = llm_number(st, MS),
			       .created_ms = llm_time(st, TIME)};
	struct llm_message m = {.role = ROLE_ASSISTANT,
				.text = response,
				.reasoning = reasoning,
				.created_ms = t.created_ms};

	at = add_system(x, id, system, at, said, t.created_ms);
	at = add_results(x, id, at, t.created_ms);
	at = add_prompt(x, id, prompt, at, t.created_ms);
	t.prompt = at;
	m.calls = calls_of(x, id);
	if (*response || m.calls)
		at = t.reply = llm_add(x, at, &m);
	draft_turn(x->draft, &t);
	free(id);
	free(model);
	free(prompt);
	free(system);
	free(response);
	free(reasoning);
	return at;
}

static int one_conversation(struct llm *x, const char *id, const char *name,
			    const char *model, const char *sql, struct err *e)
{
	sqlite3_stmt *st = llm_query(x, sql, id, e);
	struct buf said = {0};
	int64_t last_ms = 0;
	int at = -1, rc = -1;

	while (st && llm_step(x, st, e)) {
		if (!x->draft)
			x->draft = draft_new(x->in, "llm", id, llm_time(st, TIME),
					     x->counts);
		last_ms = llm_time(st, TIME);
		at = add_response(x, st, at, &said);
	}
	if (e->code == ERR_NONE)
		rc = x->draft ? draft_end(x->draft, at, name, model, last_ms, x->sink,
					  x->arg, e)
			      : (x->counts->empty++, 0);
	draft_free(x->draft);
	x->draft = NULL;
	sqlite3_finalize(st);
	buf_free(&said);
	return rc;
}

/* A response without a conversation is one of its own.  What a newer llm has gone on with is read from
 * its thread, which holds the older messages too. */
int llm_responses(struct llm *x, bool threads, struct err *e)
{
	const char *reasoning = llm_has_column(x, "responses", "reasoning") ? "reasoning"
									    : "NULL",
		   *in = llm_has_column(x, "responses", "input_tokens") ? "input_tokens"
									: "NULL",
		   *out = llm_has_column(x, "responses", "output_tokens")
				  ? "output_tokens"
				  : "NULL";
	char *sql =
		xasprintf("SELECT id, model, prompt, system, response, duration_ms, "
			  "datetime_utc, %s, %s, %s FROM responses WHERE "
			  "coalesce(conversation_id, id) = ?1 ORDER BY datetime_utc, id",
			  in, out, reasoning);
	sqlite3_stmt *st = llm_query(
		x,
		threads ? "SELECT coalesce(r.conversation_id, r.id) AS c, max(c.name), "
			  "max(c.model) FROM responses r "
			  "LEFT JOIN conversations c ON c.id = r.conversation_id "
			  "WHERE coalesce(r.conversation_id, r.id) NOT IN "
			  "(SELECT id FROM threads WHERE tip_message_hash IS NOT NULL) "
			  "GROUP BY 1 ORDER BY min(r.datetime_utc), 1"
			: "SELECT coalesce(r.conversation_id, r.id) AS c, max(c.name), "
			  "max(c.model) FROM responses r "
			  "LEFT JOIN conversations c ON c.id = r.conversation_id "
			  "GROUP BY 1 ORDER BY min(r.datetime_utc), 1",
		NULL, e);
	int rc = st ? 0 : -1;

	while (rc == 0 && llm_step(x, st, e)) {
		char *id = llm_text(st, 0), *name = llm_text(st, 1),
		     *model = llm_text(st, 2);

		rc = one_conversation(x, id, name, model, sql, e);
		free(id);
		free(name);
		free(model);
	}
	sqlite3_finalize(st);
	free(sql);
	return e->code == ERR_NONE ? rc : -1;
}
