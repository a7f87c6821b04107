/* What a context is put together from besides messages: notes, summaries, token counts. */
#include "store_world.h"

static void on_notes(void *arg, const struct err *e, const struct store_note *list, int n)
{
	struct box *b = arg;

	b->n = n;
	for (int i = 0; i < n && i < 8; i++) {
		b->ids[i] = list[i].id;
		snprintf(b->notes[i], MAX_TEXT, "%s: %s", list[i].scope, list[i].text);
	}
	answered(b, e, NULL);
}

static enum err_code note(struct box *b, const char *scope, const char *text)
{
	store_note_add(b->store, scope, text, on_notes, b);
	wait_for(b);
	return b->err.code;
}

static enum err_code notes(struct box *b, const char *conversation)
{
	store_notes(b->store, conversation, on_notes, b);
	wait_for(b);
	return b->err.code;
}

static enum err_code unnote(struct box *b, int64_t id)
{
	store_note_delete(b->store, id, on_done, b);
	wait_for(b);
	return b->err.code;
}

static void notes_belong_to_all_conversations_or_to_one(void **state)
{
	struct box *b = *state;
	char one[64] = "new", two[64] = "new", text[MAX_TEXT];

	turn(b, one, "q", "a");
	turn(b, two, "r", "b");
	assert_int_equal(note(b, "", "speaks Italian"), ERR_NONE);
	assert_int_equal(b->n, 1);
	assert_string_equal(b->notes[0], ": speaks Italian");
	assert_int_equal(note(b, one, "likes it short"), ERR_NONE);
	snprintf(text, sizeof(text), "%s: likes it short", one);
	assert_string_equal(b->notes[0], text);
	assert_int_equal(notes(b, NULL), ERR_NONE);
	assert_int_equal(b->n, 1);
	assert_int_equal(notes(b, one), ERR_NONE);
	assert_int_equal(b->n, 2);
	assert_string_equal(b->notes[1], text);
	assert_int_equal(path(b, one), ERR_NONE);
	assert_int_equal(b->nnotes, 2);
	assert_string_equal(b->notes[0], "speaks Italian");
	assert_int_equal(path(b, two), ERR_NONE);
	assert_int_equal(b->nnotes, 1);
	assert_int_equal(notes(b, "01ARZ3NDEKTSV4RRFFQ69G5FAV"), ERR_NOT_FOUND);
	assert_int_equal(forget(b, one), ERR_NONE);
	assert_int_equal(peek(b, "SELECT count(*) FROM note"), 1);
}

static void a_deleted_note_is_nowhere_in_the_files(void **state)
{
	struct box *b = *state;
	char wal[800];
	int64_t id;

	snprintf(wal, sizeof(wal), "%s-wal", b->path);
	assert_int_equal(note(b, "", "the word is xylonote7"), ERR_NONE);
	id = b->ids[0];
	assert_true(file_has(b->path, "xylonote7") || file_has(wal, "xylonote7"));
	assert_int_equal(unnote(b, id), ERR_NONE);
	assert_false(file_has(b->path, "xylonote7"));
	assert_false(file_has(wal, "xylonote7"));
	assert_int_equal(unnote(b, id), ERR_NOT_FOUND);
	assert_int_equal(note(b, "", "another"), ERR_NONE);
	assert_int_not_equal(b->ids[0], id);
}

static void notes_are_bounded(void **state)
{
	struct box *b = *state;
	char big[STORE_MAX_NOTE_BYTES + 2];

	memset(big, 'x', sizeof(big));
	big[sizeof(big) - 1] = 0;
	assert_int_equal(note(b, "", big), ERR_TOO_LARGE);
	big[sizeof(big) - 2] = 0;
	assert_int_equal(note(b, "", big), ERR_NONE);
	assert_int_equal(note(b, "", "  "), ERR_INVALID);
	assert_int_equal(note(b, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "x"), ERR_NOT_FOUND);
	for (int i = 1; i < STORE_MAX_NOTES; i++)
		assert_int_equal(note(b, "", "x"), ERR_NONE);
	assert_int_equal(note(b, "", "one too many"), ERR_TOO_LARGE);
	assert_int_equal(say(b, "new", "q"), ERR_NONE);
	assert_int_equal(note(b, "last", "of a scope with room"), ERR_NONE);
}

