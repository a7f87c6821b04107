/* conversations.json of ChatGPT's export: each conversation a tree of nodes, and the one shown last.
 *
 * A command's thread.  The format has no description; what is known of it: `mapping` holds nodes by id
 * with `parent` and perhaps `message`, `current_node` is the leaf that was shown, times are seconds
 * with fractions, `content.content_type` says what `content` holds.  Parents alone make the tree:
 * lists of children may disagree with them.  One conversation at a time is a tree in memory, so that
 * the size of the file does not matter. */
#include <uthash.h>
#include "base/json.h"
#include "memory/import_formats.h"
#include "memory/json_slice.h"

enum { MAX_CONVERSATION_BYTES = 256 << 20, MAX_THOUGHTS_BYTES = 1 << 20 };

struct node {
	const char *id;       /* borrowed from the tree */
	const cJSON *message; /* or NULL */
	int parent;           /* index, or -1 */
	int first, next;      /* children and siblings, in the file's order; -1 = none */
	int out;        /* the draft's message that stands here or above; -1 = none */
	char *thoughts; /* owned: reasoning for the answer that follows, or NULL */
	char call[48];  /* id of the tool call that the message is, or "" */
	bool is_call;   /* a tool answers it */
	UT_hash_handle hh;
};

struct chat {
	struct node *nodes, *by_id;
	int n;
	struct draft *draft;
	struct import_counts *counts;
};

bool import_chatgpt_sniff(struct str text)
{
	size_t n = text.len;

	while (n && strchr(" \t\r\n\xef\xbb\xbf", *text.ptr) && *text.ptr) {
		text.ptr++;
		n--;
	}
	return n && (*text.ptr == '[' || *text.ptr == '{') &&
	       memmem(text.ptr, n, "\"mapping\"", 9) != NULL;
}

static const cJSON *member(const cJSON *obj, const char *key)
{
	return cJSON_IsObject(obj) ? cJSON_GetObjectItemCaseSensitive(obj, key) : NULL;
}

static const char *text_of(const cJSON *obj, const char *key)
{
	const cJSON *v = member(obj, key);

	return cJSON_IsString(v) ? v->valuestring : "";
}

static int64_t time_of(const cJSON *obj, const char *key)
{
	const cJSON *v = member(obj, key);

	return cJSON_IsNumber(v) ? draft_ms(v->valuedouble) : 0;
}

/* ---- the tree ---- */

static int find(const struct chat *c, const char *id)
{
	struct node *found;

	HASH_FIND_STR(c->by_id, id, found);
	return found ? (int)(found - c->nodes) : -1;
}

static void link_nodes(struct chat *c, const cJSON *mapping)
{
	const cJSON *item;
	int i = 0, *last = xcalloc((size_t)c->n + 1, sizeof(*last));

	cJSON_ArrayForEach(item, mapping)
	{
		struct node *n = &c->nodes[i];

		n->parent = find(c, text_of(item, "parent"));
		n->parent = n->parent == i ? -1 : n->parent;
		if (n->parent >= 0) {
			struct node *above = &c->nodes[n->parent];

			if (above->first < 0)
				above->first = i;
			else
				c->nodes[last[n->parent]].next = i;
			last[n->parent] = i;
			above->is_call |= !strcmp(
				text_of(member(n->message, "author"), "role"), "tool");
		}
		i++;
	}
	free(last);
}

static void read_nodes(struct chat *c, const cJSON *mapping)
{
	const cJSON *item;

	c->nodes = xcalloc((size_t)cJSON_GetArraySize(mapping) + 1, sizeof(*c->nodes));
	cJSON_ArrayForEach(item, mapping)
	{
		struct node *n = &c->nodes[c->n], *twin;

		*n = (struct node){.id = item->string,
				   .parent = -1,
				   .first = -1,
				   .next = -1,
				   .out = -1};
		n->message = member(item, "message");
		if (!cJSON_IsObject(n->message))
			n->message = NULL;
		HASH_FIND_STR(c->by_id, n->id, twin);
		if (!twin)
			HASH_ADD_KEYPTR(hh, c->by_id, n->id, strlen(n->id), n);
		c->n++;
	}
	link_nodes(c, mapping);
}

static void free_nodes(struct chat *c)
{
	HASH_CLEAR(hh, c->by_id);
	for (int i = 0; i < c->n; i++)
		free(c->nodes[i].thoughts);
	free(c->nodes);
}

/* ---- what a message says ---- */

static void add_block(struct buf *out, const char *text)
{
	if (!*text)
		return;
	if (out->len && out->data[out->len - 1] != '\n')
		buf_addc(out, '\n');
	buf_adds(out, text);
}

