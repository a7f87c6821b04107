/* Foreign files become hob's lines, and hob's lines become Markdown and OpenAI's messages: pure functions. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sqlite3.h>
#include <unistd.h>
#include "memory/import.h"
#include "memory/markdown_inset.h"
#include "memory/markdown_out.h"
#include "memory/move_tree.h"
#include "memory/openai_out.h"

/* ---- what comes out ---- */

struct got {
	struct buf lines;
	struct import_counts counts;
	struct err e;
	int rc;
};

static int take(void *arg, struct str jsonl, struct err *e)
{
	struct got *g = arg;

	UNUSED(e);
	buf_add(&g->lines, jsonl.ptr, jsonl.len);
	return 0;
}

static void convert_as(struct got *g, const struct import_format *f, const char *path,
		       struct str text)
{
	struct import_in in = {.path = path, .text = text, .now_ms = 1700000000000};

	assert_non_null(f);
	*g = (struct got){0};
	g->rc = f->convert(&in, take, g, &g->counts, &g->e);
}

static void convert(struct got *g, const char *text)
{
	convert_as(g, import_format_sniff(str_of(text)), NULL, str_of(text));
}

static void must(const struct got *g)
{
	if (g->rc < 0)
		fail_msg("%s", g->e.text);
}

/* The n-th conversation of what came out: it must read as hob's own lines do. */
static struct move_tree tree_at(const struct got *g, int n)
{
	struct str rest = buf_str(&g->lines);
	struct move_tree t = {0};
	struct err e = {0};
	int line = 0;

	for (int i = 0; i <= n; i++) {
		if (i)
			move_tree_free(&t);
		if (move_tree_read(&rest, &line, &t, &e) != 1)
			fail_msg("conversation %d: %s", i, e.text);
	}
	return t;
}

/* "user:hello|assistant:hi|" of the path to the head. */
static char *path_of(const struct move_tree *t)
{
	struct buf out = {0};
	int n, *path = move_tree_path(t, t->head, &n);

	for (int i = 0; i < n; i++) {
		const struct move_message *m = &t->nodes[path[i]].line.message;

		buf_addf(&out, "%s:%s|", role_name(m->role), m->text);
	}
	free(path);
	return buf_take(&out, NULL);
}

static void path_is(const struct got *g, int n, const char *expected)
{
	struct move_tree t = tree_at(g, n);
	char *path = path_of(&t);

	assert_string_equal(path, expected);
	free(path);
	move_tree_free(&t);
}

/* ---- OpenAI's messages ---- */

static void messages_in_any_of_their_shapes_are_a_conversation(void **state)
{
	static const char *const shapes[] = {
		"[{\"role\":\"user\",\"content\":\"hello\"},{\"role\":\"assistant\","
		"\"content\":\"hi\"}]",
		" {\"model\":\"x\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"},"
		"{\"role\":\"assistant\",\"content\":\"hi\"}]}",
		"[{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"},{\"role\":"
		"\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"}]}]}]",
	};
	struct got g;

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		convert(&g, shapes[i]);
		must(&g);
		path_is(&g, 0, "user:hello|assistant:hi|");
		assert_int_equal(g.counts.conversations, 1);
		buf_free(&g.lines);
	}
}

static void lines_of_messages_are_conversations_and_a_bad_line_is_counted(void **state)
{
	struct got g;

	UNUSED(state);
	convert(&g,
		"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}\n\n{nonsense\n"
		"[{\"role\":\"user\",\"content\":\"b\"},{\"role\":\"elf\",\"content\":"
		"\"c\"}]\n");
	must(&g);
	assert_int_equal(g.counts.conversations, 2);
	assert_int_equal(g.counts.skipped, 2);
	assert_non_null(strstr(g.counts.why, "line 3"));
	path_is(&g, 1, "user:b|");
	buf_free(&g.lines);
}

