/* GGUF: what is right is read, what is truncated or forged is refused with what and
 * where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/vocab.h"
#include "tests/unit/gguf_build.h"

static struct gguf *parse(const struct buf *b, struct err *e)
{
	*e = (struct err){0};
	return gguf_from_memory(b->data, b->len, "made", e);
}

static void put_sample(struct buf *b)
{
	put_head(b, 2, 9);
	put_pair_u32(b, "a.u32", 7);
	put_pair_str(b, "a.str", "text");
	put_pair_bool(b, "a.bool", true);
	put_key(b, "a.f32", GGUF_F32);
	put_u32(b, 0x3fc00000); /* 1.5 */
	put_key(b, "a.f64", GGUF_F64);
	put_u64(b, UINT64_C(0x7fe0000000000000)); /* beyond a float */
	put_key(b, "a.i8", GGUF_I8);
	buf_addc(b, -1);
	put_key(b, "a.u64", GGUF_U64);
	put_u64(b, UINT64_C(1) << 40);
	put_array(b, "a.ints", GGUF_I32, 2);
	put_u32(b, (uint32_t)-5);
	put_u32(b, 6);
	put_array(b, "a.strings", GGUF_STRING, 2);
	put_str(b, "x", 1);
	put_str(b, "", 0);
	put_tensor(b, "w", (uint64_t[]){32, 2}, 2, QT_Q4_0, 0);
	put_tensor(b, "n", (uint64_t[]){3}, 1, QT_F32, 64);
	put_padding(b, 32);
	for (int i = 0; i < 64 + 12; i++)
		buf_addc(b, (char)i);
}

static void a_right_file_gives_its_pairs_by_type(void **state)
{
	struct buf b = {0};
	struct err e;
	struct gguf *g;
	struct gguf_array a;
	struct str s;
	uint32_t u = 1;
	uint64_t u64;
	float f;
	bool flag;

	UNUSED(state);
	put_sample(&b);
	g = parse(&b, &e);
	assert_non_null(g);
	assert_int_equal(gguf_u32(g, "a.u32", &u), GGUF_FOUND);
	assert_int_equal(u, 7);
	assert_int_equal(gguf_u32(g, "none", &u), GGUF_ABSENT);
	assert_int_equal(gguf_u32(g, "a.str", &u), GGUF_WRONG_TYPE);
	assert_int_equal(gguf_u32(g, "a.i8", &u), GGUF_WRONG_TYPE);  /* negative */
	assert_int_equal(gguf_u32(g, "a.u64", &u), GGUF_WRONG_TYPE); /* too large */
	assert_int_equal(u, 7);
	assert_int_equal(gguf_u64(g, "a.u64", &u64), GGUF_FOUND);
	assert_true(u64 == UINT64_C(1) << 40);
	assert_int_equal(gguf_f32(g, "a.f32", &f), GGUF_FOUND);
	assert_true(f == 1.5f);
	assert_int_equal(gguf_f32(g, "a.f64", &f), GGUF_FOUND);
	assert_true(f > 3e38f);
	assert_int_equal(gguf_bool(g, "a.bool", &flag), GGUF_FOUND);
	assert_true(flag);
	assert_int_equal(gguf_str(g, "a.str", &s), GGUF_FOUND);
	assert_true(str_eq(s, "text"));
	assert_int_equal(gguf_array(g, "a.ints", &a), GGUF_FOUND);
	assert_int_equal(gguf_array_int(&a, 0), -5);
	assert_int_equal(gguf_array_int(&a, 2), 0); /* beyond the end */
	assert_int_equal(gguf_array(g, "a.strings", &a), GGUF_FOUND);
	assert_true(a.n == 2 && str_eq(a.strings[0], "x") && a.strings[1].len == 0);
	assert_int_equal(gguf_need_u32(g, "none", &u, &e), -1);
	assert_int_equal(e.code, ERR_CORRUPT);
	assert_non_null(strstr(e.text, "'none' is missing"));
	gguf_close(g);
	buf_free(&b);
}