static void add_note(struct chat *c, struct buf *out, const char *type, const char *what)
{
	char note[512];

	snprintf(note, sizeof(note), "[%.100s%s%.300s]", *type ? type : "unknown content",
		 *what ? ": " : "", what);
	add_block(out, note);
	c->counts->notes++;
}

/* An image, a sound, a transcript among the parts. */
static void add_part(struct chat *c, struct buf *out, const cJSON *part)
{
	const char *type = text_of(part, "content_type");

	if (cJSON_IsString(part))
		add_block(out, part->valuestring);
	else if (!strcmp(type, "audio_transcription"))
		add_block(out, text_of(part, "text"));
	else if (cJSON_IsObject(part))
		add_note(c, out, type, text_of(part, "asset_pointer"));
	else if (part && !cJSON_IsNull(part))
		add_note(c, out, "", "");
}

static void add_parts(struct chat *c, struct buf *out, const cJSON *content)
{
	const cJSON *part;

	cJSON_ArrayForEach(part, member(content, "parts")) add_part(c, out, part);
}

static void add_code(struct chat *c, struct buf *out, const cJSON *content)
{
	const char *language = text_of(content, "language");

	UNUSED(c);
	buf_addf(out, "```%.40s\n", strcmp(language, "unknown") ? language : "");
	buf_adds(out, text_of(content, "text"));
	buf_adds(out, "\n```");
}

static void add_text(struct chat *c, struct buf *out, const cJSON *content)
{
	UNUSED(c);
	add_block(out, text_of(content, "text"));
}

static void add_quote(struct chat *c, struct buf *out, const cJSON *content)
{
	UNUSED(c);
	add_block(out, text_of(content, "title"));
	add_block(out, text_of(content, "url"));
	add_block(out, text_of(content, "text"));
}

static void add_browsing(struct chat *c, struct buf *out, const cJSON *content)
{
	UNUSED(c);
	add_block(out, text_of(content, "summary"));
	add_block(out, text_of(content, "result"));
}

static void add_context(struct chat *c, struct buf *out, const cJSON *content)
{
	UNUSED(c);
	add_block(out, text_of(content, "user_profile"));
	add_block(out, text_of(content, "user_instructions"));
	add_block(out, text_of(content, "model_set_context"));
}

/* What else has words says them; what has none is named. */
static void add_unknown(struct chat *c, struct buf *out, const cJSON *content)
{
	add_note(c, out, text_of(content, "content_type"), text_of(content, "name"));
	add_block(out, text_of(content, "text"));
	add_block(out, text_of(content, "result"));
	add_parts(c, out, content);
}

static const struct {
	const char *type; /* the beginning of content_type */
	void (*add)(struct chat *c, struct buf *out, const cJSON *content);
} kinds[] = {
	{"text", add_parts},
	{"multimodal_text", add_parts},
	{"code", add_code},
	{"execution_output", add_text},
	{"tether_quote", add_quote},
	{"tether_browsing", add_browsing},
	{"user_editable_context", add_context},
	{"model_editable_context", add_context},
	{"", add_unknown},
};

static void add_content(struct chat *c, struct buf *out, const cJSON *content)
{
	const char *type = text_of(content, "content_type");
	size_t i = 0;

	while (strncmp(type, kinds[i].type, strlen(kinds[i].type)) != 0)
		i++;
	kinds[i].add(c, out, content);
}

/* Files beside a message; images stand among its parts already. */
static void add_attachments(struct chat *c, struct buf *out, const cJSON *message)
{
	const cJSON *file, *files = member(member(message, "metadata"), "attachments");

	if (!cJSON_IsArray(files))
		return;
	cJSON_ArrayForEach(file, files)
	{
		if (strncmp(text_of(file, "mime_type"), "image/", 6) != 0 &&
		    strncmp(text_of(file, "mimeType"), "image/", 6) != 0)
			add_note(c, out, "attachment", text_of(file, "name"));
	}
}

/* A model's thinking is a message of its own there: it belongs to the answer behind it. */
static bool is_thought(const cJSON *content, struct buf *out)
{
	const char *type = text_of(content, "content_type");
	const cJSON *t;

	if (!strcmp(type, "reasoning_recap")) {
		add_block(out, text_of(content, "content"));
		return true;
	}
	if (strcmp(type, "thoughts") != 0)
		return false;
	cJSON_ArrayForEach(t, member(content, "thoughts"))
	{
		add_block(out, text_of(t, "summary"));
		add_block(out, text_of(t, "content"));
	}
	return true;
}