static void the_same_messages_get_the_same_ids_whenever_they_are_read(void **state)
{
	const char *text = "[{\"role\":\"user\",\"content\":\"hello\"}]";
	struct import_in in = {.text = str_of(text), .now_ms = 1};
	struct got a, b = {0};
	struct move_tree t, u;

	UNUSED(state);
	convert(&a, text);
	must(&a);
	assert_int_equal(
		import_format_by_name("openai")->convert(&in, take, &b, &b.counts, &b.e),
		0);
	t = tree_at(&a, 0);
	u = tree_at(&b, 0);
	assert_string_equal(t.header.conversation.id, u.header.conversation.id);
	assert_string_equal(t.header.conversation.head, u.header.conversation.head);
	move_tree_free(&t);
	move_tree_free(&u);
	buf_free(&a.lines);
	buf_free(&b.lines);
}

static void tool_calls_and_images_stand_whole_and_come_out_as_they_went_in(void **state)
{
	const char *text =
		"[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"see\"},"
		"{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,"
		"AAAA\"}}]},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{"
		"\"id\":\"c\",\"type\":\"function\",\"function\":{\"name\":\"ls\","
		"\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"c\","
		"\"content\":\"a b\"},{\"role\":\"assistant\",\"content\":\"done\"}]\n";
	struct buf out = {0};
	struct err e = {0};
	struct got g;

	UNUSED(state);
	convert(&g, text);
	must(&g);
	path_is(&g, 0, "user:see|assistant:|tool:a b|assistant:done|");
	assert_int_equal(openai_out(buf_str(&g.lines), &out, &e), 0);
	assert_string_equal(out.data, text);
	buf_clear(&out);
	assert_int_equal(markdown_out(buf_str(&g.lines), &out, &e), 0);
	assert_non_null(
		strstr(out.data, "*Attachment: image\\_url, image/png, about 1 KiB*"));
	assert_non_null(strstr(out.data, "Tool call: ls (c)\n\n```json\n{}\n```\n"));
	assert_non_null(strstr(out.data, "## Tool (c)\n\n```\na b\n```\n"));
	buf_free(&out);
	buf_free(&g.lines);
}

/* ---- ChatGPT ---- */

#define NODE(id, parent, message)                          \
	"\"" id "\":{\"id\":\"" id "\",\"parent\":" parent \
	",\"children\":[],\"message\":" message "}"
#define SAYS(role, content)                                     \
	"{\"author\":{\"role\":\"" role                         \
	"\"},\"create_time\":1700000001.5,\"content\":" content \
	",\"metadata\":{\"model_slug\":\"gpt-9\"}}"
#define TEXT(words) "{\"content_type\":\"text\",\"parts\":[\"" words "\"]}"
#define CHAT(current, nodes)                                                              \
	"[{\"title\":\"Bears\",\"create_time\":1700000000.25,\"update_time\":1700000002," \
	"\"conversation_id\":\"abc\",\"current_node\":\"" current                         \
	"\",\"mapping\":{" nodes "}}]"

static void a_regenerated_answer_is_a_branch_and_the_shown_one_the_head(void **state)
{
	struct got g;
	struct move_tree t;

	UNUSED(state);
	convert(&g,
		CHAT("c",
		     NODE("root", "null", "null") "," NODE(
			     "s", "\"root\"",
			     "{\"author\":{\"role\":\"system\"},\"weight\":0,"
			     "\"content\":" TEXT(
				     "be good") ",\"metadata\":{"
						"\"is_visually_hidden_from_conversation\":true}}") "," NODE("c",
													    "\"a\"",
													    SAYS("assistant",
														 TEXT("second"))) "," /* before its parent */
		     NODE("a", "\"s\"", SAYS("user", TEXT("hello"))) "," NODE(
			     "b", "\"a\"",
			     SAYS("assistant",
				  TEXT("first"))) "," NODE("d", "\"b\"",
							   SAYS("user", TEXT("more")))));
	must(&g);
	assert_int_equal(g.counts.messages, 4);
	assert_int_equal(g.counts.branches, 1);
	assert_int_equal(g.counts.hidden, 1);
	path_is(&g, 0, "user:hello|assistant:second|");
	t = tree_at(&g, 0);
	assert_string_equal(t.header.conversation.title, "Bears");
	assert_int_equal(t.header.conversation.created_ms, 1700000000250);
	assert_int_equal(t.nturns, 2);
	assert_string_equal(t.turns[0].turn.row.model, "gpt-9");
	assert_int_equal(t.nodes[0].line.message.created_ms, 1700000001500);
	move_tree_free(&t);
	buf_free(&g.lines);
}

