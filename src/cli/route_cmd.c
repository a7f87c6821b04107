/* hob route explain, hob providers: where a prompt would go, and what there is to go to.
 *
 * Main thread.  A dry run sends the prompt to the daemon as a real one would, and to nobody else; images and
 * tools are stood for by the smallest of their kind, since only that they are there matters. */
#include <errno.h>

#include "cli/ask.h"
#include "cli/listing.h"

enum { FILE_MAX_BYTES = 8 << 20 /* of all files; the daemon's limit is 32 MiB */ };

enum {
	OPT_JSON,
	OPT_NO_START,
	OPT_MODEL,
	OPT_PROMPT,
	OPT_FILE,
	OPT_IMAGE,
	OPT_TOOLS,
	OPT_PRIVATE,
	OPT_NR
};

static const struct args_option options[OPT_NR] = {
	[OPT_JSON] = {"json", 0, NULL, "print the daemon's JSON"},
	[OPT_NO_START] = {"no-start", 0, NULL,
			  "fail (status 4) when the daemon is not running"},
	[OPT_MODEL] = {"model", 'm', "MODEL",
		       "model or route; the default one otherwise"},
	[OPT_PROMPT] = {"prompt", 'p', "TEXT", "the prompt; words after the options too"},
	[OPT_FILE] = {"file", 'f', "FILE", "text that goes with it; several are fine"},
	[OPT_IMAGE] = {"image", 0, NULL, "as if an image went with it"},
	[OPT_TOOLS] = {"tools", 0, NULL, "as if tools might be called"},
	[OPT_PRIVATE] = {"private", 0, NULL, "it must not leave this machine"},
};

static const struct args_spec spec = {
	.command = "route",
	.usage = "explain [OPTION]... [PROMPT]...",
	.summary = "Shows where a prompt would go, and why.  Sends it nowhere.",
	.options = options,
	.noptions = OPT_NR,
	.notes =
		"The models are in the order in which they would be tried; those without a number\n"
		"cannot answer.  FIRST TOKEN and COST are predicted, COST for the longest answer.",
};

struct query {
	struct listing l;
	const char *model;
	struct buf prompt;
	bool image, tools, is_private;
};

static void add_part(struct buf *prompt, const char *text)
{
	if (prompt->len)
		buf_addc(prompt, '\n');
	buf_adds(prompt, text);
}

static int add_file(struct query *q, const char *path)
{
	FILE *f = fopen(path, "re");
	char bytes[16384];
	size_t n = 0, total = 0;
	int rc = 0;

	if (!f)
		return err_sys(&q->l.e, errno, "open '%s'", path);
	add_part(&q->prompt, "");
	while (total <= FILE_MAX_BYTES && (n = fread(bytes, 1, sizeof bytes, f)) > 0) {
		buf_add(&q->prompt, bytes, n);
		total += n;
	}
	if (ferror(f))
		rc = err_sys(&q->l.e, errno, "read '%s'", path);
	else if (total > FILE_MAX_BYTES)
		rc = err_set(&q->l.e, ERR_TOO_LARGE, "'%s' is larger than %d MiB", path,
			     FILE_MAX_BYTES >> 20);
	fclose(f);
	return rc;
}

static bool take_option(struct query *q, int option, const char *value)
{
	switch (option) {
	case OPT_JSON:
		q->l.json = true;
		break;
	case OPT_NO_START:
		q->l.no_start = true;
		break;
	case OPT_MODEL:
		q->model = value;
		break;
	case OPT_PROMPT:
		add_part(&q->prompt, value);
		break;
	case OPT_FILE:
		if (add_file(q, value) < 0) {
			listing_fail(&q->l, CLI_FAIL);
			return false;
		}
		break;
	case OPT_IMAGE:
		q->image = true;
		break;
	case OPT_TOOLS:
		q->tools = true;
		break;
	default:
		q->is_private = true;
		break;
	}
	return true;
}

/* True when the command may go on.  argv[1] is "explain". */
static bool query_args(struct query *q, int argc, char **argv)
{
	struct args a;
	const char *value;
	int option;

	if (argc < 2 || (strcmp(argv[1], "explain") && argv[1][0] != '-')) {
		q->l.status =
			args_usage(&spec, "what? 'hob route explain' is all there is");
		return false;
	}
	if (argv[1][0] != '-') { /* else --help */
		argc--;
		argv++;
	}
	args_init(&a, &spec, argc, argv);
	while ((option = args_next(&a, &value)) >= 0)
		if (!take_option(q, option, value))
			return false;
	for (int i = a.first; option == ARGS_END && i < argc; i++)
		add_part(&q->prompt, argv[i]);
	if (option == ARGS_STOP)
		q->l.status = a.status;
	else if (!q->prompt.len)
		q->l.status = args_usage(&spec, "a prompt is needed: --prompt TEXT");
	return option == ARGS_END && !q->l.status;
}

