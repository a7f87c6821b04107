/* Models that come and go behind the line protocol: probe, share, park, promote, cancel, pack files, and that nothing is
 * left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/unit/engine_peer.h"
#include "tests/unit/tiny_model.h"

enum { THREADS = 2, RANDOM_OPS = 600, RANDOM_FILES = 3, RANDOM_LIVE = 5 };

static void peer_init(struct peer *p, const char *pack_dir, int threads)
{
	peer_init_options(p, &(struct engine_options){.kernels = "auto",
						      .threads = threads,
						      .pack_dir = pack_dir,
						      .pack_bytes = UINT64_C(1) << 40});
}

static const char *real_model(void)
{
	const char *path = getenv("HOB_TEST_MODEL");

	if (!path) {
		print_message("HOB_TEST_MODEL names no model file\n");
		skip();
	}
	return path;
}

struct folder {
	char path[32];
};

static void folder_init_in(struct folder *f, const char *parent)
{
	snprintf(f->path, sizeof(f->path), "%s/packs-XXXXXX", parent);
	assert_non_null(mkdtemp(f->path));
}

static void folder_init(struct folder *f)
{
	folder_init_in(f, ".");
}

/* How many files of that ending; the last one's path in name (may be NULL). */
static int files_in(const struct folder *f, const char *end, char name[128])
{
	DIR *list = opendir(f->path);
	struct dirent *de;
	int n = 0;

	assert_non_null(list);
	while ((de = readdir(list)))
		if (strstr(de->d_name, end)) {
			n++;
			if (name)
				snprintf(name, 128, "%s/%.64s", f->path, de->d_name);
		}
	closedir(list);
	return n;
}

static void folder_fini(struct folder *f)
{
	char name[128];

	while (files_in(f, ".pack", name))
		unlink(name);
	assert_int_equal(rmdir(f->path), 0); /* no temporary file is left */
}

static void ask_load(struct peer *p, int id, const char *path, int ctx)
{
	say(p, "{\"op\":\"load\",\"model\":%d,\"path\":\"%s\",\"ctx\":%d,\"slots\":2}",
	    id, path, ctx);
}

static void load(struct peer *p, int id, const char *path, const char *source)
{
	cJSON *line;

	ask_load(p, id, path, 512);
	line = expect(p, "loaded");
	assert_int_equal(number_of(line, "model"), id);
	assert_string_equal(text_of(line, "source"), source);
	cJSON_Delete(line);
}

static void order(struct peer *p, const char *op, int id, const char *answer)
{
	cJSON *line;

	say(p, "{\"op\":\"%s\",\"model\":%d}", op, id);
	line = expect(p, answer);
	assert_int_equal(number_of(line, "model"), id);
	cJSON_Delete(line);
}

static void ask_text(struct peer *p, int id, int job, int tokens)
{
	say(p,
	    "{\"op\":\"start\",\"job\":%d,\"model\":%d,\"prompt\":\"hello, hello\",\"temperature\":0,"
	    "\"ignore_eos\":true,\"max_tokens\":%d}",
	    job, id, tokens);
}

/* The text of a job up to its end; events of models go by. */
static char *take_text(struct peer *p, int job)
{
	struct buf text = {0};
	bool end = false;

	while (!end) {
		cJSON *line = hear(p);

		assert_non_null(line);
		if (cJSON_GetObjectItem(line, "job")) {
			assert_int_equal(number_of(line, "job"), job);
			buf_adds(&text, text_of(line, "text"));
			end = is_event(line, "finished");
			assert_false(is_event(line, "failed"));
		}
		cJSON_Delete(line);
	}
	buf_addc(&text, 0);
	return text.data;
}

static char *text_by(struct peer *p, int id, int tokens)
{
	ask_text(p, id, id, tokens);
	return take_text(p, id);
}

