/* hob.conf: defaults, errors with line and nearest name; and the registry that it feeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/duration.h"
#include "config.h"
#include "route/models.h"

struct fixture {
	char dir[64], file[80];
};

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof *f);

	snprintf(f->dir, sizeof f->dir, "/tmp/hob-test-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->file, sizeof f->file, "%s/hob.conf", f->dir);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char *command = xasprintf("rm -rf '%s'", f->dir);
	int rc = system(command);

	free(command);
	free(f);
	return rc;
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static struct config *load(struct fixture *f, const char *text, struct err *e)
{
	write_file(f->file, text);
	*e = (struct err){0};
	return config_load(&(struct config_source){.path = f->file}, e);
}

static void an_empty_file_gives_the_defaults(void **state)
{
	struct err e;
	struct config *c = load(*state, "", &e);

	assert_non_null(c);
	assert_int_equal(c->port, 4620);
	assert_string_equal(c->bind, "127.0.0.1");
	assert_int_equal(c->slots, 4);
	assert_int_equal(c->queue_timeout_ms, 120000);
	assert_true(c->memory_enabled);
	assert_int_equal(c->nproviders, 1);
	assert_string_equal(c->providers[0].name, "openrouter");
	config_free(c);
}

static void all_sections_are_read(void **state)
{
	struct err e;
	struct config *c = load(
		*state,
		"default_model = \"mine\"\n"
		"server { port = 0 hosts = {\"a\", \"b\"} }\n"
		"cache { budget = \"1.5 GiB\" ctx = 512 kernels = \"scalar\" }\n"
		"memory { enabled = false }\n"
		"model \"mine\" { path = \"/x/y.gguf\" ctx = 128 pinned = true\n"
		"  keep_alive = \"5m\" role = \"completion\" backend = \"llama-server\"\n"
		"  args = {\"--flash-attn\", \"on\"} }\n"
		"provider \"lan\" { url = \"http://127.0.0.1:1/v1\" idle_timeout = 5 }\n",
		&e);

	assert_non_null(c);
	assert_int_equal(c->port, 0);
	assert_int_equal(c->nhosts, 2);
	assert_int_equal(c->budget_bytes, 1610612736);
	assert_false(c->memory_enabled);
	assert_string_equal(c->models[0].path, "/x/y.gguf");
	assert_true(c->models[0].settings.pinned);
	assert_int_equal(c->models[0].settings.keep_alive_ms, 300000);
	assert_int_equal(c->models[0].settings.role, MODEL_COMPLETION);
	assert_int_equal(c->models[0].settings.backend, BACKEND_LLAMA_SERVER);
	assert_int_equal(c->models[0].settings.nargs, 2);
	assert_string_equal(c->models[0].settings.args[1], "on");
	assert_int_equal(c->keep_alive_ms, DURATION_FOREVER);
	assert_int_equal(c->providers[0].idle_timeout_ms, 5000);
	assert_string_equal(c->providers[1].name, "openrouter");
	config_free(c);
}

static void wrong_files_say_where_and_what(void **state)
{
	static const struct {
		const char *text, *expect;
	} cases[] = {
		{"server {\n  prot = 1\n}\n",
		 "hob.conf:2: no such option 'prot'; did you mean 'port'?"},
		{"sever {\n}\n", "did you mean 'server'"},
		{"route \"r\" {\n use = {\"a\"}\n}\n",
		 "hob.conf:2: no such option 'use'; it belongs in: rule"},
		{"temperature = 0.5\n",
		 "hob.conf:1: no such option 'temperature'; it belongs in: persona"},
		{"persona \"p\" {\n ctx = 5\n}\n", "'ctx'; it belongs in: cache, model"},
		{"server {\n  port = 1\n", "a '}' is missing"},
		{"server { port = 70000 }\n", "server: port = 70000 is out of range"},
		{"server { port = \"x\" }\n", "hob.conf:1: invalid integer value"},
		{"cache { budget = \"lots\" }\n", "budget = 'lots' is not a size"},
		{"cache { kernels = \"avx51\" }\n", "did you mean 'avx512'"},
		{"cache { policy = \"lfu\" }\n", "did you mean 'lru'"},
		{"cache { keep_alive = \"soon\" }\n",
		 "keep_alive = 'soon' is not a time"},
		{"cache { kv_ram = \"-1\" }\n", "kv_ram = '-1' is not a size"},
		{"cache { queue = 0 }\n", "queue = 0 is out of range"},
		{"model \"m\" { role = \"chat\" }\n", "role = 'chat' is unknown"},
		{"cache { ctx = 3 }\n", "ctx = 3 is out of range"},
		{"model \"m\" { path = \"a.gguf\" }\n", "must be absolute"},
		{"provider \"p\" { url = \"ftp://x\" }\n", "url must start with http"},
		{"provider \"p\" { url = \"http://x\" kind = \"soap\" }\n",
		 "kind = 'soap' is unknown"},
		{"provider \"a/b\" { url = \"http://x\" }\n", "a name has no '/'"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err e;
		struct config *c = load(*state, cases[i].text, &e);

		assert_null(c);
		if (!strstr(e.text, cases[i].expect))
			fail_msg("'%s' gave '%s'", cases[i].text, e.text);
	}
}

static void a_preset_needs_no_more_than_its_name(void **state)
{
	struct err e;
	struct config *c = load(*state, "provider \"anthropic\" { }\n", &e);
	const struct config_provider *p;

	assert_non_null(c);
	p = config_provider_of(c, "anthropic/some-model");
	assert_non_null(p);
	assert_string_equal(p->urls.list[0], "https://api.anthropic.com");
	assert_string_equal(p->key_env, "ANTHROPIC_API_KEY");
	assert_int_equal(p->max_connections, -1);
	assert_int_equal(p->zdr, UNSAID);
	assert_null(config_provider_of(c, "anthropic"));
	assert_non_null(config_provider_of(c, "openrouter/x/y"));
	config_free(c);
}

static void routes_rules_and_budgets_are_read(void **state)
{
	struct err e;
	struct config *c = load(
		*state,
		"provider \"up\" { urls = {\"http://a:1/v1\", \"http://b:1/v1\"} zdr = true "
		"key_command = \"pass show up\" monthly_cap = 2.5 }\n"
		"model \"up/big\" { ctx = 1000 price_input = 2.5 images = true "
		"fallback = {\"small\"} }\n"
		"route \"smart\" { candidates = {\"small\", \"up/big\"} patience = 3 "
		"bridge = \"up/big\"\n"
		"  rule \"long\" { min_tokens = 100 tools = false hours = \"22:00-07:00\" use = "
		"{\"up/big\"} }\n"
		"  rule \"never\" { private = true refuse = \"no\" } }\n"
		"route \"auto\" { prefer = \"cheap\" }\n"
		"budget { daily = 1.5 soft = 0.5 }\n",
		&e);
	const struct config_route *r;

	assert_non_null(c);
	assert_int_equal(c->providers[0].urls.n, 2);
	assert_int_equal(c->providers[0].zdr, YES);
	assert_true(c->providers[0].monthly_cap_usd == 2.5);
	assert_true(config_model(c, "up/big")->facts.price_input == 2.5);
	assert_true(config_model(c, "up/big")->facts.price_output < 0);
	assert_int_equal(config_model(c, "up/big")->facts.images, YES);
	assert_int_equal(config_model(c, "up/big")->facts.tools, UNSAID);
	r = config_route(c, "smart");
	assert_non_null(r);
	assert_int_equal(r->patience_ms, 3000);
	assert_int_equal(r->nrules, 2);
	assert_int_equal(r->rules[0].tools, NO);
	assert_int_equal(r->rules[0].images, UNSAID);
	assert_true(r->rules[0].budget_below_usd < 0);
	assert_string_equal(r->rules[1].refuse, "no");
	assert_int_equal(config_route(c, "auto")->pick, PICK_AUTO);
	assert_int_equal(config_route(c, "auto")->prefer, PREFER_CHEAP);
	assert_true(c->budget.daily == 1.5 && c->budget.soft == 0.5);
	config_free(c);
}

static void wrong_providers_and_routes_say_what_is_right(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{"provider \"x\" { kind = \"opena\" url = \"http://h\" }",
		 "openrouter, anthropic"},
		{"provider \"x\" { }", "url is missing"},
		{"provider \"x\" { url = \"ftp://h\" }", "http:// or https://"},
		{"provider \"x\" { url = \"https://me:secret@h\" }",
		 "no user and password"},
		{"provider \"x\" { preset = \"grok\" }", "cerebras"},
		{"provider \"x\" { url = \"http://h\" urls = {\"http://i\"} }",
		 "one of them"},
		{"provider \"x\" { url = \"http://h\" local = true }",
		 "not on this machine"},
		{"provider \"local\" { url = \"http://h\" }", "taken"},
		{"provider \"x\" { url = \"http://h\" daily_cap = -1.0 }",
		 "no amount of USD"},
		{"route \"r\" { }", "needs candidates"},
		{"route \"a/b\" { candidates = {\"x\"} }", "no '/'"},
		{"route \"r\" { candidates = {\"x\"} pick = \"autoo\" }",
		 "did you mean 'auto'"},
		{"route \"r\" { candidates = {\"x\"} rule \"q\" { min_tokens = 5 } }",
		 "needs use = {...}"},
		{"model \"openrouter/x\" { path = \"/tmp/x.gguf\" }", "is a provider's"},
		{"budget { soft = 1.5 }", "no share"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err e;
		struct config *c = load(*state, cases[i].text, &e);

		assert_null(c);
		assert_non_null(strstr(e.text, cases[i].says));
		assert_null(strstr(e.text, "secret"));
	}
}

static void a_named_file_that_is_missing_is_an_error(void **state)
{
	struct err e = {0};

	UNUSED(state);
	assert_null(config_load(&(struct config_source){.path = "/nonexistent/hob.conf"},
				&e));
	assert_non_null(strstr(e.text, "/nonexistent/hob.conf"));
}

static void a_token_that_others_can_read_is_refused(void **state)
{
	struct fixture *f = *state;
	char *token = xasprintf("%s/token", f->dir);
	char *text = xasprintf("server { token_file = \"%s\" }\n", token);
	struct config *c;
	struct err e;

	write_file(token, "0123456789abcdef\n");
	chmod(token, 0644);
	assert_null(load(f, text, &e));
	assert_non_null(strstr(e.text, "chmod 600"));
	chmod(token, 0600);
	c = load(f, text, &e);
	assert_non_null(c);
	assert_string_equal(c->token, "0123456789abcdef");
	config_free(c);
	free(text);
	free(token);
}

static void files_dropped_into_the_folder_are_found(void **state)
{
	struct fixture *f = *state;
	char *text = xasprintf(
		"models_dir = \"%s\"\nmodel \"named\" { path = \"%s/z.bin\" }\n", f->dir,
		f->dir);
	char *a = xasprintf("%s/apple.gguf", f->dir), *z = xasprintf("%s/z.bin", f->dir);
	const struct model *first;
	struct config *c;
	struct models *m;
	struct err e;

	write_file(z, "z");
	c = load(f, text, &e);
	assert_non_null(c);
	m = models_new(c);
	assert_int_equal(models_count(m), 1);
	first = models_find(m, "named");
	assert_non_null(first);
	assert_null(models_find(m, "apple"));
	write_file(a, "a");
	assert_non_null(models_find(m, "apple"));
	assert_ptr_equal(models_find(m, "named"), first);
	assert_string_equal(models_nearest(m, "appel"), "apple");
	unlink(a);
	assert_null(models_find(m, "apple"));
	models_free(m);
	config_free(c);
	free(a);
	free(z);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_empty_file_gives_the_defaults, setup,
						teardown),
		cmocka_unit_test_setup_teardown(all_sections_are_read, setup, teardown),
		cmocka_unit_test_setup_teardown(wrong_files_say_where_and_what, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_preset_needs_no_more_than_its_name,
						setup, teardown),
		cmocka_unit_test_setup_teardown(routes_rules_and_budgets_are_read, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			wrong_providers_and_routes_say_what_is_right, setup, teardown),
		cmocka_unit_test_setup_teardown(a_named_file_that_is_missing_is_an_error,
						setup, teardown),
		cmocka_unit_test_setup_teardown(a_token_that_others_can_read_is_refused,
						setup, teardown),
		cmocka_unit_test_setup_teardown(files_dropped_into_the_folder_are_found,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