static enum err_code summarise(struct box *b, int64_t upto, const char *model,
			       const char *text)
{
	store_summary_put(b->store, upto, model, text, 7, on_done, b);
	wait_for(b);
	return b->err.code;
}

static void a_summary_serves_every_branch_that_passes_its_message(void **state)
{
	struct box *b = *state;
	char id[64] = "new", branch[64];
	int64_t second, fourth;

	for (int i = 0; i < 3; i++) {
		turn(b, id, i ? i > 1 ? "q3" : "q2" : "q1", "a");
		if (i == 0)
			memcpy(branch, b->reply, sizeof(b->reply));
	}
	assert_int_equal(path(b, id), ERR_NONE);
	second = b->ids[1];
	fourth = b->ids[3];
	assert_int_equal(summarise(b, fourth, "m", "of four"), ERR_NONE);
	assert_int_equal(summarise(b, second, "m", "old"), ERR_NONE);
	assert_int_equal(summarise(b, second, "m", "of two"), ERR_NONE); /* the newest */
	assert_int_equal(path(b, id), ERR_NONE);
	assert_int_equal(b->nsummaries, 2);
	assert_int_equal(b->summaries[0].upto, 1);
	assert_int_equal(b->summaries[0].tokens, 7);
	assert_string_equal(b->summary[0], "m: of two");
	assert_int_equal(b->summaries[1].upto, 3);
	assert_int_equal(begin_at(b, id, branch, "another way"), ERR_NONE);
	assert_int_equal(path(b, id), ERR_NONE);
	assert_int_equal(b->nsummaries, 1);
	assert_string_equal(b->summary[0], "m: of two");
	assert_int_equal(forget(b, id), ERR_NONE);
	assert_int_equal(peek(b, "SELECT count(*) FROM summary"), 0);
	memcpy(branch, "new", 4);
	turn(b, branch, "x", "y"); /* takes none of the ids that went */
	assert_int_equal(summarise(b, fourth, "m", "late"), ERR_NOT_FOUND);
	store_summary_put(b->store, fourth, "m", "late, and nobody asks", 7, NULL, NULL);
	assert_int_equal(path(b, id), ERR_NOT_FOUND);
}

static enum err_code path_counted(struct box *b, const char *id, const char *tokenizer)
{
	store_path(b->store,
		   &(struct store_path_ask){.conversation = id, .tokenizer = tokenizer},
		   on_path, b);
	wait_for(b);
	return b->err.code;
}

static void counts_are_of_one_tokenizer(void **state)
{
	struct box *b = *state;
	char id[64] = "new";
	int64_t ids[3];

	turn(b, id, "q", "a");
	assert_int_equal(path(b, id), ERR_NONE);
	assert_int_equal(b->tokens[0], -1);
	ids[0] = b->ids[0];
	ids[1] = b->ids[1];
	ids[2] = b->ids[1] + 1000; /* gone meanwhile: no trouble */
	store_counts_put(b->store, "bpe-1", ids, (int[]){11, 12, 13}, 3);
	store_counts_put(b->store, "bpe-2", ids, (int[]){21}, 1);
	store_counts_put(b->store, "bpe-1", ids, (int[]){14}, 1);
	assert_int_equal(path_counted(b, id, "bpe-1"), ERR_NONE);
	assert_int_equal(b->tokens[0], 14);
	assert_int_equal(b->tokens[1], 12);
	assert_int_equal(path_counted(b, id, "bpe-2"), ERR_NONE);
	assert_int_equal(b->tokens[0], 21);
	assert_int_equal(b->tokens[1], -1);
	assert_int_equal(path_counted(b, id, NULL), ERR_NONE);
	assert_int_equal(b->tokens[0], -1);
	assert_int_equal(peek(b, "SELECT count(*) FROM token_count"), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_BOX(notes_belong_to_all_conversations_or_to_one),
		WITH_BOX(a_deleted_note_is_nowhere_in_the_files),
		WITH_BOX(notes_are_bounded),
		WITH_BOX(a_summary_serves_every_branch_that_passes_its_message),
		WITH_BOX(counts_are_of_one_tokenizer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
