/* One connection to the daemon, by libcurl.  Main thread.
 *
 * A reader may ask why a blocking client uses curl's multi interface: it is the only one
 * whose wait takes a descriptor of ours, so that Ctrl-C ends a wait at once and not at
 * curl's next tick a second later. */
#include "cli/client.h"

#include <curl/curl.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "cli/interrupt.h"

struct client {
	char *socket_path; /* owned */
	CURLM *multi;      /* owned; keeps the connection between requests */
};

/* A request under way. */
struct call {
	const struct client_request *request; /* borrowed */
	struct client_reply *reply;           /* borrowed */
	struct err *e;                        /* borrowed */
	CURL *easy;                           /* owned */
	struct curl_slist *headers;           /* owned */
	uint64_t last_byte_ms, started_ms;
	bool refused; /* data() said stop, or the reply was too large: *e is set */
};

struct client *client_new(const char *socket_path)
{
	struct client *c = xcalloc(1, sizeof *c);

	c->socket_path = xstrdup(socket_path);
	ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) ==
	       CURLE_OK); /* counted: once a client */
	c->multi = curl_multi_init();
	ASSERT(c->multi);
	return c;
}

void client_free(struct client *c)
{
	if (!c)
		return;
	curl_multi_cleanup(c->multi);
	curl_global_cleanup();
	free(c->socket_path);
	free(c);
}

const char *client_socket(const struct client *c)
{
	return c->socket_path;
}

static int check_peer(int fd, const char *path, pid_t *pid, struct err *e)
{
	struct ucred peer;
	socklen_t len = sizeof peer;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return err_sys(e, errno, "ask who listens on '%s'", path);
	if (peer.uid != geteuid())
		return err_set(e, ERR_FORBIDDEN,
			       "'%s' is served by another user (uid %u); set HOB_SOCKET "
			       "to a path "
			       "of your own",
			       path, (unsigned)peer.uid);
	if (pid)
		*pid = peer.pid;
	return 0;
}

int client_probe(const char *path, pid_t *pid, struct err *e)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int rc, fd;

	if (strlen(path) >= sizeof sa.sun_path)
		return err_set(e, ERR_INVALID,
			       "socket path '%s' is longer than %zu bytes; set "
			       "HOB_SOCKET to a shorter one",
			       path, sizeof sa.sun_path - 1);
	memcpy(sa.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, errno, "make a socket");
	if (!connect(fd, (struct sockaddr *)&sa, sizeof sa))
		rc = check_peer(fd, path, pid, e);
	else if (errno == ENOENT || errno == ECONNREFUSED)
		rc = err_set(e, ERR_UNAVAILABLE,
			     "the daemon is not running (nobody listens on '%s')", path);
	else if (errno == EAGAIN)
		rc = err_set(e, ERR_BUSY,
			     "the daemon does not accept connections on '%s' (its "
			     "queue is full)",
			     path);
	else
		rc = err_sys(e, errno, "connect to '%s'", path);
	close(fd);
	return rc;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
	struct call *c = arg;
	struct client_reply *reply = c->reply;
	long status = 0;

	n *= size;
	c->last_byte_ms = clock_mono_ms();
	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	if (c->request->data && status == 200) {
		c->refused = c->request->data(c->request->arg, p, n, c->e) < 0;
	} else if (reply->body.len + n > CLIENT_MAX_REPLY_BYTES) {
		c->refused = true;
		err_set(c->e, ERR_TOO_LARGE, "the daemon's reply is larger than %d MiB",
			CLIENT_MAX_REPLY_BYTES >> 20);
	} else {
		buf_add(&reply->body, p, n);
	}
	return c->refused ? CURL_WRITEFUNC_ERROR : n;
}

static void take_header(struct str line, const char *name, char *out, size_t size)
{
	size_t n = strlen(name);
	struct str value;

	if (line.len < n || !str_eq_nocase((struct str){line.ptr, n}, name))
		return;
	value = (struct str){line.ptr + n, line.len - n};
	while (value.len &&
	       (value.ptr[value.len - 1] == '\n' || value.ptr[value.len - 1] == '\r'))
		value.len--;
	value = str_trim(value);
	snprintf(out, size, "%.*s", (int)(value.len < size ? value.len : size),
		 value.ptr);
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
	struct call *c = arg;
	struct str line = {p, n * size};

	c->last_byte_ms = clock_mono_ms();
	take_header(line, "x-hob-conversation:", c->reply->conversation,
		    sizeof c->reply->conversation);
	take_header(line, "x-hob-context:", c->reply->context, sizeof c->reply->context);
	return line.len;
}

/* What a person typed may not end the line: it becomes a header of the same name that names nothing. */
static void add_header(struct call *c, const char *name, const char *value)
{
	char *line;

	if (!value)
		return;
	line = xasprintf("%s: %s", name, value);
	for (char *p = line; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7F)
			*p = '?';
	c->headers = curl_slist_append(c->headers, line);
	free(line);
}

