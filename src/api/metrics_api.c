/* The metrics page.  Loop thread; a table of the server's numbers plus what the daemon adds. */
#include "api/metrics_api.h"

#include "api/server.h"
#include "base/clock.h"

static void add(struct buf *out, const char *name, const char *type, const char *help,
		double value)
{
	buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.15g\n", name, help, name, type, name,
		 value);
}

void metrics_get(const struct call *call)
{
	const struct api *a = call->api;
	const struct server *s = call->server;
	struct buf out = {0};

	add(&out, "hob_uptime_seconds", "gauge", "Seconds since the daemon started.",
	    (double)(clock_mono_ms() - a->started_ms) / 1000.0);
	add(&out, "hob_http_connections", "gauge", "Open client connections.",
	    server_connections(s));
	add(&out, "hob_http_requests_total", "counter", "HTTP requests answered.",
	    (double)server_requests(s));
	add(&out, "hob_http_refused_connections_total", "counter",
	    "Connections closed at once: too many, or another user's.",
	    (double)server_refused(s));
	if (a->metrics_text)
		a->metrics_text(a->arg, &out);
	http_reply(call->conn, 200, "text/plain; version=0.0.4; charset=utf-8", NULL,
		   buf_str(&out));
	buf_free(&out);
}