/* Never shown: marked so, or of no weight and not said by anybody. */
static bool is_hidden(const cJSON *message, const char *role)
{
	const cJSON *weight = member(message, "weight");

	if (cJSON_IsTrue(member(member(message, "metadata"),
				"is_visually_hidden_from_conversation")))
		return true;
	return cJSON_IsNumber(weight) && weight->valuedouble <= 0 &&
	       (!strcmp(role, "system") || !strcmp(role, "tool"));
}

/* ---- a message in OpenAI's dialect, where a tool takes part ---- */

/* The assistant speaks to a tool that answers: a call. */
static cJSON *call_of(struct node *n, const cJSON *content, const char *words)
{
	const char *to = text_of(n->message, "recipient");
	cJSON *own, *calls, *call, *function, *arguments;
	char *printed;

	if (!n->is_call || !*to || !strcmp(to, "all"))
		return NULL;
	snprintf(n->call, sizeof(n->call), "call_%.40s", n->id);
	arguments = cJSON_CreateObject();
	cJSON_AddStringToObject(arguments, "input",
				*text_of(content, "text") ? text_of(content, "text")
							  : words);
	printed = cJSON_PrintUnformatted(arguments);
	ASSERT(printed != NULL);
	own = cJSON_CreateObject();
	cJSON_AddStringToObject(own, "role", "assistant");
	cJSON_AddNullToObject(own, "content");
	calls = cJSON_AddArrayToObject(own, "tool_calls");
	call = cJSON_CreateObject();
	cJSON_AddItemToArray(calls, call);
	cJSON_AddStringToObject(call, "id", n->call);
	cJSON_AddStringToObject(call, "type", "function");
	function = cJSON_AddObjectToObject(call, "function");
	cJSON_AddStringToObject(function, "name", to);
	cJSON_AddStringToObject(function, "arguments", printed);
	cJSON_free(printed);
	cJSON_Delete(arguments);
	return own;
}

/* A tool's answer to that call. */
static cJSON *result_of(const char *call, const char *words)
{
	cJSON *own = cJSON_CreateObject();

	cJSON_AddStringToObject(own, "role", "tool");
	cJSON_AddStringToObject(own, "tool_call_id", call);
	cJSON_AddStringToObject(own, "content", words);
	return own;
}

/* ---- nodes in order ---- */

static void add_turn(struct chat *c, const struct node *n, int before)
{
	struct draft_turn t = {
		.base = -1,
		.prompt = before,
		.reply = n->out,
		.model = text_of(member(n->message, "metadata"), "model_slug"),
		.provider = "chatgpt",
		.tokens_in = -1,
		.tokens_out = -1,
		.total_ms = -1,
		.created_ms = time_of(n->message, "create_time")};

	draft_turn(c->draft, &t);
}

/* The message of a node that is shown, behind `before`. */
static void add_shown(struct chat *c, struct node *n, int before, const char *role_text,
		      char **thoughts)
{
	const cJSON *content = member(n->message, "content");
	const char *call = n->parent >= 0 ? c->nodes[n->parent].call : "";
	struct draft_message m = {.created_ms = time_of(n->message, "create_time")};
	struct buf words = {0};
	cJSON *own = NULL;

	add_content(c, &words, content);
	add_attachments(c, &words, n->message);
	if (!words.len) {
		c->counts->hidden++;
		return;
	}
	if (!role_by_name(role_text, &m.role)) {
		draft_skip(c->counts, "a message of role", role_text);
		buf_free(&words);
		return;
	}
	if (m.role == ROLE_ASSISTANT)
		own = call_of(n, content, words.data);
	else if (m.role == ROLE_TOOL && *call)
		own = result_of(call, words.data);
	else if (m.role ==
		 ROLE_TOOL) /* no call to answer: no API would take it as a result */
		m.role = ROLE_ASSISTANT;
	m.text = own && m.role == ROLE_ASSISTANT ? "" : words.data;
	m.own = own;
	m.reasoning = m.role == ROLE_ASSISTANT ? *thoughts : NULL;
	n->out = draft_add(c->draft, before, &m);
	if (m.role == ROLE_ASSISTANT && before >= 0)
		add_turn(c, n, before);
	free(*thoughts); /* they belong to this answer, or to none */
	*thoughts = NULL;
	cJSON_Delete(own);
	buf_free(&words);
}

/* Thoughts go down to the answer: to an only child without a copy. */
static char *inherit_thoughts(struct chat *c, const struct node *n)
{
	struct node *above = n->parent >= 0 ? &c->nodes[n->parent] : NULL;
	char *thoughts = above ? above->thoughts : NULL;

	if (!thoughts)
		return NULL;
	if (&c->nodes[above->first] != n || n->next >= 0)
		return xstrdup(thoughts);
	above->thoughts = NULL;
	return thoughts;
}

