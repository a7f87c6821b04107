/* Saved sequences: the compact rows, and their files against everything that may happen to a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <xxhash.h>

#include "tests/unit/kv_build.h"

static const struct kv_key model = {1234, 5678};

/* A folder with one file of n tokens. */
struct bench {
	char path[32];
	int dir;
	struct fake f;
	struct kv_form form;
	int32_t *tokens;
	int n;
	uint8_t *rows;
	size_t bytes;
	struct kv_key id;
	char name[KV_FILE_NAME_BYTES];
	uint64_t file_bytes;
};

static void bench_init(struct bench *b, int n)
{
	struct err e = {0};

	fake_folder(b->path);
	b->dir = kv_dir_open(b->path, &e);
	assert_true(b->dir >= 0);
	fake_init(&b->f, 7);
	kv_form_init(&b->form, model, "scalar", b->f.layers, FAKE_LAYERS);
	b->n = n;
	b->tokens = fake_tokens(1, n);
	b->bytes = kv_rows_bytes(&b->form, n);
	b->rows = xmalloc(b->bytes);
	kv_rows_save(&b->form, b->f.layers, n, b->rows, NULL);
	b->id = kv_sequence_key(b->form.kind, b->tokens, n);
	kv_file_name(b->id, b->name);
	if (kv_file_write(b->dir, &b->form, b->tokens, n, b->rows, 3, NULL,
			  &b->file_bytes, &e) < 0)
		fail_msg("%s", e.text);
}

static void bench_fini(struct bench *b)
{
	close(b->dir);
	fake_folder_remove(b->path);
	fake_fini(&b->f);
	kv_form_fini(&b->form);
	free(b->tokens);
	free(b->rows);
}

/* ERR_NONE: it was read whole. */
static enum err_code try_read(struct bench *b)
{
	uint8_t *rows = xmalloc(b->bytes);
	struct err e = {0};

	if (kv_file_read(b->dir, b->id, rows, b->bytes, NULL, &e) == 0) {
		assert_memory_equal(rows, b->rows, b->bytes);
		assert_int_equal(e.code, ERR_NONE);
	} else {
		assert_int_not_equal(e.code, ERR_NONE);
	}
	free(rows);
	return e.code;
}

static enum err_code try_peek(struct bench *b)
{
	struct kv_file_info i;
	struct err e = {0};

	if (kv_file_peek(b->dir, b->id, &i, &e) == 0)
		kv_file_info_fini(&i);
	return e.code;
}

static void rows_come_back_to_the_bit_whatever_their_number(void **state)
{
	static const int lengths[] = {1, 15, 16, 17, 100, 255, 256, 1000, FAKE_CTX};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		int n = lengths[i], part = n / 2 + 1;
		struct pool *pool = pool_new(2);
		struct fake a, b, c;
		struct kv_form form;
		uint8_t *rows;

		fake_init(&a, 99);
		fake_init(&b, 0);
		fake_init(&c, 0);
		kv_form_init(&form, model, "scalar", a.layers, FAKE_LAYERS);
		rows = xmalloc(kv_rows_bytes(&form, n));
		kv_rows_save(&form, a.layers, n, rows, pool);
		kv_rows_load(&form, b.layers, rows, n, n, pool);
		kv_rows_load(&form, c.layers, rows, n, part, NULL);
		assert_true(fake_same(&a, &b, 0, n));
		assert_true(fake_same(&a, &c, 0, part));
		if (n < FAKE_CTX)
			assert_false(fake_same(&a, &b, n, n + 1));
		free(rows);
		kv_form_fini(&form);
		fake_fini(&a);
		fake_fini(&b);
		fake_fini(&c);
		pool_free(pool);
	}
}

static void equal_sequences_give_equal_bytes_whatever_lay_behind_them(void **state)
{
	struct fake a, b;
	struct kv_form form;
	uint8_t *x, *y;
	size_t n;

	UNUSED(state);
	fake_init(&a, 5);
	fake_init(&b, 6);
	kv_form_init(&form, model, "scalar", a.layers, FAKE_LAYERS);
	n = kv_rows_bytes(&form, 37);
	x = xmalloc(n);
	y = xmalloc(n);
	kv_rows_save(&form, a.layers, 37, x, NULL);
	kv_rows_load(&form, b.layers, x, 37, 37, NULL);
	/* b's positions behind 37 differ from a's within the last group. */
	b.layers[0].k[2 * KV_KEYS * 16 + 7] ^= 1;
	kv_rows_save(&form, b.layers, 37, y, NULL);
	assert_memory_equal(x, y, n);
	free(x);
	free(y);
	kv_form_fini(&form);
	fake_fini(&a);
	fake_fini(&b);
}

