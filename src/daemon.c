/* Starts and stops everything, in one place.  Loop thread.
 *
 * Start: store, models, providers, engine (its process comes with the first load), cache, dispatch,
 * server.  Stop is the reverse, each step started by the completion of the one before, so that no
 * callback meets a subsystem that is gone.  SIGTERM drains with a deadline, a second one closes at
 * once. */
#include "daemon.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <uv.h>

#include "api/api.h"
#include "api/persona.h"
#include "api/server.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/paths.h"
#include "base/sm.h"
#include "base/sysmem.h"
#include "cache/cache.h"
#include "cache/ledger.h"
#include "cache/trace.h"
#include "memory/store_keep.h"
#include "metrics.h"
#include "net/fetch.h"
#include "net/sd.h"
#include "providers/engine.h"
#include "providers/llama_server.h"
#include "route/dispatch_open.h"
#include "route/money.h"
#include "route/remotes.h"

enum daemon_state { STARTING, SERVING, DRAINING, CLOSING, STATES };

static const struct sm_state states[STATES] = {
	[STARTING] = {"starting", SM_TO(SERVING) | SM_TO(CLOSING)},
	[SERVING] = {"serving", SM_TO(DRAINING) | SM_TO(CLOSING)},
	[DRAINING] = {"draining", SM_TO(CLOSING)},
	[CLOSING] = {"closing", 0},
};

enum { SIGNALS = 3 };

struct daemon {
	uv_loop_t loop;
	unsigned state;                     /* enum daemon_state */
	struct config *config;              /* owned */
	const struct config_source *source; /* borrowed */
	uv_signal_t signals[SIGNALS];
	uv_timer_t drain_deadline;

	struct models *models;
	struct store *store; /* NULL: memory is off or unusable */
	char *store_error;   /* owned; why it is unusable */
	struct fetch *fetch;
	struct remotes *remotes;
	struct engine *engine;
	struct llama_servers *llama;
	struct cache *cache;
	struct dispatch *dispatch;
	struct api api;
	struct server *server;
	struct ledger *ledger;
	struct money *money;
	struct personas *personas;
	struct trace *trace;      /* NULL: none is recorded */
	uint64_t available_bytes; /* of the system at our start */
};

static void close_start(struct daemon *d);

/* ---- what the API asks ---- */

static void api_engine_json(void *arg, struct buf *out)
{
	const struct daemon *d = arg;
	const char *kernels = engine_kernels(d->engine);
	uint64_t ram, disk;

	engine_saved_kv(d->engine, &ram, &disk);
	buf_addf(out, "{\"state\":\"%s\",\"pid\":%d,\"restarts\":%u,\"kernels\":",
		 engine_state_name(engine_state(d->engine)), engine_pid(d->engine),
		 engine_restarts(d->engine));
	buf_add_json(out, kernels, strlen(kernels));
	buf_addf(out, ",\"saved_kv_ram_bytes\":%llu,\"saved_kv_disk_bytes\":%llu}",
		 (unsigned long long)ram, (unsigned long long)disk);
}

static void api_forget_computed(void *arg)
{
	struct daemon *d = arg;

	if (d->state != CLOSING) /* the store ends after the engine */
		engine_forget(d->engine);
}

static void api_metrics(void *arg, struct buf *out)
{
	struct daemon *d = arg;
	struct metrics_view v = {.dispatch = dispatch_stats(d->dispatch),
				 .cache = d->cache,
				 .store = d->store,
				 .engine_restarts = engine_restarts(d->engine),
				 .connections = server_connections(d->server),
				 .requests = server_requests(d->server),
				 .uptime_ms = clock_mono_ms() - d->api.started_ms};

	metrics_text(&v, out);
}

static const char *api_engine(void *arg)
{
	struct daemon *d = arg;

	return engine_state_name(engine_state(d->engine));
}

static const char *api_memory(void *arg)
{
	struct daemon *d = arg;

	if (d->store)
		return store_notice(d->store) ? store_notice(d->store) : "ok";
	return d->store_error ? d->store_error : "off";
}

/* ---- budget ---- */

/* Half of what the system can give: models share the machine with a compiler and a browser. */
static uint64_t size_or_half(uint64_t configured, uint64_t available)
{
	if (configured)
		return configured;
	return available == UINT64_MAX ? 2ull << 30 : available / 2;
}

