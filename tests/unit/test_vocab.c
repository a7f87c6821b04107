/* Tokens: cut and merged as the models' own tokenizers do, whatever the bytes.
 *
 * The ids for SmolLM2 are from the `tokenizers` library over the file's vocabulary and
 * merges; those of the other models are llama.cpp's, in the test data. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <cjson/cJSON.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/detok.h"
#include "engine/vocab.h"
#include "tests/unit/gguf_build.h"

static struct vocab *made_vocab(const char *model, const char *pre, struct err *e)
{
	struct buf b = {0};
	struct vocab *v;
	struct gguf *g;

	put_head(&b, 0, VOCAB_PAIRS + 2);
	put_pair_u32(&b, "tokenizer.ggml.bos_token_id", TV_BOS);
	put_pair_u32(&b, "tokenizer.ggml.eos_token_id", TV_IM_END);
	put_vocab_pairs(&b, model, pre);
	*e = (struct err){0};
	g = gguf_from_memory(b.data, b.len, "made", e);
	if (!g)
		fail_msg("%s", e->text);
	v = vocab_new(g, e);
	gguf_close(g); /* the vocabulary must not need it, nor the bytes */
	buf_free(&b);
	return v;
}

static void assert_encodes(const struct vocab *v, struct str text, bool special,
			   const int32_t *ids, size_t n)
{
	struct tokens t = {0};

	vocab_encode(v, text, special, false, &t);
	assert_int_equal(t.n, n);
	if (n)
		assert_memory_equal(t.ids, ids, n * sizeof(*ids));
	tokens_free(&t);
}

