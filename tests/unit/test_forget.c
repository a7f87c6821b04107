/* Forgetting: words that nobody else would write are put wherever text is kept, and after the answer none
 * of them may be in any byte of any file of the folder. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "keep_world.h"
#include "memory/store_notes.h"

static bool holds(const char *bytes, size_t len, const char *word)
{
	return memmem(bytes, len, word, strlen(word)) != NULL;
}

/* How many files of the folder hold the word. */
static int traces(struct world *w, const char *word)
{
	DIR *d = opendir(w->dir);
	struct dirent *ent;
	int n = 0;

	while ((ent = readdir(d)) != NULL) {
		char *name = xasprintf("%s/%s", w->dir, ent->d_name);
		struct buf b = {0};
		char part[65536];
		int fd = open(name, O_RDONLY);
		ssize_t got;

		while (fd >= 0 && (got = read(fd, part, sizeof(part))) > 0)
			buf_add(&b, part, (size_t)got);
		if (fd >= 0)
			close(fd);
		if (b.len && holds(b.data, b.len, word)) {
			print_message("'%s' is in %s\n", word, ent->d_name);
			n++;
		}
		buf_free(&b);
		free(name);
	}
	closedir(d);
	return n;
}

static const char *const canaries[] = {
	"zqmessage",   "zqreply", "zqpartial", "zqtitle",    "zqsummary",
	"zqnote",      "zqerror", "zqblob",    "zqmetadata", "zqraw",
	"zqreasoning", "zqmodel", "zqbackend", "zqcounter",  "zqrequest"};

/* One conversation with a word in every place; its id goes to `id`. */
static void plant(struct world *w, char id[64])
{
	struct message m[] = {{ROLE_SYSTEM, (char *)"be kind", NULL},
			      {ROLE_USER, (char *)"zqtitle of it\nand zqmessage",
			       (char *)"{\"role\":\"user\",\"content\":\"zqraw\"}"}};
	char *sql;

	assert_int_equal(world_begin(w, "new", m, 2), ERR_NONE);
	memcpy(id, w->id, 64);
	store_turn_partial(w->store, w->turn, "zqpartial", 9);
	assert_int_equal(world_end(w, "done", "a zqreply to it", NULL), ERR_NONE);
	assert_int_equal(world_say(w, id, "this one fails"), ERR_NONE);
	store_turn_partial(w->store, w->turn, "zqpartial of a failure", 22);
	assert_int_equal(world_end(w, "error", NULL, "zqerror happened"), ERR_NONE);
	sql = xasprintf(
		"INSERT INTO summary SELECT max(id), 'zqmodel', 'zqsummary', 1, 1 FROM "
		"message; INSERT INTO token_count SELECT max(id), 'zqcounter', 1 FROM message; "
		"INSERT INTO blob VALUES (zeroblob(32), 'text/plain', 6, CAST('zqblob' AS BLOB)); "
		"INSERT INTO message_blob SELECT max(id), zeroblob(32) FROM message; "
		"INSERT INTO note (scope, text, created_at) VALUES ('%s', 'zqnote', 1); "
		"UPDATE session SET metadata = '{\"a\":\"zqmetadata\"}' WHERE id = '%s'; "
		"UPDATE turn SET backend = 'zqbackend', request = 'zqrequest' || id "
		"WHERE session_id = '%s'; "
		"INSERT INTO message (id, hash, parent_id, role, parts, text, bytes, created_at, "
		"reasoning) SELECT 1000, randomblob(16), max(id), 'assistant', "
		"'[]', '', 1, 1, 'zqreasoning' FROM message; "
		"INSERT INTO tip VALUES ('%s', 1000)",
		id, id, id, id);
	world_poke(w, sql);
	free(sql);
}

static void assert_all_gone(struct world *w)
{
	for (size_t i = 0; i < ARRAY_LEN(canaries); i++)
		assert_int_equal(traces(w, canaries[i]), 0);
	assert_int_equal(world_peek(w, "SELECT count(*) FROM pragma_integrity_check "
				       "WHERE integrity_check <> 'ok'"),
			 0);
	world_poke(w, "INSERT INTO message_fts (message_fts, rank) "
		      "VALUES ('integrity-check', 1)");
}

static void no_byte_of_a_forgotten_conversation_is_left(void **state)
{
	struct world *w = *state;
	char other[64] = "new", id[64];

	for (int i = 0; i < 30; i++)
		world_turn(w, other, "something else entirely", "that stays where it is");
	plant(w, id);
	for (int i = 0; i < 30; i++)
		world_turn(w, other, "and more of that", "with many words");
	for (size_t i = 0; i < ARRAY_LEN(canaries); i++)
		assert_true(traces(w, canaries[i]) > 0); /* else this shows nothing */
	assert_int_equal(world_forget(w, &(struct store_forget_ask){.conversation = id}),
			 ERR_NONE);
	assert_int_equal(w->forgotten.conversations, 1);
	assert_true(w->forgotten.messages >= 4);
	assert_all_gone(w);
	assert_true(traces(w, "entirely") > 0);
	assert_int_equal(world_search(w, "entirely", NULL), 30);
}