/* What may be taken from the system at this moment. */
static uint64_t free_bytes(void *arg)
{
	const struct daemon *d = arg;
	uint64_t free = sysmem_available(), keep = d->config->reserve_free_bytes;

	if (free == UINT64_MAX)
		return free;
	return free > keep ? free - keep : 0;
}

static struct cache_settings cache_settings_of(const struct daemon *d,
					       const struct config *c)
{
	return (struct cache_settings){
		.budget_bytes = size_or_half(c->budget_bytes, d->available_bytes),
		.parked_budget_bytes = size_or_half(c->parked_bytes, d->available_bytes),
		.reserve_completion_bytes = c->reserve_completion_bytes,
		.policy = c->policy,
		.keep_alive_ms = c->keep_alive_ms,
		.min_stay_ms = (uint64_t)c->min_stay_ms,
		.max_queue = c->queue,
	};
}

/* ---- start ---- */

/* Memory never keeps the daemon from serving: without it conversations are refused or not kept, and
 * /healthz says why. */
static void start_store(struct daemon *d)
{
	struct err e = {0};

	if (!d->config->memory_enabled)
		return;
	d->store = store_open(&d->loop, d->config->memory_path, &e);
	if (!d->store) {
		log_error("conversations will not be kept: %s", e.text);
		d->store_error = xstrdup(e.text);
		return;
	}
	if (store_notice(d->store))
		log_warn("%s", store_notice(d->store));
	store_set_limits(d->store, &d->config->memory_limits);
	store_set_durable(d->store, d->config->memory_durable);
}

/* For providers that have left the configuration while prompts hold them. */
static uint64_t oldest_job_ms(void *arg)
{
	const struct daemon *d = arg;

	return d->dispatch ? dispatch_oldest_ms(d->dispatch) : UINT64_MAX;
}

static void start_remotes(struct daemon *d)
{
	d->fetch = fetch_new(&d->loop, NULL);
	ASSERT(d->fetch); /* libcurl could not even allocate */
	fetch_set_local_only(d->fetch, d->config->local_only);
	d->remotes = remotes_new(&d->loop, d->fetch, oldest_job_ms, d);
	remotes_set(d->remotes, NULL, d->config);
}

/* Their first prompt shall find a connection. */
static void warm_remotes(struct daemon *d)
{
	int n;
	struct provider **list = remotes_list(d->remotes, &n);

	for (int i = 0; i < n; i++)
		list[i]->ops->warm(list[i]);
}

static struct llama_servers_config llama_config(const struct config *c)
{
	return (struct llama_servers_config){.program = c->llama_server,
					     .threads = c->threads,
					     .load_ms = (uint64_t)c->load_timeout_ms};
}

static void start_money(struct daemon *d)
{
	char *state = paths_state_dir(), *path = xasprintf("%s/spend.db", state);
	struct money_parts parts = {.loop = &d->loop, .path = path};

	paths_make_private(state, NULL); /* without it the accounts say so */
	d->money = money_new(&parts);
	money_set_config(d->money, d->config);
	free(state);
	free(path);
}

static void start_trace(struct daemon *d)
{
	struct err e = {0};

	if (!d->config->trace)
		return;
	d->trace = trace_open(&d->loop, d->cache, d->config->trace, &e);
	if (!d->trace)
		log_error("no trace is recorded: %s", e.text);
}

static void start_local(struct daemon *d)
{
	const struct config *c = d->config;
	char *made = paths_cache_dir();
	char *packs = xasprintf("%s/packed", made), *kv = xasprintf("%s/kv", made);
	struct engine_config engine = {.kernels = c->kernels,
				       .threads = c->threads,
				       .pack_dir = packs,
				       .pack_bytes = c->packed_bytes,
				       .kv_dir = kv,
				       .kv_ram_bytes = c->kv_ram_bytes,
				       .kv_disk_bytes = c->kv_disk_bytes};
	struct cache_parts cache = {.loop = &d->loop,
				    .ctx = d->config->ctx,
				    .slots = d->config->slots,
				    .free_bytes = free_bytes,
				    .free_arg = d};
	char *state = paths_state_dir(), *path = xasprintf("%s/ledger.db", state);
	struct llama_servers_config llama;

	d->available_bytes = sysmem_available();
	cache.settings = cache_settings_of(d, d->config);
	paths_make_private(state, NULL); /* without it the ledger says so, and goes on */
	cache.ledger = d->ledger = ledger_new(&d->loop, path);
	free(state);
	free(path);
	llama = llama_config(c);
	d->models = models_new(d->config);
	plan_check_config(d->config);
	d->llama = llama_servers_new(&d->loop, d->fetch, &llama);
	d->engine = engine_new(&d->loop, &engine);
	d->cache = cache_new(&cache);
	start_trace(d);
	free(packs);
	free(kv);
	free(made);
}

