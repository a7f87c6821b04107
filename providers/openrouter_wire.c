/* OpenRouter's own JSON.  Pure functions, any thread.
 *
 * A reader may question the base price where a model has dearer bands for long prompts
 * (pricing.overrides): a price serves to compare models and to reserve money before a call, and most
 * prompts are short; what a call cost in the end, OpenRouter says itself. */
#include "providers/openrouter_wire.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <time.h>

enum { MAX_ID_BYTES = 256, MAX_TOKENS = 1 << 30 };

/* ---- requests ---- */

static const char *const taken[] = {"session_id", "user", "provider", "plugins"};

bool openrouter_takes(const char *key)
{
	for (size_t i = 0; i < ARRAY_LEN(taken); i++)
		if (!strcmp(taken[i], key))
			return true;
	return false;
}

static void add_names(cJSON *obj, const char *key, const struct names *names)
{
	cJSON *list;

	if (!names->n)
		return;
	list = cJSON_AddArrayToObject(obj, key);
	for (int i = 0; i < names->n; i++)
		cJSON_AddItemToArray(list, cJSON_CreateString(names->list[i]));
}

static void put(cJSON *obj, const char *key, cJSON *item)
{
	cJSON_DeleteItemFromObjectCaseSensitive(obj, key);
	cJSON_AddItemToObject(obj, key, item);
}

static bool says(const cJSON *obj, const char *key)
{
	const cJSON *m = cJSON_GetObjectItemCaseSensitive(obj, key);

	return m && !cJSON_IsNull(m);
}

static bool forbids_collection(const cJSON *provider)
{
	const char *s = NULL;

	return json_string(provider, "data_collection", &s, NULL) > 0 &&
	       !strcmp(s, "deny");
}

/* The section's first, then the client's over it, then what no client may undo. */
static cJSON *routing(const struct config_provider *c, const cJSON *client,
		      bool needs_parameters)
{
	cJSON *out = cJSON_CreateObject();
	const cJSON *m;
	bool deny = c->data_collection && !strcmp(c->data_collection, "deny");

	add_names(out, "order", &c->order);
	add_names(out, "only", &c->only);
	if (c->sort)
		cJSON_AddStringToObject(out, "sort", c->sort);
	if (c->data_collection)
		cJSON_AddStringToObject(out, "data_collection", c->data_collection);
	if (c->zdr != UNSAID)
		cJSON_AddBoolToObject(out, "zdr", c->zdr == YES);
	if (needs_parameters) /* else a tool that a server does not know is dropped in silence */
		cJSON_AddBoolToObject(out, "require_parameters", true);
	cJSON_ArrayForEach(m, client)
	{
		if (!strcmp(m->string, "only") && c->only.n)
			continue; /* who may see the prompt is the user's to say */
		put(out, m->string, cJSON_Duplicate(m, true));
	}
	if (c->ignore.n) {
		cJSON_DeleteItemFromObjectCaseSensitive(out, "ignore");
		add_names(out, "ignore", &c->ignore);
	}
	if (deny && !forbids_collection(out))
		put(out, "data_collection", cJSON_CreateString("deny"));
	if (c->zdr == YES)
		put(out, "zdr", cJSON_CreateTrue());
	return out;
}

static bool has_plugin(const cJSON *list, const char *id)
{
	const cJSON *m;

	cJSON_ArrayForEach(m, list)
	{
		const char *s = NULL;

		if (json_string(m, "id", &s, NULL) > 0 && !strcmp(s, id))
			return true;
	}
	return false;
}

static cJSON *plugins(const cJSON *client)
{
	cJSON *out = cJSON_IsArray(client) ? cJSON_Duplicate(client, true)
					   : cJSON_CreateArray(),
	      *off;

	if (has_plugin(out,
		       "context-compression")) /* the client knows what it asks for */
		return out;
	off = cJSON_CreateObject();
	cJSON_AddStringToObject(off, "id", "context-compression");
	cJSON_AddBoolToObject(off, "enabled", false);
	cJSON_AddItemToArray(out, off);
	return out;
}

static void add_tree(struct buf *out, const char *key, cJSON *tree)
{
	char *text = cJSON_PrintUnformatted(tree);

	if (text)
		buf_addf(out, ",\"%s\":%s", key, text);
	cJSON_free(text);
	cJSON_Delete(tree);
}

static void add_text(struct buf *out, const char *key, const char *text)
{
	buf_addf(out, ",\"%s\":", key);
	buf_add_json(out, text, strlen(text));
}