static void add_body(const struct query *q, struct buf *body)
{
	buf_adds(body, "{\"model\":");
	buf_add_json(body, q->model ? q->model : "default",
		     strlen(q->model ? q->model : "default"));
	buf_adds(body,
		 ",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
		 "\"text\":");
	buf_add_json(body, q->prompt.data, q->prompt.len);
	buf_adds(body, "}");
	if (q->image)
		buf_adds(body,
			 ",{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:,\"}}");
	buf_adds(body, "]}]");
	if (q->tools)
		buf_adds(body,
			 ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":"
			 "\"f\",\"parameters\":{}}}]");
	buf_addc(body, '}');
}

static cJSON *query_send(struct query *q)
{
	struct client_reply reply = {0};
	struct buf body = {0};
	struct client_request r = {.method = "POST",
				   .path = "/v1/hob/route/explain",
				   .is_private = q->is_private,
				   .total_timeout_ms = CLIENT_CALL_TIMEOUT_MS};
	cJSON *tree = NULL;

	add_body(q, &body);
	r.body = buf_str(&body);
	if (client_do(q->l.client, &r, &reply, &q->l.e) == 0) {
		if (reply.status == 200)
			tree = json_parse(buf_str(&reply.body), &q->l.e);
		else
			client_error(&reply, &q->l.e);
	}
	client_reply_fini(&reply);
	buf_free(&body);
	if (!tree)
		listing_fail(&q->l, ask_exit_status(&q->l.e));
	return tree;
}

/* ---- tables */

static char *cell_seconds(const cJSON *o, const char *key)
{
	double ms;

	if (json_double(o, key, 0, 1e12, &ms, NULL) != 1)
		return xstrdup("-");
	return xasprintf(ms < 9950 ? "%.2f s" : "%.0f s", ms / 1000);
}

static char *cell_number(const cJSON *o, const char *key, int digits)
{
	double x;

	if (json_double(o, key, -1e12, 1e12, &x, NULL) != 1)
		return xstrdup("-");
	return xasprintf("%.*f", digits, x);
}

static char *cell_usd(const cJSON *o, const char *key)
{
	double usd;

	if (json_double(o, key, 0, 1e9, &usd, NULL) != 1)
		return xstrdup("-");
	return usd > 0 ? xasprintf("$%.6f", usd) : xstrdup("0");
}

static bool is_true(const cJSON *o, const char *key)
{
	bool b = false;

	json_bool(o, key, &b, NULL);
	return b;
}

static void print_features(const cJSON *tree)
{
	const cJSON *f = NULL;
	char *code, *class;

	if (json_object(tree, "features", &f, NULL) != 1)
		return;
	code = cell_string(f, "code");
	class = cell_string(f, "class");
	printf("about %lld tokens, %s", (long long)listing_int(f, "tokens", 0), class);
	if (strcmp(code, "-"))
		printf(", %s code", code);
	printf("%s%s%s%s\n", is_true(f, "images") ? ", images" : "",
	       is_true(f, "tools") ? ", tools" : "",
	       is_true(f, "structured") ? ", structured output" : "",
	       is_true(f, "private") ? ", private" : "");
	free(code);
	free(class);
}

static void print_candidates(const cJSON *tree)
{
	static const char *const head[] = {"",     "MODEL", "PROVIDER", "FIRST TOKEN",
					   "COST", "CTX",   "STRENGTH", "SCORE",
					   "WHY"};
	static const bool right[] = {true, false, false, true, true,
				     true, true,  true,  false};
	const cJSON *c, *list = listing_array(tree, "candidates");
	struct table t = {0};
	int n = 0;

	if (!cJSON_GetArraySize(list))
		return;
	table_head(&t, head, (int)ARRAY_LEN(head));
	cJSON_ArrayForEach(c, list)
	{
		table_add(&t, is_true(c, "use") ? xasprintf("%d", ++n) : xstrdup("-"));
		table_add(&t, cell_string(c, "model"));
		table_add(&t, cell_string(c, "provider"));
		table_add(&t, cell_seconds(c, "predicted_ttft_ms"));
		table_add(&t, cell_usd(c, "predicted_usd"));
		table_add(&t, cell_int(c, "ctx"));
		table_add(&t, cell_int(c, "strength"));
		table_add(&t, cell_number(c, "score", 2));
		table_add(&t, cell_string(c, "why"));
	}
	table_print(&t, (int)ARRAY_LEN(head), right);
}

