/* A foreign conversation becomes hob's.
 *
 * A command's thread.  Hashes are made here as the store makes them, so that what was imported once is
 * found again; the conversation's id is a hash of the foreign one in the shape of a ULID, for the same
 * reason. */
#include "memory/import_draft.h"

#include <math.h>
#include <sha2.h>
#include <uthash.h>
#include "memory/move_json.h"
#include "memory/tree.h"

enum { TITLE_CHARS = TREE_TITLE_CHARS };

struct node {
	uint8_t hash[MOVE_HASH_BYTES];
	int at, parent;
	bool has_child;
	UT_hash_handle hh;
};

struct draft {
	const char *source;           /* borrowed, a literal */
	char *foreign_id;             /* owned or NULL */
	struct import_counts *counts; /* borrowed */
	int64_t created_ms, known_ms; /* known_ms: 0 when the source does not say */
	struct buf messages, turns;   /* lines */
	struct node **nodes;          /* owned */
	struct node *index;           /* the same by hash */
	int n, cap;
	char *first; /* owned: the first line of the first user's text, or NULL */
};

struct draft *draft_new(const struct import_in *in, const char *source,
			const char *foreign_id, int64_t created_ms,
			struct import_counts *counts)
{
	struct draft *d = xcalloc(1, sizeof(*d));

	d->source = source;
	d->foreign_id = foreign_id ? xstrdup(foreign_id) : NULL;
	d->counts = counts;
	d->known_ms = created_ms;
	d->created_ms = created_ms ? created_ms : in->now_ms;
	return d;
}

void draft_free(struct draft *d)
{
	if (!d)
		return;
	HASH_CLEAR(hh, d->index);
	for (int i = 0; i < d->n; i++)
		free(d->nodes[i]);
	free(d->nodes);
	buf_free(&d->messages);
	buf_free(&d->turns);
	free(d->foreign_id);
	free(d->first);
	free(d);
}

/* Bytes of the front of s that hold at most `chars` characters and `bytes` bytes. */
static size_t cut_at(struct str s, int chars, size_t bytes)
{
	size_t at = 0, n;

	while (at < s.len && chars-- > 0) {
		n = str_utf8_len((struct str){s.ptr + at, s.len - at});
		n = n ? n : 1;
		if (at + n > bytes)
			break;
		at += n;
	}
	return at;
}

static void note_first(struct draft *d, const struct draft_message *m)
{
	struct str line = str_of(m->text);
	const char *end;

	while (line.len && strchr(" \t\r\n", line.ptr[0])) {
		line.ptr++;
		line.len--;
	}
	if (d->first || m->role != ROLE_USER || !line.len)
		return;
	end = line.ptr + strcspn(line.ptr, "\r\n");
	line.len = (size_t)(end - line.ptr);
	line.len = cut_at(line, TITLE_CHARS, STORE_MAX_TITLE_BYTES);
	d->first = str_dup(str_trim(line));
}

static int keep_node(struct draft *d, const uint8_t hash[MOVE_HASH_BYTES], int parent)
{
	struct node *n = xcalloc(1, sizeof(*n));

	memcpy(n->hash, hash, MOVE_HASH_BYTES);
	n->at = d->n;
	n->parent = parent;
	if (d->n == d->cap) {
		d->cap = d->cap ? d->cap * 2 : 64;
		d->nodes = xrealloc(d->nodes, (size_t)d->cap * sizeof(struct node *));
	}
	d->nodes[d->n++] = n;
	HASH_ADD(hh, d->index, hash, MOVE_HASH_BYTES, n);
	if (parent >= 0)
		d->nodes[parent]->has_child = true;
	d->counts->messages++;
	return n->at;
}

int draft_add(struct draft *d, int parent, const struct draft_message *m)
{
	char *own = m->own ? cJSON_PrintUnformatted(m->own) : NULL;
	struct buf parts = {0};
	struct move_message line = {.is_root = parent < 0,
				    .role = m->role,
				    .reasoning = m->reasoning,
				    .created_ms = m->created_ms ? m->created_ms
								: d->created_ms};
	struct node *known;
	int at;

	ASSERT(parent < d->n && (!m->own || own));
	if (parent >= 0)
		memcpy(line.parent, d->nodes[parent]->hash, MOVE_HASH_BYTES);
	move_write_parts(&parts, m->text ? m->text : "", own);
	line.parts = buf_str(&parts);
	tree_hash(parent < 0 ? NULL : line.parent, role_name(m->role), line.parts,
		  line.hash);
	HASH_FIND(hh, d->index, line.hash, MOVE_HASH_BYTES, known);
	if (known) {
		at = known->at;
	} else {
		move_write_message(&d->messages, &line);
		note_first(d, m);
		at = keep_node(d, line.hash, parent);
	}
	buf_free(&parts);
	cJSON_free(own);
	return at;
}