static void a_probe_knows_the_sizes_that_the_load_has(void **state)
{
	static const char *const members[] = {
		"weights_bytes", "kv_bytes", "parked_bytes", "ctx", "ctx_train", "slots"};
	struct tiny *m = tiny_new(NULL);
	cJSON *probed, *loaded;
	struct peer p;

	UNUSED(state);
	peer_init(&p, NULL, THREADS);
	say(&p, "{\"op\":\"probe\",\"model\":1,\"path\":\"%s\",\"ctx\":4096,\"slots\":3}",
	    m->path);
	probed = expect(&p, "probed");
	ask_load(&p, 1, m->path, 4096);
	loaded = expect(&p, "loaded");
	for (size_t i = 0; i < ARRAY_LEN(members); i++)
		assert_int_equal(number_of(probed, members[i]),
				 number_of(loaded, members[i]));
	assert_int_equal(number_of(probed, "ctx"),
			 TINY_CTX); /* not what it cannot hold */
	assert_int_equal(number_of(loaded, "slots"), 3);
	assert_string_equal(text_of(probed, "name"), "Tiny");
	assert_int_equal(number_of(loaded, "weights_bytes") +
				 number_of(loaded, "kv_bytes"),
			 number_of(loaded, "bytes"));
	cJSON_Delete(probed);
	cJSON_Delete(loaded);
	say(&p,
	    "{\"op\":\"probe\",\"model\":2,\"path\":\"/nowhere.gguf\",\"ctx\":64,\"slots\":1}");
	cJSON_Delete(expect(&p, "load_failed"));
	say(&p, "{\"op\":\"probe\",\"model\":3,\"path\":\"%s\",\"ctx\":64,\"slots\":1}",
	    m->path);
	cJSON_Delete(expect(&p, "probed"));
	order(&p, "unload", 3, "unloaded");
	order(&p, "unload", 1, "unloaded");
	peer_fini(&p);
	tiny_free(m);
}

static void two_ids_of_one_file_share_its_weights(void **state)
{
	struct tiny *m = tiny_new(NULL);
	char *one, *two, other[64];
	struct peer p;
	cJSON *line;

	UNUSED(state);
	snprintf(other, sizeof(other), "%s-too", m->path);
	assert_int_equal(link(m->path, other), 0);
	peer_init(&p, NULL, THREADS);
	load(&p, 1, m->path, "converted");
	ask_load(&p, 2, other, 64); /* by another name and with another context */
	line = expect(&p, "loaded");
	assert_string_equal(text_of(line, "source"), "shared");
	assert_int_equal(number_of(line, "ctx"), 64);
	cJSON_Delete(line);
	one = text_by(&p, 1, 30);
	order(&p, "unload", 1, "unloaded");
	two = text_by(&p, 2, 30);
	assert_string_equal(one, two);
	order(&p, "unload", 2, "unloaded");
	load(&p, 3, m->path, "converted"); /* it was forgotten with the last of them */
	peer_fini(&p);
	unlink(other);
	free(one);
	free(two);
	tiny_free(m);
}

/* All lines are read at once, so no load has ended when the first is taken back. */
static void a_load_that_two_ids_wait_for_is_done_once(void **state)
{
	struct tiny *m = tiny_new(NULL);
	int unloaded = 0, loaded = 0;
	struct buf orders = {0};
	struct peer p;

	UNUSED(state);
	peer_init(&p, NULL, THREADS);
	for (int i = 1; i <= 3; i++)
		buf_addf(&orders,
			 "{\"op\":\"load\",\"model\":%d,\"path\":\"%s\",\"ctx\":64,"
			 "\"slots\":1}\n",
			 i, m->path);
	buf_adds(&orders, "{\"op\":\"unload\",\"model\":1}");
	say(&p, "%s", orders.data);
	while (unloaded + loaded < 3) {
		cJSON *line = hear(&p);
		bool first = number_of(line, "model") == 1;

		if (is_event(line, "unloaded")) {
			assert_true(first);
			unloaded++;
		} else if (is_event(line, "loaded")) {
			assert_false(first);
			assert_string_equal(text_of(line, "source"),
					    loaded ? "shared" : "converted");
			loaded++;
		}
		cJSON_Delete(line);
	}
	assert_int_equal(unloaded, 1);
	peer_fini(&p);
	buf_free(&orders);
	tiny_free(m);
}

/* Both lines are read at once, so no load of its own has ended whatever the machine does.  The one before may have come
 * too far to stop: then its weights are there still, and are taken at once. */