static void tensors_have_places_and_sizes(void **state)
{
	const struct gguf_tensor *w, *n;
	struct buf b = {0};
	struct err e;
	struct gguf *g;

	UNUSED(state);
	put_sample(&b);
	g = parse(&b, &e);
	assert_non_null(g);
	assert_int_equal(gguf_tensor_count(g), 2);
	w = gguf_tensor(g, "w");
	n = gguf_tensor(g, "n");
	assert_true(w && n && !gguf_tensor(g, "x"));
	assert_int_equal(w->bytes, 2 * 18);
	assert_true(w->dims[0] == 32 && w->dims[1] == 2 && w->dims[2] == 1);
	assert_int_equal(n->bytes, 12);
	assert_int_equal(n->data - w->data, 64);
	assert_int_equal(n->data[0], 64);
	assert_int_equal(gguf_tensor_bytes(g), 36 + 12);
	gguf_close(g);
	buf_free(&b);
}

static void every_truncation_is_refused(void **state)
{
	struct buf b = {0};
	struct err e;

	UNUSED(state);
	put_sample(&b);
	for (size_t n = 0; n < b.len; n++) {
		/* Its own allocation, so that a sanitizer sees a read beyond the end. */
		char *copy = xmalloc(n ? n : 1);

		memcpy(copy, b.data, n);
		e = (struct err){0};
		assert_null(gguf_from_memory(copy, n, "cut", &e));
		assert_int_equal(e.code, ERR_CORRUPT);
		assert_non_null(strstr(e.text, "cut: at offset "));
		free(copy);
	}
	buf_free(&b);
}

/* One forged file a row; make() writes it whole. */
static void forge_magic(struct buf *b)
{
	buf_adds(b, "GGML0123456789abcdefghij");
}
static void forge_tensor_count(struct buf *b)
{
	put_head(b, UINT64_MAX, 0);
}
static void forge_pair_count(struct buf *b)
{
	put_head(b, 0, UINT64_C(1) << 60);
}
static void forge_string_length(struct buf *b)
{
	put_head(b, 0, 1);
	put_key(b, "k", GGUF_STRING);
	put_u64(b, UINT64_MAX - 3);
	put_u64(b, 0);
}
static void forge_array_length(struct buf *b)
{
	put_head(b, 0, 1);
	put_array(b, "k", GGUF_U64, UINT64_C(1) << 61);
	put_u64(b, 0);
}
static void forge_strings_length(struct buf *b)
{
	put_head(b, 0, 1);
	put_array(b, "k", GGUF_STRING, 1 << 20);
	put_u64(b, 0);
}
static void forge_nesting(struct buf *b)
{
	put_head(b, 0, 1);
	put_array(b, "k", GGUF_ARRAY, 1);
	put_u64(b, 0);
}
static void forge_type(struct buf *b)
{
	put_head(b, 0, 1);
	put_key(b, "k", 13);
	put_u64(b, 0);
}
static void forge_bool(struct buf *b)
{
	put_head(b, 0, 1);
	put_pair_bool(b, "k", true);
	b->data[b->len - 1] = 2;
}
static void forge_key_twice(struct buf *b)
{
	put_head(b, 0, 2);
	put_pair_u32(b, "k", 1);
	put_pair_u32(b, "k", 2);
}
static void forge_key_bytes(struct buf *b)
{
	put_head(b, 0, 1);
	put_pair_u32(b, "k\033[2J", 1);
}
static void forge_alignment(struct buf *b)
{
	put_head(b, 0, 1);
	put_pair_u32(b, "general.alignment", 24);
}
static void one_tensor(struct buf *b, const uint64_t *dims, int n, uint64_t offset)
{
	put_head(b, 1, 0);
	put_tensor(b, "t", dims, n, QT_F32, offset);
	put_padding(b, 32);
	for (int i = 0; i < 64; i++)
		buf_addc(b, 0);
}
static void forge_dims_none(struct buf *b)
{
	one_tensor(b, NULL, 0, 0);
}
static void forge_dims_five(struct buf *b)
{
	one_tensor(b, (uint64_t[]){1, 1, 1, 1, 1}, 5, 0);
}
static void forge_dim_zero(struct buf *b)
{
	one_tensor(b, (uint64_t[]){0}, 1, 0);
}
static void forge_dim_huge(struct buf *b)
{
	one_tensor(b, (uint64_t[]){UINT64_MAX}, 1, 0);
}
static void forge_product(struct buf *b)
{
	one_tensor(b, (uint64_t[]){1 << 30, 1 << 30, 1 << 30, 1 << 30}, 4, 0);
}
static void forge_offset_far(struct buf *b)
{
	one_tensor(b, (uint64_t[]){1}, 1, UINT64_MAX - 31);
}
static void forge_offset_odd(struct buf *b)
{
	one_tensor(b, (uint64_t[]){1}, 1, 4);
}
static void forge_beyond_end(struct buf *b)
{
	one_tensor(b, (uint64_t[]){17}, 1, 0);
}
static void forge_tensor_twice(struct buf *b)
{
	put_head(b, 2, 0);
	put_tensor(b, "t", (uint64_t[]){1}, 1, QT_F32, 0);
	put_tensor(b, "t", (uint64_t[]){1}, 1, QT_F32, 0);
	put_u64(b, 0);
	put_u64(b, 0);
	put_u64(b, 0);
	put_u64(b, 0);
}
static void forge_block(struct buf *b)
{
	put_head(b, 1, 0);
	put_tensor(b, "t", (uint64_t[]){33}, 1, QT_Q4_0, 0);
	put_padding(b, 32);
	put_u64(b, 0);
}