static void
each_kind_of_content_keeps_its_words_and_unknown_ones_leave_a_note(void **state)
{
	static const struct {
		const char *content, *text;
		int notes;
	} cases[] = {
		{"{\"content_type\":\"multimodal_text\",\"parts\":[{\"content_type\":"
		 "\"image_asset_pointer\",\"asset_pointer\":\"file-service://x\"},\"look\"]}",
		 "[image_asset_pointer: file-service://x]\nlook", 1},
		{"{\"content_type\":\"code\",\"language\":\"python\",\"text\":\"1+1\"}",
		 "```python\n1+1\n```", 0},
		{"{\"content_type\":\"execution_output\",\"text\":\"2\"}", "2", 0},
		{"{\"content_type\":\"tether_quote\",\"url\":\"http://x\",\"title\":\"T\","
		 "\"text\":\"words\"}",
		 "T\nhttp://x\nwords", 0},
		{"{\"content_type\":\"tether_browsing_display\",\"result\":\"found\"}",
		 "found", 0},
		{"{\"content_type\":\"user_editable_context\",\"user_profile\":\"I am\","
		 "\"user_instructions\":\"be short\"}",
		 "I am\nbe short", 0},
		{"{\"content_type\":\"hologram\",\"text\":\"seen\"}", "[hologram]\nseen",
		 1},
		{"{\"content_type\":\"text\",\"parts\":[\"a\",null,{\"content_type\":"
		 "\"audio_transcription\",\"text\":\"said\"}]}",
		 "a\nsaid", 0},
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *text = xasprintf(CHAT("a", NODE("a", "null", SAYS("user", "%s"))),
				       cases[i].content);
		char *path = xasprintf("user:%s|", cases[i].text);
		struct got g;

		convert(&g, text);
		must(&g);
		path_is(&g, 0, path);
		assert_int_equal(g.counts.notes, cases[i].notes);
		free(text);
		free(path);
		buf_free(&g.lines);
	}
}

static void a_tool_that_answers_was_called_and_thoughts_go_with_the_answer(void **state)
{
	struct got g;
	struct move_tree t;

	UNUSED(state);
	convert(&g, CHAT(
			    "e",
			    NODE("a", "null", SAYS("user", TEXT("count"))) "," NODE("b",
										    "\"a\"",
										    "{\"author\":{\"role\":\"assistant\"},\"recipient\":"
										    "\"python\",\"content\":{\"content_type\":\"code\",\"text\":\"1+1\"}}") "," NODE("c",
																				     "\"b\"",
																				     SAYS(
																					     "tool", "{\"content_type\":\"execution_output\","
																						     "\"text\":\"2\"}")) "," NODE("d",
																										  "\"c\"",
																										  SAYS(
																											  "assistant", "{\"content_type\":\"thoughts\","
																												       "\"thoughts\":[{\"summary\":\"Hm\",\"content\":\"two\"}]}")) "," NODE("e",
																																					     "\"d\"",
																																					     SAYS("assistant",
																																						  TEXT("It is 2")))));
	must(&g);
	path_is(&g, 0, "user:count|assistant:|tool:2|assistant:It is 2|");
	t = tree_at(&g, 0);
	assert_non_null(strstr(t.nodes[1].line.message.raw_json, "\"name\":\"python\""));
	assert_non_null(strstr(t.nodes[1].line.message.raw_json, "1+1"));
	assert_non_null(strstr(t.nodes[2].line.message.raw_json, "\"call_b\""));
	assert_string_equal(t.nodes[3].line.message.reasoning, "Hm\ntwo");
	move_tree_free(&t);
	buf_free(&g.lines);
}

