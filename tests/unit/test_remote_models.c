/* The catalogue of a provider's models: found by id, kept over a restart, unhurt by any file. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/log.h"
#include "providers/remote_models.h"

struct folder {
	uv_loop_t loop;
	char root[64], dir[96], path[128];
};

static void folder_init(struct folder *f)
{
	log_set_level(LOG_LV_ERROR);
	snprintf(f->root, sizeof f->root, "/tmp/hob-models-XXXXXX");
	assert_non_null(mkdtemp(f->root));
	snprintf(f->dir, sizeof f->dir, "%s/catalogue", f->root);
	snprintf(f->path, sizeof f->path, "%s/fake.json", f->dir);
	uv_loop_init(&f->loop);
}

/* Returns how many files there were. */
static int folder_fini(struct folder *f)
{
	DIR *d = opendir(f->dir);
	struct dirent *e;
	int files = 0;

	assert_int_equal(uv_run(&f->loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&f->loop), 0);
	while (d && (e = readdir(d))) {
		char path[400];

		if (e->d_name[0] == '.')
			continue;
		files++;
		snprintf(path, sizeof path, "%s/%s", f->dir, e->d_name);
		unlink(path);
	}
	if (d)
		closedir(d);
	rmdir(f->dir);
	assert_int_equal(rmdir(f->root), 0);
	return files;
}

static struct remote_models *of(struct folder *f)
{
	return remote_models_new(&f->loop, f->dir, "fake");
}

static void put_file(struct folder *f, const char *text, size_t n)
{
	int fd;

	mkdir(f->dir, 0700);
	fd = open(f->path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, n), n);
	close(fd);
}

static struct remote_model model(char *id)
{
	struct remote_model m = REMOTE_MODEL_UNKNOWN;

	m.id = id;
	return m;
}

static struct remote_model *three(void)
{
	struct remote_model *list = xcalloc(3, sizeof *list);

	list[0] = model(xstrdup("vendor/zeta"));
	list[1] = model(xstrdup("vendor/alpha"));
	list[2] = model(xstrdup("vendor/mu \"quoted\" ü"));
	list[1].ctx = 8192;
	list[1].max_output = 4096;
	list[1].images = YES;
	list[1].tools = NO;
	list[1].prices.input = 1.25e-7;
	list[1].prices.output = 0;
	list[1].expires_unix_s = 1800000000;
	return list;
}

static void assert_three(const struct remote_models *m)
{
	const struct remote_model *a = remote_models_find(m, "vendor/alpha");

	assert_int_equal(remote_models_count(m), 3);
	assert_non_null(a);
	assert_int_equal(a->ctx, 8192);
	assert_int_equal(a->max_output, 4096);
	assert_int_equal(a->images, YES);
	assert_int_equal(a->tools, NO);
	assert_int_equal(a->structured, UNSAID);
	assert_true(a->prices.input == 1.25e-7 && a->prices.output == 0);
	assert_true(a->prices.cached < 0 && a->prices.request < 0);
	assert_int_equal(a->expires_unix_s, 1800000000);
	assert_non_null(remote_models_find(m, "vendor/mu \"quoted\" ü"));
	assert_int_equal(remote_models_find(m, "vendor/zeta")->ctx, 0);
	assert_null(remote_models_find(m, "vendor/alph"));
	assert_null(remote_models_find(m, ""));
	assert_null(remote_models_find(m, "zzz"));
	assert_string_equal(remote_models_at(m, 0)->id, "vendor/alpha");
	assert_string_equal(remote_models_at(m, 2)->id, "vendor/zeta");
}

static void what_was_set_is_found_by_id_and_sorted(void **state)
{
	struct remote_models *m = remote_models_new(NULL, NULL, "fake");

	(void)state;
	assert_int_equal(remote_models_count(m), 0);
	assert_true(remote_models_age_s(m) < 0);
	assert_null(remote_models_find(m, "vendor/alpha"));
	remote_models_set(m, three(), 3);
	assert_three(m);
	assert_in_range(remote_models_age_s(m), 0, 5);
	remote_models_set(m, xcalloc(1, sizeof(struct remote_model)), 0);
	assert_int_equal(remote_models_count(m), 0);
	remote_models_free(m);
	remote_models_free(NULL);
}

static void of_two_with_one_id_one_stays_and_the_list_is_bounded(void **state)
{
	int n = REMOTE_MODELS_MAX + 50;
	struct remote_model *list = xcalloc((size_t)n, sizeof *list);
	struct remote_models *m = remote_models_new(NULL, NULL, "fake");

	(void)state;
	for (int i = 0; i < n; i++)
		list[i] = model(xasprintf("m%d", i % 9000));
	remote_models_set(m, list, n);
	assert_int_equal(remote_models_count(m), 9000);
	for (int i = 0; i < 9000; i += 37) {
		char id[16];

		snprintf(id, sizeof id, "m%d", i);
		assert_non_null(remote_models_find(m, id));
	}
	remote_models_free(m);
}

