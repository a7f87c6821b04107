/* Keys: where they are found, whom they are shown to, and that no text keeps them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "providers/key.h"

#define URL    "https://api.example.org/v1"
#define SECRET "sk-test-0123456789abcdef"

struct waiter {
	struct key_wait wait;
	int told;
	struct err e;
};

static void on_ready(struct key_wait *w, const struct err *e)
{
	struct waiter *me = CONTAINER_OF(w, struct waiter, wait);

	me->told++;
	me->e = e ? *e : (struct err){0};
}

static void on_closed(void *arg)
{
	*(bool *)arg = true;
}

struct world {
	uv_loop_t loop;
	struct key *key;
	struct waiter w;
	char *url;
	struct names urls;
};

static void begin(struct world *t, struct key_from from)
{
	struct err e = {0};

	*t = (struct world){.url = (char *)URL, .w.wait.ready = on_ready};
	t->urls = (struct names){&t->url, 1};
	from.urls = &t->urls;
	from.who = "provider 'x'";
	assert_int_equal(uv_loop_init(&t->loop), 0);
	t->key = key_new(&t->loop, &from, &e);
	assert_non_null(t->key);
}

static void end(struct world *t)
{
	bool closed = false;

	key_close(t->key, on_closed, &closed);
	uv_run(&t->loop, UV_RUN_DEFAULT);
	assert_true(closed);
	assert_int_equal(uv_loop_close(&t->loop), 0);
}

static void assert_header(struct world *t, const char *want)
{
	struct buf b = {0};
	struct err e = {0};

	assert_int_equal(key_header(t->key, URL "/chat", "K: ", &b, &e), 0);
	assert_string_equal(b.len ? b.data : "", want);
	key_wipe(&b);
}

static char *file_with(const char *text, mode_t mode)
{
	static char path[] = "/tmp/hob-key-XXXXXX";
	int fd;

	memcpy(path + sizeof path - 7, "XXXXXX", 6);
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	fchmod(fd, mode);
	close(fd);
	return path;
}

static void without_any_source_no_key_is_needed(void **state)
{
	struct world t;
	struct err e;

	UNUSED(state);
	begin(&t, (struct key_from){0});
	assert_true(key_is_there(t.key));
	assert_int_equal(key_want(t.key, &t.w.wait, &e), 0);
	assert_header(&t, "");
	assert_null(key_source(t.key));
	end(&t);
}

static void
the_environment_is_read_when_it_is_needed_and_again_while_it_is_empty(void **state)
{
	struct world t;
	struct err e;

	UNUSED(state);
	unsetenv("TEST_HOB_KEY");
	begin(&t, (struct key_from){.env = "TEST_HOB_KEY"});
	assert_false(key_is_there(t.key));
	assert_int_equal(key_want(t.key, &t.w.wait, &e), -1);
	assert_int_equal(e.code, ERR_UNAUTHORIZED);
	assert_non_null(strstr(e.text, "TEST_HOB_KEY"));
	setenv("TEST_HOB_KEY", SECRET " \n", 1);
	assert_true(key_is_there(t.key));
	assert_int_equal(key_want(t.key, &t.w.wait, &e), 0);
	assert_header(&t, "K: " SECRET);
	assert_string_equal(key_source(t.key), "$TEST_HOB_KEY");
	unsetenv("TEST_HOB_KEY");
	end(&t);
}

static void a_refused_key_is_looked_up_again_and_only_another_one_counts(void **state)
{
	struct world t;
	struct err e;
	unsigned first;

	UNUSED(state);
	setenv("TEST_HOB_KEY", SECRET, 1);
	begin(&t, (struct key_from){.env = "TEST_HOB_KEY"});
	assert_int_equal(key_want(t.key, &t.w.wait, &e), 0);
	first = key_generation(t.key);
	setenv("TEST_HOB_KEY", "sk-other-one", 1);
	assert_int_equal(key_want(t.key, &t.w.wait, &e), 0);
	assert_int_equal(key_generation(t.key), first); /* nobody complained */
	key_refused(t.key, first);
	assert_int_equal(key_want(t.key, &t.w.wait, &e), 0);
	assert_int_not_equal(key_generation(t.key), first);
	assert_header(&t, "K: sk-other-one");
	key_refused(t.key, first); /* a late answer to the old one */
	setenv("TEST_HOB_KEY", "sk-third", 1);
	assert_int_equal(key_want(t.key, &t.w.wait, &e), 0);
	assert_header(&t, "K: sk-other-one");
	unsetenv("TEST_HOB_KEY");
	end(&t);
}

