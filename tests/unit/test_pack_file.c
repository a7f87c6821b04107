/* Pack files: what is written comes back, whatever was forged does not, and the folder keeps its budget. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "base/log.h"
#include "engine/pack_file.h"
#include "engine/weights.h"

enum { PAYLOAD = PACK_CHUNK_BYTES * 2 + 12345, NO_BUDGET = 1 << 30 };

struct world {
	char dir[32];
	struct pack_dir *d;
	uint8_t *data; /* PAYLOAD bytes */
};

static struct pack_key key_of(uint64_t source)
{
	return (struct pack_key){.source_bytes = 1000,
				 .source_mtime_ns = 77,
				 .source_hash = source,
				 .plan_hash = 5,
				 .payload_bytes = PAYLOAD};
}

static void open_dir(struct world *w, uint64_t max_bytes)
{
	struct err e = {0};

	w->d = pack_dir_new(w->dir, max_bytes, &e);
	if (!w->d)
		fail_msg("%s", e.text);
}

static void world_init(struct world *w, uint64_t max_bytes)
{
	log_set_level(LOG_LV_ERROR);
	memset(w, 0, sizeof(*w));
	snprintf(w->dir, sizeof(w->dir), "packs-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(rmdir(w->dir), 0); /* the folder is made */
	open_dir(w, max_bytes);
	w->data = xmalloc(PAYLOAD);
	for (size_t i = 0; i < PAYLOAD; i++)
		w->data[i] = (uint8_t)(i * 31 + (i >> 9));
}

/* What a process forgets between two runs. */
static void restart(struct world *w)
{
	pack_dir_free(w->d);
	open_dir(w, NO_BUDGET);
}

static int files(const struct world *w, const char *end, char *last)
{
	DIR *list = opendir(w->dir);
	struct dirent *de;
	int n = 0;

	assert_non_null(list);
	while ((de = readdir(list)))
		if (de->d_name[0] != '.' || strncmp(de->d_name, ".tmp", 4) == 0) {
			if (end && !strstr(de->d_name, end))
				continue;
			if (last)
				snprintf(last, 128, "%s/%.64s", w->dir, de->d_name);
			n++;
		}
	closedir(list);
	return n;
}

static void world_fini(struct world *w)
{
	char name[128];

	pack_dir_free(w->d);
	free(w->data);
	while (files(w, NULL, name))
		unlink(name);
	assert_int_equal(rmdir(w->dir), 0);
}

static struct pack *create(struct world *w, uint64_t source)
{
	struct pack_key k = key_of(source);
	struct err e = {0};
	struct pack *p = pack_create(w->d, &k, &e);

	if (!p)
		fail_msg("%s", e.text);
	return p;
}

static void write_chunks(const struct world *w, struct pack *p)
{
	for (int i = 0; i < pack_chunks(p); i++) {
		size_t n, at = pack_chunk_at(p, i, &n);

		assert_int_equal(pack_write(p, i, w->data + at, NULL), 0);
	}
}

static void make(struct world *w, uint64_t source)
{
	struct pack *p = create(w, source);

	write_chunks(w, p);
	assert_int_equal(pack_publish(p, NULL), 0);
	pack_close(p);
}

static enum err_code open_code(struct world *w, const struct pack_key *k)
{
	struct err e = {0};
	struct pack *p = pack_open(w->d, k, &e);

	pack_close(p);
	return p ? ERR_NONE : e.code;
}

static bool reads_back(struct world *w, uint64_t source)
{
	struct pack_key k = key_of(source);
	uint8_t *out = xcalloc(1, PAYLOAD);
	struct pack *p = pack_open(w->d, &k, NULL);
	bool same = p != NULL;

	for (int i = 0; p && i < pack_chunks(p); i++) {
		size_t n, at = pack_chunk_at(p, i, &n);

		same = same && pack_read(p, i, out + at);
	}
	same = same && memcmp(out, w->data, PAYLOAD) == 0;
	pack_close(p);
	free(out);
	return same;
}

static void what_was_written_is_read_and_mapped_back(void **state)
{
	struct pack_key k = key_of(1);
	struct weights weights;
	struct err e = {0};
	struct world w;
	struct pack *p;
	struct stat st;
	char name[128];

	UNUSED(state);
	world_init(&w, NO_BUDGET);
	assert_int_equal(open_code(&w, &k), ERR_NOT_FOUND);
	make(&w, 1);
	assert_int_equal(files(&w, ".pack", name), 1);
	assert_int_equal(files(&w, ".tmp", NULL), 0);
	assert_int_equal(stat(name, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(stat(w.dir, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	restart(&w);
	assert_true(reads_back(&w, 1));
	p = pack_open(w.d, &k, &e);
	assert_non_null(p);
	assert_false(pack_is_checked(p));
	assert_int_equal(weights_reserve(&weights, PAYLOAD, &e), 0);
	assert_int_equal(weights_map(&weights, p, &e), 0);
	assert_true(weights_populate(&weights, 0, PAYLOAD));
	assert_memory_equal(weights_data(&weights), w.data, PAYLOAD);
	weights_cold(&weights);
	assert_memory_equal(weights_data(&weights), w.data, PAYLOAD);
	pack_set_checked(p);
	assert_true(pack_is_checked(p));
	weights_drop(&weights);
	weights_fini(&weights);
	world_fini(&w);
}

static void weights_keep_their_address_when_a_file_takes_the_place_of_memory(void **state)
{
	struct weights weights;
	struct err e = {0};
	const uint8_t *at;
	struct world w;
	struct pack *p;

	UNUSED(state);
	world_init(&w, NO_BUDGET);
	assert_int_equal(weights_reserve(&weights, PAYLOAD, &e), 0);
	at = weights_data(&weights);
	assert_int_equal((uintptr_t)at % 64, 0);
	assert_int_equal(weights_anonymous(&weights, &e), 0);
	memcpy(weights_data(&weights), w.data, PAYLOAD);
	p = create(&w, 1);
	write_chunks(&w, p);
	assert_int_equal(pack_publish(p, &e), 0);
	assert_int_equal(weights_map(&weights, p, &e), 0);
	assert_ptr_equal(weights_data(&weights), at);
	assert_memory_equal(at, w.data, PAYLOAD);
	weights_fini(&weights);
	world_fini(&w);
}

/* Each byte of the head, and one of each chunk: what is changed is refused and removed, and never read. */
static void a_forged_byte_is_refused_and_the_file_removed(void **state)
{
	size_t head = pack_head_bytes(PAYLOAD);
	struct pack_key k = key_of(1);
	struct world w;
	char name[128];

	UNUSED(state);
	world_init(&w, NO_BUDGET);
	for (off_t at = 0; at < 72 + 3 * 8; at++) {
		uint8_t byte;
		int fd;

		make(&w, 1);
		assert_int_equal(files(&w, ".pack", name), 1);
		fd = open(name, O_RDWR);
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		close(fd);
		if (open_code(&w, &k) != ERR_NOT_FOUND)
			fail_msg("a forged byte %d of the head was taken", (int)at);
		assert_int_equal(files(&w, ".pack", NULL), 0);
	}
	make(&w, 1);
	for (int i = 0; i < 3; i++) {
		off_t at = (off_t)(i ? (size_t)i * PACK_CHUNK_BYTES : head) + 100;
		int fd = open(name, O_RDWR);
		uint8_t byte;
		struct pack *p;

		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		p = pack_open(w.d, &k, NULL);
		assert_non_null(p);
		for (int c = 0; c < pack_chunks(p); c++)
			assert_int_equal(pack_read(p, c, w.data), c != i);
		pack_close(p);
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		close(fd);
	}
	world_fini(&w);
}

static void another_source_layout_or_length_is_no_match(void **state)
{
	struct pack_key keys[3];
	struct world w;
	char name[128];

	UNUSED(state);
	world_init(&w, NO_BUDGET);
	for (int i = 0; i < 3; i++)
		keys[i] = key_of(1);
	keys[0].source_hash = 2;
	keys[1].source_bytes++;
	keys[2].source_mtime_ns++;
	make(&w, 1);
	for (int i = 0; i < 3; i++) { /* not even the name is the same: it stays */
		assert_int_equal(open_code(&w, &keys[i]), ERR_NOT_FOUND);
		assert_int_equal(files(&w, ".pack", name), 1);
	}
	keys[0] = key_of(1);
	keys[0].plan_hash++;
	assert_int_equal(open_code(&w, &keys[0]), ERR_NOT_FOUND);
	assert_int_equal(files(&w, ".pack", NULL), 0); /* it is of no use to us */
	make(&w, 1);
	keys[0] = key_of(1);
	assert_int_equal(truncate(name, (off_t)pack_head_bytes(PAYLOAD) + PAYLOAD - 1),
			 0);
	assert_int_equal(open_code(&w, &keys[0]), ERR_NOT_FOUND);
	assert_int_equal(files(&w, ".pack", NULL), 0);
	make(&w, 1);
	assert_int_equal(truncate(name, 10), 0);
	assert_int_equal(open_code(&w, &keys[0]), ERR_NOT_FOUND);
	make(&w, 1);
	assert_int_equal(chmod(name, 0666), 0); /* somebody else may have written */
	assert_int_equal(open_code(&w, &keys[0]), ERR_NOT_FOUND);
	make(&w, 1);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(symlink("/etc/passwd", name), 0);
	assert_int_equal(open_code(&w, &keys[0]), ERR_IO);
	world_fini(&w);
}

static void the_files_used_longest_ago_go_but_never_one_in_use(void **state)
{
	size_t each = pack_head_bytes(PAYLOAD) + PAYLOAD;
	struct pack_key k = key_of(1);
	struct err e = {0};
	struct pack *used;
	struct world w;

	UNUSED(state);
	world_init(&w, 2 * each + 100);
	make(&w, 1);
	make(&w, 2);
	assert_true(reads_back(&w, 1)); /* 2 is the older one now */
	make(&w, 3);
	assert_int_equal(files(&w, ".pack", NULL), 2);
	assert_true(reads_back(&w, 3));
	k = key_of(2);
	assert_int_equal(open_code(&w, &k), ERR_NOT_FOUND);
	k = key_of(1);
	used = pack_open(w.d, &k, NULL);
	assert_non_null(used);
	make(&w, 4); /* 3 goes, although 1 ... */
	assert_true(reads_back(&w, 4));
	make(&w, 4); /* in its own place: nobody has to go */
	assert_int_equal(files(&w, ".pack", NULL), 2);
	k = key_of(4);
	{
		struct pack *both = pack_open(w.d, &k, NULL);

		k = key_of(5);
		assert_null(pack_create(w.d, &k, &e));
		assert_int_equal(e.code, ERR_TOO_LARGE);
		assert_int_equal(files(&w, ".pack", NULL), 2);
		pack_close(both);
	}
	pack_close(used);
	pack_dir_free(w.d);
	open_dir(&w, each - 1);
	assert_null(pack_create(w.d, &k, &e));
	assert_int_equal(e.code, ERR_TOO_LARGE);
	world_fini(&w);
}

static void a_full_disk_is_an_error_and_leaves_nothing(void **state)
{
	struct rlimit old, limit;
	struct pack_key k = key_of(1);
	struct err e = {0};
	struct world w;

	UNUSED(state);
	world_init(&w, NO_BUDGET);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = PAYLOAD / 2;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_null(pack_create(w.d, &k, &e));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(e.code, ERR_DISK_FULL);
	assert_int_equal(files(&w, NULL, NULL), 0);
	world_fini(&w);
}

static void an_unfinished_file_goes_with_its_writer_and_after_a_crash(void **state)
{
	struct pack *p;
	struct world w;
	char name[128];

	UNUSED(state);
	world_init(&w, NO_BUDGET);
	p = create(&w, 1);
	write_chunks(&w, p);
	assert_int_equal(files(&w, ".tmp", NULL), 1);
	{
		struct pack_dir *other = pack_dir_new(w.dir, NO_BUDGET, NULL);

		assert_non_null(other);
		pack_dir_free(other); /* it lives: nobody removes it */
	}
	assert_int_equal(files(&w, ".tmp", name), 1);
	pack_close(p);
	assert_int_equal(files(&w, NULL, NULL), 0);
	close(open(name, O_CREAT | O_WRONLY, 0600)); /* as a crash leaves it */
	restart(&w);
	assert_int_equal(files(&w, NULL, NULL), 0);
	world_fini(&w);
}

static void a_folder_that_others_may_write_is_refused(void **state)
{
	struct err e = {0};
	struct world w;

	UNUSED(state);
	world_init(&w, NO_BUDGET);
	assert_int_equal(chmod(w.dir, 0770), 0);
	assert_null(pack_dir_new(w.dir, NO_BUDGET, &e));
	assert_int_equal(e.code, ERR_FORBIDDEN);
	assert_int_equal(chmod(w.dir, 0700), 0);
	assert_null(pack_dir_new("/proc/nowhere", NO_BUDGET, &e));
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_written_is_read_and_mapped_back),
		cmocka_unit_test(
			weights_keep_their_address_when_a_file_takes_the_place_of_memory),
		cmocka_unit_test(a_forged_byte_is_refused_and_the_file_removed),
		cmocka_unit_test(another_source_layout_or_length_is_no_match),
		cmocka_unit_test(the_files_used_longest_ago_go_but_never_one_in_use),
		cmocka_unit_test(a_full_disk_is_an_error_and_leaves_nothing),
		cmocka_unit_test(
			an_unfinished_file_goes_with_its_writer_and_after_a_crash),
		cmocka_unit_test(a_folder_that_others_may_write_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