static void what_was_set_is_there_after_a_restart(void **state)
{
	struct remote_models *m;
	struct folder f;
	struct stat st;

	(void)state;
	folder_init(&f);
	m = of(&f);
	remote_models_set(m, three(), 3);
	remote_models_free(m); /* does not wait, and loses nothing */
	uv_run(&f.loop, UV_RUN_DEFAULT);
	assert_int_equal(stat(f.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(stat(f.dir, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	m = of(&f);
	assert_three(m);
	assert_in_range(remote_models_age_s(m), 0, 60);
	remote_models_free(m);
	assert_int_equal(folder_fini(&f), 1);
}

static void of_many_lists_in_a_row_the_last_is_kept(void **state)
{
	struct remote_models *m;
	struct folder f;

	(void)state;
	folder_init(&f);
	m = of(&f);
	for (int i = 0; i < 20; i++) {
		struct remote_model *list = xcalloc(1, sizeof *list);

		list[0] = model(xasprintf("m%d", i));
		remote_models_set(m, list, 1);
		if (i % 3 == 0)
			uv_run(&f.loop, UV_RUN_NOWAIT);
	}
	remote_models_set(m, three(), 3);
	remote_models_free(m);
	uv_run(&f.loop, UV_RUN_DEFAULT);
	m = of(&f);
	assert_three(m);
	remote_models_free(m);
	assert_int_equal(folder_fini(&f), 1); /* nothing half written beside it */
}

static void a_broken_file_is_ignored_and_written_anew(void **state)
{
	static const char *const texts[] = {
		"",
		"{",
		"null",
		"[]",
		"{\"version\":1}",
		"{\"version\":2,\"got_unix_s\":1,\"models\":[{\"id\":\"x\"}]}",
		"{\"version\":1,\"got_unix_s\":-1,\"models\":[{\"id\":\"x\"}]}",
		"{\"version\":1,\"got_unix_s\":\"1\",\"models\":[{\"id\":\"x\"}]}",
		"{\"version\":1,\"got_unix_s\":1,\"models\":{\"id\":\"x\"}}",
		"{\"version\":1,\"got_unix_s\":1,\"models\":[{\"id\":\"x\"}",
		"{\"version\":1,\"got_unix_s\":1,\"models\":[{\"id\":\"x\"}]} more",
	};
	struct folder f;

	(void)state;
	folder_init(&f);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct remote_models *m = of(&f);

		put_file(&f, texts[i], strlen(texts[i]));
		assert_int_equal(remote_models_count(m), 0);
		assert_true(remote_models_age_s(m) < 0);
		remote_models_set(m, three(), 3);
		remote_models_free(m);
		uv_run(&f.loop, UV_RUN_DEFAULT);
		m = of(&f);
		assert_three(m);
		remote_models_free(m);
	}
	folder_fini(&f);
}

static void odd_rows_of_a_file_cost_only_themselves(void **state)
{
	static const char text[] =
		"{\"version\":1,\"got_unix_s\":1,\"models\":[1,null,{},{\"id\":\"\"},{\"id\":7},"
		"{\"id\":\"a\",\"ctx\":-5,\"input\":-1,\"output\":\"x\",\"images\":1},"
		"{\"id\":\"b\",\"ctx\":1e30,\"tools\":true,\"input\":1e99,\"cached\":0.5}]}";
	struct remote_models *m;
	struct folder f;

	(void)state;
	folder_init(&f);
	put_file(&f, text, sizeof text - 1);
	m = of(&f);
	assert_int_equal(remote_models_count(m), 2);
	assert_int_equal(remote_models_find(m, "a")->ctx, 0);
	assert_true(remote_models_find(m, "a")->prices.input < 0);
	assert_int_equal(remote_models_find(m, "a")->images, UNSAID);
	assert_int_equal(remote_models_find(m, "b")->ctx, 0);
	assert_int_equal(remote_models_find(m, "b")->tools, YES);
	assert_true(remote_models_find(m, "b")->prices.input < 0);
	assert_true(remote_models_find(m, "b")->prices.cached == 0.5);
	assert_true(remote_models_age_s(m) > 1000000);
	remote_models_free(m);
	folder_fini(&f);
}

static void any_prefix_of_a_good_file_is_survived(void **state)
{
	struct buf text = {0};
	struct remote_models *m;
	struct folder f;

	(void)state;
	folder_init(&f);
	m = of(&f);
	remote_models_set(m, three(), 3);
	remote_models_free(m);
	uv_run(&f.loop, UV_RUN_DEFAULT);
	{
		int fd = open(f.path, O_RDONLY);

		buf_reserve(&text, 4096);
		text.len = (size_t)read(fd, text.data, 4096);
		close(fd);
	}
	for (size_t n = 0; n + 2 < text.len; n += 7) {
		put_file(&f, text.data, n);
		m = of(&f);
		assert_int_equal(remote_models_count(m), 0);
		remote_models_free(m);
	}
	buf_free(&text);
	folder_fini(&f);
}

static void a_huge_file_a_link_and_a_pipe_are_not_read(void **state)
{
	char elsewhere[128];
	struct remote_models *m;
	struct folder f;

	(void)state;
	folder_init(&f);
	put_file(&f, "{}", 2);
	assert_int_equal(truncate(f.path, INT64_C(1) << 34), 0);
	m = of(&f);
	assert_int_equal(remote_models_count(m), 0);
	remote_models_free(m);
	unlink(f.path);

	snprintf(elsewhere, sizeof elsewhere, "%s/other", f.dir);
	assert_int_equal(symlink(elsewhere, f.path), 0);
	m = of(&f);
	remote_models_set(m, three(), 3);
	remote_models_free(m);
	uv_run(&f.loop, UV_RUN_DEFAULT);
	assert_int_not_equal(access(elsewhere, F_OK),
			     0); /* nothing was written through it */
	unlink(f.path);

	assert_int_equal(mkfifo(f.path, 0600), 0);
	m = of(&f);
	assert_int_equal(remote_models_count(m), 0); /* and it does not hang */
	remote_models_free(m);
	folder_fini(&f);
}

static void a_list_from_another_url_is_not_believed(void **state)
{
	struct remote_models *m;
	struct folder f;

	(void)state;
	folder_init(&f);
	m = of(&f);
	remote_models_set_origin(m, "http://a/v1");
	remote_models_set(m, three(), 3);
	remote_models_free(m);
	uv_run(&f.loop, UV_RUN_DEFAULT);
	m = of(&f);
	remote_models_set_origin(m, "http://b/v1");
	assert_int_equal(remote_models_count(m), 0);
	remote_models_free(m);
	m = of(&f);
	remote_models_set_origin(m, "http://a/v1");
	assert_three(m);
	remote_models_free(m);
	folder_fini(&f);
}

static void a_clock_that_was_set_back_makes_it_old(void **state)
{
	char text[128];
	struct remote_models *m;
	struct folder f;

	(void)state;
	folder_init(&f);
	snprintf(text, sizeof text, "{\"version\":1,\"got_unix_s\":%lld,\"models\":[]}",
		 (long long)time(NULL) + 100000);
	put_file(&f, text, strlen(text));
	m = of(&f);
	assert_true(remote_models_age_s(m) > REMOTE_MODELS_FRESH_S);
	remote_models_free(m);
	folder_fini(&f);
}

static void a_folder_that_cannot_be_made_costs_only_the_file(void **state)
{
	struct remote_models *m;
	uv_loop_t loop;

	(void)state;
	log_set_level(LOG_LV_ERROR);
	uv_loop_init(&loop);
	m = remote_models_new(&loop, "/proc/none/catalogue", "fake");
	remote_models_set(m, three(), 3);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_three(m);
	remote_models_free(m);
	m = remote_models_new(&loop, "/tmp",
			      "../evil"); /* no file name: nothing is kept */
	remote_models_set(m, three(), 3);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_not_equal(access("/evil.json", F_OK), 0);
	remote_models_free(m);
	assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_set_is_found_by_id_and_sorted),
		cmocka_unit_test(of_two_with_one_id_one_stays_and_the_list_is_bounded),
		cmocka_unit_test(what_was_set_is_there_after_a_restart),
		cmocka_unit_test(of_many_lists_in_a_row_the_last_is_kept),
		cmocka_unit_test(a_broken_file_is_ignored_and_written_anew),
		cmocka_unit_test(odd_rows_of_a_file_cost_only_themselves),
		cmocka_unit_test(any_prefix_of_a_good_file_is_survived),
		cmocka_unit_test(a_huge_file_a_link_and_a_pipe_are_not_read),
		cmocka_unit_test(a_list_from_another_url_is_not_believed),
		cmocka_unit_test(a_clock_that_was_set_back_makes_it_old),
		cmocka_unit_test(a_folder_that_cannot_be_made_costs_only_the_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
