/* The HTTP client and ask() against a child process that answers with canned bytes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/ask.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/interrupt.h"

/* A listener in a folder of its own; answer() forks the child that serves one connection.
 */
struct fixture {
	char *dir, *path; /* owned */
	int listener;
	pid_t child;
};

static int setup(void **state)
{
	const char *tmp = getenv("TMPDIR");
	struct fixture *f = xcalloc(1, sizeof *f);
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	f->dir = xasprintf("%s/hob-client-XXXXXX", tmp ? tmp : P_tmpdir);
	if (!mkdtemp(f->dir))
		return -1;
	f->path = xasprintf("%s/s", f->dir);
	snprintf(sa.sun_path, sizeof sa.sun_path, "%s", f->path);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(f->listener, (struct sockaddr *)&sa, sizeof sa) ||
	    listen(f->listener, 4))
		return -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->child > 0) {
		kill(f->child, SIGKILL);
		waitpid(f->child, NULL, 0);
	}
	close(f->listener);
	unlink(f->path);
	rmdir(f->dir);
	free(f->path);
	free(f->dir);
	free(f);
	interrupt_clear();
	return 0;
}

/* Answers one request with `bytes`, then closes, or keeps silent until it is killed. */
static void answer(struct fixture *f, const char *bytes, bool then_close)
{
	char request[65536];
	int fd;

	f->child = fork();
	if (f->child)
		return;
	fd = accept(f->listener, NULL, NULL);
	if (read(fd, request, sizeof request) < 1 ||
	    write(fd, bytes, strlen(bytes)) != (ssize_t)strlen(bytes))
		_exit(1);
	if (!then_close)
		pause();
	close(fd);
	_exit(0);
}

static int get(struct fixture *f, int timeout_ms, struct client_reply *reply,
	       struct err *e)
{
	struct client_request r = {
		.method = "GET", .path = "/x", .total_timeout_ms = timeout_ms};
	struct client *c = client_new(f->path);
	int rc = client_do(c, &r, reply, e);

	client_free(c);
	return rc;
}

static void a_reply_comes_whole_with_status_and_headers(void **state)
{
	struct client_reply reply;
	struct err e = {0};

	answer(*state,
	       "HTTP/1.1 404 Not Found\r\nX-Hob-Conversation: abc \r\ncontent-length: "
	       "5\r\n"
	       "\r\nhello",
	       true);
	assert_int_equal(get(*state, 5000, &reply, &e), 0);
	assert_int_equal(reply.status, 404);
	assert_string_equal(reply.conversation, "abc");
	assert_string_equal(reply.body.data, "hello");
	client_reply_fini(&reply);
}

static void nobody_listening_is_unavailable(void **state)
{
	struct fixture *f = *state;
	struct client_reply reply;
	struct err e = {0};

	close(f->listener);
	f->listener = -1;
	assert_int_equal(get(f, 5000, &reply, &e), -1);
	assert_int_equal(e.code, ERR_UNAVAILABLE);
	client_reply_fini(&reply);
	assert_int_equal(client_probe(f->path, NULL, &e), -1);
	assert_int_equal(e.code, ERR_UNAVAILABLE);
}

static void a_probe_tells_who_listens(void **state)
{
	struct fixture *f = *state;
	struct err e = {0};
	pid_t pid = 0;

	assert_int_equal(client_probe(f->path, &pid, &e), 0);
	assert_int_equal(pid, getpid());
}

static void a_path_that_is_too_long_is_refused_by_name(void **state)
{
	char path[200];
	struct err e = {0};

	UNUSED(state);
	memset(path, 'x', sizeof path - 1);
	path[sizeof path - 1] = '\0';
	assert_int_equal(client_probe(path, NULL, &e), -1);
	assert_int_equal(e.code, ERR_INVALID);
}

static void a_silent_daemon_meets_the_deadline(void **state)
{
	uint64_t start = clock_mono_ms();
	struct client_reply reply;
	struct err e = {0};

	answer(*state, "HTTP/1.1 200 OK\r\n", false);
	assert_int_equal(get(*state, 200, &reply, &e), -1);
	assert_int_equal(e.code, ERR_TIMEOUT);
	assert_true(clock_mono_ms() - start < 3000);
	client_reply_fini(&reply);
}