static void model_backend_and_shapes_make_another_kind(void **state)
{
	struct kkv layers[FAKE_LAYERS];
	struct kv_form f[5];

	UNUSED(state);
	for (int i = 0; i < FAKE_LAYERS; i++)
		layers[i] = fake_shape(i);
	kv_form_init(&f[0], model, "scalar", layers, FAKE_LAYERS);
	kv_form_init(&f[1], (struct kv_key){1234, 5679}, "scalar", layers, FAKE_LAYERS);
	kv_form_init(&f[2], model, "avx2", layers, FAKE_LAYERS);
	kv_form_init(&f[3], model, "scalar", layers, FAKE_LAYERS - 1);
	layers[2].head_dim = 32;
	kv_form_init(&f[4], model, "scalar", layers, FAKE_LAYERS);
	for (int i = 0; i < 5; i++)
		for (int j = 0; j < i; j++)
			assert_false(kv_key_eq(f[i].kind, f[j].kind));
	for (int i = 0; i < 5; i++)
		kv_form_fini(&f[i]);
}

static void a_file_says_what_was_written_and_only_we_may_read_it(void **state)
{
	struct kv_file_info i;
	struct err e = {0};
	struct stat st;
	struct bench b;

	UNUSED(state);
	bench_init(&b, 300);
	assert_int_equal(kv_file_peek(b.dir, b.id, &i, &e), 0);
	assert_int_equal(i.n, 300);
	assert_int_equal(i.hits, 3);
	assert_true(kv_key_eq(i.kind, b.form.kind));
	assert_int_equal(i.rows_bytes, b.bytes);
	assert_int_equal(i.file_bytes, b.file_bytes);
	assert_memory_equal(i.tokens, b.tokens, 300 * sizeof(*i.tokens));
	kv_file_info_fini(&i);
	assert_int_equal(fstatat(b.dir, b.name, &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(st.st_size, b.file_bytes);
	assert_int_equal(stat(b.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(try_read(&b), ERR_NONE);
	assert_int_equal(fake_each(b.path, NULL), 1); /* nothing temporary is left */
	bench_fini(&b);
}

static void spoil(struct bench *b, off_t at, uint8_t mask)
{
	int fd = openat(b->dir, b->name, O_RDWR | O_CLOEXEC);
	uint8_t c;

	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= mask;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

static void every_byte_of_header_shapes_and_tokens_is_checked(void **state)
{
	size_t meta = sizeof(struct kv_file_head) +
		      FAKE_LAYERS * sizeof(struct kv_layer_form) + 64 * sizeof(int32_t);
	struct bench b;

	UNUSED(state);
	bench_init(&b, 64);
	for (size_t i = 0; i < meta; i++) {
		enum err_code code;

		spoil(&b, (off_t)i, 0x40);
		code = try_peek(&b);
		if (code != ERR_CORRUPT && code != ERR_UNSUPPORTED)
			/* The checksum of the rows is in the header's checksum, too. */
			fail_msg("byte %zu: %d", i, code);
		assert_int_equal(try_read(&b), code);
		spoil(&b, (off_t)i, 0x40);
	}
	assert_int_equal(try_read(&b), ERR_NONE);
	bench_fini(&b);
}

/* With a right checksum, as somebody would who knows the format. */
static void forge(struct bench *b, size_t at, size_t size, uint64_t value)
{
	struct kv_file_head h;
	struct stat st;
	uint8_t *file;
	size_t meta = sizeof(h) + FAKE_LAYERS * sizeof(struct kv_layer_form) +
		      (size_t)b->n * sizeof(int32_t);
	XXH128_hash_t sum;
	int fd = openat(b->dir, b->name, O_RDWR | O_CLOEXEC);

	assert_int_equal(fstat(fd, &st), 0);
	file = xmalloc((size_t)st.st_size);
	assert_int_equal(pread(fd, file, (size_t)st.st_size, 0), st.st_size);
	memcpy(file + at, &value, size);
	memcpy(&h, file, sizeof(h));
	h.head_sum = (struct kv_key){0, 0};
	sum = XXH3_128bits_withSeed(&h, sizeof(h),
				    XXH3_64bits(file + sizeof(h), meta - sizeof(h)));
	h.head_sum = (struct kv_key){sum.low64, sum.high64};
	memcpy(file, &h, sizeof(h));
	assert_int_equal(pwrite(fd, file, (size_t)st.st_size, 0), st.st_size);
	free(file);
	close(fd);
}

#define FIELD(m) offsetof(struct kv_file_head, m), sizeof(((struct kv_file_head *)0)->m)

static void forged_fields_with_a_right_checksum_are_refused(void **state)
{
	static const struct {
		const char *name;
		size_t at, size;
		uint64_t value;
		enum err_code code;
	} table[] = {
		{"magic", offsetof(struct kv_file_head, magic), 1, 'x', ERR_CORRUPT},
		{"endian", FIELD(endian), 0x04030201, ERR_UNSUPPORTED},
		{"version", FIELD(version), KV_FILE_VERSION + 1, ERR_UNSUPPORTED},
		{"layout", FIELD(layout), KV_LAYOUT_VERSION + 1, ERR_UNSUPPORTED},
		{"type", FIELD(type), 2, ERR_UNSUPPORTED},
		{"no layers", FIELD(layers), 0, ERR_CORRUPT},
		{"more layers", FIELD(layers), FAKE_LAYERS + 1, ERR_CORRUPT},
		{"4 billion layers", FIELD(layers), UINT32_MAX, ERR_CORRUPT},
		{"no tokens", FIELD(tokens), 0, ERR_CORRUPT},
		{"fewer tokens", FIELD(tokens), 63, ERR_CORRUPT},
		{"more tokens", FIELD(tokens), 65, ERR_CORRUPT},
		{"4 billion tokens", FIELD(tokens), UINT32_MAX, ERR_CORRUPT},
		{"rows_bytes", FIELD(rows_bytes), UINT64_MAX, ERR_CORRUPT},
		{"zero", FIELD(zero), 1, ERR_CORRUPT},
		{"model", FIELD(model.lo), 1, ERR_CORRUPT},
		{"backend", offsetof(struct kv_file_head, backend), 1, 'a', ERR_CORRUPT},
		{"backend's end",
		 offsetof(struct kv_file_head, backend) + KV_BACKEND_BYTES - 1, 1, 'a',
		 ERR_CORRUPT},
		{"heads", sizeof(struct kv_file_head), 4, 1 << 20, ERR_CORRUPT},
		{"no heads", sizeof(struct kv_file_head), 4, 0, ERR_CORRUPT},
		{"one head less", sizeof(struct kv_file_head), 4, 1, ERR_CORRUPT},
		{"head_dim", sizeof(struct kv_file_head) + 4, 4, UINT32_MAX, ERR_CORRUPT},
		{"a token",
		 sizeof(struct kv_file_head) + FAKE_LAYERS * sizeof(struct kv_layer_form),
		 4, 9, ERR_CORRUPT},
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct bench b;

		bench_init(&b, 64);
		forge(&b, offsetof(struct kv_file_head, hits), 4,
		      8); /* a forgery that is fine */
		assert_int_equal(try_read(&b), ERR_NONE);
		forge(&b, table[i].at, table[i].size, table[i].value);
		if (try_peek(&b) != table[i].code || try_read(&b) != table[i].code)
			fail_msg("%s: %d", table[i].name, try_peek(&b));
		bench_fini(&b);
	}
}

static void a_file_cut_anywhere_or_longer_is_refused(void **state)
{
	struct bench b;

	UNUSED(state);
	bench_init(&b, 64);
	for (uint64_t at = 0; at < b.file_bytes; at += at < 700 ? 1 : 997) {
		int fd = openat(b.dir, b.name, O_RDWR | O_CLOEXEC);
		struct err e = {0};
		uint64_t n;

		assert_int_equal(ftruncate(fd, (off_t)at), 0);
		close(fd);
		assert_int_equal(try_peek(&b), ERR_CORRUPT);
		assert_int_equal(try_read(&b), ERR_CORRUPT);
		assert_int_equal(kv_file_write(b.dir, &b.form, b.tokens, b.n, b.rows, 0,
					       NULL, &n, &e),
				 0);
	}
	spoil(&b, 0, 0);
	{
		int fd = openat(b.dir, b.name, O_RDWR | O_APPEND | O_CLOEXEC);

		assert_int_equal(write(fd, "x", 1), 1);
		close(fd);
		assert_int_equal(try_read(&b), ERR_CORRUPT);
	}
	bench_fini(&b);
}

static void a_changed_bit_in_the_rows_is_found_when_they_are_read(void **state)
{
	struct bench b;

	UNUSED(state);
	bench_init(&b, 64);
	spoil(&b, (off_t)b.file_bytes - 1000, 1);
	assert_int_equal(try_peek(&b), ERR_NONE);
	assert_int_equal(try_read(&b), ERR_CORRUPT);
	bench_fini(&b);
}

static void links_pipes_and_foreign_names_are_not_opened(void **state)
{
	struct kv_key id;
	struct bench b;

	UNUSED(state);
	bench_init(&b, 64);
	assert_int_equal(renameat(b.dir, b.name, b.dir, "elsewhere"), 0);
	assert_int_equal(symlinkat("elsewhere", b.dir, b.name), 0);
	assert_int_equal(try_read(&b), ERR_CORRUPT);
	assert_int_equal(unlinkat(b.dir, b.name, 0), 0);
	assert_int_equal(mkfifoat(b.dir, b.name, 0600), 0);
	assert_int_equal(try_read(&b), ERR_CORRUPT);
	assert_int_equal(unlinkat(b.dir, b.name, 0), 0);
	assert_int_equal(try_read(&b), ERR_IO);
	assert_true(kv_file_id(b.name, &id));
	assert_true(kv_key_eq(id, b.id));
	assert_false(kv_file_id("elsewhere", &id));
	assert_false(kv_file_id("0123456789abcdef0123456789abcdeg.kv", &id));
	assert_false(kv_file_id("0123456789abcdef0123456789abcdef.kv2", &id));
	assert_false(kv_file_id("0123456789ABCDEF0123456789abcdef.kv", &id));
	bench_fini(&b);
}

static void a_folder_that_others_may_enter_or_that_is_a_link_is_refused(void **state)
{
	struct err e = {0};
	struct bench b;

	UNUSED(state);
	bench_init(&b, 64);
	assert_int_equal(chmod(b.path, 0750), 0);
	assert_int_equal(kv_dir_open(b.path, &e), -1);
	assert_int_equal(e.code, ERR_FORBIDDEN);
	assert_int_equal(chmod(b.path, 0700), 0);
	assert_int_equal(symlink(b.path, "kv-link"), 0);
	assert_int_equal(kv_dir_open("kv-link", &e), -1);
	unlink("kv-link");
	bench_fini(&b);
}

static void a_write_that_is_stopped_leaves_nothing(void **state)
{
	atomic_bool stop = true;
	struct kv_form form;
	struct err e = {0};
	struct bench b;
	struct kkv layers[1] = {{.capacity = 4096, .kv_heads = 4, .head_dim = 128}};
	int32_t *tokens = fake_tokens(2, 4000);
	uint8_t *rows;
	uint64_t n;

	UNUSED(state);
	bench_init(&b, 64);
	kv_form_init(&form, model, "scalar", layers, 1);
	rows = xcalloc(1, kv_rows_bytes(&form, 4000));
	assert_int_equal(
		kv_file_write(b.dir, &form, tokens, 4000, rows, 0, &stop, &n, &e), -1);
	assert_int_equal(e.code, ERR_CANCELLED);
	assert_int_equal(fake_each(b.path, NULL), 1);
	free(rows);
	free(tokens);
	kv_form_fini(&form);
	bench_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_come_back_to_the_bit_whatever_their_number),
		cmocka_unit_test(
			equal_sequences_give_equal_bytes_whatever_lay_behind_them),
		cmocka_unit_test(model_backend_and_shapes_make_another_kind),
		cmocka_unit_test(a_file_says_what_was_written_and_only_we_may_read_it),
		cmocka_unit_test(every_byte_of_header_shapes_and_tokens_is_checked),
		cmocka_unit_test(forged_fields_with_a_right_checksum_are_refused),
		cmocka_unit_test(a_file_cut_anywhere_or_longer_is_refused),
		cmocka_unit_test(a_changed_bit_in_the_rows_is_found_when_they_are_read),
		cmocka_unit_test(links_pipes_and_foreign_names_are_not_opened),
		cmocka_unit_test(
			a_folder_that_others_may_enter_or_that_is_a_link_is_refused),
		cmocka_unit_test(a_write_that_is_stopped_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
