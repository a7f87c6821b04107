/* Requests in OpenAI's dialect.  Pure functions, any thread.
 *
 * A reader may question that unknown members of a request go on to upstream: they are the model's own
 * parameters (reasoning_effort, logit_bias, plugins), and a list of all servers' would be old
 * tomorrow.  What is ours, or would choose a host or a model, is in the list below. */
#include "providers/openai.h"

#include <strings.h>

enum { SESSION_ID_MAX = 256 };

const struct provider_preset openai_llama_server = {.name = "llama-server",
						    .max_tokens_key = "max_tokens",
						    .stream_options = true,
						    .progress = true};

/* Members of extra_json that are never passed on: the core reads or sets them. */
static const char *const ours[] = {
	"model",      "messages",       "prompt",
	"stream",     "temperature",    "top_p",
	"top_k",      "min_p",          "seed",
	"max_tokens", "stream_options", "max_completion_tokens",
	"stop",       "session_id",     "n",
	"ignore_eos", "keep_alive",     "class",
	"supersede",  "conversation",   "return_progress",
	"api_base",   "base_url",       "api_key",
	"private",    "budget",         "route",
};

static bool is_ours(const char *key)
{
	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		if (!strcasecmp(ours[i], key))
			return true;
	return !strncasecmp(key, "hob_", 4) || !strncasecmp(key, "x-hob", 5) ||
	       !strcasecmp(key, "hob");
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

static void add_whole(struct buf *out, const char *key, int64_t v)
{
	add_key(out, key);
	buf_addi(out, v);
}

/* People write 0.7 and 0.95; printing such a number is half of what a body costs. */
static void add_share(struct buf *out, const char *key, double v)
{
	int hundredths = v < 1000 ? (int)(v * 100 + 0.5) : 0;

	add_key(out, key);
	if ((double)hundredths / 100 != v) {
		buf_addf(out, "%.6g", v);
		return;
	}
	buf_addi(out, hundredths / 100);
	buf_addc(out, '.');
	buf_addc(out, (char)('0' + hundredths / 10 % 10));
	buf_addc(out, (char)('0' + hundredths % 10));
}

static void add_sampling(struct buf *out, const struct provider_preset *d,
			 const struct sampling *s)
{
	if (s->temperature >= 0)
		add_share(out, "temperature", s->temperature);
	if (s->top_p >= 0)
		add_share(out, "top_p", s->top_p);
	if (s->min_p >= 0)
		add_share(out, "min_p", s->min_p);
	if (s->top_k >= 0)
		add_whole(out, "top_k", s->top_k);
	if (s->seed >= 0)
		add_whole(out, "seed", s->seed);
	if (s->max_tokens > 0)
		add_whole(out, d->max_tokens_key, s->max_tokens);
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

static int add_extra(struct buf *out, const char *extra, bool (*takes)(const char *key),
		     struct err *e)
{
	cJSON *tree;

	if (!extra)
		return 0;
	tree = json_parse(str_of(extra), e);
	if (!tree)
		return -1;
	for (const cJSON *m = cJSON_IsObject(tree) ? tree->child : NULL; m; m = m->next) {
		if (is_ours(m->string) || (takes && takes(m->string)))
			continue;
		add_key(out, m->string);
		json_print(out, m);
	}
	cJSON_Delete(tree);
	return 0;
}

static void add_streaming(struct buf *out, const struct provider_preset *d)
{
	buf_adds(out, ",\"stream\":true");
	if (d->stream_options) {
		buf_adds(out, ",\"stream_options\":{\"include_usage\":true");
		buf_adds(out, d->obfuscates ? ",\"include_obfuscation\":false}" : "}");
	}
	if (d->progress)
		buf_adds(out, ",\"return_progress\":true");
}

static void add_prompt(struct buf *out, const struct request *r)
{
	if (!r->is_chat) {
		add_text(out, "prompt", r->prompt ? r->prompt : "");
		return;
	}
	buf_adds(out, ",\"messages\":[");
	for (int i = 0; i < r->nmessages; i++) {
		if (i)
			buf_addc(out, ',');
		add_message(out, &r->messages[i]);
	}
	buf_addc(out, ']');
}

int openai_body(struct buf *out, const struct remote_ask *ask, struct err *e)
{
	const struct request *r = ask->request;

	buf_adds(out, "{\"model\":");
	buf_add_json(out, ask->model, strlen(ask->model));
	add_streaming(out, ask->preset);
	add_prompt(out, r);
	add_sampling(out, ask->preset, &r->sampling);
	if (ask->preset->sends_session_id && !(ask->takes && ask->takes("session_id")) &&
	    r->conversation && strcmp(r->conversation, "new") &&
	    strlen(r->conversation) <= SESSION_ID_MAX)
		add_text(out, "session_id", r->conversation);
	buf_add(out, ask->more.ptr, ask->more.len);
	if (add_extra(out, r->extra_json, ask->takes, e) < 0)
		return err_wrap(e, "extra fields of the request");
	buf_addc(out, '}');
	return 0;
}
