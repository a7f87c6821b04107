/* /healthz: what a supervisor and `hob stop` ask first.  Loop thread, no state. */
#include "api/hob.h"

#include <unistd.h>

#include "base/clock.h"

void hob_health(const struct call *call)
{
	const struct api *a = call->api;
	const char *engine = a->engine_status ? a->engine_status(a->arg) : "unknown";
	const char *memory =
		a->memory_status ? a->memory_status(a->arg) : (a->store ? "ok" : "off");
	struct buf out = {0};

	buf_adds(&out, "{\"status\":\"ok\",\"version\":");
	buf_add_json(&out, a->version ? a->version : "",
		     a->version ? strlen(a->version) : 0);
	buf_addf(&out, ",\"pid\":%d,\"uptime_s\":%.3f,\"engine\":", (int)getpid(),
		 (double)(clock_mono_ms() - a->started_ms) / 1000.0);
	buf_add_json(&out, engine, strlen(engine));
	buf_adds(&out, ",\"memory\":");
	buf_add_json(&out, memory, strlen(memory));
	buf_adds(&out, "}");
	api_reply_json(call->conn, &out);
	buf_free(&out);
}
