/* The store of saved sequences: what is found, what goes, what survives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/resource.h>

#include "engine/kv_store.h"
#include "tests/unit/kv_build.h"

static const struct kv_key model = {1234, 5678};
enum { SETTLE_MS = 60000, MIB = 1 << 20 };

static int64_t fake_now = 1000000000;

static int64_t now_ms(void)
{
	return fake_now;
}

struct bench {
	char path[32];
	struct kv_store *s;
	const struct kv_form *form;
	struct fake f;
};

static void store_open(struct bench *b, uint64_t ram, uint64_t disk)
{
	b->s = kv_store_new(&(struct kv_store_options){
		.dir = b->path, .ram_bytes = ram, .disk_bytes = disk, .now_ms = now_ms});
	b->form = kv_store_form(b->s, model, "scalar", b->f.layers, FAKE_LAYERS);
	assert_true(kv_store_settle(b->s, SETTLE_MS));
}

static void bench_init(struct bench *b, uint64_t ram, uint64_t disk)
{
	fake_folder(b->path);
	fake_init(&b->f, 7);
	store_open(b, ram, disk);
}

static void bench_fini(struct bench *b)
{
	kv_store_free(b->s);
	fake_fini(&b->f);
	fake_folder_remove(b->path);
}

static bool save(struct bench *b, int salt, int n)
{
	int32_t *t = fake_tokens(salt, n);
	bool ok;

	fake_now += 1000;
	ok = kv_store_save(b->s, b->form, b->f.layers, t, n);
	free(t);
	return ok;
}

/* How many tokens of a prompt of n are found and come back right; 0: none. */
static int found(struct bench *b, int salt, int n)
{
	int32_t *t = fake_tokens(salt, n);
	int common = 0, got = 0;
	struct kv_entry *e = kv_store_find(b->s, b->form, t, n, KV_SAVE_TOKENS, &common);
	struct fake to;

	free(t);
	if (!e)
		return 0;
	assert_true(kv_store_settle(b->s, SETTLE_MS));
	if (kv_entry_is(e) == KV_IS_HERE) {
		fake_init(&to, 0);
		kv_store_load(b->s, e, to.layers, common);
		assert_true(fake_same(&b->f, &to, 0, common));
		fake_fini(&to);
		got = common;
	} else {
		assert_int_equal(kv_entry_is(e), KV_IS_LOST);
	}
	kv_store_unpin(b->s, e);
	return got;
}

static struct kv_store_stats stats(const struct bench *b)
{
	return kv_store_stats(b->s);
}

static void the_longest_common_beginning_is_found_and_comes_back_to_the_bit(void **state)
{
	struct bench b;
	int32_t *t;

	UNUSED(state);
	bench_init(&b, 64 * MIB, 0);
	assert_true(save(&b, 1, 200));
	assert_true(save(&b, 2, 500));
	assert_int_equal(found(&b, 1, 1000), 200);
	assert_int_equal(found(&b, 1, 200), 199); /* the last one is computed */
	assert_int_equal(found(&b, 1, 100), 99);
	assert_int_equal(found(&b, 2, 501), 500);
	assert_int_equal(found(&b, 3, 500), 0);
	t = fake_tokens(2, 400);
	t[300] = 5;
	{
		int common;
		struct kv_entry *e = kv_store_find(b.s, b.form, t, 400, 64, &common);

		assert_non_null(e);
		assert_int_equal(common, 300);
		kv_store_unpin(b.s, e);
		assert_null(kv_store_find(b.s, b.form, t, 400, 301, &common));
	}
	free(t);
	bench_fini(&b);
}

static void what_is_contained_is_not_stored_again_and_prefixes_go(void **state)
{
	struct bench b;

	UNUSED(state);
	bench_init(&b, 64 * MIB, 0);
	save(&b, 1, 300);
	save(&b, 1, 200);
	save(&b, 1, 300);
	assert_int_equal(stats(&b).saved, 1);
	save(&b, 1, 400);
	assert_int_equal(stats(&b).entries, 1);
	assert_int_equal(found(&b, 1, 500), 400);
	assert_true(save(&b, 2, KV_SAVE_TOKENS - 1));
	assert_int_equal(stats(&b).entries, 1);
	bench_fini(&b);
}

