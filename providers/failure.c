/* The meaning of failures.  Pure, any thread.
 *
 * A reader may question that what the body says can win over the status: 429 with
 * "insufficient_quota" is no rate limit, and waiting does not end it; the same words also come
 * inside a 200, where there is no other sign.  Texts of 401 and 403 are dropped, because they
 * like to quote the key. */
#include "providers/failure.h"

#include <curl/curl.h>
#include <math.h>

#include "providers/answer.h"

enum { MAX_MESSAGE_BYTES = 300 };

static const struct {
	int status;
	enum err_code code;
	const char *what;
} statuses[] = {
	{400, ERR_INVALID, "refused the request"},
	{401, ERR_KEY, "refused the key"},
	{402, ERR_PAYMENT, "wants payment: the account has no credit left"},
	{403, ERR_KEY, "does not allow this"},
	{404, ERR_MODEL, "does not have this model"},
	{408, ERR_TIMEOUT, "timed out"},
	{413, ERR_TOO_LARGE, "says the request is too large"},
	{415, ERR_UNSUPPORTED, "does not understand this kind of request"},
	{422, ERR_INVALID, "refused the request"},
	{429, ERR_BUSY, "limits the rate: try again later"},
	{501, ERR_UNSUPPORTED, "cannot do this"},
	{503, ERR_UNAVAILABLE, "is overloaded"},
	{504, ERR_TIMEOUT, "timed out"},
	{524, ERR_TIMEOUT, "timed out"},
	{529, ERR_UNAVAILABLE, "is overloaded"},
};

static const char long_prompt[] = "says the prompt is longer than the model's context";
static const char no_model[] = "does not have this model";
static const char moderated[] = "refused the prompt by its content policy";
static const char no_credit[] = "wants payment: the quota is used up";

/* Names that stand alone in code, type or error_type.  Those that are `sure` win over the status;
 * the others count where there is none. */
static const struct {
	const char *name;
	enum err_code code;
	bool sure;
	const char *what;
} names[] = {
	{"context_length_exceeded", ERR_CONTEXT, true, long_prompt},
	{"exceed_context_size_error", ERR_CONTEXT, true, long_prompt},
	{"token_limit_exceeded", ERR_CONTEXT, true, long_prompt},
	{"model_not_found", ERR_MODEL, true, no_model},
	{"model_deprecated", ERR_MODEL, true, no_model},
	{"model_unavailable_upstream", ERR_MODEL, true, no_model},
	{"no_endpoints", ERR_MODEL, true, no_model},
	{"region_restricted", ERR_MODEL, true, "does not offer this model here"},
	{"content_policy_violation", ERR_POLICY, true, moderated},
	{"content_filter", ERR_POLICY, true, moderated},
	{"moderation_blocked", ERR_POLICY, true, moderated},
	{"refusal", ERR_POLICY, true, moderated},
	{"insufficient_quota", ERR_PAYMENT, true, no_credit},
	{"enforced_spend_limit_reached", ERR_PAYMENT, true, no_credit},
	{"billing_not_active", ERR_PAYMENT, true, no_credit},
	{"billing_error", ERR_PAYMENT, true, no_credit},
	{"payment_required", ERR_PAYMENT, true, no_credit},
	{"capacity_exhausted", ERR_BUSY, true, "has no capacity left: try again later"},
	{"temporarily_unavailable", ERR_UNAVAILABLE, true, "is not available now"},
	{"overloaded_error", ERR_UNAVAILABLE, true, "is overloaded"},
	{"provider_overloaded", ERR_UNAVAILABLE, true, "is overloaded"},
	{"rate_limit_exceeded", ERR_BUSY, true, "limits the rate: try again later"},
	{"rate_limit_error", ERR_BUSY, true, "limits the rate: try again later"},

	{"authentication_error", ERR_KEY, false, "refused the key"},
	{"authentication", ERR_KEY, false, "refused the key"},
	{"invalid_api_key", ERR_KEY, false, "refused the key"},
	{"permission_error", ERR_KEY, false, "does not allow this"},
	{"permission_denied", ERR_KEY, false, "does not allow this"},
	{"not_found_error", ERR_MODEL, false, no_model},
	{"not_found", ERR_MODEL, false, no_model},
	{"request_too_large", ERR_TOO_LARGE, false, "says the request is too large"},
	{"invalid_request_error", ERR_INVALID, false, "refused the request"},
	{"invalid_request", ERR_INVALID, false, "refused the request"},
	{"invalid_prompt", ERR_INVALID, false, "refused the request"},
	{"timeout_error", ERR_TIMEOUT, false, "timed out"},
	{"timeout", ERR_TIMEOUT, false, "timed out"},
	{"api_error", ERR_UNAVAILABLE, false, "failed"},
	{"server_error", ERR_UNAVAILABLE, false, "failed"},
	{"server", ERR_UNAVAILABLE, false, "failed"},
	{"provider_unavailable", ERR_UNAVAILABLE, false, "failed"},
	{"unavailable_error", ERR_UNAVAILABLE, false, "is not ready"},
};