static int start_server(struct daemon *d, struct err *e)
{
	d->personas = personas_new();
	d->api = (struct api){.dispatch = d->dispatch,
			      .models = d->models,
			      .store = d->store,
			      .personas = d->personas,
			      .money = d->money,
			      .config = d->config,
			      .cache = d->cache,
			      .engine_json = api_engine_json,
			      .metrics_text = api_metrics,
			      .forget_computed = api_forget_computed,
			      .engine_status = api_engine,
			      .memory_status = api_memory,
			      .arg = d,
			      .started_ms = clock_mono_ms(),
			      .version = PACKAGE_VERSION};
	d->server = server_start(&d->loop, &d->api, e);
	return d->server ? 0 : -1;
}

/* ---- stop: each step begins the next ---- */

static void on_store_closed(void *arg)
{
	struct daemon *d = arg;

	d->store = NULL;
}

static void close_store(void *arg)
{
	struct daemon *d = arg;

	if (d->store)
		store_close(d->store, on_store_closed, d);
}

/* After the providers: they may say what a call cost until they are closed. */
static void close_money(void *arg)
{
	struct daemon *d = arg;

	money_close(d->money, close_store, d);
}

static void close_fetch(void *arg)
{
	struct daemon *d = arg;

	fetch_close(d->fetch, close_money, d);
}

static void close_remotes(void *arg)
{
	struct daemon *d = arg;

	remotes_close(d->remotes, close_fetch, d);
}

static void close_llama(void *arg)
{
	struct daemon *d = arg;
	struct provider *p = llama_servers_provider(d->llama);

	p->ops->close(p, close_remotes, d);
}

static void close_ledger(void *arg)
{
	struct daemon *d = arg;

	ledger_close(d->ledger, close_llama, d);
}

static void close_engine(void *arg)
{
	struct daemon *d = arg;
	struct provider *p = engine_provider(d->engine);

	p->ops->close(p, close_ledger, d);
}

static void close_cache(void *arg)
{
	struct daemon *d = arg;

	cache_close(d->cache, close_engine, d);
}

static void close_dispatch(void *arg)
{
	struct daemon *d = arg;

	d->server = NULL;
	dispatch_free(d->dispatch);
	d->dispatch = NULL;
	trace_close(d->trace, close_cache, d);
}

static void close_start(struct daemon *d)
{
	if (d->state == CLOSING)
		return;
	sm_move(states, "daemon", &d->state, CLOSING);
	for (int i = 0; i < SIGNALS; i++)
		uv_close((uv_handle_t *)&d->signals[i], NULL);
	uv_close((uv_handle_t *)&d->drain_deadline, NULL);
	if (d->server)
		server_close(d->server, close_dispatch, d);
	else
		close_dispatch(d);
}

static void on_drained(void *arg)
{
	close_start(arg);
}

static void on_drain_deadline(uv_timer_t *t)
{
	log_warn("replies still running after %d s: closing them",
		 DAEMON_DRAIN_MS / 1000);
	close_start(t->data);
}

static void drain(struct daemon *d)
{
	sm_move(states, "daemon", &d->state, DRAINING);
	log_info("stopping: finishing what runs (again to stop at once)");
	sd_tell("STOPPING=1");
	uv_timer_start(&d->drain_deadline, on_drain_deadline, DAEMON_DRAIN_MS, 0);
	server_drain(d->server, on_drained, d);
}

static void on_preloaded(void *arg, const struct err *e)
{
	UNUSED(arg);
	if (e)
		log_warn("preload: %s", e->text);
}

/* Also after a reload: what is there already stays as it is. */
static void preload(struct daemon *d)
{
	for (int i = 0; i < models_count(d->models); i++) {
		struct cache_want want = {
			.model = models_at(d->models, i),
			.class = CLASS_BATCH,
			.deadline_ms =
				clock_mono_ms() + (uint64_t)d->config->queue_timeout_ms,
			.keep_alive_ms = KEEP_ALIVE_DEFAULT,
		};

		if (want.model->settings.preload && want.model->path)
			cache_load(d->cache, &want, on_preloaded, d);
	}
}

/* ---- reload ---- */