static void unload_of_a_load_cancels_it_and_it_can_be_loaded_again(void **state)
{
	struct tiny *m = tiny_new(NULL);
	struct peer p;
	cJSON *line;

	UNUSED(state);
	peer_init(&p, NULL, THREADS);
	for (int i = 1; i <= 20; i++) {
		say(&p,
		    "{\"op\":\"load\",\"model\":%d,\"path\":\"%s\",\"ctx\":512,\"slots\":1}\n"
		    "{\"op\":\"unload\",\"model\":%d}",
		    i, m->path, i);
		line = expect(&p, NULL);
		if (is_event(line, "loaded")) {
			assert_true(i > 1);
			cJSON_Delete(line);
			line = expect(&p, "unloaded");
		}
		assert_true(is_event(line, "unloaded")); /* and nothing else before it */
		assert_int_equal(number_of(line, "model"), i);
		cJSON_Delete(line);
	}
	ask_load(&p, 99, m->path, 64);
	cJSON_Delete(expect(&p, "loaded"));
	order(&p, "unload", 77, "unloaded"); /* one that nobody knows */
	peer_fini(&p);
	tiny_free(m);
}

static void a_parked_model_comes_back_at_once_with_the_same_text(void **state)
{
	struct tiny *m = tiny_new(NULL);
	char *before, *after;
	struct peer p;
	cJSON *line;

	UNUSED(state);
	peer_init(&p, NULL, THREADS);
	load(&p, 1, m->path, "converted");
	before = text_by(&p, 1, 40);
	/* In one write, so that it has not ended. */
	say(&p,
	    "{\"op\":\"start\",\"job\":50,\"model\":1,\"prompt\":\"h\",\"max_tokens\":400}\n"
	    "{\"op\":\"park\",\"model\":1}");
	while (!is_event(line = hear(&p), "failed")) /* what ran on it */
		cJSON_Delete(line);
	assert_int_equal(number_of(line, "job"), 50);
	cJSON_Delete(line);
	line = expect(&p, "parked");
	assert_true(number_of(line, "bytes") > 0);
	cJSON_Delete(line);
	ask_text(&p, 1, 51, 4);
	cJSON_Delete(expect(&p, "failed")); /* it cannot answer now */
	load(&p, 1, m->path, "parked");
	after = text_by(&p, 1, 40);
	assert_string_equal(before, after);
	order(&p, "park", 1, "parked");
	ask_load(&p, 2, m->path, 512); /* another id of the cold file */
	line = expect(&p, "loaded");
	assert_string_equal(text_of(line, "source"), "shared");
	cJSON_Delete(line);
	order(&p, "unload", 1, "unloaded");
	peer_fini(&p);
	free(before);
	free(after);
	tiny_free(m);
}

/* The file is written behind the answer: its name comes with its end. */
static void wait_for_pack(const struct folder *f, int n)
{
	for (int i = 0; files_in(f, ".pack", NULL) < n; i++) {
		assert_true(i < 6000);
		usleep(10000);
	}
}

static void flip(const char *path, off_t at)
{
	int fd = open(path, O_RDWR);
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

/* Converted, from the pack file that takes the weights' place, parked, after a restart, and after somebody changed the
 * file: the same text. */
static void check_ways(const char *path, int tokens, const char *parent)
{
	static const char *const sources[] = {"converted", "pack file", "converted",
					      "pack file"};
	struct folder f;
	char *first = NULL, name[128];

	folder_init_in(&f, parent);
	log_set_level(LOG_LV_ERROR);
	for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
		struct peer p;
		char *text;

		peer_init(&p, f.path, THREADS);
		load(&p, 1, path, sources[i]);
		text = text_by(&p, 1, tokens);
		first = first ? first : xstrdup(text);
		assert_string_equal(text, first);
		free(text);
		wait_for_pack(&f, 1);
		text = text_by(&p, 1, tokens); /* mapped meanwhile, or soon */
		assert_string_equal(text, first);
		free(text);
		order(&p, "park", 1, "parked");
		load(&p, 1, path, "parked");
		text = text_by(&p, 1, tokens);
		assert_string_equal(text, first);
		free(text);
		order(&p, "unload", 1, "unloaded");
		peer_fini(&p);
		assert_int_equal(files_in(&f, ".pack", name), 1);
		if (i == 1)
			flip(name, 8192);
	}
	free(first);
	folder_fini(&f);
}

static void text_is_the_same_converted_from_a_pack_file_and_parked(void **state)
{
	struct tiny *m = tiny_new(NULL);

	UNUSED(state);
	check_ways(m->path, 60, ".");
	tiny_free(m);
}

