/* The request parser around llhttp, and reply heads.
 *
 * Loop thread, no state outside the struct.  While the head is read, llhttp never gets more
 * bytes than the head may still have, so that the limit is exact and nothing beyond it is
 * copied.  Header slices are kept as offsets until the head is complete, because the buffer
 * moves while it grows. */
#include "net/http.h"

enum {
	RESERVE_BYTES = 64 << 10, /* for a body, when it is announced */
	KEEP_BYTES = 2 << 10,     /* of a buffer, while a connection waits */
};

static struct http_parser *parser_of(llhttp_t *ll)
{
	return CONTAINER_OF(ll, struct http_parser, ll);
}

/* -- callbacks of llhttp: collect, never decide more than "too much" -- */

static int fail(struct http_parser *p, int status, const char *why)
{
	p->status = status;
	llhttp_set_error_reason(&p->ll, why);
	return HPE_USER;
}

static int on_url(llhttp_t *ll, const char *at, size_t n)
{
	struct http_parser *p = parser_of(ll);

	buf_add(&p->head, at, n);
	p->url_len += n;
	return 0;
}

static void add_header(struct http_parser *p)
{
	int i = p->req.nheaders++;

	if (i == p->room) {
		p->room = p->room ? p->room * 2 : 16;
		p->at = xrealloc(p->at, (size_t)p->room * sizeof(*p->at));
		p->req.headers = xrealloc(p->req.headers,
					  (size_t)p->room * sizeof(*p->req.headers));
	}
	p->at[i] = (struct http_at){.name = (uint16_t)p->head.len};
}

static int on_field(llhttp_t *ll, const char *at, size_t n)
{
	struct http_parser *p = parser_of(ll);
	int i = p->req.nheaders;

	if (p->in_value || i == 0) {
		if (i == HTTP_MAX_HEADERS)
			return fail(p, 431, "more than 100 header fields");
		add_header(p);
		p->in_value = false;
		i++;
	}
	buf_add(&p->head, at, n);
	p->at[i - 1].name_len = (uint16_t)(p->at[i - 1].name_len + n);
	return 0;
}

static int on_value(llhttp_t *ll, const char *at, size_t n)
{
	struct http_parser *p = parser_of(ll);
	int i = p->req.nheaders - 1;

	if (p->head_done || i < 0) /* a trailer: read over it */
		return 0;
	if (!p->in_value) {
		p->in_value = true;
		p->at[i].value = (uint16_t)p->head.len;
	}
	buf_add(&p->head, at, n);
	p->at[i].value_len = (uint16_t)(p->at[i].value_len + n);
	return 0;
}

static int on_trailer_field(struct http_parser *p, size_t n)
{
	/* Trailers count against the head's limit and are dropped. */
	p->head_bytes += n;
	if (p->head_bytes > HTTP_MAX_HEAD_BYTES)
		return fail(p, 431, "trailers over 16 KiB");
	return 0;
}

static int on_field_any(llhttp_t *ll, const char *at, size_t n)
{
	struct http_parser *p = parser_of(ll);

	return p->head_done ? on_trailer_field(p, n) : on_field(ll, at, n);
}

static int on_value_any(llhttp_t *ll, const char *at, size_t n)
{
	struct http_parser *p = parser_of(ll);

	return p->head_done ? on_trailer_field(p, n) : on_value(ll, at, n);
}

/* RFC 9110 5.6.2.  llhttp, built as Debian ships it, lets spaces through: "Host : x" would be a
 * Host to others and an unknown field to us. */
static bool is_token(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];
		bool usual = (c >= '0' && c <= '9') || c == '-' ||
			     ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');

		if (!usual && (c <= ' ' || c >= 0x7f || !strchr("!#$%&'*+.^_`|~", c)))
			return false;
	}
	return s.len > 0;
}

static void resolve_slices(struct http_parser *p)
{
	struct http_request *r = &p->req;
	const char *base = p->head.data ? p->head.data : "", *q;

	for (int i = 0; i < r->nheaders; i++) {
		r->headers[i].name =
			(struct str){base + p->at[i].name, p->at[i].name_len};
		r->headers[i].value =
			str_trim((struct str){base + p->at[i].value, p->at[i].value_len});
	}
	r->target = (struct str){base, p->url_len};
	r->path = r->target;
	r->query = STR("");
	q = p->url_len ? memchr(base, '?', p->url_len) : NULL;
	if (q) {
		r->path.len = (size_t)(q - base);
		r->query = (struct str){q + 1, p->url_len - r->path.len - 1};
	}
}

/* How often the headers that decide about the body are there, and the rest of RFC 9112 3.2. */
static int check_headers(struct http_parser *p, bool chunked)
{
	const struct http_request *r = &p->req;
	int hosts = 0, lengths = 0, codings = 0;

	for (int i = 0; i < r->nheaders; i++) {
		struct str name = r->headers[i].name;

		if (!is_token(name))
			return fail(p, 400, "malformed header name");
		hosts += str_eq_nocase(name, "host");
		lengths += str_eq_nocase(name, "content-length");
		codings += str_eq_nocase(name, "transfer-encoding");
	}
	if (hosts > 1)
		return fail(p, 400, "more than one Host");
	/* llhttp refuses these itself unless built lenient; a second lock on that door. */
	if (lengths > 1 || codings > 1 || (chunked && lengths))
		return fail(p, 400, "ambiguous body length");
	if (codings && !str_eq_nocase(http_header(r, "transfer-encoding"), "chunked"))
		return fail(p, 501, "transfer coding other than chunked");
	return 0;
}