static void reload_remotes(struct daemon *d, const struct config *old)
{
	struct provider **list;
	int n;

	fetch_set_local_only(d->fetch, d->config->local_only);
	remotes_set(d->remotes, old, d->config);
	list = remotes_list(d->remotes, &n);
	dispatch_set_providers(d->dispatch, list, n);
	warm_remotes(d);
}

/* Applies what can change while running; says what cannot. */
static void reload(struct daemon *d)
{
	struct err e = {0};
	struct config *next = config_load(d->source, &e), *old = d->config;
	struct cache_settings cache;
	struct llama_servers_config llama;

	if (!next) {
		log_error("reload: %s; the old configuration stays", e.text);
		return;
	}
	if (strcmp(next->socket_path, old->socket_path) || next->port != old->port ||
	    strcmp(next->bind, old->bind))
		log_warn("reload: socket, bind and port change at the next start");
	if (next->ctx != old->ctx || next->slots != old->slots ||
	    next->threads != old->threads || strcmp(next->kernels, old->kernels) ||
	    next->packed_bytes != old->packed_bytes ||
	    next->kv_ram_bytes != old->kv_ram_bytes ||
	    next->kv_disk_bytes != old->kv_disk_bytes)
		log_warn(
			"reload: ctx, slots, threads, kernels, packed, kv_ram and kv_disk of "
			"cache change at the next start");
	if (next->memory_enabled != old->memory_enabled ||
	    strcmp(next->memory_path, old->memory_path))
		log_warn("reload: enabled and path of memory change at the next start");
	d->config = next;
	d->api.config = next;
	personas_forget(d->personas);
	models_rescan(d->models, next);
	plan_check_config(next);
	cache = cache_settings_of(d, next);
	cache_set(d->cache, &cache);
	llama = llama_config(next);
	llama_servers_set(d->llama, &llama);
	money_set_config(d->money, next);
	if (d->store) {
		store_set_limits(d->store, &next->memory_limits);
		store_set_durable(d->store, next->memory_durable);
	}
	dispatch_set_config(d->dispatch, next);
	reload_remotes(d, old);
	config_free(old);
	preload(d);
	log_info("reload: done, %d models", models_count(d->models));
}

static void on_signal(uv_signal_t *h, int number)
{
	struct daemon *d = h->data;

	if (number == SIGHUP) {
		if (d->state == SERVING)
			reload(d);
	} else if (d->state == SERVING) {
		drain(d);
	} else {
		close_start(d);
	}
}

static void start_signals(struct daemon *d)
{
	static const int numbers[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};

	for (int i = 0; i < SIGNALS; i++) {
		uv_signal_init(&d->loop, &d->signals[i]);
		d->signals[i].data = d;
		uv_signal_start(&d->signals[i], on_signal, numbers[i]);
	}
	uv_timer_init(&d->loop, &d->drain_deadline);
	d->drain_deadline.data = d;
}

static void start_dispatch(struct daemon *d)
{
	struct dispatch_parts parts = {.loop = &d->loop,
				       .config = d->config,
				       .models = d->models,
				       .cache = d->cache,
				       .engine = d->engine,
				       .llama = d->llama,
				       .store = d->store,
				       .money = d->money};
	int n;
	struct provider **list = remotes_list(d->remotes, &n);

	parts.providers = list;
	parts.nproviders = n;
	d->dispatch = dispatch_new(&parts);
}

int daemon_run(struct config *c, const struct config_source *source, struct err *e)
{
	struct daemon *d = xcalloc(1, sizeof *d);
	int rc;

	/* keys of providers are in our memory: no core dump, no debugger of the same user */
	prctl(PR_SET_DUMPABLE, 0);
	d->config = c;
	d->source = source;
	ASSERT(uv_loop_init(&d->loop) == 0);
	start_signals(d);
	start_store(d);
	start_money(d);
	start_remotes(d);
	start_local(d);
	start_dispatch(d);
	rc = start_server(d, e);
	if (rc < 0) {
		close_start(d);
	} else {
		sm_move(states, "daemon", &d->state, SERVING);
		log_info("serving on %s and port %d, %d models", c->socket_path,
			 server_port(d->server), models_count(d->models));
		sd_tell("READY=1");
		preload(d);
		warm_remotes(d);
	}
	uv_run(&d->loop, UV_RUN_DEFAULT);
	ASSERT(uv_loop_close(&d->loop) == 0);
	models_free(d->models);
	personas_free(d->personas);
	config_free(d->config);
	free(d->store_error);
	free(d);
	return rc;
}