static void a_key_of_odd_characters_is_refused_and_not_repeated(void **state)
{
	struct world t;
	struct err e;

	UNUSED(state);
	setenv("TEST_HOB_KEY",
	       "sk-a\x01"
	       "b: x",
	       1);
	begin(&t, (struct key_from){.env = "TEST_HOB_KEY"});
	assert_int_equal(key_want(t.key, &t.w.wait, &e), -1);
	assert_null(strstr(e.text, "sk-a"));
	unsetenv("TEST_HOB_KEY");
	end(&t);
}

static void a_file_must_be_ours_alone(void **state)
{
	char *path = file_with(SECRET "\nsecond line\n", 0644);
	struct world t;
	struct err e;

	UNUSED(state);
	begin(&t, (struct key_from){.file = path});
	assert_int_equal(key_want(t.key, &t.w.wait, &e), -1);
	assert_non_null(strstr(e.text, "chmod 600"));
	chmod(path, 0600);
	assert_int_equal(key_want(t.key, &t.w.wait, &e), 0);
	assert_header(&t, "K: " SECRET);
	unlink(path);
	end(&t);
}

static void it_is_shown_to_its_own_scheme_host_and_port_only(void **state)
{
	static const char *const foreign[] = {
		"http://api.example.org/v1",
		"https://api.example.org:8443/v1",
		"https://api.example.org.evil/v1",
		"https://api.example.org@evil/v1",
		"https://evil/api.example.org",
		"https://example.org/v1",
		"nonsense",
	};
	static const char *const own[] = {"https://api.example.org/anything",
					  "https://API.example.org:443/v1"};
	struct world t;
	struct err e;

	UNUSED(state);
	setenv("TEST_HOB_KEY", SECRET, 1);
	begin(&t, (struct key_from){.env = "TEST_HOB_KEY"});
	assert_int_equal(key_want(t.key, &t.w.wait, &e), 0);
	for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
		struct buf b = {0};

		if (key_header(t.key, foreign[i], "K: ", &b, &e) == 0 || b.len)
			fail_msg("shown to %s", foreign[i]);
		assert_int_equal(e.code, ERR_FORBIDDEN);
		key_wipe(&b);
	}
	for (size_t i = 0; i < ARRAY_LEN(own); i++) {
		struct buf b = {0};

		assert_int_equal(key_header(t.key, own[i], "K: ", &b, &e), 0);
		assert_string_equal(b.data, "K: " SECRET);
		key_wipe(&b);
	}
	unsetenv("TEST_HOB_KEY");
	end(&t);
}

static void texts_lose_it(void **state)
{
	static const struct {
		const char *text, *clean;
	} cases[] = {
		{"Bad key: " SECRET "!", "Bad key: ************************!"},
		{SECRET SECRET, "************************************************"},
		{"cut sk-test-0123", "cut ************"},
		{"nothing here", "nothing here"},
		{"ends sk-", "ends sk-"}, /* says nothing yet */
		{"", ""},
	};
	struct world t;
	struct err e;

	UNUSED(state);
	setenv("TEST_HOB_KEY", SECRET, 1);
	begin(&t, (struct key_from){.env = "TEST_HOB_KEY"});
	assert_int_equal(key_want(t.key, &t.w.wait, &e), 0);
	setenv("TEST_HOB_KEY", "sk-new-one-of-them", 1);
	key_refused(t.key, key_generation(t.key));
	assert_int_equal(key_want(t.key, &t.w.wait, &e), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) { /* of the one before, too */
		char text[200];

		snprintf(text, sizeof text, "%s", cases[i].text);
		key_redact(t.key, text);
		assert_string_equal(text, cases[i].clean);
	}
	unsetenv("TEST_HOB_KEY");
	end(&t);
}

/* ---- commands ---- */