static void circles_missing_parents_and_empty_chats_end(void **state)
{
	struct got g;

	UNUSED(state);
	convert(&g,
		"[{\"mapping\":{},\"id\":\"x\"},{\"title\":1},{\"mapping\":{" NODE("a", "\"b\"", SAYS("user", TEXT("1"))) "," NODE(
			"b", "\"a\"",
			SAYS("user",
			     TEXT("2"))) "," NODE("c", "\"gone\"",
						  SAYS("user",
						       TEXT("3"))) "," NODE("d", "\"d\"",
									    SAYS("user",
										 TEXT("4"))) "}}]");
	must(&g);
	assert_int_equal(g.counts.conversations, 1);
	assert_int_equal(g.counts.empty, 1);
	assert_int_equal(g.counts.skipped, 3);
	assert_int_equal(g.counts.messages, 2);
	buf_free(&g.lines);
	convert(&g, "[{\"mapping\":{" NODE("c", "null", SAYS("user", TEXT("3"))) "}},");
	must(&g);
	assert_int_equal(g.counts.conversations, 1);
	assert_int_equal(g.counts.skipped, 1);
	buf_free(&g.lines);
}

/* ---- llm ---- */

struct db {
	char path[512];
};

static struct db db_new(const char *sql)
{
	const char *tmp = getenv("TMPDIR");
	struct db d;
	sqlite3 *db;
	char *why = NULL;
	int fd;

	snprintf(d.path, sizeof(d.path), "%s/hob-import-XXXXXX", tmp ? tmp : "/tmp");
	fd = mkstemp(d.path);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(sqlite3_open(d.path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &why))
		fail_msg("%s", why);
	sqlite3_close(db);
	return d;
}

/* As its migrations leave them; the real program makes the files of tests/e2e/test_export.py. */
#define OLD_TABLES                                                                          \
	"CREATE TABLE conversations(id TEXT PRIMARY KEY, name TEXT, model TEXT);"           \
	"CREATE TABLE responses(id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT," \
	" prompt_json TEXT, options_json TEXT, response TEXT, response_json TEXT,"          \
	" conversation_id TEXT, duration_ms INTEGER, datetime_utc TEXT);"
#define NEW_TABLES                                                                        \
	"CREATE TABLE messages(hash TEXT PRIMARY KEY, parent_hash TEXT, role TEXT,"       \
	" provider_metadata TEXT);"                                                       \
	"CREATE TABLE parts(id INTEGER PRIMARY KEY, message_hash TEXT, position INTEGER," \
	" type TEXT, tool_name TEXT, text TEXT, payload TEXT);"                           \
	"CREATE TABLE fragments(id INTEGER PRIMARY KEY, hash TEXT, content TEXT);"        \
	"CREATE TABLE attachments(id TEXT PRIMARY KEY, type TEXT, path TEXT, url TEXT,"   \
	" content BLOB);"                                                                 \
	"CREATE TABLE threads(id TEXT PRIMARY KEY, name TEXT, tip_message_hash TEXT,"     \
	" forked_from TEXT, datetime_utc TEXT);"                                          \
	"CREATE TABLE turns(id TEXT PRIMARY KEY, thread_id TEXT, parent_message_hash"     \
	" TEXT, tip_message_hash TEXT, model TEXT, input_tokens INTEGER, output_tokens"   \
	" INTEGER, duration_ms INTEGER, datetime_utc TEXT);"

static void convert_db(struct got *g, const char *sql)
{
	struct db d = db_new(sql);

	convert_as(g, import_format_sniff(STR("SQLite format 3\0")), d.path, STR(""));
	unlink(d.path);
}

