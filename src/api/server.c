/* Joins sockets, connections, guard and routes; see server.h.
 *
 * Loop thread.  The guard and the routes table are asked when a request's head is there, before
 * its body: a foreign page or a wrong path costs us 16 KiB at most, not 32 MiB. */
#include "api/server.h"

#include <signal.h>
#include <sys/resource.h>
#include "api/routes.h"
#include "base/log.h"
#include "net/conn.h"
#include "net/guard.h"
#include "net/listen.h"

struct server {
	const struct api *api; /* borrowed */
	struct listen *listen;
	struct conns *conns;
	int parts_open; /* of listen and conns, while closing */
	void (*done)(void *arg);
	void *done_arg;
};

/* -- requests -- */

static int check_guard(const struct server *s, struct conn *c,
		       const struct http_request *r, struct err *e)
{
	struct guard_input in = {
		.is_tcp = conn_peer(c).is_tcp,
		.port = listen_port(s->listen),
		.host = http_header(r, "host"),
		.origin = http_header(r, "origin"),
		.fetch_site = http_header(r, "sec-fetch-site"),
		.authorization = http_header(r, "authorization"),
	};

	return guard_check(&in, s->api->config, e);
}

static bool find_route(struct conn *c, const struct http_request *r, struct call *call,
		       const struct route **out)
{
	struct str params[ROUTE_PARAMS];
	char allow[64], extra[80];
	struct err e = {0};

	*out = routes_find(r->method, r->path, params, allow, sizeof(allow));
	call->param = params[0];
	call->param2 = params[1];
	if (*out)
		return true;
	if (!allow[0]) {
		err_set(&e, ERR_NOT_FOUND, "no such path: %.*s",
			(int)(r->path.len < 200 ? r->path.len : 200), r->path.ptr);
		api_reply_error(c, &e);
		return false;
	}
	err_set(&e, ERR_METHOD, "%.*s is not for this path; allowed: %s",
		(int)r->method.len, r->method.ptr, allow);
	snprintf(extra, sizeof(extra), "Allow: %s\r\n", allow);
	api_reply_error_status(c, err_info(ERR_METHOD)->http_status, &e, extra);
	return false;
}

static bool on_head(void *arg, struct conn *c, const struct http_request *r)
{
	struct server *s = arg;
	const struct route *route;
	struct call call = {0};
	struct err e = {0};

	if (check_guard(s, c, r, &e) == 0)
		return find_route(c, r, &call, &route);
	log_debug("refused: %s", e.text);
	api_reply_error(c, &e);
	return false;
}

static void on_request(void *arg, struct conn *c, const struct http_request *r)
{
	struct server *s = arg;
	struct call call = {.api = s->api, .server = s, .conn = c, .http = r};
	const struct route *route;

	if (find_route(c, r, &call, &route))
		route->handler(&call);
}

static void on_bad(void *arg, struct conn *c, int status, const struct err *why)
{
	UNUSED(arg);
	api_reply_error_status(c, status, why, NULL);
}

static const struct conn_handler handler = {on_head, on_request, on_bad};

/* -- life -- */

static void on_ready(void *arg, uv_stream_t *listener)
{
	struct server *s = arg;

	conns_accept(s->conns, listener);
}

/* A stream takes two descriptors, and shells still say 1,024.  Not without end: there are programs
 * that close each number up to the limit, and our children may be such. */
static void raise_descriptors(void)
{
	enum { ENOUGH = 1 << 16 };
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) != 0 || l.rlim_cur >= ENOUGH)
		return;
	l.rlim_cur = l.rlim_max < ENOUGH ? l.rlim_max : ENOUGH;
	if (setrlimit(RLIMIT_NOFILE, &l) != 0)
		log_debug("the limit of open files stays as it is");
}

struct server *server_start(uv_loop_t *loop, const struct api *api, struct err *e)
{
	struct server *s = xcalloc(1, sizeof(*s));

	signal(SIGPIPE, SIG_IGN);
	raise_descriptors();
	s->api = api;
	s->listen = listen_open(loop, api->config, on_ready, s, e);
	if (!s->listen) {
		free(s);
		return NULL;
	}
	s->conns = conns_new(loop, &handler, s, api->config->header_timeout_ms);
	return s;
}

int server_port(const struct server *s)
{
	return listen_port(s->listen);
}

int server_connections(const struct server *s)
{
	return conns_count(s->conns);
}

uint64_t server_requests(const struct server *s)
{
	return conns_requests(s->conns);
}

uint64_t server_refused(const struct server *s)
{
	return conns_refused(s->conns);
}

void server_drain(struct server *s, void (*done)(void *arg), void *arg)
{
	listen_stop(s->listen);
	conns_drain(s->conns, done, arg);
}

static void part_closed(void *arg)
{
	struct server *s = arg;
	void (*done)(void *) = s->done;
	void *done_arg = s->done_arg;

	if (--s->parts_open)
		return;
	free(s);
	if (done)
		done(done_arg);
}

void server_close(struct server *s, void (*done)(void *arg), void *arg)
{
	s->done = done;
	s->done_arg = arg;
	s->parts_open = 2;
	conns_close(s->conns, part_closed, s);
	listen_close(s->listen, part_closed, s);
}
