/* When a call has waited too long, and what its failure is called.  Loop thread. */
#include "net/fetch_impl.h"

enum {
	/* curl ends a call that receives less than a byte a second for longer than that and than
	 * its own deadlines: for the day that one of our timers is wrong. */
	BACKSTOP_S = 120,
};

/* ---- curl's backstop */

static int longest_ms(const struct fetch_deadlines *d)
{
	return d->first_byte > d->idle ? d->first_byte : d->idle;
}

/* 0: no backstop, because the caller wants no deadline, or because it is a child of ours. */
long call_backstop_s(const struct fetch_call *c)
{
	long longest = longest_ms(&c->limits) / 1000;

	if (upstream_is_local(c->up) || !c->limits.first_byte || !c->limits.idle)
		return 0;
	return longest < BACKSTOP_S / 2 ? BACKSTOP_S : longest + BACKSTOP_S / 2;
}

/* ---- errors */

static int timed_out(struct fetch_call *c, struct err *e)
{
	if (!c->sends)
		return err_set(e, ERR_TIMEOUT, "%s: no connection within %d ms",
			       c->up->host, c->limits.connect);
	return err_set(e, ERR_TIMEOUT, "%s: silent for %ld s", c->up->host,
		       call_backstop_s(c));
}

static int forbidden(struct fetch_call *c, struct err *e)
{
	return err_set(e, ERR_FORBIDDEN,
		       "%s is not this machine, and only local calls are allowed now",
		       c->up->host);
}

int call_error(struct fetch_call *c, struct err *e)
{
	const char *host = c->up->host, *why = c->detail[0] ? c->detail : NULL;

	if (c->forbidden)
		return forbidden(c, e);
	if (c->refused_replay)
		return err_set(
			e, ERR_TRANSPORT,
			"%s: the connection was lost after the request had gone out; "
			"it was not sent again, because it may have been served",
			host);
	if (!why)
		why = curl_easy_strerror(c->result);
	switch (c->result) {
	case CURLE_COULDNT_RESOLVE_HOST:
		return err_set(e, ERR_TRANSPORT,
			       "%s: name not found; is this machine offline?", host);
	case CURLE_COULDNT_RESOLVE_PROXY:
		return err_set(e, ERR_TRANSPORT,
			       "%s: the proxy's name was not found (%.200s)", host, why);
	case CURLE_COULDNT_CONNECT:
		return err_set(e, ERR_TRANSPORT, "%s: cannot connect (%.200s)", host,
			       why);
	case CURLE_OPERATION_TIMEDOUT:
		return timed_out(c, e);
	case CURLE_PEER_FAILED_VERIFICATION:
		return err_set(
			e, ERR_TRANSPORT,
			"%s: TLS failed (%.300s); the authority of a server of your own "
			"goes into ca_file",
			host, why);
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CACERT_BADFILE:
		return err_set(e, ERR_TRANSPORT, "%s: TLS failed (%.300s)", host, why);
	case CURLE_GOT_NOTHING:
	case CURLE_PARTIAL_FILE:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		return err_set(e, ERR_TRANSPORT, "%s: the connection was lost (%.200s)",
			       host, why);
	default:
		return err_set(e, ERR_UPSTREAM, "%s: %.300s", host, why);
	}
}

/* ---- deadlines */

enum due_kind {
	DUE_NONE,
	DUE_QUEUE,
	DUE_CONNECT,
	DUE_FIRST_BYTE,
	DUE_IDLE,
	DUE_TOTAL,
	DUE_END
};

static const struct {
	enum err_code code;
	const char *text;
} dues[] = {
	[DUE_QUEUE] = {ERR_BUSY, "no place among the calls that run at once"},
	[DUE_CONNECT] = {ERR_TIMEOUT, "no connection"},
	[DUE_FIRST_BYTE] = {ERR_TIMEOUT, "no answer"},
	[DUE_IDLE] = {ERR_TIMEOUT, "no more bytes: silent"},
	[DUE_TOTAL] = {ERR_TIMEOUT, "not done"},
	[DUE_END] = {ERR_TIMEOUT, "did not end when it was complete"},
};

struct due {
	enum due_kind kind;
	uint64_t at_ms;
	int limit_ms;
};

static void nearer(struct due *d, enum due_kind kind, uint64_t start_ms, int ms)
{
	uint64_t at = start_ms + (uint64_t)ms;

	if (ms > 0 && (!d->kind || at < d->at_ms))
		*d = (struct due){kind, at, ms};
}

static struct due call_due(const struct fetch_call *c)
{
	const struct fetch_deadlines *l = &c->limits;
	struct due d = {0};

	nearer(&d, DUE_TOTAL, c->start_ms, l->total);
	if (c->state == CALL_WAITING)
		nearer(&d, DUE_QUEUE, c->start_ms, l->queue);
	if (c->state == CALL_RUNNING && !c->sends)
		nearer(&d, DUE_CONNECT, c->begin_ms, l->connect);
	if (c->state != CALL_WAITING && !c->paused && !c->progressed)
		nearer(&d, DUE_FIRST_BYTE, c->begin_ms, l->first_byte);
	if (!c->paused && c->last_ms)
		nearer(&d, DUE_IDLE, c->last_ms, l->idle);
	if (c->end_by_ms && (!d.kind || c->end_by_ms < d.at_ms))
		d = (struct due){DUE_END, c->end_by_ms, 0};
	return d;
}

static void on_deadline(uv_timer_t *t);

/* After anything that may bring the nearest deadline closer.  One that moved away is found to
 * have moved when the timer fires: that is cheaper than to set it anew for every piece. */
void call_watch(struct fetch_call *c)
{
	uv_handle_t *h = (uv_handle_t *)&c->timer;
	uint64_t now = uv_now(c->up->fetch->loop), in;
	struct due d = call_due(c);

	if (!d.kind)
		return;
	in = d.at_ms > now ? d.at_ms - now : 0;
	if (!uv_is_active(h) || in < uv_timer_get_due_in(&c->timer))
		uv_timer_start(&c->timer, on_deadline, in, 0);
}

static void on_deadline(uv_timer_t *t)
{
	struct fetch_call *c = t->data;
	struct fetch *f = c->up->fetch;
	struct due d = call_due(c);
	struct err e = {0};

	if (!d.kind || uv_now(f->loop) < d.at_ms) {
		call_watch(c);
		return;
	}
	if (d.limit_ms)
		err_set(&e, dues[d.kind].code, "%s: %s for %d ms", c->up->host,
			dues[d.kind].text, d.limit_ms);
	else
		err_set(&e, dues[d.kind].code, "%s: %s", c->up->host, dues[d.kind].text);
	if (c->state != CALL_ENDED)
		call_give_up(c, CALL_ENDED);
	call_dequeue(c);
	call_tell(c, &e);
	f->delivering = NULL;
}