static void kinds_never_meet(void **state)
{
	const struct kv_form *other;
	int32_t *t = fake_tokens(1, 300);
	struct bench b;
	int common;

	UNUSED(state);
	bench_init(&b, 64 * MIB, 0);
	save(&b, 1, 300);
	other = kv_store_form(b.s, (struct kv_key){1, 1}, "scalar", b.f.layers,
			      FAKE_LAYERS);
	assert_null(kv_store_find(b.s, other, t, 300, 64, &common));
	other = kv_store_form(b.s, model, "avx2", b.f.layers, FAKE_LAYERS);
	assert_null(kv_store_find(b.s, other, t, 300, 64, &common));
	other = kv_store_form(b.s, model, "scalar", b.f.layers, FAKE_LAYERS);
	assert_ptr_equal(other, b.form);
	free(t);
	bench_fini(&b);
}

static void memory_stays_within_its_budget_and_what_was_used_stays(void **state)
{
	struct bench b;
	uint64_t one;

	UNUSED(state);
	bench_init(&b, 64 * MIB, 0);
	save(&b, 1, 256);
	one = stats(&b).ram_bytes;
	bench_fini(&b);

	bench_init(&b, 3 * one + one / 2, 0);
	for (int i = 1; i <= 3; i++)
		save(&b, i, 256);
	assert_int_equal(found(&b, 1, 300), 256); /* now the oldest is worth most */
	for (int i = 4; i <= 9; i++) {
		assert_true(save(&b, i, 256));
		assert_true(stats(&b).ram_bytes <= 3 * one + one / 2);
		assert_int_equal(stats(&b).ram_entries, 3);
	}
	assert_int_equal(found(&b, 1, 300), 256);
	assert_int_equal(found(&b, 2, 300), 0);
	assert_int_equal(found(&b, 9, 300), 256);
	/* What is larger than everything is refused and makes nobody go. */
	assert_false(save(&b, 10, 1000));
	assert_int_equal(stats(&b).ram_entries, 3);
	assert_int_equal(stats(&b).refused, 1);
	bench_fini(&b);
}

static void what_is_in_use_is_not_evicted(void **state)
{
	int32_t *t = fake_tokens(1, 300);
	struct kv_entry *e;
	struct bench b;
	uint64_t one;
	int common;

	UNUSED(state);
	bench_init(&b, 64 * MIB, 0);
	save(&b, 1, 256);
	one = stats(&b).ram_bytes;
	bench_fini(&b);

	bench_init(&b, one + one / 2, 0);
	save(&b, 1, 256);
	e = kv_store_find(b.s, b.form, t, 300, 64, &common);
	assert_non_null(e);
	assert_false(save(&b, 2, 256));
	assert_int_equal(kv_entry_is(e), KV_IS_HERE);
	kv_store_unpin(b.s, e);
	assert_true(save(&b, 2, 256));
	assert_int_equal(found(&b, 1, 300), 0);
	free(t);
	bench_fini(&b);
}

static void a_restart_finds_what_was_there(void **state)
{
	struct bench b;

	UNUSED(state);
	bench_init(&b, 64 * MIB, 64 * MIB);
	save(&b, 1, 300);
	save(&b, 2, KV_DISK_MIN_TOKENS - 1); /* too short for a file */
	save(&b, 3, 700);
	kv_store_free(b.s);
	assert_int_equal(fake_each(b.path, NULL), 2);
	store_open(&b, 64 * MIB, 64 * MIB);
	assert_int_equal(stats(&b).disk_entries, 2);
	assert_int_equal(stats(&b).ram_bytes, 0);
	assert_int_equal(found(&b, 1, 400), 300);
	assert_int_equal(found(&b, 2, 400), 0);
	assert_int_equal(found(&b, 3, 400), 399);
	assert_int_equal(stats(&b).disk_hits, 2);
	/* Nothing new: nothing is written. */
	save(&b, 1, 300);
	kv_store_flush(b.s);
	assert_true(kv_store_settle(b.s, SETTLE_MS));
	assert_int_equal(stats(&b).written, 0);
	bench_fini(&b);
}

static void put_file(const struct bench *b, const char *name, const char *text)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", b->path, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static bool has_file(const struct bench *b, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", b->path, name);
	return access(path, F_OK) == 0;
}

static void spoil_rows(const char *full)
{
	int fd = open(full, O_RDWR | O_CLOEXEC);
	off_t end = lseek(fd, 0, SEEK_END);

	assert_int_equal(pwrite(fd, "spoilt", 6, end - 100), 6);
	close(fd);
}

