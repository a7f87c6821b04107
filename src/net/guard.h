/* Who may ask: pure checks of a request's origin, before its body is read.
 *
 * A web page can make the user's browser send requests to loopback; three headers give it away.
 *   Host            a name that was rebound to 127.0.0.1 (DNS rebinding) is not one of ours
 *   Origin          sent by browsers with each foreign request but a plain GET
 *   Sec-Fetch-Site  covers that plain GET; scripts cannot set or remove it
 * A token (configured, TCP only) is compared in constant time. */
#ifndef HOB_GUARD_H
#define HOB_GUARD_H

#include "base/buf.h"
#include "base/err.h"
#include "config.h"

/* ptr NULL = header absent. */
struct guard_input {
	bool is_tcp; /* false: unix socket, where the peer's uid has been checked */
	int port;    /* of our TCP listener; what Host and Origin must name */
	struct str host, origin, fetch_site, authorization;
};

/* 0, or -1 with ERR_FORBIDDEN (host, origin) or ERR_UNAUTHORIZED (token). */
int guard_check(const struct guard_input *in, const struct config *c, struct err *e);

/* Same time for all inputs of one length, whatever their content. */
bool guard_token_eq(struct str given, const char *token);

/* 127.0.0.0/8, ::1, "localhost". */
bool guard_is_loopback(const char *bind_address);

#endif