static void older_logs_of_llm_are_read_without_the_columns_of_later_ones(void **state)
{
	struct got g;
	struct move_tree t;

	UNUSED(state);
	convert_db(
		&g, OLD_TABLES
		"INSERT INTO conversations VALUES ('c1', 'Bears', 'm1');"
		"INSERT INTO responses VALUES ('r1', 'm1', 'hello', 'be good', NULL, "
		"NULL, 'hi', NULL, 'c1', 50, '2026-01-02T03:04:05.678901+00:00');"
		"INSERT INTO responses VALUES ('r2', 'm2', 'more', 'be good', NULL, NULL, "
		"'yes', NULL, 'c1', 60, '2026-01-02T03:05:00');"
		"INSERT INTO responses VALUES ('r3', 'm1', 'alone', NULL, NULL, NULL, "
		"CAST(x'61ff62' AS TEXT), NULL, NULL, NULL, 'never');");
	must(&g);
	assert_int_equal(g.counts.conversations, 2);
	path_is(&g, 0, "system:be good|user:hello|assistant:hi|user:more|assistant:yes|");
	path_is(&g, 1,
		"user:alone|assistant:a\xef\xbf\xbd"
		"b|");
	t = tree_at(&g, 0);
	assert_int_equal(t.nturns, 2);
	assert_string_equal(t.turns[1].turn.row.model, "m2");
	assert_int_equal(t.turns[0].turn.row.total_ms, 50);
	assert_int_equal(t.header.conversation.created_ms, 1767323045679);
	move_tree_free(&t);
	buf_free(&g.lines);
}

static void
newer_logs_of_llm_are_a_tree_with_fragments_tools_and_attachments(void **state)
{
	struct got g;
	struct move_tree t;

	UNUSED(state);
	convert_db(
		&g, NEW_TABLES
		"INSERT INTO fragments VALUES (1, 'x', 'a long text');"
		"INSERT INTO attachments VALUES ('i', 'image/png', NULL, NULL, x'00ff10');"
		"INSERT INTO attachments VALUES ('p', 'image/png', '/etc/passwd', NULL, NULL);"
		"INSERT INTO messages VALUES ('h1', NULL, 'user', NULL), "
		"('h2', 'h1', 'assistant', NULL), ('h3', 'h2', 'tool', NULL), "
		"('h4', 'h3', 'assistant', NULL), ('h5', 'h1', 'assistant', NULL);"
		"INSERT INTO parts VALUES "
		"(1, 'h1', 0, 'text', NULL, NULL, '{\"text_ref\":[{\"literal\":\"read \"},"
		"{\"fragment\":1}]}'), (2, 'h1', 1, 'attachment', NULL, NULL, "
		"'{\"attachment\":{\"id\":\"i\"}}'), (3, 'h1', 2, 'attachment', NULL, NULL, "
		"'{\"attachment\":{\"id\":\"p\"}}'),"
		"(4, 'h2', 0, 'reasoning', NULL, 'hm', NULL), (5, 'h2', 1, 'tool_call', "
		"'ls', NULL, '{\"name\":\"ls\",\"arguments\":{\"d\":1},\"tool_call_id\":"
		"\"t1\"}'), (6, 'h3', 0, 'tool_result', 'ls', NULL, '{\"name\":\"ls\","
		"\"output\":\"a\",\"tool_call_id\":\"t1\"}'),"
		"(7, 'h4', 0, 'text', NULL, 'done', NULL), (8, 'h5', 0, 'text', NULL, "
		"'other', NULL);"
		"INSERT INTO threads VALUES ('t', 'Name', 'h4', NULL, "
		"'2026-01-02T03:04:05'), ('u', 'Fork', 'h5', 't', '2026-01-03T00:00:00');"
		"INSERT INTO turns VALUES ('1', 't', 'h1', 'h2', 'm', 10, 20, 30, "
		"'2026-01-02T03:04:06'), ('2', 't', 'h3', 'h4', 'm', 11, NULL, 31, "
		"'2026-01-02T03:04:07'), ('3', 'u', 'h1', 'h5', 'm', 1, 2, 3, "
		"'2026-01-03T00:00:01');");
	must(&g);
	assert_int_equal(g.counts.conversations, 2);
	path_is(&g, 0,
		"user:read a long text\n[attachment image/png, /etc/passwd]|"
		"assistant:|tool:a|assistant:done|");
	assert_int_equal(g.counts.notes, 2); /* both threads have the message */
	t = tree_at(&g, 0);
	assert_non_null(
		strstr(t.nodes[0].line.message.raw_json, "data:image/png;base64,AP8Q"));
	assert_non_null(strstr(t.nodes[1].line.message.raw_json, "{\\\"d\\\":1}"));
	assert_string_equal(t.nodes[1].line.message.reasoning, "hm");
	assert_non_null(strstr(t.nodes[2].line.message.raw_json, "\"t1\""));
	assert_int_equal(t.turns[1].turn.row.tokens_in, 11);
	assert_int_equal(t.turns[1].turn.row.tokens_out, -1);
	move_tree_free(&t);
	buf_free(&g.lines);
}