static void broken_files_are_removed_and_foreign_ones_left_alone(void **state)
{
	static const char garbage[] = "0123456789abcdef0123456789abcdef.kv";
	static const char torn[] = "0123456789abcdef0123456789abcdef.77.tmp";
	static const char fresh[] = "1123456789abcdef0123456789abcdef.78.tmp";
	struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	char path[128];
	struct bench b;

	UNUSED(state);
	bench_init(&b, 64 * MIB, 64 * MIB);
	save(&b, 1, 300);
	kv_store_free(b.s);
	fake_each(b.path, spoil_rows);
	put_file(&b, garbage, "garbage");
	put_file(&b, torn, "half");
	put_file(&b, fresh, "being written by somebody");
	put_file(&b, "README", "mine");
	snprintf(path, sizeof(path), "%s/%s", b.path, torn);
	assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
	store_open(&b, 64 * MIB, 64 * MIB);
	assert_false(has_file(&b, garbage));
	assert_false(has_file(&b, torn));
	assert_true(has_file(&b, fresh));
	assert_true(has_file(&b, "README"));
	/* Its header is fine; the rows are not. */
	assert_int_equal(stats(&b).disk_entries, 1);
	assert_int_equal(found(&b, 1, 400), 0);
	assert_int_equal(stats(&b).lost, 1);
	assert_int_equal(stats(&b).disk_entries, 0);
	assert_int_equal(stats(&b).ram_bytes, 0);
	assert_int_equal(fake_each(b.path, NULL), 2);
	bench_fini(&b);
}

static void the_disk_stays_within_its_budget(void **state)
{
	struct bench b;
	uint64_t one;

	UNUSED(state);
	bench_init(&b, 64 * MIB, 64 * MIB);
	save(&b, 1, 300);
	kv_store_flush(b.s);
	assert_true(kv_store_settle(b.s, SETTLE_MS));
	one = stats(&b).disk_bytes;
	assert_true(one > 0);
	kv_store_free(b.s);

	store_open(&b, 64 * MIB, 2 * one + one / 2);
	for (int i = 1; i <= 5; i++) {
		save(&b, i, 300);
		kv_store_flush(b.s);
		assert_true(kv_store_settle(b.s, SETTLE_MS));
		assert_true(stats(&b).disk_bytes <= 2 * one + one / 2);
	}
	assert_int_equal(stats(&b).disk_entries, 2);
	kv_store_free(b.s);
	assert_int_equal(fake_each(b.path, NULL), 2);
	/* A smaller budget at the next start makes files go. */
	store_open(&b, 64 * MIB, one + one / 2);
	assert_int_equal(stats(&b).disk_entries, 1);
	assert_int_equal(found(&b, 4, 400) + found(&b, 5, 400), 300);
	bench_fini(&b);
}

static void what_leaves_memory_is_on_disk_by_then(void **state)
{
	struct bench b;
	uint64_t one;

	UNUSED(state);
	bench_init(&b, 64 * MIB, 0);
	save(&b, 1, 300);
	one = stats(&b).ram_bytes;
	bench_fini(&b);

	bench_init(&b, one + one / 2, 64 * MIB);
	for (int i = 1; i <= 4; i++) {
		assert_true(save(&b, i, 300));
		assert_true(kv_store_settle(b.s, SETTLE_MS));
		assert_true(stats(&b).ram_bytes <= one + one / 2);
	}
	assert_int_equal(stats(&b).ram_entries, 1);
	assert_int_equal(stats(&b).disk_entries, 4);
	for (int i = 1; i <= 4; i++) {
		assert_int_equal(found(&b, i, 400), 300);
		assert_int_equal(stats(&b).ram_entries, 1);
	}
	bench_fini(&b);
}

static void files_are_written_after_a_while_and_once(void **state)
{
	struct bench b;

	UNUSED(state);
	bench_init(&b, 64 * MIB, 64 * MIB);
	assert_int_equal(kv_store_tick(b.s), -1);
	save(&b, 1, 300);
	assert_int_equal(kv_store_tick(b.s), KV_WRITE_MS);
	fake_now += KV_WRITE_MS - 1;
	assert_int_equal(kv_store_tick(b.s), 1);
	assert_int_equal(stats(&b).disk_entries, 0);
	fake_now++;
	assert_int_equal(kv_store_tick(b.s), -1);
	assert_true(kv_store_settle(b.s, SETTLE_MS));
	assert_int_equal(stats(&b).written, 1);
	assert_int_equal(kv_store_tick(b.s), -1);
	/* The longer one replaces its prefix once it is on disk itself. */
	save(&b, 1, 400);
	assert_int_equal(fake_each(b.path, NULL), 1);
	kv_store_flush(b.s);
	assert_true(kv_store_settle(b.s, SETTLE_MS));
	assert_int_equal(stats(&b).disk_entries, 1);
	assert_int_equal(stats(&b).entries, 1);
	kv_store_free(b.s);
	assert_int_equal(fake_each(b.path, NULL), 1);
	store_open(&b, 64 * MIB, 64 * MIB);
	assert_int_equal(found(&b, 1, 500), 400);
	bench_fini(&b);
}

