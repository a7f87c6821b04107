/* The dialect of OpenAI's chat completions: bodies, errors, usage.  Pure functions, any thread.
 *
 * A reader may question that 401 and 403 become ERR_UPSTREAM (502): passed on as they are, the
 * client would think that its own token for hob was refused. */
#include "providers/openai_wire.h"

#include <limits.h>
#include <strings.h>

enum { MAX_MESSAGE_BYTES = 300, SESSION_ID_MAX = 256 };

static const char *const openrouter_headers[] = {"X-Title: hob", NULL};

static const struct openai_dialect dialects[] = {
	{"openrouter.ai", "max_tokens", true, openrouter_headers, false},
	{"api.openai.com", "max_completion_tokens", false, NULL, false},
	{NULL, "max_tokens", false, NULL, false},
};

static const struct openai_dialect llama = {NULL, "max_tokens", false, NULL, true};

const struct openai_dialect *openai_dialect_of(const char *host)
{
	const struct openai_dialect *d = dialects;

	while (d->host && strcmp(d->host, host))
		d++;
	return d;
}

const struct openai_dialect *openai_dialect_llama(void)
{
	return &llama;
}

/* ---- requests ---- */

/* Members of extra_json that are never passed on: the core reads or sets them. */
static const char *const ours[] = {
	"model",          "messages",    "prompt",     "stream",
	"stream_options", "temperature", "top_p",      "top_k",
	"min_p",          "seed",        "max_tokens", "max_completion_tokens",
	"stop",           "session_id",  "n",          "ignore_eos",
	"keep_alive",     "class",       "supersede",  "return_progress",
};

static bool is_ours(const char *key)
{
	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		if (!strcasecmp(ours[i], key))
			return true;
	return false;
}

static void add_key(struct buf *out, const char *key)
{
	buf_addc(out, ',');
	buf_add_json(out, key, strlen(key));
	buf_addc(out, ':');
}

static void add_text(struct buf *out, const char *key, const char *text)
{
	add_key(out, key);
	buf_add_json(out, text, strlen(text));
}

static void add_message(struct buf *out, const struct message *m)
{
	const char *role = role_name(m->role);

	if (m->raw_json) {
		buf_adds(out, m->raw_json);
		return;
	}
	buf_adds(out, "{\"role\":");
	buf_add_json(out, role, strlen(role));
	add_text(out, "content", m->text);
	buf_addc(out, '}');
}

static void add_sampling(struct buf *out, const struct openai_dialect *d,
			 const struct sampling *s)
{
	if (s->temperature >= 0)
		buf_addf(out, ",\"temperature\":%.6g", s->temperature);
	if (s->top_p >= 0)
		buf_addf(out, ",\"top_p\":%.6g", s->top_p);
	if (s->min_p >= 0)
		buf_addf(out, ",\"min_p\":%.6g", s->min_p);
	if (s->top_k >= 0)
		buf_addf(out, ",\"top_k\":%d", s->top_k);
	if (s->seed >= 0)
		buf_addf(out, ",\"seed\":%lld", (long long)s->seed);
	if (s->max_tokens > 0)
		buf_addf(out, ",\"%s\":%d", d->max_tokens_key, s->max_tokens);
	if (s->ignore_eos)
		buf_adds(out, ",\"ignore_eos\":true");
	if (s->nstops == 0)
		return;
	buf_adds(out, ",\"stop\":[");
	for (int i = 0; i < s->nstops; i++) {
		if (i)
			buf_addc(out, ',');
		buf_add_json(out, s->stops[i], strlen(s->stops[i]));
	}
	buf_addc(out, ']');
}

static int add_extra(struct buf *out, const char *extra, struct err *e)
{
	cJSON *tree;

	if (!extra)
		return 0;
	tree = json_parse(str_of(extra), e);
	if (!tree)
		return -1;
	for (const cJSON *m = cJSON_IsObject(tree) ? tree->child : NULL; m; m = m->next) {
		char *text = is_ours(m->string) ? NULL : cJSON_PrintUnformatted(m);

		if (!text)
			continue;
		add_key(out, m->string);
		buf_adds(out, text);
		cJSON_free(text);
	}
	cJSON_Delete(tree);
	return 0;
}