static void print_plan(const cJSON *tree)
{
	char *chosen = cell_string(tree, "chosen"), *reason = cell_string(tree, "reason");

	print_features(tree);
	print_candidates(tree);
	if (strcmp(chosen, "-"))
		printf("%s: %s\n", chosen, reason);
	else
		printf("nothing can answer: %s\n", reason);
	free(chosen);
	free(reason);
}

int cmd_route(int argc, char **argv)
{
	struct query q = {.l.spec = &spec};
	cJSON *tree = NULL;

	if (!query_args(&q, argc, argv) || !listing_connect(&q.l, true)) {
		buf_free(&q.prompt);
		return q.l.status;
	}
	tree = query_send(&q);
	if (tree && q.l.json)
		listing_print(tree);
	else if (tree)
		print_plan(tree);
	cJSON_Delete(tree);
	buf_free(&q.prompt);
	return listing_end(&q.l);
}

/* ---- providers */

static const struct args_spec providers_spec = {
	.command = "providers",
	.usage = "[OPTION]...",
	.summary = "Shows the remote providers: keys, breakers, connections, money.",
	.options = listing_options,
	.noptions = LISTING_OPTIONS,
	.notes =
		"STATE: ready; no key; open (it failed lately and is left alone for a while); "
		"off (--local-only).",
};

static void print_open(const cJSON *p)
{
	const cJSON *b;
	char *name = cell_string(p, "name");

	cJSON_ArrayForEach(b, listing_array(p, "breakers"))
	{
		char *model = cell_string(b, "model"), *state = cell_string(b, "state");
		char *error = cell_string(b, "error");
		double s = 0;

		json_double(b, "retry_in_s", 0, 1e9, &s, NULL);
		if (strcmp(state, "closed"))
			printf("%s/%s: %s, tried again in %.0f s: %s\n", name, model,
			       state, s, error);
		free(model);
		free(state);
		free(error);
	}
	free(name);
}

static char *cell_connections(const cJSON *p)
{
	const cJSON *c = NULL;

	if (json_object(p, "connections", &c, NULL) != 1)
		return xstrdup("-");
	return xasprintf("%lld/%lld", (long long)listing_int(c, "new", 0),
			 (long long)listing_int(c, "reused", 0));
}

static void print_providers(const cJSON *tree)
{
	static const char *const head[] = {
		"NAME",        "KIND",  "STATE",       "KEY",   "MODELS",
		"FIRST TOKEN", "CALLS", "CONNECTIONS", "TODAY", "URL"};
	static const bool right[] = {false, false, false, false, true,
				     true,  true,  true,  true,  false};
	const cJSON *p, *list = listing_array(tree, "providers");
	struct table t = {0};

	if (!cJSON_GetArraySize(list)) {
		printf("no provider is configured\n");
		return;
	}
	table_head(&t, head, (int)ARRAY_LEN(head));
	cJSON_ArrayForEach(p, list)
	{
		const cJSON *c = cJSON_GetObjectItemCaseSensitive(p, "connections");

		table_add(&t, cell_string(p, "name"));
		table_add(&t, cell_string(p, "kind"));
		table_add(&t, cell_string(p, "state"));
		table_add(&t, cell_string(p, "key"));
		table_add(&t, cell_int(p, "models"));
		table_add(&t, cell_seconds(p, "ttft_ms"));
		table_add(&t, cell_int(c, "calls"));
		table_add(&t, cell_connections(p));
		table_add(&t, cell_usd(p, "spent_today_usd"));
		table_add(&t, cell_string(p, "url"));
	}
	table_print(&t, (int)ARRAY_LEN(head), right);
	cJSON_ArrayForEach(p, list)
	{
		print_open(p);
	}
}

int cmd_providers(int argc, char **argv)
{
	struct listing l = {.spec = &providers_spec};
	cJSON *tree;

	if (!listing_args(&l, argc, argv, NULL) || !listing_connect(&l, true))
		return l.status;
	tree = listing_get(&l, "/v1/hob/providers");
	if (tree && l.json)
		listing_print(tree);
	else if (tree)
		print_providers(tree);
	cJSON_Delete(tree);
	return listing_end(&l);
}
