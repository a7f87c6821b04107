/* The commands that show and steer the cache: ps, load, unload, pin, unpin.
 *
 * Main thread.  None but load starts a daemon: without one nothing is in memory, and there is nothing
 * to explain. */
#include "base/clock.h"
#include "base/duration.h"
#include "cli/ask.h"
#include "cli/listing.h"
#include "cli/models_list.h"
#include "net/sse.h"

static const struct args_spec ps_spec = {
	.command = "ps",
	.usage = "[--json]",
	.summary = "Shows which models are in memory.  Does not start the daemon.",
	.options = listing_options,
	.noptions = 1,
	.notes =
		"STATE: ready, loading, draining (leaves when its answers have ended), parked (its host\n"
		"copy is kept, a switch back is quick), failed.  MEMORY is measured where it can be,\n"
		"PREDICTED is what was reserved for it.  USED: answers under way of those possible.",
};

/* ---- ps */

static char *cell_leaves(const cJSON *m)
{
	int64_t ms = listing_int(m, "expires_ms", -1);
	bool pinned = false;

	json_bool(m, "pinned", &pinned, NULL);
	if (pinned)
		return xstrdup("pinned");
	if (ms < 0)
		return xstrdup("-");
	if (ms < 120000)
		return xasprintf("in %lld s", (long long)(ms + 999) / 1000);
	return xasprintf("in %lld min", (long long)ms / 60000);
}

static char *cell_memory(const cJSON *m)
{
	int64_t bytes = listing_int(m, "bytes", 0);

	return cell_size(bytes > 0 ? bytes : listing_int(m, "parked_bytes", 0));
}

static char *cell_predicted(const cJSON *m)
{
	const cJSON *p = cJSON_GetObjectItemCaseSensitive(m, "predicted");

	return cell_size(listing_int(p, "weights_bytes", 0) +
			 listing_int(p, "kv_bytes", 0));
}

/* "loading 45 %" */
static char *cell_state(const cJSON *m)
{
	int64_t done = listing_int(m, "done_bytes", 0),
		total = listing_int(m, "total_bytes", 0);
	char *state = cell_string(m, "state"), *both;

	if (strcmp(state, "loading") || total <= 0)
		return state;
	both = xasprintf("%s %d %%", state, (int)(100 * (double)done / (double)total));
	free(state);
	return both;
}

static const char *size_of(const cJSON *tree, const char *key,
			   char out[RENDER_SIZE_BYTES])
{
	int64_t n = listing_int(tree, key, 0);

	return render_size(n > 0 ? (uint64_t)n : 0, out);
}

static void print_summary(const cJSON *ps)
{
	const cJSON *worker = cJSON_GetObjectItemCaseSensitive(ps, "engine");
	char *state = cell_string(worker, "state"),
	     *kernels = cell_string(worker, "kernels");
	char a[RENDER_SIZE_BYTES], b[RENDER_SIZE_BYTES], c[RENDER_SIZE_BYTES],
		d[RENDER_SIZE_BYTES];

	printf("engine %s, kernels %s; %s of %s in use, %s of %s parked\n", state,
	       kernels, size_of(ps, "used_bytes", a), size_of(ps, "budget_bytes", b),
	       size_of(ps, "parked_bytes", c), size_of(ps, "parked_budget_bytes", d));
	if (listing_int(worker, "saved_kv_ram_bytes", 0) +
		    listing_int(worker, "saved_kv_disk_bytes", 0) >
	    0)
		printf("saved conversations: %s in memory, %s on disk\n",
		       size_of(worker, "saved_kv_ram_bytes", a),
		       size_of(worker, "saved_kv_disk_bytes", b));
	free(state);
	free(kernels);
}

static void print_ps(const cJSON *ps)
{
	static const char *const head[] = {"NAME",      "STATE",     "MEMORY",
					   "PREDICTED", "USED",      "QUEUE",
					   "CTX",       "LAST USED", "LEAVES"};
	static const bool right[] = {false, false, true,  true, true,
				     true,  true,  false, false};
	const cJSON *m, *models = listing_array(ps, "models");
	struct table t = {0};

	print_summary(ps);
	if (!cJSON_GetArraySize(models)) {
		printf("no model is in memory\n");
		return;
	}
	table_head(&t, head, (int)ARRAY_LEN(head));
	cJSON_ArrayForEach(m, models)
	{
		int64_t idle_ms = listing_int(m, "idle_ms", -1);

		if (t.ncells >= TABLE_MAX_CELLS)
			break;
		table_add(&t, cell_string(m, "name"));
		table_add(&t, cell_state(m));
		table_add(&t, cell_memory(m));
		table_add(&t, cell_predicted(m));
		table_add(&t,
			  xasprintf("%lld/%lld", (long long)listing_int(m, "leases", 0),
				    (long long)listing_int(m, "slots", 0)));
		table_add(&t, cell_int(m, "waiters"));
		table_add(&t, cell_int(m, "ctx"));
		table_add(&t, cell_age(idle_ms < 0 ? -1 : idle_ms / 1000));
		table_add(&t, cell_leaves(m));
	}
	table_print(&t, (int)ARRAY_LEN(head), right);
}