/* In memory there are no huge pages of files, so they are read and not mapped. */
static void text_is_the_same_where_pack_files_are_read_not_mapped(void **state)
{
	struct tiny *m;

	UNUSED(state);
	if (access("/dev/shm", W_OK) < 0) {
		print_message("there is no /dev/shm\n");
		skip();
	}
	m = tiny_new(NULL);
	check_ways(m->path, 60, "/dev/shm");
	tiny_free(m);
}

static void a_budget_that_is_too_small_costs_the_file_only(void **state)
{
	struct tiny *m = tiny_new(NULL);
	struct folder f;
	struct peer p;

	UNUSED(state);
	log_set_level(LOG_LV_ERROR);
	folder_init(&f);
	peer_init_options(&p, &(struct engine_options){.kernels = "auto",
						       .threads = THREADS,
						       .pack_dir = f.path,
						       .pack_bytes = 1000});
	load(&p, 1, m->path, "converted");
	free(text_by(&p, 1, 5));
	peer_fini(&p);
	assert_int_equal(files_in(&f, ".pack", NULL), 0);
	folder_fini(&f);
	tiny_free(m);
}

static void two_engines_may_share_a_folder(void **state)
{
	struct tiny *m = tiny_new(NULL);
	struct peer a, b;
	struct folder f;
	char *one, *two;

	UNUSED(state);
	folder_init(&f);
	for (int i = 0; i < 10; i++) {
		char name[128];

		peer_init(&a, f.path, THREADS);
		peer_init(&b, f.path, THREADS);
		ask_load(&a, 1, m->path, 512);
		ask_load(&b, 1, m->path, 512);
		cJSON_Delete(expect(&a, "loaded"));
		cJSON_Delete(expect(&b, "loaded"));
		one = text_by(&a, 1, 10);
		two = text_by(&b, 1, 10);
		assert_string_equal(one, two);
		free(one);
		free(two);
		wait_for_pack(&f, 1);
		peer_fini(&a);
		peer_fini(&b);
		assert_int_equal(files_in(&f, ".pack", name), 1);
		assert_int_equal(files_in(&f, ".tmp", NULL), 0);
		if (i % 2)
			unlink(name);
	}
	folder_fini(&f);
	tiny_free(m);
}

static void
text_of_the_real_model_is_the_same_converted_from_a_pack_file_and_parked(void **state)
{
	UNUSED(state);
	check_ways(real_model(), 24, ".");
}

static void without_a_folder_to_write_the_weights_stay_in_memory(void **state)
{
	struct tiny *m = tiny_new(NULL);
	struct peer p;

	UNUSED(state);
	log_set_level(LOG_LV_ERROR);
	peer_init(&p, "/proc/nowhere", THREADS);
	load(&p, 1, m->path, "converted");
	order(&p, "park", 1, "parked");
	load(&p, 1, m->path, "parked");
	order(&p, "unload", 1, "unloaded");
	peer_fini(&p);
	tiny_free(m);
}

static void an_answer_beside_loads_says_the_same_as_alone(void **state)
{
	struct tiny *m = tiny_new(NULL), *others[4];
	const char *real = getenv("HOB_TEST_MODEL");
	char *alone, *beside;
	struct folder f;
	struct peer p;

	UNUSED(state);
	folder_init(&f);
	peer_init(&p, f.path, THREADS);
	load(&p, 1, m->path, "converted");
	alone = text_by(&p, 1, 400);
	ask_text(&p, 1, 1, 400);
	for (int i = 0; i < 4; i++) {
		others[i] = tiny_new(&(struct tiny_faults){.context = 300 + i});
		ask_load(&p, 10 + i, others[i]->path, 64);
	}
	if (real)
		ask_load(&p, 20, real, 64);
	beside = take_text(&p, 1);
	assert_string_equal(alone, beside);
	peer_fini(&p);
	free(alone);
	free(beside);
	for (int i = 0; i < 4; i++)
		tiny_free(others[i]);
	tiny_free(m);
	folder_fini(&f);
}

/* --- nothing is left behind --------------------------------------------------------------------- */

struct footprint {
	int fds, threads, mappings; /* mappings: of files of ours */
};