static void add_session(struct buf *out, const struct request *r, const cJSON *extra)
{
	const char *id = r->conversation;

	if (id && !strcmp(id, "new")) /* it has no id yet */
		id = NULL;
	if (!id)
		json_string(extra, "session_id", &id, NULL);
	if (id && id[0] && strlen(id) <= OPENROUTER_SESSION_MAX)
		add_text(out, "session_id", id);
}

void openrouter_members(struct buf *out, const struct config_provider *c,
			const struct request *r, const char *user)
{
	cJSON *extra = r->extra_json ? json_parse(str_of(r->extra_json), NULL) : NULL;
	const cJSON *client = NULL, *list = NULL;
	cJSON *provider;

	json_object(extra, "provider", &client, NULL);
	json_array(extra, "plugins", &list, NULL);
	add_session(out, r, extra);
	if (user)
		add_text(out, "user", user);
	provider = routing(c, client,
			   says(extra, "tools") || says(extra, "response_format"));
	if (provider->child)
		add_tree(out, "provider", provider);
	else
		cJSON_Delete(provider);
	if (r->is_chat)
		add_tree(out, "plugins", plugins(list));
	cJSON_Delete(extra);
}

/* ---- models ---- */

/* Prices are texts, USD per token; -1 stands for "it depends" (the auto router). */
static void read_price(const cJSON *pricing, const char *key, double *out)
{
	const cJSON *m = cJSON_GetObjectItemCaseSensitive(pricing, key);
	double v = -1;
	char *end;

	if (cJSON_IsNumber(m)) {
		v = m->valuedouble;
	} else if (cJSON_IsString(m) && m->valuestring[0]) {
		v = strtod(m->valuestring, &end);
		if (*end)
			return;
	}
	if (isfinite(v) && v >= 0 && v < 1e3)
		*out = v;
}

static int read_tokens(const cJSON *obj, const char *key)
{
	int64_t v;

	return json_int(obj, key, 1, MAX_TOKENS, &v, NULL) > 0 ? (int)v : 0;
}

/* UNSAID when there is no such list. */
static enum tristate lists(const cJSON *obj, const char *key, const char *word)
{
	const cJSON *list = NULL, *m;

	if (json_array(obj, key, &list, NULL) <= 0)
		return UNSAID;
	cJSON_ArrayForEach(m, list)
	{
		if (cJSON_IsString(m) && !strcmp(m->valuestring, word))
			return YES;
	}
	return NO;
}

static enum tristate either(enum tristate a, enum tristate b)
{
	return a == YES || b == YES ? YES : a == UNSAID ? b : a;
}

/* "2026-12-31", with a time of day or without: the start of that day, UTC. */
static int64_t read_day(const cJSON *obj, const char *key)
{
	const char *s = NULL;
	struct tm tm = {0};
	time_t t;

	if (json_string(obj, key, &s, NULL) <= 0 || !strptime(s, "%Y-%m-%d", &tm))
		return 0;
	t = timegm(&tm);
	return t > 0 ? t : 0;
}

static void read_prices(const cJSON *row, struct prices *p)
{
	const cJSON *pricing = NULL;

	if (json_object(row, "pricing", &pricing, NULL) <= 0)
		return;
	read_price(pricing, "prompt", &p->input);
	read_price(pricing, "completion", &p->output);
	read_price(pricing, "input_cache_read", &p->cached);
	read_price(pricing, "input_cache_write", &p->cache_write);
	read_price(pricing, "request", &p->request);
	read_price(pricing, "image", &p->image);
}

static bool read_model(const cJSON *row, struct remote_model *out)
{
	const cJSON *kind = NULL, *top = NULL;
	const char *id = NULL;
	int ctx;

	if (json_string(row, "id", &id, NULL) <= 0 || !id[0] || strlen(id) > MAX_ID_BYTES)
		return false;
	json_object(row, "architecture", &kind, NULL);
	if (lists(kind, "output_modalities", "text") == NO)
		return false;
	*out = REMOTE_MODEL_UNKNOWN;
	out->id = xstrdup(id);
	out->ctx = read_tokens(row, "context_length");
	if (json_object(row, "top_provider", &top, NULL) > 0) {
		ctx = read_tokens(top, "context_length");
		if (ctx && (!out->ctx || ctx < out->ctx))
			out->ctx = ctx;
		out->max_output = read_tokens(top, "max_completion_tokens");
	}
	out->images = lists(kind, "input_modalities", "image");
	out->tools = lists(row, "supported_parameters", "tools");
	out->structured = lists(row, "supported_parameters", "structured_outputs");
	out->reasoning = either(lists(row, "supported_parameters", "reasoning"),
				lists(row, "supported_parameters", "include_reasoning"));
	out->expires_unix_s = read_day(row, "expiration_date");
	read_prices(row, &out->prices);
	return true;
}