static void all_is_everything_but_what_is_pinned(void **state)
{
	struct world *w = *state;
	char pinned[64] = "new", id[64];

	world_turn(w, pinned, "a pinned zqpin", "conversation");
	world_poke(w, "UPDATE session SET pinned = 1");
	world_poke(w, "INSERT INTO note (text, created_at) VALUES ('zqglobal', 1)");
	plant(w, id);
	assert_int_equal(world_forget(w, &(struct store_forget_ask){.all = true}),
			 ERR_NONE);
	assert_int_equal(w->forgotten.conversations, 1);
	assert_all_gone(w);
	assert_int_equal(world_search(w, "zqpin", NULL), 1);
	assert_true(traces(w, "zqglobal") > 0);
	assert_int_equal(world_forget(w, &(struct store_forget_ask){.all = true,
								    .pinned_too = true}),
			 ERR_NONE);
	assert_int_equal(w->forgotten.conversations, 1);
	assert_int_equal(w->forgotten.messages, 2);
	assert_int_equal(traces(w, "zqpin"), 0);
	assert_int_equal(traces(w, "zqglobal"), 0);
	assert_int_equal(world_peek(w, "SELECT count(*) FROM message"), 0);
}

static void before_a_time_means_the_last_use(void **state)
{
	struct world *w = *state;
	char id[64], young[64] = "new";

	plant(w, id);
	world_poke(w, "UPDATE session SET updated_at = 5000");
	world_turn(w, young, "young", "one");
	assert_int_equal(world_forget(w, &(struct store_forget_ask){.before_ms = 5000}),
			 ERR_NONE);
	assert_int_equal(w->forgotten.conversations, 0);
	assert_int_equal(world_forget(w, &(struct store_forget_ask){.before_ms = 5001}),
			 ERR_NONE);
	assert_int_equal(w->forgotten.conversations, 1);
	assert_all_gone(w);
	assert_int_equal(world_search(w, "young", NULL), 1);
}

static void a_pinned_conversation_is_forgotten_only_on_request(void **state)
{
	struct world *w = *state;
	char id[64];

	plant(w, id);
	world_poke(w, "UPDATE session SET pinned = 1");
	assert_int_equal(world_forget(w, &(struct store_forget_ask){.conversation = id}),
			 ERR_CONFLICT);
	assert_true(traces(w, "zqmessage") > 0);
	assert_int_equal(world_forget(w, &(struct store_forget_ask){.conversation = id,
								    .pinned_too = true}),
			 ERR_NONE);
	assert_all_gone(w);
}

static void what_to_forget_must_be_said_in_one_way(void **state)
{
	struct world *w = *state;
	struct store_forget_ask none = {0}, two = {.all = true, .before_ms = 5},
				unknown = {.conversation = "NOSUCH"},
				early = {.before_ms = -1};

	assert_int_equal(world_forget(w, &none), ERR_INVALID);
	assert_int_equal(world_forget(w, &two), ERR_INVALID);
	assert_int_equal(world_forget(w, &early), ERR_INVALID);
	assert_int_equal(world_forget(w, &unknown), ERR_NOT_FOUND);
}

static void what_another_conversation_reaches_is_not_forgotten(void **state)
{
	struct world *w = *state;
	char a[64] = "new", b[64] = "new";

	world_turn(w, a, "the zqshared question", "the shared answer");
	world_turn(w, a, "the zqown question", "its answer");
	world_turn(w, b, "the zqshared question", "the shared answer");
	assert_int_equal(world_forget(w, &(struct store_forget_ask){.conversation = a}),
			 ERR_NONE);
	assert_int_equal(w->forgotten.messages, 2);
	assert_int_equal(traces(w, "zqown"), 0);
	assert_true(traces(w, "zqshared") > 0);
	assert_int_equal(world_search(w, "zqshared", NULL), 1);
	assert_string_equal(w->hits[0].conversation, b);
}

static void a_turn_that_is_still_answered_ends_nowhere(void **state)
{
	struct world *w = *state;
	char id[64];

	assert_int_equal(world_say(w, "new", "zqmessage in flight"), ERR_NONE);
	memcpy(id, w->id, sizeof(id));
	assert_int_equal(world_forget(w, &(struct store_forget_ask){.conversation = id}),
			 ERR_NONE);
	store_turn_partial(w->store, w->turn, "zqpartial too late", 18);
	assert_int_equal(world_end(w, "done", "zqreply too late", NULL), ERR_NOT_FOUND);
	assert_all_gone(w);
}