static void every_forgery_is_refused_saying_what(void **state)
{
	static const struct {
		void (*make)(struct buf *b);
		const char *says;
	} rows[] = {
		{forge_magic, "no GGUF file"},
		{forge_tensor_count, "tensors: over the limit"},
		{forge_pair_count, "metadata pairs: over the limit"},
		{forge_string_length, "a string is 18446744073709551612 bytes long"},
		{forge_array_length, "key 'k' claims 2305843009213693952 elements"},
		{forge_strings_length, "more than the file can hold"},
		{forge_nesting, "array of arrays"},
		{forge_type, "type 13, which does not exist"},
		{forge_bool, "a bool has value 2"},
		{forge_key_twice, "key 'k' is there twice"},
		{forge_key_bytes, "unprintable"},
		{forge_alignment, "general.alignment is 24"},
		{forge_dims_none, "0 dimensions"},
		{forge_dims_five, "5 dimensions"},
		{forge_dim_zero, "dimension 0 is 0"},
		{forge_dim_huge, "dimension 0 is 18446744073709551615"},
		{forge_product, "its size overflows"},
		{forge_offset_far, "reaches beyond the file's end"},
		{forge_offset_odd, "offset 4 is not a multiple of 32"},
		{forge_beyond_end, "reaches beyond the file's end"},
		{forge_tensor_twice, "tensor 't' is there twice"},
		{forge_block, "33 columns do not divide into blocks of Q4_0"},
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf b = {0};
		struct err e;
		struct gguf *g;

		rows[i].make(&b);
		g = parse(&b, &e);
		if (g || e.code != ERR_CORRUPT || !strstr(e.text, rows[i].says))
			fail_msg("row %zu: '%s' does not say '%s'", i,
				 g ? "accepted" : e.text, rows[i].says);
		buf_free(&b);
	}
}

static void foreign_versions_and_types_are_unsupported(void **state)
{
	struct buf b = {0};
	struct err e;

	UNUSED(state);
	put_head(&b, 0, 0);
	b.data[4] = 0, b.data[7] = 3; /* big endian 3 */
	assert_null(parse(&b, &e));
	assert_int_equal(e.code, ERR_UNSUPPORTED);
	assert_non_null(strstr(e.text, "big-endian"));
	b.data[4] = 1, b.data[7] = 0;
	assert_null(parse(&b, &e));
	assert_int_equal(e.code, ERR_UNSUPPORTED);
	buf_clear(&b);
	put_head(&b, 1, 0);
	put_tensor(&b, "blk.0.w", (uint64_t[]){256}, 1, 10, 0);
	assert_null(parse(&b, &e));
	assert_int_equal(e.code, ERR_UNSUPPORTED);
	assert_non_null(strstr(e.text, "'blk.0.w' has type Q2_K (10)"));
	buf_free(&b);
}