static void ctrl_c_ends_a_wait_at_once(void **state)
{
	uint64_t start = clock_mono_ms();
	struct client_reply reply;
	struct err e = {0};
	pid_t killer;

	answer(*state, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhal", false);
	interrupt_enable();
	killer = fork();
	if (!killer) {
		usleep(100000);
		kill(getppid(), SIGINT);
		_exit(0);
	}
	assert_int_equal(get(*state, 10000, &reply, &e), -1);
	assert_int_equal(e.code, ERR_CANCELLED);
	assert_true(interrupt_pending());
	assert_true(clock_mono_ms() - start < 3000);
	client_reply_fini(&reply);
	waitpid(killer, NULL, 0);
}

/* -- ask() -- */

struct heard {
	struct buf text, thought;
	int stop_after; /* calls; 0 = never */
};

static bool hear(void *arg, const char *p, size_t n, bool is_reasoning)
{
	struct heard *h = arg;

	buf_add(is_reasoning ? &h->thought : &h->text, p, n);
	return !h->stop_after || --h->stop_after;
}

static int ask_once(struct fixture *f, struct heard *h, struct ask_answer *answer_out,
		    struct err *e)
{
	struct ask_message m = {.role = "user", .text = (char *)"hi \"you\""};
	struct ask a = {.messages = &m,
			.nmessages = 1,
			.temperature = -1,
			.seed = -1,
			.conversation = "new"};
	struct client *c = client_new(f->path);
	int rc = ask(c, &a, hear, h, answer_out, e);

	client_free(c);
	return rc;
}

#define HEAD                                                                         \
	"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-hob-conversation: " \
	"c7\r\n\r\n"
#define DELTA(json)                                         \
	"data: {\"choices\":[{\"index\":0,\"delta\":{" json \
	"},\"finish_reason\":null}]}\n\n"
#define STOP     \
	"data: " \
	"{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
#define LAST                                                                             \
	"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}," \
	"\"hob\":{\"provider\":\"local\",\"model\":\"m\",\"prompt_tokens\":9,"           \
	"\"completion_tokens\":4,\"decode_ms\":20,\"kept\":3,\"dropped\":2}}\n\n"

static void an_answer_is_put_together_from_its_chunks(void **state)
{
	struct heard h = {0};
	struct ask_answer a;
	struct err e = {0};
	char *speed;

	answer(*state,
	       HEAD ": ping\n\n" DELTA("\"reasoning_content\":\"hm\"")
		       DELTA("\"content\":\"Pa\"") DELTA("\"content\":\"ris\"") STOP LAST
	       "data: [DONE]\n\n",
	       true);
	assert_int_equal(ask_once(*state, &h, &a, &e), 0);
	assert_string_equal(h.text.data, "Paris");
	assert_string_equal(h.thought.data, "hm");
	assert_string_equal(a.text.data, "Paris");
	assert_string_equal(a.finish, "stop");
	assert_string_equal(a.conversation, "c7");
	assert_string_equal(a.provider, "local");
	assert_int_equal(a.prompt_tokens, 9);
	assert_int_equal(a.dropped, 2);
	speed = ask_answer_speed(&a);
	assert_string_equal(speed, "4 tokens, 200.0 tokens/s");
	free(speed);
	ask_answer_fini(&a);
	buf_free(&h.text);
	buf_free(&h.thought);
}

static void check_failure(struct fixture *f, const char *bytes, enum err_code code,
			  const char *text, int status)
{
	struct heard h = {0};
	struct ask_answer a;
	struct err e = {0};

	answer(f, bytes, true);
	assert_int_equal(ask_once(f, &h, &a, &e), -1);
	assert_int_equal(e.code, code);
	assert_non_null(strstr(e.text, text));
	assert_int_equal(ask_exit_status(&e), status);
	ask_answer_fini(&a);
	buf_free(&h.text);
}

static void an_error_inside_the_stream_fails_the_answer(void **state)
{
	check_failure(
		*state,
		HEAD DELTA(
			"\"content\":\"half\"") "data: {\"error\":{\"message\":\"engine "
						"died\",\"code\":\"unavailable\"}}\n\n",
		ERR_UNAVAILABLE, "engine died", CLI_FAIL);
}

static void a_stream_that_just_ends_fails_the_answer(void **state)
{
	check_failure(*state, HEAD DELTA("\"content\":\"half\""), ERR_IO, "cut off",
		      CLI_FAIL);
}

static void an_unknown_model_has_its_own_exit_status(void **state)
{
	check_failure(
		*state,
		"HTTP/1.1 404 Not Found\r\n\r\n{\"error\":{\"message\":\"no model 'x'\","
		"\"code\":\"model_not_found\"}}",
		ERR_MODEL, "no model 'x'", CLI_NO_MODEL);
}

static void a_reply_that_is_no_json_fails_the_answer(void **state)
{
	check_failure(*state, HEAD "data: {oops\n\n", ERR_INTERNAL, "no JSON", CLI_FAIL);
}

static void an_error_page_that_is_no_json_still_names_its_status(void **state)
{
	check_failure(*state, "HTTP/1.1 502 Bad\r\n\r\n<html>", ERR_INTERNAL, "502",
		      CLI_FAIL);
}

static void a_reader_that_is_gone_stops_the_answer(void **state)
{
	struct heard h = {.stop_after = 1};
	struct ask_answer a;
	struct err e = {0};

	answer(*state, HEAD DELTA("\"content\":\"a\"") DELTA("\"content\":\"b\""), false);
	assert_int_equal(ask_once(*state, &h, &a, &e), -1);
	assert_int_equal(e.code, ERR_IO);
	assert_string_equal(h.text.data, "a");
	ask_answer_fini(&a);
	buf_free(&h.text);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_reply_comes_whole_with_status_and_headers),
		T(nobody_listening_is_unavailable),
		T(a_probe_tells_who_listens),
		T(a_path_that_is_too_long_is_refused_by_name),
		T(a_silent_daemon_meets_the_deadline),
		T(ctrl_c_ends_a_wait_at_once),
		T(an_answer_is_put_together_from_its_chunks),
		T(an_error_inside_the_stream_fails_the_answer),
		T(a_stream_that_just_ends_fails_the_answer),
		T(an_unknown_model_has_its_own_exit_status),
		T(a_reply_that_is_no_json_fails_the_answer),
		T(an_error_page_that_is_no_json_still_names_its_status),
		T(a_reader_that_is_gone_stops_the_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