static void an_idle_slot_goes_to_disk_and_takes_no_memory(void **state)
{
	int32_t *t = fake_tokens(1, 300);
	struct bench b;

	UNUSED(state);
	bench_init(&b, 64 * MIB, 64 * MIB);
	assert_true(kv_store_save_to_disk(b.s, b.form, b.f.layers, t, 300));
	assert_true(kv_store_settle(b.s, SETTLE_MS));
	assert_int_equal(stats(&b).ram_bytes, 0);
	assert_int_equal(stats(&b).disk_entries, 1);
	/* When the slot is overwritten after all, memory has it without a file being written. */
	save(&b, 1, 300);
	assert_int_equal(stats(&b).ram_entries, 1);
	assert_int_equal(found(&b, 1, 400), 300);
	assert_true(kv_store_settle(b.s, SETTLE_MS));
	assert_int_equal(stats(&b).disk_hits, 0);
	assert_int_equal(stats(&b).written, 1);
	free(t);
	bench_fini(&b);
}

static void what_is_forgotten_is_in_no_file_and_is_not_found(void **state)
{
	struct bench b;

	UNUSED(state);
	bench_init(&b, 64 * MIB, 64 * MIB);
	save(&b, 1, 300); /* on disk and in memory, on its way to disk, in memory */
	kv_store_flush(b.s);
	assert_true(kv_store_settle(b.s, SETTLE_MS));
	assert_int_equal(fake_each(b.path, NULL), 1);
	save(&b, 2, 300);
	kv_store_flush(b.s);
	save(&b, 3, 300);
	kv_store_forget(b.s);
	assert_true(kv_store_settle(b.s, SETTLE_MS));
	assert_int_equal(stats(&b).entries, 0);
	assert_int_equal(fake_each(b.path, NULL), 0);
	for (int i = 1; i <= 3; i++)
		assert_int_equal(found(&b, i, 400), 0);
	assert_true(save(&b, 1, 300)); /* life goes on */
	assert_int_equal(found(&b, 1, 400), 300);
	bench_fini(&b);
}

static void a_folder_is_cleared_of_our_files_only(void **state)
{
	struct bench b;
	char *foreign;

	UNUSED(state);
	bench_init(&b, 64 * MIB, 64 * MIB);
	save(&b, 1, 300);
	kv_store_flush(b.s);
	assert_true(kv_store_settle(b.s, SETTLE_MS));
	put_file(&b, "readme.txt", "mine");
	assert_int_equal(fake_each(b.path, NULL), 2);
	kv_dir_clear(b.path);
	assert_int_equal(fake_each(b.path, NULL), 1);
	foreign = xasprintf("%s/readme.txt", b.path);
	assert_int_equal(unlink(foreign), 0);
	free(foreign);
	kv_dir_clear("/nowhere/at/all");
	bench_fini(&b);
}

static void a_file_that_vanished_is_a_miss(void **state)
{
	struct bench b;

	UNUSED(state);
	bench_init(&b, 64 * MIB, 64 * MIB);
	save(&b, 1, 300);
	kv_store_free(b.s);
	store_open(&b, 64 * MIB, 64 * MIB);
	fake_each(b.path, fake_unlink);
	assert_int_equal(found(&b, 1, 400), 0);
	assert_int_equal(stats(&b).entries, 0);
	bench_fini(&b);
}

static void a_disk_that_takes_nothing_costs_nothing_but_the_files(void **state)
{
	struct rlimit old, small = {4096, RLIM_INFINITY};
	struct bench b;

	UNUSED(state);
	bench_init(&b, 64 * MIB, 64 * MIB);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (int i = 1; i <= 3; i++)
		save(&b, i, 300);
	kv_store_flush(b.s);
	assert_true(kv_store_settle(b.s, SETTLE_MS));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(stats(&b).written, 0);
	assert_int_equal(stats(&b).disk_bytes, 0);
	assert_int_equal(fake_each(b.path, NULL), 0);
	for (int i = 1; i <= 3; i++)
		assert_int_equal(found(&b, i, 400), 300);
	assert_int_equal(kv_store_tick(b.s), -1); /* no endless tries */
	bench_fini(&b);
}