static int entries(const char *dir)
{
	DIR *list = opendir(dir);
	int n = 0;

	while (readdir(list))
		n++;
	closedir(list);
	return n;
}

static struct footprint footprint(void)
{
	struct footprint f = {.fds = entries("/proc/self/fd"),
			      .threads = entries("/proc/self/task")};
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];

	while (fgets(line, sizeof(line), maps))
		f.mappings += strstr(line, "tiny-") || strstr(line, ".pack") ||
			      strstr(line, ".tmp-");
	fclose(maps);
	return f;
}

enum want {
	W_NONE,
	W_PROBING,
	W_PROBED,
	W_LOADING,
	W_LOADED,
	W_PARKING,
	W_PARKED,
	W_UNLOADING
};

struct live {
	int id, file;
	enum want state;
};

struct dance {
	struct peer p;
	struct live live[RANDOM_LIVE];
	int next_id, next_job, answers[W_UNLOADING + 1];
	uint32_t seed;
};

static void one_order(struct dance *d, struct tiny **files)
{
	struct live *l = &d->live[tiny_random(&d->seed) % RANDOM_LIVE];
	uint32_t dice = tiny_random(&d->seed) % 4;
	const char *path;

	if (l->state == W_NONE) {
		*l = (struct live){.id = d->next_id++,
				   .file = (int)(tiny_random(&d->seed) % RANDOM_FILES)};
		l->state = dice ? W_LOADING : W_PROBING;
	} else if (dice == 0 && l->state != W_UNLOADING) {
		l->state = W_UNLOADING;
		say(&d->p, "{\"op\":\"unload\",\"model\":%d}", l->id);
		return;
	} else if (l->state == W_PROBED || l->state == W_PARKED) {
		l->state = W_LOADING;
	} else if (l->state == W_LOADED && dice == 1) {
		ask_text(&d->p, l->id, d->next_job++, 3);
		return;
	} else if (l->state == W_LOADED) {
		l->state = W_PARKING;
		say(&d->p, "{\"op\":\"park\",\"model\":%d}", l->id);
		return;
	} else {
		return; /* it has an answer to wait for */
	}
	path = files[l->file]->path;
	say(&d->p, "{\"op\":\"%s\",\"model\":%d,\"path\":\"%s\",\"ctx\":64,\"slots\":1}",
	    l->state == W_LOADING ? "load" : "probe", l->id, path);
}

static struct live *find_live(struct dance *d, int id)
{
	for (int i = 0; i < RANDOM_LIVE; i++)
		if (d->live[i].id == id && d->live[i].state != W_NONE)
			return &d->live[i];
	fail_msg("an event of model %d, which was unloaded", id);
	return NULL;
}

/* What a state may hear; the answer to something that an unload overtook is allowed until `unloaded`. */
static void one_event(struct dance *d, const cJSON *line)
{
	static const struct {
		const char *ev;
		enum want from, to;
	} table[] = {
		{"probed", W_PROBING, W_PROBED},
		{"loaded", W_LOADING, W_LOADED},
		{"parked", W_PARKING, W_PARKED},
		{"unloaded", W_UNLOADING, W_NONE},
	};
	struct live *l;

	if (!cJSON_GetObjectItem(line, "model"))
		return; /* of jobs, and pongs */
	l = find_live(d, (int)number_of(line, "model"));
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (is_event(line, table[i].ev)) {
			if (l->state == W_UNLOADING && table[i].to != W_NONE)
				return;
			assert_int_equal(l->state, table[i].from);
			d->answers[table[i].to]++;
			l->state = table[i].to;
			return;
		}
	assert_true(is_event(line, "loading"));
}

static void listen_until_pong(struct dance *d)
{
	bool pong = false;

	say(&d->p, "{\"op\":\"ping\"}");
	while (!pong) {
		cJSON *line = hear(&d->p);

		assert_non_null(line);
		pong = is_event(line, "pong");
		one_event(d, line);
		cJSON_Delete(line);
	}
}

/* Now and then everything comes to rest, or nothing would ever get far. */
static void listen_until_rest(struct dance *d)
{
	for (int i = 0; i < RANDOM_LIVE; i++)
		while (d->live[i].state == W_PROBING || d->live[i].state == W_LOADING ||
		       d->live[i].state == W_PARKING) {
			cJSON *line = hear(&d->p);

			assert_non_null(line);
			one_event(d, line);
			cJSON_Delete(line);
		}
}