static void a_file_without_tensors_needs_no_padding(void **state)
{
	struct buf b = {0};
	struct err e;
	struct gguf *g;

	UNUSED(state);
	put_head(&b, 0, 1);
	put_pair_u32(&b, "k", 1);
	g = parse(&b, &e);
	assert_non_null(g);
	assert_int_equal(gguf_tensor_count(g), 0);
	assert_true(gguf_data_offset(g) <= gguf_file_bytes(g));
	gguf_close(g);
	buf_free(&b);
}

static void what_is_no_regular_file_is_refused_without_waiting(void **state)
{
	char dir[] = P_tmpdir "/hob-test-XXXXXX";
	char *fifo;
	struct err e = {0};

	UNUSED(state);
	assert_non_null(mkdtemp(dir));
	fifo = xasprintf("%s/fifo", dir);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_null(gguf_open(fifo, &e));
	assert_non_null(strstr(e.text, "not a regular file"));
	assert_null(gguf_open(dir, &e));
	assert_non_null(strstr(e.text, "not a regular file"));
	unlink(fifo);
	assert_null(gguf_open(fifo, &e));
	assert_int_equal(e.code, ERR_NOT_FOUND);
	rmdir(dir);
	free(fifo);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The fuzzer's entry over mutations of a right file with a vocabulary: the same ones each
 * run. */
static void mutations_never_crash(void **state)
{
	struct buf b = {0};
	uint64_t rng = 88172645463325252u;
	int accepted = 0;

	UNUSED(state);
	put_head(&b, 1, VOCAB_PAIRS + 1);
	put_pair_u32(&b, "tokenizer.ggml.eos_token_id", TV_IM_END);
	put_vocab_pairs(&b, "gpt2", "smollm");
	put_tensor(&b, "t", (uint64_t[]){32, 2}, 2, QT_Q8_0, 0);
	put_padding(&b, 32);
	for (int i = 0; i < 2 * 34; i++)
		buf_addc(&b, 1);
	for (int round = 0; round < 3000; round++) {
		uint8_t *copy = xmalloc(b.len);
		struct gguf *g;

		memcpy(copy, b.data, b.len);
		for (int i = 0; i <= round % 4; i++) {
			rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
			copy[(rng >> 8) % b.len] = round % 3 ? (uint8_t)rng : 0xff;
		}
		g = gguf_from_memory(copy, b.len, "mutant", NULL);
		accepted += g != NULL;
		gguf_close(g);
		LLVMFuzzerTestOneInput(copy, b.len);
		free(copy);
	}
	assert_in_range(accepted, 1, 2999); /* both ways are walked */
	buf_free(&b);
}

static void the_real_model_opens(void **state)
{
	const char *path = getenv("HOB_TEST_MODEL");
	struct err e = {0};
	struct gguf *g;

	UNUSED(state);
	if (!path) {
		print_message("skipped: HOB_TEST_MODEL is not set\n");
		skip();
	}
	g = gguf_open(path, &e);
	if (!g)
		fail_msg("%s", e.text);
	assert_true(gguf_tensor_count(g) > 0);
	assert_non_null(gguf_tensor(g, "token_embd.weight"));
	assert_true(gguf_tensor_bytes(g) + gguf_data_offset(g) <= gguf_file_bytes(g));
	gguf_close(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_right_file_gives_its_pairs_by_type),
		cmocka_unit_test(tensors_have_places_and_sizes),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(every_forgery_is_refused_saying_what),
		cmocka_unit_test(foreign_versions_and_types_are_unsupported),
		cmocka_unit_test(a_file_without_tensors_needs_no_padding),
		cmocka_unit_test(what_is_no_regular_file_is_refused_without_waiting),
		cmocka_unit_test(mutations_never_crash),
		cmocka_unit_test(the_real_model_opens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
