/* HTTP/1.1 as values: bytes in, one parsed request out; a reply's head as text.
 *
 * No sockets and no clock here, so that tests can feed it byte by byte.  llhttp does the
 * grammar (RFC 9112); the limits, the duplicate checks and the body are ours. */
#ifndef HOB_HTTP_H
#define HOB_HTTP_H

#include <llhttp.h>
#include "base/buf.h"
#include "base/err.h"

enum {
	HTTP_MAX_HEAD_BYTES = 16 << 10, /* request line and headers together → 431 */
	HTTP_MAX_HEADERS = 100,         /* → 431 */
	HTTP_MAX_BODY_BYTES = 32 << 20, /* → 413 */
};

/* Slices point into the parser's buffers: valid until http_parser_reset(). */
struct http_header {
	struct str name, value;
};

struct http_request {
	struct str method;           /* "GET" */
	struct str target;           /* as sent */
	struct str path;             /* before '?'; not decoded */
	struct str query;            /* behind '?', or empty */
	struct http_header *headers; /* the parser's */
	int nheaders;
	struct str body;
	bool is_http10, keep_alive, has_body, expects_continue;
};

/* ptr is NULL when there is none; the first one when there are more. */
struct str http_header(const struct http_request *r, const char *name);
/* The value of `name` in the query; ptr NULL when absent.  Not decoded. */
struct str http_query(const struct http_request *r, const char *name);
/* Decodes %XX into out; false on a bad escape or a NUL. */
bool http_unescape(struct str s, struct buf *out);

enum parse_event {
	PARSE_BAD = -1, /* p->status and the error say why; the connection is spent */
	PARSE_MORE,     /* all bytes used, the message goes on */
	PARSE_HEAD,     /* headers are complete, a body follows; call feed again */
	PARSE_DONE,     /* a whole request; reset before the next feed */
};

struct http_at {
	uint16_t name, name_len, value, value_len; /* offsets into the head */
};

struct http_parser {
	struct http_request req; /* complete after HEAD (body after DONE) */
	int status;              /* what to answer after PARSE_BAD: 400, 413, 431, 501 */

	/* private */
	llhttp_t ll;
	struct buf head, body;
	struct http_at *at; /* owned, as is req.headers: room for `room` headers each */
	int room;
	size_t url_len, head_bytes;
	bool head_done, in_value, complete;
};

void http_parser_init(struct http_parser *p); /* p may not move afterwards */
void http_parser_fini(struct http_parser *p);
void http_parser_reset(struct http_parser *p); /* for the next request */
/* The request has been read: gives its memory back.  Reset comes before the next feed. */
void http_parser_release(struct http_parser *p);
/* True once a byte of the current message has been seen. */
bool http_parser_started(const struct http_parser *p);
enum parse_event http_feed(struct http_parser *p, const char *data, size_t n,
			   size_t *used, struct err *e);

const char *http_reason(int status);

struct http_reply_head {
	int status;
	const char *content_type; /* or NULL */
	const char *extra;        /* whole lines, each ended by CRLF, or NULL */
	int64_t content_length;   /* < 0: not given */
	bool chunked, close,
		is_http10; /* is_http10: the client is; say keep-alive aloud */
};
void http_add_head(struct buf *out, const struct http_reply_head *h);
/* Appends "Name: value CRLF"; control characters in value become spaces (no header splitting);
 * values longer than 512 bytes are cut. */
void http_add_field(struct buf *out, const char *name, const char *value);

#endif