/* Where only the sentence tells. */
static const struct {
	const char *phrase;
	enum err_code code;
	const char *what;
} phrases[] = {
	{"maximum context length", ERR_CONTEXT, long_prompt},
	{"context_length_exceeded", ERR_CONTEXT, long_prompt},
	{"exceeds the available context size", ERR_CONTEXT, long_prompt},
	{"prompt is too long", ERR_CONTEXT, long_prompt},
	{"exceed context limit", ERR_CONTEXT, long_prompt},
	{"not a valid model", ERR_MODEL, no_model},
	{"insufficient_quota", ERR_PAYMENT, no_credit},
	{"credit balance is too low", ERR_PAYMENT, no_credit},
};

/* What can be learnt of an error object; texts borrowed from the tree. */
struct cause {
	const char *message;
	const char *names[5]; /* code, type, error_type, availability, details */
	int status;           /* 0 = none */
	bool moderated;
	uint32_t retry_after_ms;
};

static uint32_t to_ms(double seconds)
{
	if (!(seconds > 0))
		return 0;
	seconds *= 1000;
	return seconds > FAILURE_MAX_RETRY_AFTER_MS ? FAILURE_MAX_RETRY_AFTER_MS
						    : (uint32_t)ceil(seconds);
}

/* A decimal number that is the whole text; < 0: it is none. */
static double number_of(struct str s)
{
	char text[32], *end;
	double v;

	s = str_trim(s);
	if (!s.len || s.len >= sizeof text || !strchr("0123456789.", s.ptr[0]))
		return -1;
	memcpy(text, s.ptr, s.len);
	text[s.len] = 0;
	v = strtod(text, &end);
	return *end ? -1 : v;
}

uint32_t failure_retry_after(const struct response_head *h)
{
	struct str ms = h->header(h->arg, "retry-after-ms");
	struct str s = h->header(h->arg, "retry-after");
	double v = number_of(ms);
	char date[64];
	time_t at;

	if (v >= 0)
		return to_ms(v / 1000);
	v = number_of(s);
	if (v >= 0 || s.len >= sizeof date)
		return to_ms(v);
	memcpy(date, s.ptr ? s.ptr : "", s.len);
	date[s.len] = 0;
	at = curl_getdate(date, NULL);
	return at <= 0 ? 0 : to_ms((double)(at - h->now_unix_s));
}

static void read_metadata(struct cause *c, const cJSON *meta)
{
	const cJSON *headers = NULL;
	const char *after = NULL;
	double seconds = 0;

	json_string(meta, "error_type", &c->names[2], NULL);
	/* OpenRouter's moderation and guardrails */
	c->moderated = cJSON_GetObjectItemCaseSensitive(meta, "reasons") ||
		       cJSON_GetObjectItemCaseSensitive(meta, "flagged_input") ||
		       cJSON_GetObjectItemCaseSensitive(meta, "patterns");
	json_double(meta, "retry_after_seconds", 0, 1e9, &seconds, NULL);
	if (!(seconds > 0) && json_object(meta, "headers", &headers, NULL) > 0 &&
	    json_string(headers, "Retry-After", &after, NULL) > 0)
		seconds = number_of(str_of(after));
	c->retry_after_ms = to_ms(seconds);
}

static void read_availability(struct cause *c, const cJSON *a)
{
	double seconds = 0;

	json_string(a, "code", &c->names[3], NULL);
	if (json_double(a, "retry_after", 0, 1e9, &seconds, NULL) > 0)
		c->retry_after_ms = to_ms(seconds);
}

static void read_cause(struct cause *c, const cJSON *error)
{
	const cJSON *code = cJSON_GetObjectItemCaseSensitive(error, "code");
	const cJSON *part = NULL;

	if (cJSON_IsString(error)) {
		c->message = error->valuestring;
		return;
	}
	json_string(error, "message", &c->message, NULL);
	json_string(error, "type", &c->names[1], NULL);
	if (cJSON_IsString(code))
		c->names[0] = code->valuestring;
	else if (cJSON_IsNumber(code) && code->valuedouble >= 100 &&
		 code->valuedouble < 600)
		c->status = (int)code->valuedouble;
	if (json_object(error, "metadata", &part, NULL) > 0)
		read_metadata(c, part);
	if (json_object(error, "availability", &part, NULL) > 0)
		read_availability(c, part);
	if (json_object(error, "details", &part, NULL) > 0)
		json_string(part, "error_code", &c->names[4], NULL);
}

