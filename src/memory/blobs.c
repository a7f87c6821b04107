/* Data URLs out of messages and back.
 *
 * Store thread.  The decision to question: this works on the text of the JSON and not on a tree.  A
 * base64 URL holds no character that JSON escapes, so cutting between its quotes and putting the same
 * characters back cannot change anything else, and 16 MiB are not parsed and printed for it. */
#include "memory/blobs.h"

#include <sha2.h>

#define REFERENCE "hob-blob:"
#define OWN_JSON  "},{\"type\":\"openai\","
enum { HEX_BYTES = 2 * BLOBS_HASH_BYTES, MAX_HEAD_BYTES = 128 };

static const char digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* ---- base64 (RFC 4648 §4) ---- */

static int digit_of(char c)
{
	return c >= 'A' && c <= 'Z'   ? c - 'A'
	       : c >= 'a' && c <= 'z' ? c - 'a' + 26
	       : c >= '0' && c <= '9' ? c - '0' + 52
	       : c == '+'             ? 62
	       : c == '/'             ? 63
				      : -1;
}

/* Bytes, or NULL when the text is not exactly what encoding them again would give. */
static char *decode(struct str in, size_t *len)
{
	size_t pad = in.len >= 4
			     ? (in.ptr[in.len - 1] == '=') + (in.ptr[in.len - 2] == '=')
			     : 0;
	unsigned acc = 0;
	size_t n = 0;
	char *out;
	int bits = 0;

	if (in.len == 0 || in.len % 4 != 0)
		return NULL;
	out = xmalloc(in.len / 4 * 3);
	for (size_t i = 0; i < in.len - pad; i++) {
		int d = digit_of(in.ptr[i]);

		if (d < 0) {
			free(out);
			return NULL;
		}
		acc = (acc << 6 | (unsigned)d) & 0xffffff;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[n++] = (char)(acc >> bits & 0xff);
		}
	}
	if (acc & ((1u << bits) - 1)) { /* bits that nobody reads must be 0 */
		free(out);
		return NULL;
	}
	*len = n;
	return out;
}

static void encode(const uint8_t *p, size_t n, struct buf *out)
{
	buf_reserve(out, (n + 2) / 3 * 4);
	for (size_t i = 0; i < n; i += 3) {
		unsigned v = (unsigned)p[i] << 16 |
			     (i + 1 < n ? (unsigned)p[i + 1] << 8 : 0) |
			     (i + 2 < n ? p[i + 2] : 0u);

		buf_addc(out, digits[v >> 18]);
		buf_addc(out, digits[v >> 12 & 63]);
		buf_addc(out, i + 1 < n ? digits[v >> 6 & 63] : '=');
		buf_addc(out, i + 2 < n ? digits[v & 63] : '=');
	}
}

/* ---- out ---- */

static const char *find(const char *at, const char *end, const char *word)
{
	return memmem(at, (size_t)(end - at), word, strlen(word));
}

/* The characters between `data:` and `;base64,` that a media type is written with. */
static bool is_mime(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
		    !(c >= '0' && c <= '9') && !memchr("/+.-;=_", c, 7))
			return false;
	}
	return true;
}

/* A URL whose `data:` begins at `at`: its media type and its payload. */
static bool parse_url(const char *at, const char *end, struct str *mime,
		      struct str *payload)
{
	static const char base64[] = ";base64,";
	const char *head = at + 5,
		   *limit = end - head > MAX_HEAD_BYTES ? head + MAX_HEAD_BYTES : end;
	const char *comma = find(head, limit, base64), *close;

	if (!comma)
		return false;
	*mime = (struct str){head, (size_t)(comma - head)};
	payload->ptr = comma + sizeof(base64) - 1;
	close = memchr(payload->ptr, '"', (size_t)(end - payload->ptr));
	if (!close || !is_mime(*mime))
		return false;
	payload->len = (size_t)(close - payload->ptr);
	return close - at >= BLOBS_MIN_BYTES;
}

static void add_reference(struct buf *out, const uint8_t *hash)
{
	buf_adds(out, REFERENCE);
	for (int i = 0; i < BLOBS_HASH_BYTES; i++) {
		buf_addc(out, "0123456789abcdef"[hash[i] >> 4]);
		buf_addc(out, "0123456789abcdef"[hash[i] & 15]);
	}
}