static void ask_command(struct world *t, const char *command)
{
	struct err e = {0};

	begin(t, (struct key_from){.command = command});
	assert_int_equal(key_want(t->key, &t->w.wait, &e), 1);
	assert_int_equal(t->w.told, 0);
	uv_run(&t->loop, UV_RUN_DEFAULT);
	assert_int_equal(t->w.told, 1);
}

static void a_command_prints_the_key(void **state)
{
	struct world t;
	struct err e;

	UNUSED(state);
	ask_command(&t, "printf 'sk-from-%s\\nmore\\n' command");
	assert_int_equal(t.w.e.code, ERR_NONE);
	assert_header(&t, "K: sk-from-command");
	assert_int_equal(key_want(t.key, &t.w.wait, &e), 0); /* it is not run again */
	end(&t);
}

static void a_command_sees_no_other_secret(void **state)
{
	struct world t;

	UNUSED(state);
	setenv("OTHER_API_KEY", SECRET, 1);
	ask_command(&t, "echo \"a${OTHER_API_KEY}b${HOME:+home}\"");
	assert_int_equal(t.w.e.code, ERR_NONE);
	assert_header(&t, getenv("HOME") ? "K: abhome" : "K: ab");
	unsetenv("OTHER_API_KEY");
	end(&t);
}

static void a_command_that_fails_says_so_and_not_what_it_printed(void **state)
{
	static const struct {
		const char *command, *says;
	} cases[] = {
		{"echo " SECRET "; echo " SECRET " >&2; exit 3", "exit status 3"},
		{"kill -9 $$", "signal 9"},
		{"true", "empty"},
		{"/nonexistent/program", "exit status 127"},
		{"yes " SECRET, "over"},
	};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct world t;
		struct err e = {0};

		ask_command(&t, cases[i].command);
		assert_int_equal(t.w.e.code, ERR_UNAUTHORIZED);
		if (!strstr(t.w.e.text, cases[i].says))
			fail_msg("%s: %s", cases[i].command, t.w.e.text);
		assert_null(strstr(t.w.e.text, SECRET));
		assert_int_equal(key_want(t.key, &t.w.wait, &e), -1); /* it rests */
		assert_string_equal(e.text, t.w.e.text);
		end(&t);
	}
}

static void who_leaves_is_not_told_and_closing_kills_the_command(void **state)
{
	struct world t;
	struct err e;

	UNUSED(state);
	begin(&t, (struct key_from){.command = "sleep 1000"});
	assert_int_equal(key_want(t.key, &t.w.wait, &e), 1);
	key_unwait(&t.w.wait);
	uv_run(&t.loop, UV_RUN_NOWAIT);
	end(&t); /* would last 1000 s */
	assert_int_equal(t.w.told, 0);
}

static void many_wait_for_one_command(void **state)
{
	char *path = file_with("", 0600),
	     *command = xasprintf("echo x >> %s; echo k", path);
	struct waiter more = {.wait.ready = on_ready};
	struct world t;
	struct stat st;
	struct err e;

	UNUSED(state);
	begin(&t, (struct key_from){.command = command});
	assert_int_equal(key_want(t.key, &t.w.wait, &e), 1);
	assert_int_equal(key_want(t.key, &more.wait, &e), 1);
	uv_run(&t.loop, UV_RUN_DEFAULT);
	assert_int_equal(t.w.told + more.told, 2);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 2); /* once */
	unlink(path);
	free(command);
	end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_any_source_no_key_is_needed),
		cmocka_unit_test(
			the_environment_is_read_when_it_is_needed_and_again_while_it_is_empty),
		cmocka_unit_test(
			a_refused_key_is_looked_up_again_and_only_another_one_counts),
		cmocka_unit_test(a_key_of_odd_characters_is_refused_and_not_repeated),
		cmocka_unit_test(a_file_must_be_ours_alone),
		cmocka_unit_test(it_is_shown_to_its_own_scheme_host_and_port_only),
		cmocka_unit_test(texts_lose_it),
		cmocka_unit_test(a_command_prints_the_key),
		cmocka_unit_test(a_command_sees_no_other_secret),
		cmocka_unit_test(a_command_that_fails_says_so_and_not_what_it_printed),
		cmocka_unit_test(who_leaves_is_not_told_and_closing_kills_the_command),
		cmocka_unit_test(many_wait_for_one_command),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