static int on_headers_complete(llhttp_t *ll)
{
	struct http_parser *p = parser_of(ll);
	struct http_request *r = &p->req;
	bool chunked = (ll->flags & F_CHUNKED) != 0;

	p->head_done = true;
	resolve_slices(p);
	r->method = str_of(llhttp_method_name((llhttp_method_t)ll->method));
	r->is_http10 = ll->http_major == 1 && ll->http_minor == 0;
	r->keep_alive = llhttp_should_keep_alive(ll) != 0;
	r->has_body = chunked || ll->content_length > 0;
	r->expects_continue = r->has_body && !r->is_http10 &&
			      str_eq_nocase(http_header(r, "expect"), "100-continue");
	ll->upgrade =
		0; /* "Upgrade: h2c" is an offer; we decline by answering in HTTP/1.1 */
	if (check_headers(p, chunked) != 0)
		return HPE_USER;
	if (ll->content_length > HTTP_MAX_BODY_BYTES && !chunked)
		return fail(p, 413, "body over 32 MiB");
	if (r->has_body && !chunked) /* a promise: believed only so far */
		buf_reserve(&p->body, ll->content_length < RESERVE_BYTES
					      ? (size_t)ll->content_length
					      : RESERVE_BYTES);
	return HPE_PAUSED;
}

static int on_body(llhttp_t *ll, const char *at, size_t n)
{
	struct http_parser *p = parser_of(ll);

	if (n > HTTP_MAX_BODY_BYTES - p->body.len)
		return fail(p, 413, "body over 32 MiB");
	buf_add(&p->body, at, n);
	return 0;
}

static int on_message_complete(llhttp_t *ll)
{
	struct http_parser *p = parser_of(ll);

	p->complete = true;
	p->req.body = buf_str(&p->body);
	return HPE_PAUSED;
}

/* -- the parser -- */

static const llhttp_settings_t settings = {
	.on_url = on_url,
	.on_header_field = on_field_any,
	.on_header_value = on_value_any,
	.on_headers_complete = on_headers_complete,
	.on_body = on_body,
	.on_message_complete = on_message_complete,
};

void http_parser_init(struct http_parser *p)
{
	memset(p, 0, sizeof(*p));
	llhttp_init(&p->ll, HTTP_REQUEST, &settings);
}

void http_parser_fini(struct http_parser *p)
{
	http_parser_release(p);
}

static void forget(struct buf *b)
{
	if (b->cap > KEEP_BYTES)
		buf_free(b);
	else
		buf_clear(b);
}

static void clear_request(struct http_request *r)
{
	r->nheaders = 0;
	r->body = r->target = r->path = r->query = r->method = STR("");
}

void http_parser_release(struct http_parser *p)
{
	buf_free(&p->head);
	buf_free(&p->body);
	free(p->at);
	free(p->req.headers);
	p->at = NULL;
	p->req.headers = NULL;
	p->room = 0;
	clear_request(&p->req);
}

void http_parser_reset(struct http_parser *p)
{
	llhttp_init(&p->ll, HTTP_REQUEST, &settings);
	forget(&p->head);
	forget(&p->body);
	clear_request(&p->req);
	p->req.is_http10 = p->req.keep_alive = p->req.has_body = false;
	p->req.expects_continue = false;
	p->status = 0;
	p->url_len = p->head_bytes = 0;
	p->head_done = p->in_value = p->complete = false;
}

bool http_parser_started(const struct http_parser *p)
{
	return p->head_bytes > 0;
}

/* One llhttp call; *used is what it took. */
static llhttp_errno_t step(struct http_parser *p, const char *data, size_t n,
			   size_t *used)
{
	llhttp_errno_t rc = llhttp_execute(&p->ll, data, n);

	*used = n;
	if (rc == HPE_PAUSED) {
		const char *pos = llhttp_get_error_pos(&p->ll);

		*used = pos ? (size_t)(pos - data) : n;
		llhttp_resume(&p->ll);
	}
	return rc;
}

static enum parse_event bad(struct http_parser *p, llhttp_errno_t rc, struct err *e)
{
	enum err_code code = ERR_INVALID;
	const char *why = llhttp_get_error_reason(&p->ll);

	if (!p->status)
		p->status = 400;
	if (p->status == 413 || p->status == 431)
		code = ERR_TOO_LARGE;
	if (rc == HPE_PAUSED_H2_UPGRADE)
		why = "HTTP/2 is not spoken here, use HTTP/1.1";
	err_set(e, code, "malformed or oversized HTTP request: %s",
		why && *why ? why : llhttp_errno_name(rc));
	return PARSE_BAD;
}

