/* A llama-server without a model, as stubborn as the file's name says.  The test program
 * starts itself: `argv[0] -m FILE --host SOCKET ... --api-key-file FILE`.
 *
 * FILE's last component holds words: "push" tells its state on standard output, and its
 * /health never says yes; without it /health says yes at the fourth question.  "deaf" ignores
 * SIGTERM and the end of its input; "dies" says why and exits with 1; "never" is never ready;
 * "flood" writes to standard error without end; "brood" has a child in its group that ignores
 * SIGTERM; "holder" leaves one behind, in a session of its own, that holds the pipes.
 * Processes other than itself write their number to FILE.pid.
 *
 * Last message: "body", "argv", "env": the answer is that; "slow": two words and then
 * silence, and when the connection is closed FILE.closed is there; "die": two words, then
 * SIGKILL; "flooded": how many bytes it flooded.  Anything else is echoed. */
#ifndef HOB_FAKE_LLAMA_SERVER_H
#define HOB_FAKE_LLAMA_SERVER_H

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/json.h"

struct fake_llama {
	int argc;
	char **argv;
	const char *file, *socket_path, *key_file;
	char key[100];
	atomic_int healths;
	atomic_llong flooded;
};

static bool fake_is(const struct fake_llama *f, const char *word)
{
	const char *slash = strrchr(f->file, '/');

	return strstr(slash ? slash : f->file, word) != NULL;
}

static void fake_mark(const struct fake_llama *f, const char *suffix)
{
	char *path = xasprintf("%s.%s", f->file, suffix);
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);

	dprintf(fd, "%d\n", (int)getpid());
	close(fd);
	free(path);
}