static bool is_named(const struct cause *c, const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(c->names); i++)
		if (c->names[i] && !strcmp(c->names[i], name))
			return true;
	return false;
}

struct verdict {
	enum err_code code;
	const char *what;
};

static struct verdict verdict_of_status(int status)
{
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
		if (statuses[i].status == status)
			return (struct verdict){statuses[i].code, statuses[i].what};
	if (status >= 500)
		return (struct verdict){ERR_UNAVAILABLE, "failed"};
	if (status >= 400)
		return (struct verdict){ERR_INVALID, "refused the request"};
	if (status >= 300)
		return (struct verdict){ERR_UPSTREAM, "redirects: is its url right?"};
	return (struct verdict){ERR_UPSTREAM, "failed"};
}

static struct verdict judge(const struct cause *c, int status)
{
	struct verdict v = verdict_of_status(status);

	if (c->moderated)
		return (struct verdict){ERR_POLICY, moderated};
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if ((names[i].sure || status == 200) && is_named(c, names[i].name))
			return (struct verdict){names[i].code, names[i].what};
	if (status == 401 || status == 403)
		return v;
	for (size_t i = 0; i < ARRAY_LEN(phrases) && c->message; i++)
		if (strcasestr(c->message, phrases[i].phrase))
			return (struct verdict){phrases[i].code, phrases[i].what};
	return v;
}

/* Text from outside on one line, shortened at a character's border. */
static void clean(char *out, size_t size, const char *text)
{
	size_t n = strlen(text);

	if (n >= size)
		n = size - 1;
	n = answer_whole_utf8(text, n);
	for (size_t i = 0; i < n; i++)
		out[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? ' ' : text[i];
	out[n] = 0;
}

/* Waiting helps with these only. */
static bool may_wait(enum err_code code)
{
	return code == ERR_BUSY || code == ERR_UNAVAILABLE || code == ERR_PAYMENT;
}

static int set_failure(struct err *e, const struct failure *f, const struct cause *c)
{
	int status = f->status != 200 || !c->status ? f->status : c->status;
	uint32_t after_ms = c->retry_after_ms ? c->retry_after_ms : f->retry_after_ms;
	struct verdict v = judge(c, status);
	char message[MAX_MESSAGE_BYTES], where[40] = "", later[40] = "";
	int rc;

	if (status != 200)
		snprintf(where, sizeof where, " (status %d)", status);
	if (!may_wait(v.code) || (v.code == ERR_PAYMENT && status != 402))
		after_ms = 0;
	if (after_ms)
		snprintf(later, sizeof later, ", after %.6g s", after_ms / 1000.0);
	clean(message, sizeof message, c->message ? c->message : "");
	if (v.code == ERR_KEY)
		rc = err_set(e, v.code, "%.80s %s%s; its key is %.150s", f->who, v.what,
			     where, f->key_source ? f->key_source : "not configured");
	else
		rc = err_set(e, v.code, "%.80s %s%s%s%s%s", f->who, v.what, later, where,
			     message[0] ? ": " : "", message);
	if (e)
		e->retry_after_ms = after_ms;
	return rc;
}

int failure_of_error(struct err *e, const struct failure *f, const cJSON *error)
{
	struct cause c = {0};

	read_cause(&c, error);
	return set_failure(e, f, &c);
}

static bool is_html(const struct failure *f)
{
	struct str text = f->body;

	while (text.len && strchr(" \t\r\n", text.ptr[0]))
		text.ptr++, text.len--;
	return str_starts(f->content_type, "text/html") ||
	       (text.len && text.ptr[0] == '<');
}

int failure_of_response(struct err *e, const struct failure *f)
{
	struct cause c = {0};
	const cJSON *error, *part = NULL;
	cJSON *tree;
	int rc;

	if (is_html(f) && (f->status == 200 || f->status == 404))
		return err_set(e, ERR_UPSTREAM,
			       "%.80s answered with a web page (status %d): is "
			       "its url the base of an API?",
			       f->who, f->status);
	tree = json_parse(f->body, NULL);
	error = cJSON_GetObjectItemCaseSensitive(tree, "error");
	if (cJSON_IsNull(error) || cJSON_IsFalse(error))
		error = NULL;
	if (error)
		read_cause(&c, error);
	else if (json_string(tree, "message", &c.message, NULL) > 0)
		read_cause(&c, tree);
	else
		json_string(tree, "detail", &c.message, NULL);
	if (json_object(tree, "availability", &part, NULL) > 0)
		read_availability(&c, part);
	if (f->status == 200 && !error && !c.message)
		rc = err_set(e, ERR_UPSTREAM,
			     "%.80s answered with neither events nor JSON "
			     "that means anything here",
			     f->who);
	else
		rc = set_failure(e, f, &c);
	cJSON_Delete(tree);
	return rc;
}