int cmd_ps(int argc, char **argv)
{
	struct listing l = {.spec = &ps_spec};
	cJSON *ps;

	if (!listing_args(&l, argc, argv, NULL) || !listing_connect(&l, false))
		return l.status;
	ps = listing_get(&l, "/v1/hob/cache");
	if (ps && l.json)
		listing_print(ps);
	else if (ps)
		print_ps(ps);
	cJSON_Delete(ps);
	return listing_end(&l);
}

/* ---- load, unload, pin, unpin */

enum { OPT_JSON, OPT_NO_START, OPT_PARK = OPT_NO_START, OPT_KEEP_ALIVE };

static const struct args_option load_options[] = {
	[OPT_JSON] = {"json", 0, NULL, "print the daemon's JSON"},
	[OPT_NO_START] = {"no-start", 0, NULL,
			  "fail (status 4) when the daemon is not running"},
	[OPT_KEEP_ALIVE] = {"keep-alive", 'k', "TIME",
			    "stay so long once idle: 90s, 5m, forever"},
};

static const struct args_option unload_options[] = {
	[OPT_JSON] = {"json", 0, NULL, "print the daemon's JSON"},
	[OPT_PARK] = {"park", 'p', NULL,
		      "keep the host copy, so that it comes back quickly"},
};

static const struct args_spec load_spec = {
	.command = "load",
	.usage = "[OPTION]... MODEL",
	.summary = "Brings a model into memory and waits until it is ready.",
	.options = load_options,
	.noptions = (int)ARRAY_LEN(load_options),
};
static const struct args_spec unload_spec = {
	.command = "unload",
	.usage = "[OPTION]... MODEL",
	.summary = "Frees a model's memory: now, or as soon as its answers have ended.",
	.options = unload_options,
	.noptions = (int)ARRAY_LEN(unload_options),
};
static const struct args_spec pin_spec = {
	.command = "pin",
	.usage = "[--json] MODEL",
	.summary =
		"Keeps a model from being evicted until the daemon ends or `hob unpin`.",
	.options = load_options,
	.noptions = 1,
};
static const struct args_spec unpin_spec = {
	.command = "unpin",
	.usage = "[--json] MODEL",
	.summary = "Lets a model be evicted again.",
	.options = load_options,
	.noptions = 1,
};

struct order {
	struct listing l;
	const char *model;
	bool park;
	int64_t keep_alive_ms;
};

/* True when the command may go on. */
static bool order_args(struct order *o, int argc, char **argv)
{
	struct args a;
	const char *value;
	int option;

	o->keep_alive_ms = INT64_MIN;
	args_init(&a, o->l.spec, argc, argv);
	while ((option = args_next(&a, &value)) >= 0) {
		const char *name = o->l.spec->options[option].name;

		o->l.json |= !strcmp(name, "json");
		o->l.no_start |= !strcmp(name, "no-start");
		o->park |= !strcmp(name, "park");
		if (!strcmp(name, "keep-alive") &&
		    !duration_parse(value, &o->keep_alive_ms)) {
			args_usage(o->l.spec, "--keep-alive %s: not a time such as 5m",
				   value);
			o->l.status = CLI_USAGE;
			return false;
		}
	}
	if (option == ARGS_STOP)
		o->l.status = a.status;
	else if (argc - a.first != 1)
		o->l.status = args_usage(o->l.spec, "one MODEL is needed");
	else
		o->model = argv[a.first];
	return option == ARGS_END && o->model;
}

/* What the daemon streams while it loads. */
struct loading {
	struct sse sse;
	bool shown;       /* of render_progress() */
	cJSON *row;       /* owned: how it ended, or NULL */
	struct err error; /* of the load */
};