void draft_turn(struct draft *d, const struct draft_turn *t)
{
	char hashes[3][STORE_HASH_TEXT_BYTES] = {"", "", ""};
	const int at[] = {t->base, t->prompt, t->reply};
	char *model = xstrndup(t->model ? t->model : "", MOVE_MAX_NAME_BYTES);
	struct move_turn line = {
		.row = {.request = "",
			.status = t->reply < 0 ? "interrupted" : "done",
			.model = model,
			.provider = t->provider,
			.base = hashes[0],
			.prompt = hashes[1],
			.reply = hashes[2],
			.tokens_in = t->tokens_in,
			.tokens_cached = -1,
			.tokens_out = t->tokens_out,
			.ttft_ms = -1,
			.total_ms = t->total_ms,
			.cost_usd = -1,
			.created_ms = t->created_ms ? t->created_ms : d->created_ms}};

	for (size_t i = 0; i < ARRAY_LEN(at); i++)
		if (at[i] >= 0)
			move_hash_text(d->nodes[at[i]]->hash, hashes[i]);
	model[cut_at(str_of(model), MOVE_MAX_NAME_BYTES, MOVE_MAX_NAME_BYTES)] = 0;
	if (t->prompt >= 0)
		move_write_turn(&d->turns, &line);
	free(model);
}

/* ULID: 48 bits of time, then 80 of a hash. */
static void make_id(const struct draft *d, int head, char out[CONVERSATION_ID_BYTES])
{
	static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
	uint8_t sum[SHA256_DIGEST_LENGTH];
	uint64_t ms = (uint64_t)d->known_ms;
	unsigned bits = 0, have = 0;
	SHA2_CTX ctx;

	SHA256Init(&ctx);
	SHA256Update(&ctx, (const uint8_t *)d->source, strlen(d->source) + 1);
	if (d->foreign_id)
		SHA256Update(&ctx, (const uint8_t *)d->foreign_id, strlen(d->foreign_id));
	else
		SHA256Update(&ctx, d->nodes[head]->hash, MOVE_HASH_BYTES);
	SHA256Final(sum, &ctx);
	for (int i = 9; i >= 0; i--, ms >>= 5)
		out[i] = digits[ms & 31];
	for (int i = 10, at = 0; i < 26; i++, have -= 5) {
		if (have < 5) {
			bits = bits << 8 | sum[at++];
			have += 8;
		}
		out[i] = digits[bits >> (have - 5) & 31];
	}
	out[CONVERSATION_ID_BYTES - 1] = 0;
}

/* A line of text that hob takes: owned by the caller. */
static char *title_text(const char *title)
{
	struct str t = str_of(title);
	char *out;

	t.len = cut_at(t, STORE_MAX_TITLE_BYTES, STORE_MAX_TITLE_BYTES);
	out = str_dup(t);
	for (char *p = out; *p; p++)
		if ((unsigned char)*p < 0x20)
			*p = ' ';
	return out;
}

int draft_end(struct draft *d, int head, const char *title, const char *model,
	      int64_t updated_ms, import_sink *sink, void *arg, struct err *e)
{
	char id[CONVERSATION_ID_BYTES], hash[STORE_HASH_TEXT_BYTES];
	struct move_conversation c = {.id = id, .head = hash, .metadata = "{}"};
	struct buf lines = {0};
	char *name, *by;
	int rc;

	if (!d->n) {
		d->counts->empty++;
		return 0;
	}
	head = head < 0 || head >= d->n ? d->n - 1 : head;
	make_id(d, head, id);
	move_hash_text(d->nodes[head]->hash, hash);
	c.title_by = title && *title ? "user" : "";
	name = title_text(title && *title ? title : d->first ? d->first : "");
	by = title_text(model ? model : "");
	c.title = name;
	c.model = by;
	c.created_ms = d->created_ms;
	c.updated_ms = updated_ms ? updated_ms : d->created_ms;
	move_write_conversation(&lines, &c);
	buf_add(&lines, d->messages.data, d->messages.len);
	buf_add(&lines, d->turns.data, d->turns.len);
	d->counts->conversations++;
	d->counts->branches--;
	for (int i = 0; i < d->n; i++)
		d->counts->branches += !d->nodes[i]->has_child;
	rc = sink(arg, buf_str(&lines), e);
	buf_free(&lines);
	free(name);
	free(by);
	return rc;
}

int64_t draft_ms(double seconds)
{
	const double year_9999 = 253402300799.0;

	return isfinite(seconds) && seconds > 0 && seconds < year_9999
		       ? (int64_t)llround(seconds * 1000)
		       : 0;
}

void draft_skip(struct import_counts *counts, const char *what, const char *why)
{
	if (!counts->skipped++)
		snprintf(counts->why, sizeof(counts->why), "%s: %.200s", what, why);
}