static void two_engines_share_a_folder(void **state)
{
	struct bench b, c;
	uint64_t one;

	UNUSED(state);
	bench_init(&b, 64 * MIB, 64 * MIB);
	c = b;
	store_open(&c, 64 * MIB, 64 * MIB);
	save(&b, 1, 300);
	save(&c, 1, 300); /* the same at the same time */
	save(&c, 2, 300);
	kv_store_flush(b.s);
	kv_store_flush(c.s);
	assert_true(kv_store_settle(b.s, SETTLE_MS));
	assert_true(kv_store_settle(c.s, SETTLE_MS));
	assert_int_equal(fake_each(b.path, NULL), 2);
	/* Each sees the other's before it writes. */
	save(&b, 3, 300);
	kv_store_flush(b.s);
	assert_true(kv_store_settle(b.s, SETTLE_MS));
	assert_int_equal(stats(&b).disk_entries, 3);
	assert_int_equal(found(&b, 2, 400), 300);
	assert_int_equal(stats(&b).disk_hits, 1);
	one = stats(&b).disk_bytes / 3;
	kv_store_free(c.s);
	/* A third with room for one removes the others' files; nobody minds. */
	store_open(&c, 64 * MIB, one + one / 2);
	assert_int_equal(stats(&c).disk_entries, 1);
	kv_store_free(c.s);
	assert_int_equal(fake_each(b.path, NULL), 1);
	save(&b, 4, 300);
	kv_store_flush(b.s);
	assert_true(kv_store_settle(b.s, SETTLE_MS));
	assert_int_equal(stats(&b).disk_entries, 2);
	for (int i = 1; i <= 4; i++)
		assert_int_equal(found(&b, i, 400), 300); /* from memory */
	bench_fini(&b);
}

static void random_use_stays_within_both_budgets(void **state)
{
	enum { RAM = 400000, DISK = 700000, ROUNDS = 2000, PINS = 4 };
	struct kv_entry *pinned[PINS] = {0};
	uint32_t seed = 11;
	struct bench b;

	UNUSED(state);
	bench_init(&b, RAM, DISK);
	for (int i = 0; i < ROUNDS; i++) {
		struct kv_store_stats st;
		uint32_t r = seed = seed * 1664525u + 1013904223u;
		int salt = (int)(r >> 8) % 9, n = 64 + (int)((r >> 14) % 900), common;
		int pin = (int)(r >> 28) % PINS;
		int32_t *t = fake_tokens(salt, n);

		fake_now += r >> 20;
		if (r >> 12 & 3) {
			kv_store_save(b.s, b.form, b.f.layers, t, n);
		} else if (pinned[pin]) {
			kv_store_unpin(b.s, pinned[pin]); /* may be still coming */
			pinned[pin] = NULL;
		} else {
			pinned[pin] = kv_store_find(b.s, b.form, t, n, 64, &common);
		}
		free(t);
		if (i % 7 == 0)
			kv_store_tick(b.s);
		if (i % 50 == 0)
			assert_true(kv_store_settle(b.s, SETTLE_MS));
		kv_store_poll(b.s);
		st = stats(&b);
		assert_true(st.ram_bytes <= RAM);
		assert_true(st.disk_bytes <= DISK);
	}
	for (int i = 0; i < PINS; i++)
		if (pinned[i])
			kv_store_unpin(b.s, pinned[i]);
	assert_true(kv_store_settle(b.s, SETTLE_MS));
	assert_int_equal(stats(&b).pinned, 0);
	assert_true(stats(&b).hits == 0 && stats(&b).disk_hits > 0);
	for (int salt = 0; salt < 9; salt++)
		found(&b, salt, 1000); /* right to the bit, whatever is left */
	bench_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			the_longest_common_beginning_is_found_and_comes_back_to_the_bit),
		cmocka_unit_test(what_is_contained_is_not_stored_again_and_prefixes_go),
		cmocka_unit_test(kinds_never_meet),
		cmocka_unit_test(memory_stays_within_its_budget_and_what_was_used_stays),
		cmocka_unit_test(what_is_in_use_is_not_evicted),
		cmocka_unit_test(a_restart_finds_what_was_there),
		cmocka_unit_test(broken_files_are_removed_and_foreign_ones_left_alone),
		cmocka_unit_test(the_disk_stays_within_its_budget),
		cmocka_unit_test(what_leaves_memory_is_on_disk_by_then),
		cmocka_unit_test(files_are_written_after_a_while_and_once),
		cmocka_unit_test(an_idle_slot_goes_to_disk_and_takes_no_memory),
		cmocka_unit_test(what_is_forgotten_is_in_no_file_and_is_not_found),
		cmocka_unit_test(a_folder_is_cleared_of_our_files_only),
		cmocka_unit_test(a_file_that_vanished_is_a_miss),
		cmocka_unit_test(a_disk_that_takes_nothing_costs_nothing_but_the_files),
		cmocka_unit_test(two_engines_share_a_folder),
		cmocka_unit_test(random_use_stays_within_both_budgets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