static void show_progress(struct loading *x, const cJSON *p)
{
	char *state = cell_string(p, "state");

	render_progress(&x->shown, state, listing_int(p, "done_bytes", 0),
			listing_int(p, "total_bytes", 0));
	free(state);
}

static bool on_sse(void *arg, struct str type, struct str data)
{
	struct loading *x = arg;
	struct err e = {0};
	cJSON *tree = json_parse(data, &e);
	const cJSON *why = cJSON_GetObjectItemCaseSensitive(tree, "error");
	const char *message = "the load failed", *code = "internal";

	if (str_eq(type, "progress")) {
		show_progress(x, tree);
	} else if (str_eq(type, "done")) {
		x->row = tree;
		return true;
	} else if (str_eq(type, "error")) {
		json_string(why, "message", &message, NULL);
		json_string(why, "code", &code, NULL);
		err_set(&x->error, err_code_by_name(code), "%.480s", message);
	}
	cJSON_Delete(tree);
	return true;
}

static int on_data(void *arg, const char *p, size_t n, struct err *e)
{
	struct loading *x = arg;

	return sse_feed(&x->sse, p, n, on_sse, x, e) < 0 ? -1 : 0;
}

static void add_body(const struct order *o, struct buf *body, bool stream)
{
	buf_adds(body, "{\"model\":");
	buf_add_json(body, o->model, strlen(o->model));
	if (o->park)
		buf_adds(body, ",\"park\":true");
	if (stream)
		buf_adds(body, ",\"stream\":true");
	if (o->keep_alive_ms != INT64_MIN)
		buf_addf(body, ",\"keep_alive\":%.3f",
			 o->keep_alive_ms < 0 ? -1.0 : (double)o->keep_alive_ms / 1000);
	buf_addc(body, '}');
}

/* The row of the model after the order, or NULL and the error set. */
static cJSON *order_send(struct order *o, const char *path, bool stream)
{
	struct loading x = {0};
	struct client_reply reply = {0};
	struct buf body = {0};
	struct client_request r = {.method = "POST", .path = path, .arg = &x};
	int rc;

	add_body(o, &body, stream);
	r.body = buf_str(&body);
	r.data = stream ? on_data : NULL;
	r.total_timeout_ms = stream ? 0 : CLIENT_CALL_TIMEOUT_MS;
	sse_init(&x.sse);
	rc = client_do(o->l.client, &r, &reply, &o->l.e);
	render_progress_end(&x.shown);
	if (rc == 0 && reply.status != 200)
		client_error(&reply, &o->l.e);
	else if (rc == 0 && !stream)
		x.row = json_parse(buf_str(&reply.body), &o->l.e);
	else if (rc == 0 && !x.row)
		o->l.e = x.error;
	sse_fini(&x.sse);
	client_reply_fini(&reply);
	buf_free(&body);
	return x.row;
}

static void print_row(const struct order *o, const cJSON *row)
{
	char *name = cell_string(row, "name"), *state = cell_string(row, "state");
	char *memory = cell_memory(row);
	double ms = 0;

	printf("%s: %s", name, state);
	if (strcmp(memory, "-"))
		printf(", %s", memory);
	if (!strcmp(o->l.spec->command, "load") &&
	    json_double(row, "load_ms", 0, 1e12, &ms, NULL) == 1)
		printf(", loaded in %.0f ms", ms);
	printf("\n");
	free(name);
	free(state);
	free(memory);
}

static int order(const struct args_spec *spec, const char *path, bool start, int argc,
		 char **argv)
{
	struct order o = {.l.spec = spec};
	cJSON *row;

	if (!order_args(&o, argc, argv) || !listing_connect(&o.l, start))
		return o.l.status;
	row = order_send(&o, path, spec == &load_spec);
	if (!row)
		listing_fail(&o.l, ask_exit_status(&o.l.e));
	else if (o.l.json)
		listing_print(row);
	else
		print_row(&o, row);
	cJSON_Delete(row);
	return listing_end(&o.l);
}

int cmd_load(int argc, char **argv)
{
	return order(&load_spec, "/v1/hob/cache/load", true, argc, argv);
}

int cmd_unload(int argc, char **argv)
{
	return order(&unload_spec, "/v1/hob/cache/unload", false, argc, argv);
}

int cmd_pin(int argc, char **argv)
{
	return order(&pin_spec, "/v1/hob/cache/pin", false, argc, argv);
}

int cmd_unpin(int argc, char **argv)
{
	return order(&unpin_spec, "/v1/hob/cache/unpin", false, argc, argv);
}