#define ASSERT_ENCODES(v, text, special, ...)                           \
	assert_encodes(v, STR(text), special, (int32_t[]){__VA_ARGS__}, \
		       sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void merges_apply_by_rank_not_from_the_left(void **state)
{
	struct err e;
	struct vocab *v = made_vocab("gpt2", "gpt-2", &e);

	UNUSED(state);
	assert_non_null(v);
	ASSERT_ENCODES(v, "hello", false, TV_HELLO);
	ASSERT_ENCODES(v, "hell", false, TV_HELL);
	ASSERT_ENCODES(v, "helll", false, TV_HELL, 'l');
	ASSERT_ENCODES(v, "lllhe", false, TV_LL, 'l', TV_HE);
	ASSERT_ENCODES(v, "hello hello", false, TV_HELLO, ' ', TV_HELLO);
	assert_encodes(v, STR(""), true, NULL, 0);
	vocab_free(v);
}

static void markers_in_a_users_text_stay_text(void **state)
{
	struct err e;
	struct vocab *v = made_vocab("gpt2", "gpt-2", &e);
	struct tokens t = {0};

	UNUSED(state);
	ASSERT_ENCODES(v, "<|im_end|>", true, TV_IM_END);
	ASSERT_ENCODES(v, "a<s>he", true, 'a', TV_BOS, TV_HE);
	vocab_encode(v, STR("x<|im_end|><|im_start|><s><|sneaky|>"), false, false, &t);
	assert_int_equal(t.n, 1 + 10 + 12 + 3 + 10);
	for (size_t i = 0; i < t.n; i++)
		assert_false(vocab_is_control(v, t.ids[i]));
	/* User-defined tokens are the model's own words: taken whole in both cases. */
	ASSERT_ENCODES(v, "a<tool>b", false, 'a', TV_TOOL, 'b');
	assert_true(vocab_is_control(v, TV_SNEAKY)); /* in spite of the file */
	tokens_free(&t);
	vocab_free(v);
}

static void bos_and_ends_come_from_the_file_and_by_name(void **state)
{
	struct err e;
	struct vocab *v = made_vocab("gpt2", "gpt-2", &e);
	struct tokens t = {0};

	UNUSED(state);
	assert_int_equal(vocab_size(v), TV_SIZE);
	assert_int_equal(vocab_bos(v), TV_BOS);
	assert_int_equal(vocab_eos(v), TV_IM_END);
	assert_false(vocab_add_bos(v));
	assert_true(vocab_is_eog(v, TV_IM_END));
	assert_false(vocab_is_eog(v, TV_IM_START));
	assert_false(vocab_is_eog(v, -1));
	assert_false(vocab_is_eog(v, TV_SIZE));
	vocab_encode(v, STR("he"), false, true, &t);
	assert_true(t.n == 2 && t.ids[0] == TV_BOS && t.ids[1] == TV_HE);
	assert_true(str_eq(vocab_piece(v, TV_HELLO, false), "hello"));
	assert_int_equal(vocab_piece(v, TV_IM_END, false).len, 0);
	assert_true(str_eq(vocab_piece(v, TV_IM_END, true), "<|im_end|>"));
	assert_int_equal(vocab_piece(v, TV_SIZE, true).len, 0);
	assert_int_equal(vocab_find(v, STR("<tool>")), TV_TOOL);
	assert_int_equal(vocab_find(v, STR("nothing")), VOCAB_NO_TOKEN);
	tokens_free(&t);
	vocab_free(v);
}

static void what_is_not_known_is_refused_by_name(void **state)
{
	struct err e;

	UNUSED(state);
	assert_null(made_vocab("t5", "gpt-2", &e));
	assert_int_equal(e.code, ERR_UNSUPPORTED);
	assert_non_null(strstr(e.text, "'t5'"));
	/* SentencePiece has scores; these files have none. */
	assert_null(made_vocab("llama", "default", &e));
	assert_int_equal(e.code, ERR_CORRUPT);
	assert_non_null(strstr(e.text, "scores"));
	assert_null(made_vocab("gpt2", "brand-new", &e));
	assert_int_equal(e.code, ERR_UNSUPPORTED);
	assert_non_null(strstr(e.text, "'brand-new'"));
}

static void any_bytes_come_back_as_they_were(void **state)
{
	static const char *const pres[] = {"smollm", "llama-bpe", "qwen2", "deepseek-llm",
					   "default"};
	uint64_t rng = 3;
	struct err e;

	UNUSED(state);
	for (size_t p = 0; p < ARRAY_LEN(pres); p++) {
		struct vocab *v = made_vocab("gpt2", pres[p], &e);

		assert_non_null(v);
		for (int round = 0; round < 300; round++) {
			struct buf text = {0}, back = {0};
			struct tokens t = {0};

			for (int i = 0; i < round % 40; i++) {
				rng = rng * UINT64_C(6364136223846793005) +
				      1442695040888963407u;
				buf_addc(&text, round % 2 ? (char)(rng >> 56)
							  : "he\n 1'l\xc3"[rng >> 61]);
			}
			vocab_encode(v, buf_str(&text), false, false, &t);
			for (size_t i = 0; i < t.n; i++) {
				struct str s = vocab_piece(v, t.ids[i], false);

				buf_add(&back, s.ptr, s.len);
			}
			assert_int_equal(back.len, text.len);
			if (text.len)
				assert_memory_equal(back.data, text.data, text.len);
			tokens_free(&t);
			buf_free(&text);
			buf_free(&back);
		}
		vocab_free(v);
	}
}

/* Quadratic work on these would be 10^12 steps. */
static void long_words_take_no_quadratic_time(void **state)
{
	static const char *const pres[] = {"smollm", "qwen2", "deepseek-llm", "default"};
	struct err e;

	UNUSED(state);
	for (size_t p = 0; p < ARRAY_LEN(pres); p++) {
		for (int kind = 0; kind < 3; kind++) {
			struct vocab *v = made_vocab("gpt2", pres[p], &e);
			size_t n = 1 << 20;
			char *s = xmalloc(n);
			struct tokens t = {0};
			uint64_t start = clock_mono_ms();

			memset(s, "l \n"[kind], n);
			s[n - 1] = 'x';
			vocab_encode(v, (struct str){s, n}, false, false, &t);
			assert_true(t.n > 1000);
			assert_true(clock_mono_ms() - start < 30000);
			tokens_free(&t);
			free(s);
			vocab_free(v);
		}
	}
}

static struct vocab *made_spm(bool space_prefix)
{
	struct err e = {0};
	struct buf b = {0};
	struct vocab *v;
	struct gguf *g;

	put_head(&b, 0, SPM_PAIRS);
	put_spm_pairs(&b, space_prefix);
	g = gguf_from_memory(b.data, b.len, "made", &e);
	v = g ? vocab_new(g, &e) : NULL;
	if (!v)
		fail_msg("%s", e.text);
	gguf_close(g);
	buf_free(&b);
	return v;
}

static void pieces_merge_by_score_and_equals_from_the_left(void **state)
{
	struct vocab *v = made_spm(false);

	UNUSED(state);
	ASSERT_ENCODES(v, "abc", false, SV_ABC);
	ASSERT_ENCODES(v, "bcab", false, SV_BC, SV_AB);
	ASSERT_ENCODES(v, "aab", false, SV_A, SV_AB); /* "ab" before "aa" */
	/* "aa" and "aaa" are equals: the leftmost that is there goes first. */
	ASSERT_ENCODES(v, "aaaaa", false, SV_AAA, SV_AA);
	ASSERT_ENCODES(v, "aaaa", false, SV_AAA, SV_A);
	/* 'z' is no token, but a piece that may be merged all the same. */
	ASSERT_ENCODES(v, "az", false, SV_AZ);
	/* A control token's text is only text. */
	ASSERT_ENCODES(v, "ac", false, SV_A, SV_C);
	ASSERT_ENCODES(v, "ac", true, SV_MARK);
	assert_encodes(v, STR(""), false, NULL, 0);
	vocab_free(v);
}

static void what_has_no_token_falls_to_bytes(void **state)
{
	struct vocab *v = made_spm(false);

	UNUSED(state);
	ASSERT_ENCODES(v, "\u00e9", false, SV_E_ACUTE);
	ASSERT_ENCODES(v, "z", false, SV_BYTE0 + 'z');
	ASSERT_ENCODES(v, "a\u20ac", false, SV_A, SV_BYTE0 + 0xe2, SV_BYTE0 + 0x82,
		       SV_BYTE0 + 0xac);
	ASSERT_ENCODES(v, "\xe2\x82", false, SV_BYTE0 + 0xe2,
		       SV_BYTE0 + 0x82); /* cut off */
	ASSERT_ENCODES(v, "\xff\x80", false, SV_BYTE0 + 0xff, SV_BYTE0 + 0x80);
	/* The spelling of a byte token in a text is text. */
	ASSERT_ENCODES(v, "<0x41>", false, SV_BYTE0 + '<', SV_BYTE0 + '0', SV_BYTE0 + 'x',
		       SV_BYTE0 + '4', SV_BYTE0 + '1', SV_BYTE0 + '>');
	assert_true(str_eq(vocab_piece(v, SV_BYTE0 + 0xe2, false), "\xe2"));
	assert_false(vocab_is_control(v, SV_BYTE0 + 'z'));
	vocab_free(v);
}

static void spaces_are_spelled_and_may_be_put_in_front(void **state)
{
	struct vocab *v = made_spm(false);

	UNUSED(state);
	ASSERT_ENCODES(v, " a", false, SV_SPACE_A);
	ASSERT_ENCODES(v, "\u2581a", false, SV_SPACE_A);
	ASSERT_ENCODES(v, "b a b", false, SV_B, SV_SPACE_A, SV_SPACE, SV_B);
	ASSERT_ENCODES(v, "a   b", false, SV_A, SV_TWO_SPACES, SV_SPACE, SV_B);
	assert_true(str_eq(vocab_piece(v, SV_SPACE_A, false), " a"));
	assert_int_equal(vocab_find(v, STR("\u2581a")), SV_SPACE_A);
	vocab_free(v);
	v = made_spm(true);
	ASSERT_ENCODES(v, "a", false, SV_SPACE_A);
	ASSERT_ENCODES(v, " a", false, SV_SPACE, SV_SPACE_A);
	/* In front of what follows a special token, too, but not of what is empty. */
	ASSERT_ENCODES(v, "a<b>a", false, SV_SPACE_A, SV_TAG, SV_SPACE_A);
	ASSERT_ENCODES(v, "<b>", false, SV_TAG);
	vocab_free(v);
}

static void sentencepiece_puts_bos_first_unless_told_otherwise(void **state)
{
	struct vocab *v = made_spm(false);
	struct tokens t = {0};

	UNUSED(state);
	assert_true(vocab_add_bos(v));
	vocab_encode(v, STR("a</s>"), true, true, &t);
	assert_int_equal(t.n, 3);
	assert_int_equal(t.ids[0], SV_BOS);
	assert_int_equal(t.ids[2], SV_EOS);
	assert_true(vocab_is_eog(v, SV_EOS));
	assert_int_equal(vocab_piece(v, SV_EOS, false).len, 0);
	tokens_free(&t);
	vocab_free(v);
}

/* 2^22 of the same letter, and the same of words: cut into parts, merged in n log n. */
static void long_texts_of_sentencepiece_take_no_quadratic_time(void **state)
{
	struct vocab *v = made_spm(true);
	size_t n = 1 << 22;
	char *s = xmalloc(n);

	UNUSED(state);
	for (int kind = 0; kind < 2; kind++) {
		struct tokens t = {0};
		struct buf back = {0};

		for (size_t i = 0; i < n; i++)
			s[i] = kind && i % 8 == 0 ? ' ' : 'a';
		vocab_encode(v, (struct str){s, n}, false, false, &t);
		for (size_t i = 0; i < t.n; i++) {
			struct str piece = vocab_piece(v, t.ids[i], false);

			buf_add(&back, piece.ptr, piece.len);
		}
		assert_int_equal(back.len, n + 1);
		assert_memory_equal(back.data + 1, s, n);
		tokens_free(&t);
		buf_free(&back);
	}
	free(s);
	vocab_free(v);
}

static struct vocab *vocab_of_file(const char *path)
{
	struct err e = {0};
	struct gguf *g = gguf_open(path, &e);
	struct vocab *v;

	if (!g)
		fail_msg("%s", e.text);
	v = vocab_new(g, &e);
	if (!v)
		fail_msg("%s", e.text);
	gguf_close(g);
	return v;
}

static void smollm2_cuts_as_its_own_tokenizer(void **state)
{
	const char *path = getenv("HOB_TEST_MODEL");
	struct vocab *v;

	UNUSED(state);
	if (!path) {
		print_message("skipped: HOB_TEST_MODEL is not set\n");
		skip();
	}
	v = vocab_of_file(path);
	ASSERT_ENCODES(v, "Hello, world!", false, 19556, 28, 905, 17);
	ASSERT_ENCODES(v, "In 2024, 3.14159 isn't 42.", false, 788, 216, 34, 32, 34, 36,
		       28, 216, 35, 30, 33, 36, 33, 37, 41, 3247, 982, 216, 36, 34, 30);
	ASSERT_ENCODES(v, "  def f(x):\n\treturn x  \n\n", false, 216, 753, 275, 24, 104,
		       727, 198, 197, 5406, 1792, 256, 1116);
	ASSERT_ENCODES(v, "Gr\u00fc\u00dfe aus K\u00f6ln", false, 27302, 7170, 34878, 85,
		       253, 376, 659, 7466, 34115);
	ASSERT_ENCODES(v, "\u4f60\u597d\uff0c\u4e16\u754c", false, 18645, 250, 48392, 138,
		       12831, 7906, 240, 178, 239, 230);
	ASSERT_ENCODES(v, "We'll see: it's 10:30 o'clock\r\n", false, 1882, 3060, 963, 42,
		       357, 506, 216, 33, 32, 42, 35, 32, 263, 23, 17466, 2738);
	/* 0x04 and the first byte of U+40000 have no token there: " \004=" is one word, "
	 * =". */
	ASSERT_ENCODES(v, "a \004= b", false, 81, 446, 278);
	ASSERT_ENCODES(v, "a \U00040000!", false, 81, 216, 218, 218, 218, 17);
	vocab_free(v);
}

static char *read_whole(const char *path, size_t *n)
{
	struct buf b = {0};
	char part[4096];
	size_t got;
	FILE *f = fopen(path, "rb");

	if (!f)
		fail_msg("cannot open %s", path);
	while ((got = fread(part, 1, sizeof(part), f)) > 0)
		buf_add(&b, part, got);
	fclose(f);
	return buf_take(&b, n);
}

/* .inp: texts, each ended by the line of the mark; .out: a line of ids each. */
static void check_file(const char *dir, const char *name)
{
	static const char mark[] = "\n__ggml_vocab_test__\n";
	char *path = xasprintf("%s/vocab/ggml-vocab-%s.gguf", dir, name);
	char *inp_path = xasprintf("%s.inp", path), *out_path = xasprintf("%s.out", path);
	struct vocab *v = vocab_of_file(path);
	size_t n;
	char *inp = read_whole(inp_path, &n), *out = read_whole(out_path, &n);
	char *text = inp, *line = out, *end;
	int cases = 0;

	for (; (end = strstr(text, mark)); text = end + strlen(mark), cases++) {
		struct tokens t = {0};

		vocab_encode(v, (struct str){text, (size_t)(end - text)}, false, false,
			     &t);
		for (size_t i = 0; i < t.n; i++)
			if (strtol(line, &line, 10) != t.ids[i])
				fail_msg("%s, case %d, token %zu is %d", name, cases, i,
					 t.ids[i]);
		line += strspn(line, " ");
		if (*line != '\n' && *line)
			fail_msg("%s, case %d: too few tokens", name, cases);
		line += *line == '\n';
		tokens_free(&t);
	}
	assert_true(cases > 40);
	free(inp);
	free(out);
	free(inp_path);
	free(out_path);
	free(path);
	vocab_free(v);
}

static void six_models_cut_as_llama_cpp_does(void **state)
{
	const char *dir = getenv("HOB_TEST_DATA");

	UNUSED(state);
	if (!dir) {
		print_message("skipped: HOB_TEST_DATA is not set\n");
		skip();
	}
	check_file(dir, "gpt-2");
	check_file(dir, "llama-bpe");
	check_file(dir, "qwen2");
	check_file(dir, "deepseek-llm");
	check_file(dir, "llama-spm");
	check_file(dir, "phi-3");
}

static cJSON *read_cases(const char *name)
{
	const char *srcdir = getenv("srcdir");
	const char *const tops[] = {srcdir ? srcdir : ".", ".", "..", "../.."};
	cJSON *cases = NULL;

	for (size_t i = 0; i < ARRAY_LEN(tops) && !cases; i++) {
		char *path = xasprintf("%s/tests/golden/%s", tops[i], name);

		if (access(path, R_OK) == 0) {
			size_t n;
			char *text = read_whole(path, &n);

			cases = cJSON_ParseWithLength(text, n);
			free(text);
		}
		free(path);
	}
	if (!cases)
		fail_msg("tests/golden/%s is not where the test runs, nor in $srcdir",
			 name);
	return cases;
}

static void assert_case(const struct vocab *v, const cJSON *item, bool special)
{
	const char *text = cJSON_GetArrayItem(item, 0)->valuestring;
	const cJSON *ids = cJSON_GetArrayItem(item, special ? 2 : 1), *id;
	struct tokens t = {0};
	size_t i = 0;

	vocab_encode(v, str_of(text), special, false, &t);
	cJSON_ArrayForEach(id, ids)
	{
		if (i >= t.n || t.ids[i] != id->valueint)
			fail_msg("'%s'%s: token %zu is %d, not %d", text,
				 special ? " with special tokens" : "", i,
				 i < t.n ? t.ids[i] : -1, id->valueint);
		i++;
	}
	if (i != t.n)
		fail_msg("'%s': %zu tokens, not %zu", text, t.n, i);
	tokens_free(&t);
}

static void gemma_cuts_as_llama_cpp_does(void **state)
{
	const char *path = getenv("HOB_TEST_MODEL2");
	struct vocab *v;
	cJSON *cases, *item;

	UNUSED(state);
	if (!path) {
		print_message("skipped: HOB_TEST_MODEL2 is not set\n");
		skip();
	}
	v = vocab_of_file(path);
	cases = read_cases("gemma-3-270m-tokens.json");
	assert_true(cJSON_GetArraySize(cases) > 200);
	cJSON_ArrayForEach(item, cases)
	{
		assert_case(v, item, false);
		assert_case(v, item, true);
	}
	cJSON_Delete(cases);
	vocab_free(v);
}

static void assert_detok(const char *const *pieces, int n, const char *each,
			 const char *all)
{
	struct detok d;
	struct buf out = {0}, lengths = {0};

	detok_init(&d);
	for (int i = 0; i < n; i++) {
		size_t before = out.len;

		detok_push_bytes(&d, str_of(pieces[i]), &out);
		buf_addf(&lengths, "%zu,", out.len - before);
	}
	detok_flush(&d, &out);
	assert_string_equal(lengths.data, each);
	assert_string_equal(out.data, all);
	buf_free(&out);
	buf_free(&lengths);
}

static void characters_are_held_until_whole(void **state)
{
	UNUSED(state);
	assert_detok((const char *[]){"a\xf0\x9f", "\x98", "\x80z"}, 3, "1,0,5,",
		     "a\U0001f600z");
	assert_detok((const char *[]){"\xc3", "\xa4\xc3", "\xb6"}, 3, "0,2,2,",
		     "\u00e4\u00f6");
}

static void what_can_be_no_character_becomes_the_replacement(void **state)
{
	UNUSED(state);
	assert_detok((const char *[]){"\xe2\x82", "A"}, 2, "0,4,", "\ufffdA");
	assert_detok((const char *[]){"\xff\xfe"}, 1, "6,", "\ufffd\ufffd");
	assert_detok((const char *[]){"ok\xe2\x82"}, 1, "2,", "ok\ufffd"); /* flushed */
	assert_detok((const char *[]){"\xed\xa0\x80"}, 1, "9,", "\ufffd\ufffd\ufffd");
	assert_detok((const char *[]){"\xc0\x80"}, 1, "6,", "\ufffd\ufffd");
	assert_detok((const char *[]){"\xf4\x90", "x"}, 2, "6,1,", "\ufffd\ufffdx");
	assert_detok((const char *[]){"\xe2\xe2\x82\xac"}, 1, "6,", "\ufffd\u20ac");
}

static void bytes_of_sentencepiece_are_held_until_a_character_is_whole(void **state)
{
	static const int32_t ids[] = {SV_SPACE_A, SV_BYTE0 + 0xe2, SV_BYTE0 + 0x82,
				      SV_BYTE0 + 0xac, SV_EOS};
	static const size_t lengths[] = {2, 2, 2, 5, 5};
	struct vocab *v = made_spm(true);
	struct detok d;
	struct buf out = {0};

	UNUSED(state);
	detok_init(&d);
	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		detok_push(&d, v, ids[i], &out);
		assert_int_equal(out.len, lengths[i]);
	}
	assert_string_equal(out.data, " a\u20ac");
	buf_free(&out);
	vocab_free(v);
}