int openai_body(struct buf *out, const struct openai_dialect *d, const char *model,
		const struct request *r, struct err *e)
{
	buf_adds(out, "{\"model\":");
	buf_add_json(out, model, strlen(model));
	buf_adds(out, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
	if (d->progress)
		buf_adds(out, ",\"return_progress\":true");
	if (r->is_chat) {
		buf_adds(out, ",\"messages\":[");
		for (int i = 0; i < r->nmessages; i++) {
			if (i)
				buf_addc(out, ',');
			add_message(out, &r->messages[i]);
		}
		buf_addc(out, ']');
	} else {
		add_text(out, "prompt", r->prompt ? r->prompt : "");
	}
	add_sampling(out, d, &r->sampling);
	if (d->session_id && r->conversation && strcmp(r->conversation, "new") &&
	    strlen(r->conversation) <= SESSION_ID_MAX)
		add_text(out, "session_id", r->conversation);
	if (add_extra(out, r->extra_json, e) < 0)
		return err_wrap(e, "extra fields of the request");
	buf_addc(out, '}');
	return 0;
}

/* ---- errors ---- */

static const struct {
	int status;
	enum err_code code;
	const char *what;
} statuses[] = {
	{400, ERR_INVALID, "refused the request"},
	{401, ERR_UPSTREAM, "refused the key"},
	{402, ERR_UPSTREAM, "wants payment: the account has no credit left"},
	{403, ERR_UPSTREAM, "does not allow this"},
	{404, ERR_MODEL, "does not have this model"},
	{408, ERR_TIMEOUT, "timed out"},
	{413, ERR_TOO_LARGE, "says the request is too large"},
	{422, ERR_INVALID, "refused the request"},
	{429, ERR_BUSY, "limits the rate: try again later"},
	{503, ERR_UNAVAILABLE, "is overloaded"},
	{504, ERR_TIMEOUT, "timed out"},
	{524, ERR_TIMEOUT, "timed out"},
	{529, ERR_UNAVAILABLE, "is overloaded"},
};

/* Words that providers use in code, type, error_type or message, whatever the status.  The
 * first that fits wins. */
static const struct {
	const char *word;
	enum err_code code;
	const char *what;
} words[] = {
	{"context_length", ERR_CONTEXT,
	 "says the prompt is longer than the model's context"},
	{"maximum context length", ERR_CONTEXT,
	 "says the prompt is longer than the model's context"},
	{"exceed_context_size", ERR_CONTEXT,
	 "says the prompt is longer than the model's context"},
	{"model_not_found", ERR_MODEL, "does not have this model"},
	{"not a valid model", ERR_MODEL, "does not have this model"},
	{"insufficient_quota", ERR_UPSTREAM, "wants payment: the quota is used up"},
	{"rate_limit", ERR_BUSY, "limits the rate: try again later"},
	{"overloaded", ERR_UNAVAILABLE, "is overloaded"},
};

/* What can be learnt of an error object; texts borrowed from the tree. */
struct cause {
	const char *message, *code, *type, *error_type;
	int status; /* 0 = none */
};

static void read_cause(struct cause *c, const cJSON *error)
{
	const cJSON *code = cJSON_GetObjectItemCaseSensitive(error, "code"), *meta = NULL;

	if (cJSON_IsString(error)) {
		c->message = error->valuestring;
		return;
	}
	json_string(error, "message", &c->message, NULL);
	json_string(error, "type", &c->type, NULL);
	if (cJSON_IsString(code))
		c->code = code->valuestring;
	else if (cJSON_IsNumber(code) && code->valuedouble >= 100 &&
		 code->valuedouble < 600)
		c->status = (int)code->valuedouble;
	if (json_object(error, "metadata", &meta, NULL) > 0)
		json_string(meta, "error_type", &c->error_type, NULL);
}

static bool has_word(const char *text, const char *word)
{
	return text && strcasestr(text, word);
}

/* Text from outside on one line, shortened at a character's border. */
static void clean(char *out, size_t size, const char *text)
{
	size_t n = strlen(text);

	if (n >= size)
		n = size - 1;
	n = openai_whole_utf8(text, n);
	for (size_t i = 0; i < n; i++)
		out[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? ' ' : text[i];
	out[n] = 0;
}

static int set_failure(struct err *e, const struct openai_failure *f,
		       const struct cause *c)
{
	int status = f->status != 200 || !c->status ? f->status : c->status;
	const char *what =
		status >= 300 && status < 400 ? "redirects: is its url right?" : "failed";
	char message[MAX_MESSAGE_BYTES], where[40] = "", later[60] = "";
	enum err_code code = ERR_UPSTREAM;
	size_t i;

	for (i = 0; i < ARRAY_LEN(statuses); i++)
		if (statuses[i].status == status) {
			code = statuses[i].code;
			what = statuses[i].what;
		}
	for (i = 0; i < ARRAY_LEN(words) && status != 401 && status != 403; i++)
		if (has_word(c->code, words[i].word) ||
		    has_word(c->type, words[i].word) ||
		    has_word(c->error_type, words[i].word) ||
		    has_word(c->message, words[i].word)) {
			code = words[i].code;
			what = words[i].what;
			break;
		}
	if (status != 200)
		snprintf(where, sizeof where, " (status %d)", status);
	if (f->retry_after.len && f->retry_after.len < 20 && code == ERR_BUSY)
		snprintf(later, sizeof later, ", after %.*s s", (int)f->retry_after.len,
			 f->retry_after.ptr);
	if (status == 401 || status == 403) /* their text may quote the key */
		return err_set(e, code, "%.80s %s%s; its key is %.150s", f->who, what,
			       where, f->key_source ? f->key_source : "not configured");
	clean(message, sizeof message, c->message ? c->message : "");
	return err_set(e, code, "%.80s %s%s%s%s%s", f->who, what, later, where,
		       message[0] ? ": " : "", message);
}

int openai_chunk_error(struct err *e, const struct openai_failure *f, const cJSON *error)
{
	struct cause c = {0};

	read_cause(&c, error);
	return set_failure(e, f, &c);
}

static bool is_html(const struct openai_failure *f)
{
	struct str text = f->body;

	while (text.len && strchr(" \t\r\n", text.ptr[0]))
		text.ptr++, text.len--;
	return str_starts(f->content_type, "text/html") ||
	       (text.len && text.ptr[0] == '<');
}

int openai_failure(struct err *e, const struct openai_failure *f)
{
	struct cause c = {0};
	const cJSON *error;
	cJSON *tree;
	int rc;

	if (is_html(f) && (f->status == 200 || f->status == 404))
		return err_set(e, ERR_UPSTREAM,
			       "%.80s answered with a web page (status %d): is "
			       "its url the base of an OpenAI-compatible API?",
			       f->who, f->status);
	tree = json_parse(f->body, NULL);
	error = cJSON_GetObjectItemCaseSensitive(tree, "error");
	if (cJSON_IsNull(error))
		error = NULL;
	if (error) {
		read_cause(&c, error);
	} else if (json_string(tree, "message", &c.message, NULL) <= 0) {
		json_string(tree, "detail", &c.message, NULL);
	}
	if (f->status == 200 && !error)
		rc = err_set(e, ERR_UPSTREAM,
			     "%.80s answered with neither events nor JSON "
			     "that means anything here",
			     f->who);
	else
		rc = set_failure(e, f, &c);
	cJSON_Delete(tree);
	return rc;
}

/* ---- answers ---- */

static const struct {
	const char *name;
	enum finish_reason reason;
} finishes[] = {
	{"stop", FINISH_STOP},         {"length", FINISH_LENGTH},
	{"tool_calls", FINISH_TOOLS},  {"function_call", FINISH_TOOLS},
	{"tool_use", FINISH_TOOLS},    {"content_filter", FINISH_FILTER},
	{"end_turn", FINISH_STOP},     {"stop_sequence", FINISH_STOP},
	{"max_tokens", FINISH_LENGTH}, {"eos", FINISH_STOP},
};

bool openai_finish(const char *name, enum finish_reason *out)
{
	for (size_t i = 0; i < ARRAY_LEN(finishes); i++)
		if (!strcmp(finishes[i].name, name)) {
			*out = finishes[i].reason;
			return true;
		}
	return false;
}

static void read_count(const cJSON *obj, const char *key, int *out)
{
	int64_t v;

	if (json_int(obj, key, 0, INT_MAX, &v, NULL) > 0)
		*out = (int)v;
}

void openai_usage(const cJSON *usage, struct usage *u)
{
	const cJSON *details = NULL;

	read_count(usage, "prompt_tokens", &u->prompt_tokens);
	read_count(usage, "completion_tokens", &u->completion_tokens);
	if (json_object(usage, "prompt_tokens_details", &details, NULL) > 0)
		read_count(details, "cached_tokens", &u->cached_tokens);
	json_double(usage, "cost", 0, 1e9, &u->cost_usd, NULL);
}

void openai_timings(const cJSON *timings, struct usage *u)
{
	json_double(timings, "prompt_ms", 0, 1e12, &u->prefill_ms, NULL);
	json_double(timings, "predicted_ms", 0, 1e12, &u->decode_ms, NULL);
}

void openai_progress(const cJSON *progress, int64_t *done, int64_t *total)
{
	json_int(progress, "processed", 0, INT32_MAX, done, NULL);
	json_int(progress, "total", 0, INT32_MAX, total, NULL);
}

size_t openai_whole_utf8(const char *s, size_t n)
{
	size_t back = 0, need;
	unsigned char c;

	while (back < n && back < 3 && ((unsigned char)s[n - 1 - back] & 0xc0) == 0x80)
		back++;
	if (back == n)
		return n;
	c = (unsigned char)s[n - 1 - back];
	need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
	return need > back + 1 ? n - 1 - back : n;
}