static void call_init(struct call *c, const struct client *client)
{
	const struct client_request *r = c->request;
	const struct {
		const char *name, *value;
	} named[] = {{"x-hob-conversation", r->conversation},
		     {"x-hob-parent", r->parent},
		     {"x-hob-persona", r->persona},
		     {"x-hob-client", r->client}};
	char *url = xasprintf("http://localhost%s", r->path);

	c->started_ms = c->last_byte_ms = clock_mono_ms();
	c->easy = curl_easy_init();
	ASSERT(c->easy);
	curl_easy_setopt(c->easy, CURLOPT_URL, url);
	curl_easy_setopt(c->easy, CURLOPT_UNIX_SOCKET_PATH, client->socket_path);
	curl_easy_setopt(c->easy, CURLOPT_PROXY,
			 ""); /* http_proxy is not for this socket */
	curl_easy_setopt(c->easy, CURLOPT_PROTOCOLS_STR, "http");
	curl_easy_setopt(c->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(c->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, r->method);
	curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(c->easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c->easy, CURLOPT_HEADERDATA, c);
	if (r->body.len) {
		curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE,
				 (curl_off_t)r->body.len);
		curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, r->body.ptr);
		c->headers =
			curl_slist_append(c->headers, "content-type: application/json");
		/* A body over 1 MiB would else wait for "100 Continue". */
		c->headers = curl_slist_append(c->headers, "expect:");
	}
	for (size_t i = 0; i < ARRAY_LEN(named); i++)
		add_header(c, named[i].name, named[i].value);
	if (r->is_private)
		c->headers = curl_slist_append(c->headers, "x-hob-private: 1");
	if (r->progress)
		c->headers = curl_slist_append(c->headers, "x-hob-progress: 1");
	curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
	free(url);
}

/* Milliseconds until the nearest deadline; 0 or less: passed. */
static int64_t call_left_ms(const struct call *c)
{
	int64_t now = (int64_t)clock_mono_ms();
	int64_t left = (int64_t)c->last_byte_ms + CLIENT_SILENCE_TIMEOUT_MS - now;

	if (c->request->total_timeout_ms) {
		int64_t total =
			(int64_t)c->started_ms + c->request->total_timeout_ms - now;

		left = total < left ? total : left;
	}
	return left;
}

/* Runs the transfer to its end; -1 with *e set when we gave up on it. */
static int call_wait(struct call *c, CURLM *multi, struct err *e)
{
	struct curl_waitfd wake = {.fd = interrupt_fd(), .events = CURL_WAIT_POLLIN};
	int running = 1;

	for (;;) {
		int64_t left;

		if (curl_multi_perform(multi, &running) != CURLM_OK)
			return err_set(e, ERR_INTERNAL, "libcurl failed");
		if (!running)
			return 0;
		if (interrupt_pending())
			return err_set(e, ERR_CANCELLED, "interrupted");
		left = call_left_ms(c);
		if (left <= 0)
			return err_set(
				e, ERR_TIMEOUT, "the daemon said nothing for %llu s",
				(unsigned long long)(clock_mono_ms() - c->last_byte_ms) /
					1000);
		curl_multi_poll(multi, &wake, wake.fd >= 0, (int)left, NULL);
	}
}

static int call_result(struct call *c, CURLM *multi, const char *socket_path,
		       struct err *e)
{
	CURLcode code = CURLE_RECV_ERROR;
	CURLMsg *m;
	long status = 0;
	int left;

	while ((m = curl_multi_info_read(multi, &left)))
		if (m->msg == CURLMSG_DONE && m->easy_handle == c->easy)
			code = m->data.result;
	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	c->reply->status = (int)status;
	if (c->refused)
		return -1;
	if (code == CURLE_COULDNT_CONNECT)
		return err_set(e, ERR_UNAVAILABLE,
			       "the daemon is not running (nobody listens on '%s')",
			       socket_path);
	if (code == CURLE_PARTIAL_FILE || code == CURLE_GOT_NOTHING ||
	    code == CURLE_RECV_ERROR)
		return err_set(e, ERR_IO,
			       "the daemon went away in the middle of the reply");
	if (code != CURLE_OK)
		return err_set(e, ERR_IO, "talk to the daemon: %s",
			       curl_easy_strerror(code));
	return 0;
}

int client_do(struct client *client, const struct client_request *r,
	      struct client_reply *out, struct err *e)
{
	struct call c = {.request = r, .reply = out, .e = e};
	int rc;

	*out = (struct client_reply){0};
	call_init(&c, client);
	curl_multi_add_handle(client->multi, c.easy);
	rc = call_wait(&c, client->multi, e);
	if (!rc)
		rc = call_result(&c, client->multi, client->socket_path, e);
	curl_multi_remove_handle(client->multi,
				 c.easy); /* under way: closes its connection */
	curl_easy_cleanup(c.easy);
	curl_slist_free_all(c.headers);
	return rc;
}

void client_reply_fini(struct client_reply *r)
{
	buf_free(&r->body);
}

int client_error(const struct client_reply *r, struct err *e)
{
	const char *message = NULL, *code = NULL;
	cJSON *tree = json_parse(buf_str(&r->body), NULL);
	const cJSON *error = NULL;

	if (tree && json_object(tree, "error", &error, NULL) == 1) {
		json_string(error, "message", &message, NULL);
		json_string(error, "code", &code, NULL);
	}
	if (message)
		err_set(e, err_code_by_name(code), "%s", message);
	else
		err_set(e, ERR_INTERNAL, "the daemon answered with HTTP status %d",
			r->status);
	cJSON_Delete(tree);
	return -1;
}
