/* The metrics page.  Loop thread.  The daemon writes nearly all of it (src/metrics.c); here is only
 * what nobody but the listening side knows. */
#include "api/metrics_api.h"

#include "api/server.h"

void metrics_get(const struct call *call)
{
	const struct api *a = call->api;
	struct buf out = {0};

	if (a->metrics_text)
		a->metrics_text(a->arg, &out);
	buf_addf(
		&out,
		"# HELP hob_refused_connections_total Closed at once: too many, or another "
		"user's.\n# TYPE hob_refused_connections_total counter\n"
		"hob_refused_connections_total %llu\n",
		(unsigned long long)server_refused(call->server));
	http_reply(call->conn, 200, "text/plain; version=0.0.4; charset=utf-8", NULL,
		   buf_str(&out));
	buf_free(&out);
}