static void add_blob(struct blobs *b, struct str mime, char *data, size_t len)
{
	struct blob *one;
	SHA2_CTX ctx;

	b->list = xrealloc(b->list, (size_t)(b->n + 1) * sizeof(*b->list));
	one = &b->list[b->n++];
	*one = (struct blob){.mime = mime, .data = data, .len = len};
	SHA256Init(&ctx);
	SHA256Update(&ctx, (const uint8_t *)data, len);
	SHA256Final(one->hash, &ctx);
}

void blobs_cut(struct str parts, struct blobs *out)
{
	const char *end = parts.ptr + parts.len, *done = parts.ptr,
		   *at = find(parts.ptr, end, OWN_JSON);

	*out = (struct blobs){0};
	if (!at || parts.len < BLOBS_MIN_BYTES || find(at, end, REFERENCE))
		return;
	while (out->n < BLOBS_MAX && (at = find(at, end, "\"data:")) != NULL) {
		struct str mime, payload;
		char *data = NULL;
		size_t len = 0;

		at++;
		if (parse_url(at, end, &mime, &payload))
			data = decode(payload, &len);
		if (!data)
			continue;
		add_blob(out, mime, data, len);
		buf_add(&out->parts, done, (size_t)(payload.ptr - done));
		add_reference(&out->parts, out->list[out->n - 1].hash);
		at = done = payload.ptr + payload.len;
	}
	if (out->n > 0)
		buf_add(&out->parts, done, (size_t)(end - done));
}

void blobs_free(struct blobs *b)
{
	for (int i = 0; i < b->n; i++)
		free(b->list[i].data);
	free(b->list);
	buf_free(&b->parts);
	*b = (struct blobs){0};
}

int blobs_put(struct sql *q, int64_t message, const struct blobs *b, struct err *e)
{
	for (int i = 0; i < b->n; i++) {
		const struct blob *one = &b->list[i];

		if (sql_run(q,
			    sql_bind(q, SQL_BLOB_ADD, "bSib", (void *)one->hash,
				     BLOBS_HASH_BYTES, one->mime.ptr, one->mime.len,
				     (int64_t)one->len, (void *)one->data, (int)one->len),
			    e) < 0 ||
		    sql_run(q,
			    sql_bind(q, SQL_BLOB_USE, "ib", message, (void *)one->hash,
				     BLOBS_HASH_BYTES),
			    e) < 0)
			return -1;
	}
	return 0;
}

/* ---- and back ---- */

static bool read_hash(const char *hex, uint8_t out[BLOBS_HASH_BYTES])
{
	for (int i = 0; i < HEX_BYTES; i++) {
		int d = hex[i] >= '0' && hex[i] <= '9'   ? hex[i] - '0'
			: hex[i] >= 'a' && hex[i] <= 'f' ? hex[i] - 'a' + 10
							 : -1;

		if (d < 0)
			return false;
		out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | d : d << 4);
	}
	return true;
}

/* Only what belongs to this message: a reference is no key to another's attachment.  0 when it is none
 * of this one's. */
static int add_content(struct sql *q, int64_t message, const uint8_t *hash,
		       struct buf *out, struct err *e)
{
	sqlite3_stmt *st =
		sql_bind(q, SQL_BLOB_GET, "ib", message, (void *)hash, BLOBS_HASH_BYTES);
	int rc = sql_step(q, st, e);

	if (rc != 1)
		return rc;
	if (sqlite3_column_type(st, 0) != SQLITE_BLOB) {
		sqlite3_reset(st);
		return err_set(e, ERR_CORRUPT, "an attachment of message %lld is missing",
			       (long long)message);
	}
	encode(sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0), out);
	return sql_run(q, st, e) == 0 ? 1 : -1;
}

int blobs_join(struct sql *q, int64_t message, struct str text, struct buf *out,
	       struct err *e)
{
	const char *end = text.ptr + text.len, *done = text.ptr, *at = text.ptr;

	if (text.len > 0 && text.ptr[0] == '[') /* parts: what was said is no reference */
		at = find(at, end, OWN_JSON);
	while (at && (at = find(at, end, REFERENCE)) != NULL) {
		const char *hex = at + sizeof(REFERENCE) - 1;
		uint8_t hash[BLOBS_HASH_BYTES];
		int rc;

		if (end - hex < HEX_BYTES || !read_hash(hex, hash)) {
			at = hex;
			continue;
		}
		buf_add(out, done, (size_t)(at - done));
		done = at;
		rc = add_content(q, message, hash, out, e);
		if (rc < 0)
			return -1;
		at = hex + HEX_BYTES;
		if (rc == 1)
			done = at;
	}
	buf_add(out, done, (size_t)(end - done));
	return 0;
}