static void control_tokens_show_nothing(void **state)
{
	struct err e;
	struct vocab *v = made_vocab("gpt2", "gpt-2", &e);
	struct detok d;
	struct buf out = {0};

	UNUSED(state);
	detok_init(&d);
	detok_push(&d, v, TV_HELLO, &out);
	detok_push(&d, v, TV_IM_END, &out);
	detok_push(&d, v, 0xc3, &out);
	detok_push(&d, v, 0xa4, &out);
	detok_push(&d, v, -7, &out);
	assert_string_equal(out.data, "hello\u00e4");
	buf_free(&out);
	vocab_free(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(merges_apply_by_rank_not_from_the_left),
		cmocka_unit_test(markers_in_a_users_text_stay_text),
		cmocka_unit_test(bos_and_ends_come_from_the_file_and_by_name),
		cmocka_unit_test(what_is_not_known_is_refused_by_name),
		cmocka_unit_test(any_bytes_come_back_as_they_were),
		cmocka_unit_test(long_words_take_no_quadratic_time),
		cmocka_unit_test(pieces_merge_by_score_and_equals_from_the_left),
		cmocka_unit_test(what_has_no_token_falls_to_bytes),
		cmocka_unit_test(spaces_are_spelled_and_may_be_put_in_front),
		cmocka_unit_test(sentencepiece_puts_bos_first_unless_told_otherwise),
		cmocka_unit_test(long_texts_of_sentencepiece_take_no_quadratic_time),
		cmocka_unit_test(smollm2_cuts_as_its_own_tokenizer),
		cmocka_unit_test(six_models_cut_as_llama_cpp_does),
		cmocka_unit_test(gemma_cuts_as_llama_cpp_does),
		cmocka_unit_test(characters_are_held_until_whole),
		cmocka_unit_test(
			bytes_of_sentencepiece_are_held_until_a_character_is_whole),
		cmocka_unit_test(what_can_be_no_character_becomes_the_replacement),
		cmocka_unit_test(control_tokens_show_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