static bool all_gone(struct dance *d)
{
	bool gone = true;

	for (int i = 0; i < RANDOM_LIVE; i++) {
		struct live *l = &d->live[i];

		if (l->state != W_NONE && l->state != W_UNLOADING) {
			say(&d->p, "{\"op\":\"unload\",\"model\":%d}", l->id);
			l->state = W_UNLOADING;
		}
		gone = gone && l->state == W_NONE;
	}
	return gone;
}

/* The pack file of the last load may still be under way when its model has gone. */
static void wait_for_footprint(struct footprint want)
{
	struct footprint now = footprint();

	for (int i = 0; i < 3000 && memcmp(&now, &want, sizeof(now)) != 0; i++) {
		usleep(10000);
		now = footprint();
	}
	assert_int_equal(now.mappings, want.mappings);
	assert_int_equal(now.fds, want.fds);
	assert_int_equal(now.threads, want.threads);
}

static void random_orders_leave_nothing_behind(void **state)
{
	struct dance d = {.next_id = 1, .next_job = 1, .seed = 20261};
	struct tiny *files[RANDOM_FILES];
	struct footprint before;
	struct folder f;

	UNUSED(state);
	log_set_level(LOG_LV_ERROR);
	folder_init(&f);
	for (int i = 0; i < RANDOM_FILES; i++)
		files[i] = tiny_new(&(struct tiny_faults){.context = 200 + i});
	peer_init(&d.p, f.path, THREADS);
	before = footprint();
	for (int i = 0; i < RANDOM_OPS; i++) {
		one_order(&d, files);
		if (tiny_random(&d.seed) % 3 == 0)
			listen_until_pong(&d);
		if (tiny_random(&d.seed) % 6 == 0)
			listen_until_rest(&d);
	}
	while (!all_gone(&d))
		listen_until_pong(&d);
	wait_for_footprint(before);
	for (int w = W_PROBED; w <= W_PARKED; w++)
		if (w == W_PROBED || w == W_LOADED || w == W_PARKED)
			assert_true(d.answers[w] > 10);
	peer_fini(&d.p);
	for (int i = 0; i < RANDOM_FILES; i++)
		tiny_free(files[i]);
	folder_fini(&f);
}

/* The router goes while loads are under way: the engine waits for its threads and leaves no temporary file. */
static void the_end_in_the_middle_of_loads_is_clean(void **state)
{
	struct tiny *m = tiny_new(NULL);
	const char *real = getenv("HOB_TEST_MODEL");
	struct footprint before = footprint();
	struct folder f;

	UNUSED(state);
	folder_init(&f);
	for (int i = 0; i < 5; i++) {
		struct peer p;

		peer_init(&p, f.path, THREADS);
		ask_load(&p, 1, m->path, 64);
		if (real)
			ask_load(&p, 2, real, 64);
		usleep((useconds_t)i * 20000);
		peer_fini(&p);
		assert_int_equal(files_in(&f, ".tmp", NULL), 0);
	}
	wait_for_footprint(before);
	folder_fini(&f);
	tiny_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_probe_knows_the_sizes_that_the_load_has),
		cmocka_unit_test(two_ids_of_one_file_share_its_weights),
		cmocka_unit_test(a_load_that_two_ids_wait_for_is_done_once),
		cmocka_unit_test(unload_of_a_load_cancels_it_and_it_can_be_loaded_again),
		cmocka_unit_test(a_parked_model_comes_back_at_once_with_the_same_text),
		cmocka_unit_test(text_is_the_same_converted_from_a_pack_file_and_parked),
		cmocka_unit_test(
			text_of_the_real_model_is_the_same_converted_from_a_pack_file_and_parked),
		cmocka_unit_test(without_a_folder_to_write_the_weights_stay_in_memory),
		cmocka_unit_test(text_is_the_same_where_pack_files_are_read_not_mapped),
		cmocka_unit_test(a_budget_that_is_too_small_costs_the_file_only),
		cmocka_unit_test(two_engines_may_share_a_folder),
		cmocka_unit_test(an_answer_beside_loads_says_the_same_as_alone),
		cmocka_unit_test(random_orders_leave_nothing_behind),
		cmocka_unit_test(the_end_in_the_middle_of_loads_is_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
