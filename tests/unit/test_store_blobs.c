/* Attachments: kept once, given back as they came, gone with the last message that carries them. */
#include "store_world.h"

#include "memory/blobs.h"
#include "memory/store_move.h"

/* A message's own JSON with an image of `n` bytes that begin with `seed`. */
static char *image(size_t n, int seed, const char *text)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		"0123456789+/";
	size_t len = n / 3 * 4;
	char *payload = xmalloc(len + 1), *json;

	for (size_t i = 0; i < len; i++)
		payload[i] = digits[(i * 7 + i / 64 + (size_t)seed) % 64];
	payload[len] = 0;
	json = xasprintf(
		"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"%s\"},"
		"{\"type\":\"image_url\",\"image_url\":{\"url\":"
		"\"data:image/png;base64,%s\"}}]}",
		text, payload);
	free(payload);
	return json;
}

/* What a path gives back as the own JSON of its first message. */
static void on_raw(void *arg, const struct err *e, const struct store_path *p)
{
	char **raw = arg;

	assert_int_equal(e->code, ERR_NONE);
	*raw = xstrdup(p->messages[0].raw_json);
}

static char *raw_of(struct box *b, const char *id)
{
	char *raw = NULL;

	store_path(b->store, &(struct store_path_ask){.conversation = id}, on_raw, &raw);
	while (!raw)
		uv_run(&b->loop, UV_RUN_ONCE);
	return raw;
}

static void ask_with(struct box *b, char id[64], const char *text, char *json)
{
	struct message m = {ROLE_USER, (char *)text, json};

	assert_int_equal(begin(b, id, &m, 1), ERR_NONE);
	memcpy(id, b->id, 64);
	assert_int_equal(end(b, b->turn, "done", "I see"), ERR_NONE);
}

static void an_attachment_is_kept_once_and_comes_back_as_it_was(void **state)
{
	struct box *b = *state;
	char one[64] = "new", two[64] = "new", *json = image(30000, 1, "what is this"),
	     *other = image(30000, 1, "and this"), *raw;

	ask_with(b, one, "what is this", json);
	ask_with(b, two, "and this", other);
	assert_int_equal(peek(b, "SELECT count(*) FROM blob"), 1);
	assert_int_equal(peek(b, "SELECT count(*) FROM message_blob"), 2);
	assert_int_equal(peek(b, "SELECT count(*) FROM blob WHERE bytes = 30000 "
				 "AND length(data) = 30000 AND mime = 'image/png'"),
			 1);
	assert_int_equal(peek(b, "SELECT max(length(parts)) < 1000 FROM message"), 1);
	raw = raw_of(b, one);
	assert_string_equal(raw, json);
	free(raw);
	raw = raw_of(b, two);
	assert_string_equal(raw, other);
	free(raw);
	assert_int_equal(peek(b, "SELECT count(*) FROM message_fts('this')"), 2);
	free(json);
	free(other);
}

static void the_same_attachment_sent_again_is_the_same_message(void **state)
{
	struct box *b = *state;
	char one[64] = "new", two[64] = "new", *json = image(3000, 2, "again");

	ask_with(b, one, "again", json);
	ask_with(b, two, "again", json);
	assert_int_equal(peek(b, "SELECT count(*) FROM message"), 2);
	free(json);
}

static void forgetting_the_last_message_forgets_its_attachment(void **state)
{
	struct box *b = *state;
	char one[64] = "new", two[64] = "new", *json = image(3000, 3, "one"),
	     *other = image(3000, 3, "two");

	ask_with(b, one, "one", json);
	ask_with(b, two, "two", other);
	assert_int_equal(forget(b, one), ERR_NONE);
	assert_int_equal(peek(b, "SELECT count(*) FROM blob"), 1);
	assert_int_equal(forget(b, two), ERR_NONE);
	assert_int_equal(peek(b, "SELECT count(*) FROM blob"), 0);
	assert_int_equal(peek(b, "SELECT count(*) FROM message_blob"), 0);
	free(json);
	free(other);
}

/* Cut and joined with the blobs as a table would give them: the same, whatever it was. */
static void assert_kept_inside(struct box *b, char *json)
{
	char id[64] = "new", *raw;

	ask_with(b, id, "x", json);
	assert_int_equal(peek(b, "SELECT count(*) FROM message_blob"), 0);
	raw = raw_of(b, id);
	assert_string_equal(raw, json);
	free(raw);
	free(json);
}

static void what_would_not_come_back_as_it_was_stays_inside(void **state)
{
	struct box *b = *state;
	char *json = image(3000, 4, "x");

	/* bits behind the end that no decoder reads */
	memcpy(strstr(json, "\"}}]}") - 4, "AAB=", 4);
	assert_kept_inside(b, json);
	json = image(3000, 5, "x"); /* another alphabet */
	strstr(json, "base64,")[100] = '_';
	assert_kept_inside(b, json);
	assert_kept_inside(b, image(600, 6, "x")); /* too small to be worth it */
	/* one who writes references gets nothing of others for them */
	assert_kept_inside(b, image(3000, 7, "data:,hob-blob:0123"));
}

static void a_reference_is_no_key_to_anothers_attachment(void **state)
{
	struct box *b = *state;
	char id[64] = "new", thief[64] = "new", hex[65], *json = image(3000, 8, "mine"),
	     *forged, *raw;
	sqlite3_stmt *st = NULL;
	sqlite3 *db = NULL;

	ask_with(b, id, "mine", json);
	assert_int_equal(sqlite3_open(b->path, &db), SQLITE_OK);
	sqlite3_prepare_v2(db, "SELECT lower(hex(hash)) FROM blob", -1, &st, NULL);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	snprintf(hex, sizeof(hex), "%s", (const char *)sqlite3_column_text(st, 0));
	sqlite3_finalize(st);
	sqlite3_close(db);
	forged = xasprintf("{\"role\":\"user\",\"content\":[{\"url\":"
			   "\"data:image/png;base64,hob-blob:%s\"}]}",
			   hex);
	ask_with(b, thief, "give", forged);
	raw = raw_of(b, thief);
	assert_string_equal(raw, forged);
	free(raw);
	free(forged);
	free(json);
}