enum parse_event http_feed(struct http_parser *p, const char *data, size_t n,
			   size_t *used, struct err *e)
{
	size_t took, give;
	llhttp_errno_t rc;

	*used = 0;
	while (*used < n || (p->head_done && !p->complete && !p->req.has_body)) {
		bool in_head = !p->head_done;

		give = n - *used;
		/* Empty lines before a request line are legal (RFC 9112 2.2) and cost nothing. */
		if (in_head && !p->head_bytes &&
		    (data[*used] == '\r' || data[*used] == '\n')) {
			(*used)++;
			continue;
		}
		if (in_head && give > HTTP_MAX_HEAD_BYTES - p->head_bytes)
			give = HTTP_MAX_HEAD_BYTES - p->head_bytes;
		if (in_head && !give) {
			p->status = 431;
			llhttp_set_error_reason(&p->ll, "request head over 16 KiB");
			return bad(p, HPE_USER, e);
		}
		rc = step(p, data + *used, give, &took);
		*used += took;
		if (in_head)
			p->head_bytes += took;
		if (rc != HPE_OK && rc != HPE_PAUSED)
			return bad(p, rc, e);
		if (p->complete)
			return PARSE_DONE;
		if (in_head && p->head_done && p->req.has_body)
			return PARSE_HEAD;
	}
	return PARSE_MORE;
}

/* -- looking things up -- */

struct str http_header(const struct http_request *r, const char *name)
{
	for (int i = 0; i < r->nheaders; i++)
		if (str_eq_nocase(r->headers[i].name, name))
			return r->headers[i].value;
	return (struct str){NULL, 0};
}

struct str http_query(const struct http_request *r, const char *name)
{
	size_t want = strlen(name);
	struct str q = r->query;

	while (q.len) {
		const char *amp = memchr(q.ptr, '&', q.len);
		size_t n = amp ? (size_t)(amp - q.ptr) : q.len;

		if (n > want && !memcmp(q.ptr, name, want) && q.ptr[want] == '=')
			return (struct str){q.ptr + want + 1, n - want - 1};
		if (!amp)
			break;
		q = (struct str){amp + 1, q.len - n - 1};
	}
	return (struct str){NULL, 0};
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool http_unescape(struct str s, struct buf *out)
{
	for (size_t i = 0; i < s.len; i++) {
		int hi, lo;

		if (s.ptr[i] != '%') {
			buf_addc(out, s.ptr[i]);
			continue;
		}
		if (i + 2 >= s.len || (hi = hex_digit(s.ptr[i + 1])) < 0 ||
		    (lo = hex_digit(s.ptr[i + 2])) < 0 || (hi | lo) == 0)
			return false;
		buf_addc(out, (char)(hi << 4 | lo));
		i += 2;
	}
	return true;
}

/* -- replies -- */

static const struct {
	int status;
	const char *reason;
} reasons[] = {
	{200, "OK"},
	{201, "Created"},
	{202, "Accepted"},
	{204, "No Content"},
	{400, "Bad Request"},
	{401, "Unauthorized"},
	{402, "Payment Required"},
	{403, "Forbidden"},
	{404, "Not Found"},
	{405, "Method Not Allowed"},
	{408, "Request Timeout"},
	{409, "Conflict"},
	{413, "Content Too Large"},
	{415, "Unsupported Media Type"},
	{422, "Unprocessable Content"},
	{429, "Too Many Requests"},
	{431, "Request Header Fields Too Large"},
	{499, "Client Closed Request"},
	{500, "Internal Server Error"},
	{501, "Not Implemented"},
	{502, "Bad Gateway"},
	{503, "Service Unavailable"},
	{504, "Gateway Timeout"},
	{507, "Insufficient Storage"},
};

const char *http_reason(int status)
{
	for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Status";
}

void http_add_field(struct buf *out, const char *name, const char *value)
{
	enum { MAX_VALUE_BYTES = 512 };
	size_t n = strnlen(value, MAX_VALUE_BYTES);
	char *p;

	buf_adds(out, name);
	buf_adds(out, ": ");
	buf_add(out, value, n);
	for (p = out->data + out->len - n; n; n--, p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	buf_adds(out, "\r\n");
}

void http_add_head(struct buf *out, const struct http_reply_head *h)
{
	buf_adds(out, "HTTP/1.1 ");
	buf_addi(out, h->status);
	buf_addc(out, ' ');
	buf_adds(out, http_reason(h->status));
	if (h->content_type) {
		buf_adds(out, "\r\nContent-Type: ");
		buf_adds(out, h->content_type);
	}
	if (h->content_length >= 0) {
		buf_adds(out, "\r\nContent-Length: ");
		buf_addi(out, h->content_length);
	}
	buf_adds(out, "\r\n");
	if (h->chunked)
		buf_adds(out, "Transfer-Encoding: chunked\r\n");
	if (h->close)
		buf_adds(out, "Connection: close\r\n");
	else if (h->is_http10)
		buf_adds(out, "Connection: keep-alive\r\n");
	if (h->extra)
		buf_adds(out, h->extra);
	buf_adds(out, "\r\n");
}