/* Another program looks at the file: the log cannot be emptied, and nobody may be told that it was. */
static void a_reader_that_keeps_the_log_is_not_denied(void **state)
{
	struct world *w = *state;
	sqlite3 *db;
	sqlite3_stmt *st = NULL;
	char id[64];

	plant(w, id);
	db = world_db(w);
	assert_int_equal(sqlite3_prepare_v2(db, "SELECT id FROM message", -1, &st, NULL),
			 SQLITE_OK);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	assert_int_equal(world_forget(w, &(struct store_forget_ask){.conversation = id}),
			 ERR_BUSY);
	assert_non_null(strstr(w->err.text, "traces"));
	sqlite3_finalize(st);
	sqlite3_close(db);
	/* the conversation is gone; asked again, so is every byte */
	assert_int_equal(world_forget(w, &(struct store_forget_ask){.conversation = id}),
			 ERR_NOT_FOUND);
	assert_int_equal(world_forget(w, &(struct store_forget_ask){.before_ms = 1}),
			 ERR_NONE);
	assert_all_gone(w);
}

static void searches_that_run_beside_it_keep_nothing(void **state)
{
	struct world *w = *state;
	char id[64];

	plant(w, id);
	assert_int_equal(world_search(w, "zqmessage", NULL), 1);
	assert_int_equal(world_forget(w, &(struct store_forget_ask){.conversation = id}),
			 ERR_NONE);
	assert_all_gone(w);
	assert_int_equal(world_search(w, "zqmessage", NULL), 0);
}

static void the_copies_that_migrations_made_go_too(void **state)
{
	struct world *w = *state;
	char id[64], *copy = xasprintf("%s.v1.bak", w->path),
		     *part = xasprintf("%s.v12.bak.tmp", w->path),
		     *other = xasprintf("%s.very.bak", w->path);

	plant(w, id);
	for (int i = 0; i < 3; i++) {
		const char *name = i == 0 ? copy : i == 1 ? part : other;
		int fd = open(name, O_CREAT | O_WRONLY, 0600);

		assert_true(write(fd, i < 2 ? "zqmessage" : "harmless!", 9) == 9);
		close(fd);
	}
	assert_int_equal(world_forget(w, &(struct store_forget_ask){.conversation = id}),
			 ERR_NONE);
	assert_int_not_equal(access(copy, F_OK), 0);
	assert_int_not_equal(access(part, F_OK), 0);
	assert_int_equal(access(other, F_OK), 0);
	assert_all_gone(w);
	free(copy);
	free(part);
	free(other);
}

static void the_file_becomes_smaller_by_what_is_said(void **state)
{
	struct world *w = *state;
	struct store_figures before, after;
	char id[64] = "new", *text = xmalloc(300001);

	for (int i = 0; i < 300000; i++)
		text[i] = (char)(i % 7 ? 'a' + (i * 31 + i / 7) % 26 : ' ');
	text[300000] = 0;
	for (int i = 0; i < 5; i++) {
		text[0] = (char)('a' + i);
		world_turn(w, id, text, "ok");
	}
	free(text);
	store_figures(w->store, &before);
	assert_int_equal(world_forget(w, &(struct store_forget_ask){.conversation = id}),
			 ERR_NONE);
	store_figures(w->store, &after);
	assert_true(w->forgotten.bytes > 1500000);
	assert_int_equal((int64_t)before.bytes - (int64_t)after.bytes,
			 w->forgotten.bytes);
	assert_int_equal(after.messages, 0);
}

static void many_conversations_go_at_once(void **state)
{
	struct world *w = *state;

	for (int i = 0; i < 120; i++) {
		char id[64] = "new", text[64];

		snprintf(text, sizeof(text), "zqmessage number %d", i);
		world_turn(w, id, text, "zqreply");
	}
	assert_int_equal(world_forget(w, &(struct store_forget_ask){.all = true}),
			 ERR_NONE);
	assert_int_equal(w->forgotten.conversations, 120);
	assert_int_equal(w->forgotten.messages, 240);
	assert_all_gone(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_WORLD(no_byte_of_a_forgotten_conversation_is_left),
		WITH_WORLD(all_is_everything_but_what_is_pinned),
		WITH_WORLD(before_a_time_means_the_last_use),
		WITH_WORLD(a_pinned_conversation_is_forgotten_only_on_request),
		WITH_WORLD(what_to_forget_must_be_said_in_one_way),
		WITH_WORLD(what_another_conversation_reaches_is_not_forgotten),
		WITH_WORLD(a_turn_that_is_still_answered_ends_nowhere),
		WITH_WORLD(a_reader_that_keeps_the_log_is_not_denied),
		WITH_WORLD(searches_that_run_beside_it_keep_nothing),
		WITH_WORLD(the_copies_that_migrations_made_go_too),
		WITH_WORLD(the_file_becomes_smaller_by_what_is_said),
		WITH_WORLD(many_conversations_go_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