static void what_newer_llm_went_on_with_is_read_once(void **state)
{
	struct got g;

	UNUSED(state);
	convert_db(&g, OLD_TABLES NEW_TABLES
		   "INSERT INTO responses VALUES ('r1', 'm1', 'hello', NULL, NULL, NULL, "
		   "'hi', NULL, 'c1', 50, '2026-01-02T03:04:05');"
		   "INSERT INTO messages VALUES ('h1', NULL, 'user', NULL);"
		   "INSERT INTO parts VALUES (1, 'h1', 0, 'text', NULL, 'hello', NULL);"
		   "INSERT INTO threads VALUES ('c1', 'N', 'h1', NULL, '2026-01-02');");
	must(&g);
	assert_int_equal(g.counts.conversations, 1);
	path_is(&g, 0, "user:hello|");
	buf_free(&g.lines);
}

static void hostile_databases_end_with_an_error_or_a_count(void **state)
{
	struct got g;

	UNUSED(state);
	convert_db(&g, "CREATE TABLE x(y)"); /* a stranger's */
	assert_int_equal(g.rc, -1);
	convert_db(
		&g, NEW_TABLES /* a circle, and a tip that is not there */
		"INSERT INTO messages VALUES ('h1', 'h2', 'user', NULL), "
		"('h2', 'h1', 'user', NULL);"
		"INSERT INTO parts VALUES (1, 'h1', 0, 'text', NULL, 'a', NULL), "
		"(2, 'h2', 0, 'warp', NULL, 'b', '[1]'), (3, 'h2', 1, 'text', x'00', NULL, '{');"
		"INSERT INTO threads VALUES ('t', NULL, 'h1', NULL, NULL), "
		"('u', NULL, 'gone', NULL, NULL);");
	must(&g);
	assert_int_equal(g.counts.conversations, 1);
	assert_int_equal(g.counts.empty, 1);
	assert_int_equal(g.counts.skipped, 1);
	path_is(&g, 0, "user:[warp]|user:a|");
	buf_free(&g.lines);
	convert_db(&g,
		   OLD_TABLES "DROP TABLE conversations; CREATE VIEW conversations AS "
			      "SELECT 'x' AS id, 'y' AS name, 'z' AS model");
	assert_int_equal(g.rc, -1);
	buf_free(&g.lines);
}

/* ---- formats ---- */

static void a_file_is_known_by_what_it_holds(void **state)
{
	static const struct {
		const char *text, *name;
	} cases[] = {
		{"{\"hob\":1,\"conversation\":{}}\n", "jsonl"},
		{"\xef\xbb\xbf[{\"title\":\"x\",\"mapping\":{}}]", "chatgpt"},
		{"[{\"role\":\"user\"}]", "openai"},
		{"{\"messages\":[]}", "openai"},
		{"PK\x03\x04", NULL},
		{"hello", NULL},
		{"", NULL},
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct import_format *f =
			import_format_sniff(str_of(cases[i].text));

		if (!cases[i].name)
			assert_null(f);
		else
			assert_string_equal(f->name, cases[i].name);
	}
	assert_null(import_format_by_name("word"));
}