static bool fake_send(int fd, const char *text)
{
	size_t n = strlen(text);

	return send(fd, text, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static void fake_reply(int fd, int status, const char *json)
{
	char *text = xasprintf("HTTP/1.1 %d X\r\nContent-Type: application/json\r\n"
			       "Connection: close\r\nContent-Length: %zu\r\n\r\n%s",
			       status, strlen(json), json);

	fake_send(fd, text);
	free(text);
}

static void fake_word(int fd, const char *text)
{
	struct buf b = {0};

	buf_adds(&b, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":");
	buf_add_json(&b, text, strlen(text));
	buf_adds(&b, "},\"finish_reason\":null}]}\n\n");
	fake_send(fd, b.data);
	buf_free(&b);
}

static char *fake_joined(char **words)
{
	struct buf b = {0};

	for (; *words; words++)
		buf_addf(&b, "%s\n", *words);
	return buf_take(&b, NULL);
}

static void fake_chat(struct fake_llama *f, int fd, const char *body)
{
	cJSON *tree = cJSON_Parse(body);
	const cJSON *messages = cJSON_GetObjectItemCaseSensitive(tree, "messages");
	const cJSON *last =
		cJSON_GetArrayItem(messages, cJSON_GetArraySize(messages) - 1);
	const char *text =
		cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(last, "content"));
	struct pollfd gone = {.fd = fd, .events = POLLIN};
	char *answer = NULL;

	text = text ? text : "no text";
	fake_send(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
		      "Connection: close\r\n\r\n");
	if (!strcmp(text, "slow") || !strcmp(text, "die")) {
		fake_word(fd, "two ");
		fake_word(fd, "words");
		if (!strcmp(text, "die"))
			kill(getpid(), SIGKILL);
		poll(&gone, 1, -1);
		fake_mark(f, "closed");
		cJSON_Delete(tree);
		return;
	}
	if (!strcmp(text, "body"))
		answer = xstrdup(body);
	else if (!strcmp(text, "argv"))
		answer = fake_joined(f->argv);
	else if (!strcmp(text, "env"))
		answer = fake_joined(environ);
	else if (!strcmp(text, "flooded"))
		answer = xasprintf("%lld", atomic_load(&f->flooded));
	fake_send(fd, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":null}}],"
		      "\"prompt_progress\":{\"total\":40,\"cache\":0,\"processed\":20,"
		      "\"time_ms\":5}}\n\n");
	fake_word(fd, answer ? answer : text);
	fake_send(
		fd,
		"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":"
		"\"length\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":40,"
		"\"completion_tokens\":3,\"prompt_tokens_details\":{\"cached_tokens\":7}},"
		"\"timings\":{\"prompt_ms\":12.5,\"predicted_ms\":2.25}}\n\n"
		"data: [DONE]\n\n");
	free(answer);
	cJSON_Delete(tree);
}

/* One request; the connection closes behind it. */
static void fake_request(struct fake_llama *f, int fd)
{
	struct buf in = {0};
	char chunk[4096], bearer[150];
	const char *end = NULL, *length;
	size_t want = 0;
	ssize_t n;

	while ((!end || in.len < want) && (n = read(fd, chunk, sizeof chunk)) > 0) {
		buf_add(&in, chunk, (size_t)n);
		if (end || !(end = strstr(in.data, "\r\n\r\n")))
			continue;
		length = strcasestr(in.data, "content-length: ");
		want = (size_t)(end + 4 - in.data) +
		       (length && length < end ? strtoul(length + 16, NULL, 10) : 0);
	}
	snprintf(bearer, sizeof bearer, "Authorization: Bearer %s\r\n", f->key);
	if (!end) {
		buf_free(&in);
		return;
	}
	end = strstr(in.data, "\r\n\r\n"); /* the buffer may have moved */
	if (str_starts(buf_str(&in), "GET /health "))
		fake_reply(fd,
			   fake_is(f, "push") || fake_is(f, "never") ||
					   atomic_fetch_add(&f->healths, 1) < 3
				   ? 503
				   : 200,
			   "{}");
	else if (!strstr(in.data, bearer))
		fake_reply(fd, 401, "{\"error\":{\"message\":\"Invalid API Key\"}}");
	else if (str_starts(buf_str(&in), "GET /v1/models "))
		fake_reply(fd, 200,
			   "{\"data\":[{\"id\":\"x\",\"meta\":{\"n_ctx\":777,"
			   "\"n_ctx_train\":8888}}]}");
	else
		fake_chat(f, fd, end + 4);
	buf_free(&in);
}

struct fake_connection {
	struct fake_llama *f;
	int fd;
};

static void *fake_connected(void *arg)
{
	struct fake_connection *c = arg;

	fake_request(c->f, c->fd);
	close(c->fd);
	free(c);
	return NULL;
}

static void *fake_flood(void *arg)
{
	static const char line[] = "0.00.001 I a line of noise, one of very many\n";
	struct fake_llama *f = arg;

	for (;;)
		if (write(STDERR_FILENO, line, sizeof line - 1) > 0)
			atomic_fetch_add(&f->flooded, (long long)sizeof line - 1);
	return NULL;
}

static void *fake_stdin(void *arg)
{
	char c;

	UNUSED(arg);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	_exit(0);
}

static void fake_thread(void *(*main)(void *arg), void *arg)
{
	pthread_t t;

	if (pthread_create(&t, NULL, main, arg) == 0)
		pthread_detach(t);
}

/* A process beside it, which lives for a minute at most. */
static void fake_breed(const struct fake_llama *f)
{
	if (!fake_is(f, "brood") && !fake_is(f, "holder"))
		return;
	if (fork() != 0)
		return;
	if (fake_is(f, "holder"))
		setsid();
	signal(SIGTERM, SIG_IGN);
	fake_mark(f, "pid");
	sleep(60);
	_exit(0);
}

static void fake_read_key(struct fake_llama *f)
{
	FILE *in = fopen(f->key_file, "re");

	if (!in || !fgets(f->key, sizeof f->key, in))
		_exit(3);
	fclose(in);
	f->key[strcspn(f->key, "\n")] = 0;
}

static void fake_push(const char *state, double value)
{
	printf("cmd_child_to_router:state:{\"state\":\"%s\",\"payload\":{\"value\":%.2f}}\n",
	       state, value);
	fflush(stdout);
}

static int fake_listen(const struct fake_llama *f)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof a.sun_path, "%s", f->socket_path);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 16) < 0)
		_exit(4);
	return fd;
}

static int fake_llama_main(int argc, char **argv)
{
	static struct fake_llama f; /* its threads outlive this function's frames */
	int fd;

	f.argc = argc;
	f.argv = argv;
	for (int i = 1; i + 1 < argc; i++) {
		if (!strcmp(argv[i], "-m"))
			f.file = argv[i + 1];
		if (!strcmp(argv[i], "--host"))
			f.socket_path = argv[i + 1];
		if (!strcmp(argv[i], "--api-key-file"))
			f.key_file = argv[i + 1];
	}
	if (fake_is(&f, "dies")) {
		fputs("0.00.001 I about to fail\n0.00.002 E no such tensor\nbye\n",
		      stderr);
		return 1;
	}
	if (fake_is(&f, "deaf"))
		signal(SIGTERM, SIG_IGN);
	else
		fake_thread(fake_stdin, NULL);
	fake_read_key(&f);
	fake_breed(&f);
	if (fake_is(&f, "flood"))
		fake_thread(fake_flood, &f);
	fd = fake_listen(&f);
	if (fake_is(&f, "push")) {
		fake_push("loading", 0.25);
		if (!fake_is(&f, "never"))
			fake_push("ready", 1);
	}
	for (;;) {
		struct fake_connection *c = xmalloc(sizeof *c);

		c->f = &f;
		c->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		fake_thread(fake_connected, c);
	}
}

#endif