static void add_thought(struct node *n, struct buf *thought)
{
	struct buf both = {0};

	if (n->thoughts && strlen(n->thoughts) < MAX_THOUGHTS_BYTES)
		add_block(&both, n->thoughts);
	if (thought->len)
		add_block(&both, thought->data);
	free(n->thoughts);
	n->thoughts = both.len ? buf_take(&both, NULL) : NULL;
	buf_free(&both);
}

/* Its parent has been here before. */
static void visit(struct chat *c, struct node *n)
{
	const char *role = text_of(member(n->message, "author"), "role");
	struct buf thought = {0};

	n->out = n->parent >= 0 ? c->nodes[n->parent].out : -1;
	n->thoughts = inherit_thoughts(c, n);
	if (!n->message)
		return;
	if (is_hidden(n->message, role))
		c->counts->hidden++;
	else if (is_thought(member(n->message, "content"), &thought))
		add_thought(n, &thought);
	else
		add_shown(c, n, n->out, role, &n->thoughts);
	buf_free(&thought);
}

/* From each root down, without recursion; nodes of a cycle are never come upon. */
static void visit_all(struct chat *c)
{
	int seen = 0;

	for (int root = 0; root < c->n; root++) {
		int at = root;

		if (c->nodes[root].parent >= 0)
			continue;
		while (at >= 0) {
			visit(c, &c->nodes[at]);
			seen++;
			if (c->nodes[at].first >= 0) {
				at = c->nodes[at].first;
				continue;
			}
			while (at >= 0 && at != root && c->nodes[at].next < 0)
				at = c->nodes[at].parent;
			at = at == root ? -1 : c->nodes[at].next;
		}
	}
	for (; seen < c->n; seen++)
		draft_skip(c->counts, "a message", "its parents run in a circle");
}

static int one_conversation(const struct import_in *in, const cJSON *tree,
			    import_sink *sink, void *arg, struct import_counts *counts,
			    struct err *e)
{
	const char *id = *text_of(tree, "conversation_id")
				 ? text_of(tree, "conversation_id")
				 : text_of(tree, "id");
	struct chat c = {.counts = counts};
	int head, rc;

	c.draft = draft_new(in, "chatgpt", *id ? id : NULL, time_of(tree, "create_time"),
			    counts);
	read_nodes(&c, member(tree, "mapping"));
	visit_all(&c);
	head = find(&c, text_of(tree, "current_node"));
	rc = draft_end(c.draft, head < 0 ? -1 : c.nodes[head].out, text_of(tree, "title"),
		       text_of(tree, "default_model_slug"), time_of(tree, "update_time"),
		       sink, arg, e);
	free_nodes(&c);
	draft_free(c.draft);
	return rc;
}

/* -1 only when the sink says so: one conversation that cannot be read is counted. */
static int convert_text(const struct import_in *in, struct str text, import_sink *sink,
			void *arg, struct import_counts *counts, struct err *e)
{
	struct err why = {0};
	cJSON *tree = NULL;
	int rc = 0;

	if (text.len > MAX_CONVERSATION_BYTES)
		draft_skip(counts, "a conversation", "over 256 MiB");
	else if (!(tree = json_read(text, JSON_UTF8, &why)))
		draft_skip(counts, "a conversation", why.text);
	else if (!cJSON_IsObject(member(tree, "mapping")))
		draft_skip(counts, "a conversation", "no mapping");
	else
		rc = one_conversation(in, tree, sink, arg, counts, e);
	cJSON_Delete(tree);
	return rc;
}

int import_chatgpt(const struct import_in *in, import_sink *sink, void *arg,
		   struct import_counts *counts, struct err *e)
{
	struct str rest = in->text, one;
	int before;

	while (rest.len && *rest.ptr && strchr(" \t\r\n\xef\xbb\xbf", *rest.ptr)) {
		rest.ptr++;
		rest.len--;
	}
	if (rest.len && *rest.ptr == '{')
		return convert_text(in, rest, sink, arg, counts, e);
	while (json_slice_next(&rest, &one))
		if (convert_text(in, one, sink, arg, counts, e) < 0)
			return -1;
	before = counts->conversations + counts->empty + counts->skipped;
	if (!before)
		return err_set(e, ERR_INVALID, "no conversation in it");
	if (str_trim(rest).len == 0 || *str_trim(rest).ptr != ']')
		draft_skip(counts, "the end of the file", "it is cut off");
	return 0;
}