static void hobs_own_lines_are_cut_into_conversations(void **state)
{
	struct got g;

	UNUSED(state);
	convert(&g, "{\"hob\":1,a\n{\"hash\":b\n{\"hob\":1,c\n");
	must(&g);
	assert_int_equal(g.counts.conversations, 2);
	assert_string_equal(g.lines.data, "{\"hob\":1,a\n{\"hash\":b\n{\"hob\":1,c\n");
	buf_free(&g.lines);
}

/* ---- Markdown ---- */

static void inset(const char *text, const char *expected)
{
	struct buf out = {0};

	inset_text(&out, str_of(text));
	assert_string_equal(out.data ? out.data : "", expected);
	buf_free(&out);
}

static void what_a_message_opens_ends_with_it(void **state)
{
	UNUSED(state);
	inset("plain *text*", "plain *text*\n");
	inset("```c\nint x;", "```c\nint x;\n```\n");
	inset("```c\nint x;\n```", "```c\nint x;\n```\n");
	inset("~~~~\n```\n~~~", "~~~~\n```\n~~~\n~~~~\n");
	inset("1. a\n   ```\n   x\n", "1. a\n   ```\n   x\n"); /* ends with its item */
	inset("1. a\n   ```\nb\n```\nc", "1. a\n   ```\nb\n```\nc\n```\n");
	inset("# Big\n## Assistant\n#### d\n###### f\n#no",
	      "### Big\n#### Assistant\n###### d\n###### f\n#no\n");
	inset("```\n# code\n```\n", "```\n# code\n```\n");
	inset("Assistant\n---\nx\n\n---\n", "Assistant\n\\---\nx\n\n---\n");
	inset("a\n-", "a\n\\-\n");
	inset("<!-- gone", "\\<!-- gone\n");
	inset("<script>", "\\<script>\n");
	inset("<b>", "<b>\n");
	inset("    # code", "    # code\n");
	inset("", "");
}

static void a_fence_is_longer_than_any_within(void **state)
{
	struct buf out = {0};

	UNUSED(state);
	inset_fence(&out, "", STR("a\n````\nb"));
	assert_string_equal(out.data, "`````\na\n````\nb\n`````\n");
	buf_free(&out);
}

static void a_title_cannot_be_markup(void **state)
{
	struct buf out = {0};

	UNUSED(state);
	inset_plain(&out, STR("a\n# b <!-- *c*"));
	assert_string_equal(out.data, "a \\# b \\<!-- \\*c\\*");
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_in_any_of_their_shapes_are_a_conversation),
		cmocka_unit_test(
			lines_of_messages_are_conversations_and_a_bad_line_is_counted),
		cmocka_unit_test(
			the_same_messages_get_the_same_ids_whenever_they_are_read),
		cmocka_unit_test(
			tool_calls_and_images_stand_whole_and_come_out_as_they_went_in),
		cmocka_unit_test(
			a_regenerated_answer_is_a_branch_and_the_shown_one_the_head),
		cmocka_unit_test(
			each_kind_of_content_keeps_its_words_and_unknown_ones_leave_a_note),
		cmocka_unit_test(
			a_tool_that_answers_was_called_and_thoughts_go_with_the_answer),
		cmocka_unit_test(circles_missing_parents_and_empty_chats_end),
		cmocka_unit_test(
			older_logs_of_llm_are_read_without_the_columns_of_later_ones),
		cmocka_unit_test(
			newer_logs_of_llm_are_a_tree_with_fragments_tools_and_attachments),
		cmocka_unit_test(what_newer_llm_went_on_with_is_read_once),
		cmocka_unit_test(hostile_databases_end_with_an_error_or_a_count),
		cmocka_unit_test(a_file_is_known_by_what_it_holds),
		cmocka_unit_test(hobs_own_lines_are_cut_into_conversations),
		cmocka_unit_test(what_a_message_opens_ends_with_it),
		cmocka_unit_test(a_fence_is_longer_than_any_within),
		cmocka_unit_test(a_title_cannot_be_markup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