int openrouter_models(const cJSON *tree, struct remote_model **list, int *n)
{
	const cJSON *rows = NULL, *row;
	int count = 0;

	if (json_array(tree, "data", &rows, NULL) <= 0)
		return -1;
	for (row = rows->child; row && count < REMOTE_MODELS_MAX; row = row->next)
		count++;
	*list = xcalloc((size_t)count + 1, sizeof **list);
	*n = 0;
	for (row = rows->child; row && count--; row = row->next)
		*n += read_model(row, &(*list)[*n]);
	return 0;
}

/* ---- money ---- */

bool openrouter_quota(const cJSON *tree, struct openrouter_quota *out)
{
	const cJSON *data = NULL;
	const char *resets = NULL;
	bool yes;

	*out = (struct openrouter_quota){-1, -1, -1, -1, -1, -1, UNSAID, ""};
	if (json_object(tree, "data", &data, NULL) <= 0)
		return false;
	json_double(data, "limit", 0, 1e9, &out->limit, NULL);
	json_double(data, "limit_remaining", -1e9, 1e9, &out->remaining, NULL);
	if (out->limit < 0) /* null: no limit; then there is no rest of it either */
		out->remaining = -1;
	else if (out->remaining < 0)
		out->remaining = 0;
	json_double(data, "usage", 0, 1e9, &out->usage, NULL);
	json_double(data, "usage_daily", 0, 1e9, &out->daily, NULL);
	json_double(data, "usage_weekly", 0, 1e9, &out->weekly, NULL);
	json_double(data, "usage_monthly", 0, 1e9, &out->monthly, NULL);
	if (json_bool(data, "is_free_tier", &yes, NULL) > 0)
		out->free_tier = yes ? YES : NO;
	if (json_string(data, "limit_reset", &resets, NULL) > 0 &&
	    strlen(resets) < sizeof out->resets)
		snprintf(out->resets, sizeof out->resets, "%s", resets);
	return true;
}

static void add_usd(struct buf *out, const char *key, double usd)
{
	if (usd < 0)
		buf_addf(out, "\"%s\":null,", key);
	else
		buf_addf(out, "\"%s\":%.9g,", key, usd);
}

void openrouter_quota_json(struct buf *out, const struct openrouter_quota *q,
			   int64_t age_s)
{
	buf_addc(out, '{');
	add_usd(out, "limit_usd", q->limit);
	add_usd(out, "remaining_usd", q->remaining);
	add_usd(out, "usage_usd", q->usage);
	add_usd(out, "daily_usd", q->daily);
	add_usd(out, "weekly_usd", q->weekly);
	add_usd(out, "monthly_usd", q->monthly);
	if (q->resets[0]) {
		buf_adds(out, "\"resets\":");
		buf_add_json(out, q->resets, strlen(q->resets));
		buf_addc(out, ',');
	}
	buf_addf(out, "\"free_tier\":%s,\"age_s\":%lld}",
		 q->free_tier == UNSAID ? "null"
		 : q->free_tier == YES  ? "true"
					: "false",
		 (long long)age_s);
}

static int tokens_of(const cJSON *data, const char *native, const char *plain)
{
	int64_t v;

	if (json_int(data, native, 0, INT_MAX, &v, NULL) > 0 ||
	    json_int(data, plain, 0, INT_MAX, &v, NULL) > 0)
		return (int)v;
	return -1;
}

bool openrouter_bill(const cJSON *tree, struct late_cost *out)
{
	const cJSON *data = NULL;
	double cost;

	if (json_object(tree, "data", &data, NULL) <= 0 ||
	    json_double(data, "total_cost", 0, 1e9, &cost, NULL) <= 0)
		return false;
	out->cost_usd = cost;
	out->prompt_tokens = tokens_of(data, "native_tokens_prompt", "tokens_prompt");
	out->completion_tokens =
		tokens_of(data, "native_tokens_completion", "tokens_completion");
	return true;
}
