/* Errors: a code for programs, a text for people.
 *
 * A function that can fail returns int (0 or -1) or a pointer (NULL), and takes a
 * `struct err *` as its last argument.  It sets the error where it happens; callers wrap it
 * on the way up; somebody at the top logs it or answers with it, never both.
 * The text says what, where and what to do: "load 'x': needs 3.2 GiB, free 1.0 GiB". */
#ifndef HOB_ERR_H
#define HOB_ERR_H

#include <stdbool.h>
#include "base/base.h"

enum err_code {
	ERR_NONE,
	ERR_INVALID,      /* the request is malformed */
	ERR_UNAUTHORIZED, /* token missing or wrong */
	ERR_FORBIDDEN,    /* foreign origin, host or peer */
	ERR_NOT_FOUND,    /* no such path or thing */
	ERR_MODEL,        /* no such model */
	ERR_METHOD,       /* path known, method not */
	ERR_TOO_LARGE,    /* header or body over its limit */
	ERR_CONTEXT,      /* prompt longer than the model's context */
	ERR_UNSUPPORTED,  /* understood, but this model or build cannot do it */
	ERR_CORRUPT,      /* a file is truncated, forged or not what it claims */
	ERR_CONFLICT,     /* e.g. superseded, or another instance runs */
	ERR_BUSY,         /* queue full: try again later */
	ERR_TIMEOUT,      /* a deadline passed */
	ERR_CANCELLED,    /* the client left or asked for it */
	ERR_MEMORY,       /* does not fit the byte budget */
	ERR_UNAVAILABLE,  /* the worker is gone or not started yet */
	ERR_UPSTREAM,     /* a remote provider failed, or sent what means nothing */
	ERR_KEY,          /* a remote provider refused our key */
	ERR_PAYMENT,      /* no credit there, or over a cap of ours */
	ERR_POLICY,       /* a remote provider's moderation refused the prompt */
	ERR_IO,           /* a system call failed */
	ERR_DISK_FULL,
	ERR_TRANSPORT, /* no name, no connection, no TLS; or it was lost */
	ERR_INTERNAL,
	ERR_NR
};

struct err {
	enum err_code code;
	uint32_t retry_after_ms; /* when to come again; 0 = unknown */
	bool sent;  /* a server may have begun with the prompt: once more may be billed twice */
	bool spent; /* all that could be tried was: the client's own retries are not wanted */
	char text[512];
};

/* What a code means to each protocol; one table in err.c. */
struct err_info {
	const char
		*name; /* "not_found": the wire name inside hob, and `code` in OpenAI's */
	int http_status;
	const char *openai_type; /* "invalid_request_error", "server_error", ... */
	bool retryable;
};

const struct err_info *err_info(enum err_code code);
enum err_code err_code_by_name(const char *name); /* ERR_INTERNAL when unknown */

/* Each is the value -1, so that `return err_set(e, ...)` reads well (macros, so that the compiler
 * knows the value).  e may be NULL.  err_sys adds strerror; ENOSPC becomes ERR_DISK_FULL.
 * err_wrap makes "prefix: old text". */
static inline int err_failed(void)
{
	return -1;
}
#define err_set(...)  (err_put(__VA_ARGS__), err_failed())
#define err_sys(...)  (err_put_sys(__VA_ARGS__), err_failed())
#define err_wrap(...) (err_put_prefix(__VA_ARGS__), err_failed())
void err_put(struct err *e, enum err_code code, const char *fmt, ...) PRINTF(3, 4);
void err_put_sys(struct err *e, int errnum, const char *fmt, ...) PRINTF(3, 4);
void err_put_prefix(struct err *e, const char *fmt, ...) PRINTF(2, 3);

#endif