static void several_attachments_of_a_message_keep_their_places(void **state)
{
	struct box *b = *state;
	char id[64] = "new", *first = image(3000, 9, "a"), *second = image(6000, 10, "b"),
	     *both = xasprintf("{\"x\":%s,\"y\":%s,\"z\":%s}", first, second, first),
	     *raw;

	ask_with(b, id, "x", both);
	assert_int_equal(peek(b, "SELECT count(*) FROM blob"), 2);
	raw = raw_of(b, id);
	assert_string_equal(raw, both);
	free(raw);
	free(first);
	free(second);
	free(both);
}

static void parts_are_whole_again_and_what_was_said_is_left_alone(void **state)
{
	struct box *b = *state;
	char id[64] = "new", *json = image(3000, 11, "x"), text[200], *expected;
	struct buf whole = {0};
	struct err e = {0};
	sqlite3_stmt *st = NULL;
	sqlite3 *db = NULL;
	struct sql q;

	/* names its own attachment: known from an earlier message with the same */
	ask_with(b, id, "x", json);
	assert_int_equal(sqlite3_open(b->path, &db), SQLITE_OK);
	sqlite3_prepare_v2(db, "SELECT 'say hob-blob:' || lower(hex(hash)) FROM blob", -1,
			   &st, NULL);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	snprintf(text, sizeof(text), "%s", (const char *)sqlite3_column_text(st, 0));
	sqlite3_finalize(st);
	ask_with(b, id, text, json);
	expected = xasprintf("[{\"type\":\"text\",\"text\":\"%s\"},"
			     "{\"type\":\"openai\",\"message\":%s}]",
			     text, json);
	assert_int_equal(sql_open(&q, db, false, &e), 0);
	sqlite3_prepare_v2(db, "SELECT id, parts FROM message WHERE text LIKE 'say %'",
			   -1, &st, NULL);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	assert_int_equal(blobs_join(&q, sqlite3_column_int64(st, 0),
				    str_of((const char *)sqlite3_column_text(st, 1)),
				    &whole, &e),
			 0);
	sqlite3_finalize(st);
	assert_string_equal(whole.data, expected);
	buf_free(&whole);
	free(expected);
	free(json);
	sql_close(&q);
}

struct moved {
	char *text;
	bool done;
};

static void on_export(void *arg, const struct err *e, struct str jsonl)
{
	assert_int_equal(e->code, ERR_NONE);
	((struct moved *)arg)->text = str_dup(jsonl);
}

static void on_import(void *arg, const struct err *e, const struct store_imported *i)
{
	if (e->code != ERR_NONE)
		fail_msg("%s", e->text);
	assert_int_equal(i->conversations, 1);
	((struct moved *)arg)->done = true;
}

static void an_export_holds_attachments_whole_and_an_import_takes_them_out(void **state)
{
	struct box *b = *state;
	char id[64] = "new", *json = image(3000, 12, "x"), *raw;
	struct moved m = {0};

	ask_with(b, id, "x", json);
	store_export(b->store, id, on_export, &m);
	while (!m.text)
		uv_run(&b->loop, UV_RUN_ONCE);
	assert_null(strstr(m.text, "hob-blob:"));
	assert_non_null(strstr(m.text, json));
	assert_int_equal(forget(b, id), ERR_NONE);
	assert_int_equal(peek(b, "SELECT count(*) FROM blob"), 0);
	store_import(b->store, str_of(m.text), on_import, &m);
	while (!m.done)
		uv_run(&b->loop, UV_RUN_ONCE);
	assert_int_equal(peek(b, "SELECT count(*) FROM blob"), 1);
	raw = raw_of(b, id);
	assert_string_equal(raw, json);
	free(raw);
	free(m.text);
	free(json);
}

static void any_text_comes_back_from_cutting_as_it_was(void **state)
{
	struct box *b = *state;
	static const char *const tails[] = {"",
					    "\"",
					    "data:",
					    "\"data:",
					    "\"data:;base64,",
					    "\"data:;base64,AAAA",
					    "\"data:x;base64,AAAA\""};
	struct blobs cut;

	UNUSED(b);
	for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
		char *text =
			xasprintf("%*s},{\"type\":\"openai\",%s", 2000, "", tails[i]);
		/* an exact copy on the heap: a look behind its end is seen by the sanitizer */
		size_t len = strlen(text);
		char *exact = xmalloc(len);

		memcpy(exact, text, len);
		blobs_cut((struct str){exact, len}, &cut);
		assert_int_equal(cut.n, 0);
		blobs_free(&cut);
		free(exact);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_BOX(an_attachment_is_kept_once_and_comes_back_as_it_was),
		WITH_BOX(the_same_attachment_sent_again_is_the_same_message),
		WITH_BOX(forgetting_the_last_message_forgets_its_attachment),
		WITH_BOX(what_would_not_come_back_as_it_was_stays_inside),
		WITH_BOX(a_reference_is_no_key_to_anothers_attachment),
		WITH_BOX(several_attachments_of_a_message_keep_their_places),
		WITH_BOX(parts_are_whole_again_and_what_was_said_is_left_alone),
		WITH_BOX(an_export_holds_attachments_whole_and_an_import_takes_them_out),
		WITH_BOX(any_text_comes_back_from_cutting_as_it_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
