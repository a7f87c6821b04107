/* What the dispatcher does for a conversation: summaries, titles, the policy, parents, tool calls.  The models
 * are played; tokens are guessed from bytes, and the context has 1024 of them. */
#include "tests/unit/dispatch_world.h"

#include <sqlite3.h>
#include "memory/store_heads.h"

/* Everything that was sent to any model, newest last. */
enum { SEEN_MAX = 64 };

struct seen {
	char model[40], client[40], first[3000], last[1600], raw[400], all[8000];
	int n;
	bool is_private, is_volatile, has_tool_role;
	enum request_class class;
};

static struct seen seen[SEEN_MAX];
static int nseen;

static void note_start(struct world *w, struct fake *f, const struct request *r)
{
	struct seen *s = &seen[nseen++ % SEEN_MAX];

	(void)w;
	memset(s, 0, sizeof *s);
	snprintf(s->model, sizeof s->model, "%s", f->provider.name);
	snprintf(s->client, sizeof s->client, "%s", r->client_name ? r->client_name : "");
	snprintf(s->first, sizeof s->first, "%s", r->messages[0].text);
	snprintf(s->last, sizeof s->last, "%s", r->messages[r->nmessages - 1].text);
	for (int i = 0; i < r->nmessages - 1; i++)
		snprintf(s->all + strlen(s->all), sizeof s->all - strlen(s->all), "%s|",
			 r->messages[i].text);
	for (int i = 0; i < r->nmessages; i++)
		if (r->messages[i].raw_json)
			snprintf(s->raw, sizeof s->raw, "%s", r->messages[i].raw_json);
	for (int i = 0; i < r->nmessages; i++)
		s->has_tool_role |= r->messages[i].role == ROLE_TOOL;
	s->n = r->nmessages;
	s->is_private = r->is_private;
	s->is_volatile = r->is_volatile;
	s->class = r->class;
}

static void open_world(struct world *w, const char *config)
{
	world_init(w, config, WITH_STORE);
	w->on_start = note_start;
	nseen = 0;
}

static int asked_by(const char *client)
{
	int n = 0;

	for (int i = 0; i < nseen; i++)
		n += !strcmp(seen[i].client, client);
	return n;
}

static const struct seen *last_seen(void)
{
	return &seen[(nseen - 1) % SEEN_MAX];
}

static struct request *turn(const char *model, const char *text, const char *conversation)
{
	struct request *r = prompt(model, text);
	static int n;

	snprintf(r->id, sizeof r->id, "hob-test%d", n++);
	r->conversation = xstrdup(conversation);
	return r;
}

/* A text of so many tokens, as they are guessed. */
static char *words(int tokens)
{
	size_t n = (size_t)((double)(tokens - 8) * 3.5 / 1.1);
	char *text = xcalloc(1, n + 2);

	memset(text, 'x', n + 1);
	return text;
}

static void say(struct world *w, struct answer *a, const char *model, int tokens,
		char *id)
{
	char *text = words(tokens);

	ask(w, a, turn(model, text, id));
	free(text);
	if (a->end.type != EVENT_FINISHED)
		fail_msg("%s", a->end.failed.text);
	snprintf(id, 64, "%s", a->conversation);
}

static bool is_quiet(struct world *w)
{
	return dispatch_stats(w->dispatch)->running == 0;
}

/* budget = 1024 - 256 - 256 = 512: soft 409, low 256; a turn of `tokens` costs some 15 more. */
static void over_the_soft_limit_a_summary_is_made_behind_the_answer(void **state)
{
	struct world w;
	struct answer a;
	char id[64] = "new";

	(void)state;
	open_world(&w, "memory { titles = false }\n");
	for (int i = 0; i < 4; i++) { /* the third is at 345, the fourth at 460 */
		say(&w, &a, "good", 100, id);
		assert_int_equal(a.summarised, 0);
		assert_int_equal(a.dropped, 0);
		assert_int_equal(asked_by("hob summary"), 0);
	}
	RUN_UNTIL(&w, dispatch_stats(w.dispatch)->summaries_done == 1 && is_quiet(&w));
	assert_int_equal(asked_by("hob summary"), 1);
	assert_int_equal(last_seen()->class, CLASS_BATCH);
	assert_says(last_seen()->last, "summary");
	/* what the model has read already, so that its KV cache is reused */
	assert_true(strlen(last_seen()->all) > 0);
	assert_memory_equal(last_seen()->all, seen[nseen - 2].all,
			    strlen(last_seen()->all));
	assert_int_equal(last_seen()->n % 2, 1); /* whole turns, then the question */
	say(&w, &a, "good", 100, id);
	assert_true(a.summarised >= 2);
	assert_int_equal(a.dropped, 0);
	assert_int_equal(a.kept + a.summarised, 8);
	assert_says(last_seen()->first, "[Summary of");
	assert_says(last_seen()->first, "made by good");
	assert_says(last_seen()->first, "local answers");
	assert_int_equal(last_seen()->n, 1 + a.kept + 1);
	assert_int_equal(a.ctx, 1024);
	assert_string_equal(a.tier, "ram");
	RUN_UNTIL(&w, is_quiet(&w));
	assert_nothing_held(&w);
	world_fini(&w);
}

static void what_does_not_fit_is_summarised_before_the_call(void **state)
{
	struct world w;
	struct answer a;
	char id[64] = "new";

	(void)state;
	open_world(&w, "memory { titles = false }\n");
	say(&w, &a, "good", 150, id);
	say(&w, &a, "good", 150, id); /* 345 with its answer: below the soft limit */
	assert_int_equal(asked_by("hob summary"), 0);
	say(&w, &a, "good", 250, id);
	assert_int_equal(asked_by("hob summary"), 1);
	assert_int_equal(seen[2].class, CLASS_INTERACTIVE); /* somebody waits for it */
	assert_int_equal(a.dropped, 0);
	assert_true(a.summarised > 0);
	assert_int_equal(a.kept + a.summarised, 4);
	RUN_UNTIL(&w, is_quiet(&w));
	assert_nothing_held(&w);
	world_fini(&w);
}

static void when_the_summariser_fails_turns_are_dropped_and_it_is_said(void **state)
{
	struct world w;
	struct answer a;
	char id[64] = "new";

	(void)state;
	open_world(&w, "memory { titles = false summary_model = \"far/x\" }\n");
	script(&w.far, "content_filter");
	say(&w, &a, "good", 150, id);
	say(&w, &a, "good", 150, id);
	say(&w, &a, "good", 250, id);
	assert_int_equal(w.far.starts, 1);
	assert_int_equal(a.summarised, 0);
	assert_true(a.dropped > 0);
	assert_int_equal(a.kept + a.dropped, 4);
	assert_int_equal(dispatch_stats(w.dispatch)->summaries_failed, 1);
	/* and is not tried for the same message again for a while */
	RUN_UNTIL(&w, is_quiet(&w));
	say(&w, &a, "good", 20, id);
	RUN_UNTIL(&w, is_quiet(&w));
	assert_int_equal(w.far.starts, 1);
	world_fini(&w);
}

static void a_summary_longer_than_what_it_stands_for_counts_as_failed(void **state)
{
	struct world w;
	struct answer a;
	char id[64] = "new";

	(void)state;
	open_world(&w, "memory { titles = false summary_model = \"far/x\" }\n");
	script(&w.far, "longer");
	say(&w, &a, "good", 150, id);
	say(&w, &a, "good", 150, id);
	say(&w, &a, "good", 250, id);
	assert_int_equal(w.far.starts, 1);
	assert_int_equal(a.summarised, 0);
	assert_true(a.dropped > 0);
	world_fini(&w);
}

static void without_summaries_turns_are_dropped_as_before(void **state)
{
	struct world w;
	struct answer a;
	char id[64] = "new";

	(void)state;
	open_world(&w, "memory { titles = false summary = false }\n");
	for (int i = 0; i < 6; i++)
		say(&w, &a, "good", 100, id);
	assert_true(a.dropped > 0);
	assert_int_equal(a.kept + a.dropped, 10);
	assert_int_equal(nseen, 6);
	world_fini(&w);
}

static void a_background_summary_gives_way_to_who_waits(void **state)
{
	struct world w;
	struct answer a, b;
	char id[64] = "new";

	(void)state;
	open_world(&w, "memory { titles = false summary_model = \"far/x\" }\n");
	script(&w.far, "hang");
	for (int i = 0; i < 4; i++)
		say(&w, &a, "good", 100, id);
	RUN_UNTIL(&w, w.far.starts == 1);
	start(&w, &b, prompt("slow", "hello")); /* waits for its load for ever */
	RUN_UNTIL(&w, w.far.cancels == 1);
	dispatch_cancel(b.job);
	RUN_UNTIL(&w, w.far.starts == 2); /* and is started again once it is quiet */
	world_fini(&w);                   /* which ends it */
}

static void a_summary_that_is_under_way_is_not_asked_for_twice(void **state)
{
	struct world w;
	struct answer a;
	char id[64] = "new";
	char *text = words(200);

	(void)state;
	open_world(&w, "memory { titles = false summary_model = \"far/x\" }\n");
	script(&w.far, "hang");
	for (int i = 0; i < 4; i++)
		say(&w, &a, "good", 100, id);
	RUN_UNTIL(&w, w.far.starts == 1);
	start(&w, &a, turn("good", text, id));
	RUN_UNTIL(&w, a.progress > 0 || a.ends);
	assert_int_equal(a.ends, 0);
	assert_string_equal(progress_stage_name(a.stage), "summarising");
	assert_int_equal(w.far.starts, 1);
	dispatch_cancel(a.job);
	assert_int_equal(w.far.cancels, 1);
	RUN_UNTIL(&w, is_quiet(&w));
	assert_nothing_held(&w);
	free(text);
	world_fini(&w);
}

/* At each step, with a summary before the call. */
static void cancel_is_legal_while_history_is_made_to_fit(void **state)
{
	(void)state;
	for (int steps = 0; steps < 24; steps++) {
		struct world w;
		struct answer a;
		char id[64] = "new";
		char *text = words(250);

		open_world(&w, "memory { titles = true }\n");
		say(&w, &a, "good", 150, id);
		say(&w, &a, "good", 150, id);
		start(&w, &a, turn("good", text, id));
		for (int i = 0; i < steps && !a.ends; i++)
			uv_run(&w.loop, UV_RUN_NOWAIT);
		if (!a.ends)
			dispatch_cancel(a.job);
		if (steps % 2) { /* else dispatch_free() finds it in the middle */
			RUN_UNTIL(&w, is_quiet(&w));
			assert_nothing_held(&w);
		}
		free(text);
		world_fini(&w);
	}
}

static void a_call_that_waits_for_its_summary_can_be_cancelled(void **state)
{
	struct world w;
	struct answer a;
	char id[64] = "new";
	char *text = words(250);

	(void)state;
	open_world(&w, "memory { titles = false summary_model = \"far/x\" }\n");
	script(&w.far, "hang");
	say(&w, &a, "good", 150, id);
	say(&w, &a, "good", 150, id);
	start(&w, &a, turn("good", text, id));
	RUN_UNTIL(&w, w.far.starts == 1 && a.progress > 0);
	assert_string_equal(progress_stage_name(a.stage), "summarising");
	dispatch_cancel(a.job);
	assert_int_equal(w.far.cancels, 1);
	assert_int_equal(a.ends, 0);
	RUN_UNTIL(&w, is_quiet(&w));
	assert_nothing_held(&w);
	free(text);
	world_fini(&w);
}

struct row {
	int times, messages;
	char title[200], status[40];
};

static void on_row(void *arg, const struct err *e, const struct store_conversation *list,
		   int n)
{
	struct row *r = arg;

	r->times++;
	assert_int_equal(e->code, ERR_NONE);
	assert_int_equal(n, 1);
	r->messages = list->messages;
	snprintf(r->title, sizeof r->title, "%s", list->title);
	snprintf(r->status, sizeof r->status, "%s", list->status);
}

static void on_none(void *arg, const struct err *e, const struct store_conversation *list,
		    int n)
{
	(void)list;
	((struct row *)arg)->times++;
	assert_int_equal(e->code, ERR_NONE);
	assert_int_equal(n, 0);
}

static void look(struct world *w, const char *id, struct row *r)
{
	memset(r, 0, sizeof *r);
	store_get(w->store, id, on_row, r);
	RUN_UNTIL(w, r->times);
}

static void a_first_answer_gets_a_title_from_a_warm_model(void **state)
{
	struct world w;
	struct answer a;
	struct row r;
	char id[64] = "new";

	(void)state;
	open_world(&w, "memory { summary = false titles = true }\n");
	say(&w, &a, "good", 30, id);
	do
		look(&w, id, &r);
	while (strcmp(r.title, "local answers") != 0);
	assert_int_equal(asked_by("hob title"), 1);
	assert_int_equal(r.messages, 2); /* nothing of it is in the conversation */
	say(&w, &a, "good", 30, id);
	RUN_UNTIL(&w, is_quiet(&w));
	assert_int_equal(asked_by("hob title"), 1);
	world_fini(&w);
}

static void no_remote_model_is_asked_for_a_title_or_of_a_private_summary(void **state)
{
	struct world w;
	struct answer a;
	char id[64] = "new";

	(void)state;
	open_world(&w, "model \"far/x\" { ctx = 1024 }\n");
	for (int i = 0; i < 2; i++)
		say(&w, &a, "far/x", 30, id);
	RUN_UNTIL(&w, is_quiet(&w));
	assert_int_equal(asked_by("hob title"), 0);
	assert_string_equal(a.tier, "remote");
	world_fini(&w);
}

/* ---- the policy */

static void memory_store_says_whose_turns_are_kept(void **state)
{
	static const struct {
		const char *policy, *client;
		enum tristate keep;
		bool named, kept;
	} cases[] = {
		{"off", NULL, UNSAID, true, false},
		{"off", NULL, YES, false, false},
		{"cli", NULL, UNSAID, true, false},
		{"cli", "hob chat", UNSAID, true, true},
		{"cli", "hobgoblin", UNSAID, true, false},
		{"opt-in", NULL, UNSAID, true, true},
		{"opt-in", NULL, UNSAID, false, false},
		{"opt-in", NULL, YES, false, true},
		{"all", NULL, UNSAID, false, true},
		{"all", NULL, NO, false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char config[100];
		struct world w;
		struct answer a;
		struct request *r = prompt("far/x", "hello");

		snprintf(config, sizeof config,
			 "memory { titles = false store = \"%s\" }\n", cases[i].policy);
		open_world(&w, config);
		if (cases[i].named)
			r->conversation = xstrdup("new");
		if (cases[i].client)
			r->client_name = xstrdup(cases[i].client);
		r->keep = cases[i].keep;
		ask(&w, &a, r);
		assert_answered_by(&a, "far/x");
		assert_int_equal(strlen(a.conversation) == 26, cases[i].kept);
		assert_int_equal(strlen(a.message) == 32, cases[i].kept);
		if (cases[i].named && !cases[i].kept)
			assert_says(a.reason, "not remembered: memory.store");
		world_fini(&w);
	}
}

static void what_is_only_recorded_is_sent_as_it_is(void **state)
{
	struct world w;
	struct answer a, b;
	struct request *r;
	struct row row;

	(void)state;
	open_world(&w, "memory { titles = false store = \"all\" }\n");
	ask(&w, &a, prompt("far/x", "one"));
	assert_int_equal(a.kept, -1);
	r = prompt("far/x", "one");
	snprintf(r->id, sizeof r->id, "hob-second");
	request_add_message(r, ROLE_ASSISTANT, "far answers", 11);
	request_add_message(r, ROLE_USER, "two", 3);
	ask(&w, &b, r);
	assert_int_equal(last_seen()->n, 3);
	assert_string_equal(b.conversation, a.conversation); /* whose head it continues */
	look(&w, a.conversation, &row);
	assert_int_equal(row.messages, 4);
	world_fini(&w);
}

static void store_false_of_a_conversation_reads_and_adds_nothing(void **state)
{
	struct world w;
	struct answer a;
	struct request *r;
	struct row row;
	char id[64] = "new";

	(void)state;
	open_world(&w, "memory { titles = false }\n");
	say(&w, &a, "good", 20, id);
	r = turn("good", "two", id);
	r->keep = NO;
	ask(&w, &a, r);
	assert_int_equal(a.kept, 2);
	assert_string_equal(a.message, "");
	look(&w, id, &row);
	assert_int_equal(row.messages, 2);
	world_fini(&w);
}

static void a_private_conversation_makes_every_turn_private(void **state)
{
	struct world w;
	struct answer a;
	struct row row = {0};
	char id[64] = "new";

	(void)state;
	open_world(&w, "memory { titles = false }\n");
	say(&w, &a, "good", 20, id);
	store_change(w.store, id,
		     &(struct store_change){.is_private = YES, .pinned = UNSAID}, on_row,
		     &row);
	RUN_UNTIL(&w, row.times);
	ask(&w, &a, turn("far/x", "two", id));
	assert_int_equal(a.end.type, EVENT_FAILED);
	assert_int_equal(w.far.starts, 0);
	say(&w, &a, "good", 20, id);
	assert_true(last_seen()->is_private);
	world_fini(&w);
}

static void an_incognito_conversation_goes_on_and_is_volatile(void **state)
{
	struct world w;
	struct answer a;
	struct row row = {0};
	char id[64] = "incognito";

	(void)state;
	open_world(&w, "memory { titles = false store = off }\n");
	say(&w, &a, "good", 20, id);
	assert_int_equal(id[0], 'Z');
	assert_true(last_seen()->is_volatile);
	say(&w, &a, "good", 20, id);
	assert_int_equal(a.kept, 2);
	assert_int_equal(strlen(a.message), 32);
	store_list(w.store, &(struct store_list_ask){.limit = 10}, on_none, &row);
	RUN_UNTIL(&w, row.times);
	world_fini(&w);
}

static void an_unknown_incognito_conversation_is_an_error(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	open_world(&w, "memory { titles = false }\n");
	ask(&w, &a, turn("good", "hi", "Z1ARZ3NDEKTSV4RRFFQ69G5FAV"));
	assert_failed_with(&a, ERR_NOT_FOUND, "Z1ARZ3NDEKTSV4RRFFQ69G5FAV");
	world_fini(&w);
}

/* ---- the tree */

static void a_parent_makes_another_answer_and_the_hashes_come_back(void **state)
{
	struct world w;
	struct answer a, b, c;
	struct request *r;
	char id[64] = "new";

	(void)state;
	open_world(&w, "memory { titles = false }\n");
	say(&w, &a, "good", 20, id);
	assert_int_equal(strlen(a.prompt), 32);
	assert_int_equal(strlen(a.message), 32);
	say(&w, &b, "good", 20, id);
	assert_int_equal(b.kept, 2);
	r = turn("far/x", "edited", id);
	r->parent = xstrdup(a.message);
	ask(&w, &c, r);
	assert_int_equal(c.kept, 2);
	assert_string_not_equal(c.prompt, b.prompt);
	/* again, without a word */
	r = request_new();
	free(r->model);
	r->model = xstrdup("far/x");
	r->is_chat = true;
	r->conversation = xstrdup(id);
	r->parent = xstrdup(c.prompt);
	snprintf(r->id, sizeof r->id, "hob-again");
	ask(&w, &c, r);
	assert_answered_by(&c, "far/x");
	assert_string_equal(last_seen()->last, "edited");
	r = turn("far/x", "from the start", id);
	r->parent = xstrdup("root");
	ask(&w, &c, r);
	assert_int_equal(last_seen()->n, 1);
	r = turn("far/x", "x", id);
	r->parent = xstrdup("00000000000000000000000000000000");
	ask(&w, &c, r);
	assert_int_equal(c.end.type, EVENT_FAILED);
	assert_int_equal(c.end.failed.code, ERR_NOT_FOUND);
	world_fini(&w);
}

static void tool_calls_go_back_as_the_raw_message(void **state)
{
	struct world w;
	struct answer a;
	struct request *r;
	char id[64] = "new";

	(void)state;
	open_world(&w, "memory { titles = false }\n");
	script(&w.far, "calls,ok");
	say(&w, &a, "far/x", 20, id);
	r = turn("far/x", "thanks", id);
	free(r->messages[0].text);
	r->messages[0].role = ROLE_TOOL;
	r->messages[0].text = xstrdup("a.txt");
	r->messages[0].raw_json = xstrdup(
		"{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"a.txt\"}");
	ask(&w, &a, r);
	assert_int_equal(a.kept, 2);
	ask(&w, &a, turn("far/x", "and now", id));
	assert_int_equal(a.kept, 4);
	assert_says(last_seen()->raw, "\"tool_call_id\":\"c1\""); /* the last raw one */
	for (int i = 0; i < nseen; i++)
		if (i == 1) /* asked with the result: the call came before it */
			assert_int_equal(seen[i].n, 3);
	world_fini(&w);
}

/* A call, its result and an image, all said far away. */
static void say_more_than_text(struct world *w, char *id)
{
	struct answer a;
	struct request *r;

	script(&w->far, "calls,ok");
	say(w, &a, "far/x", 20, id);
	r = turn("far/x", "ab", id);
	r->messages[0].role = ROLE_TOOL;
	r->messages[0].raw_json =
		xstrdup("{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"ab\"}");
	ask(w, &a, r);
	assert_answered_by(&a, "far/x");
	r = turn("far/x", "this?", id);
	r->messages[0].raw_json = xstrdup(
		"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"this?\"},"
		"{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:,\"}}]}");
	ask(w, &a, r);
	assert_answered_by(&a, "far/x");
}

static void the_engine_gets_calls_and_images_of_the_history_as_text(void **state)
{
	struct world w;
	struct answer a;
	char id[64] = "new", before[8000];
	struct request *r;

	(void)state;
	open_world(&w, "memory { titles = false }\n");
	say_more_than_text(&w, id);
	ask(&w, &a, turn("good", "go on", id));
	assert_answered_by(&a, "good");
	assert_string_equal(last_seen()->raw, "");
	assert_says(last_seen()->all, "|[called ls({})]|[result of ls: ab]|far answers|"
				      "this?\n[image]|far answers|");
	assert_false(last_seen()->has_tool_role);
	memcpy(before, last_seen()->all, sizeof before);
	/* the same beginning, byte for byte */
	ask(&w, &a, turn("good", "and on", id));
	assert_memory_equal(last_seen()->all, before, strlen(before));
	/* what was stored is what goes out again */
	ask(&w, &a, turn("far/x", "back", id));
	assert_answered_by(&a, "far/x");
	assert_says(last_seen()->raw, "image_url");
	assert_null(strstr(last_seen()->all, "[called"));
	assert_true(last_seen()->has_tool_role);
	/* what is new in this request is not rewritten: the engine says what it cannot read */
	r = turn("good", "look", id);
	r->messages[0].raw_json = xstrdup("{\"role\":\"user\",\"content\":[]}");
	ask(&w, &a, r);
	assert_string_equal(last_seen()->raw, "{\"role\":\"user\",\"content\":[]}");
	world_fini(&w);
}

static void a_summary_by_another_model_reads_calls_as_text(void **state)
{
	struct world w;
	struct answer a;
	const struct seen *first = NULL;
	char id[64] = "new";

	(void)state;
	open_world(&w, "memory { titles = false summary_model = \"good\" }\n"
		       "model \"far/x\" { ctx = 1024 }\n");
	say_more_than_text(&w, id);
	for (int i = 0; i < 12 && !asked_by("hob summary"); i++) {
		say(&w, &a, "far/x", 100, id);
		RUN_UNTIL(&w, is_quiet(&w));
	}
	assert_true(asked_by("hob summary") > 0);
	for (int i = 0; i < nseen; i++)
		if (!strcmp(seen[i].client, "hob summary")) {
			assert_string_equal(seen[i].raw, "");
			assert_false(seen[i].has_tool_role);
			first = first ? first : &seen[i];
		}
	assert_non_null(first);
	assert_says(first->all, "|[called ls({})]|[result of ls: ab]|");
	world_fini(&w);
}

/* A regeneration has no message of its own. */
static void without_its_history_nothing_is_asked_of_a_model(void **state)
{
	static const char *const models[] = {"far/x", "chain"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(models); i++) {
		struct world w;
		struct answer a;
		struct request *r = request_new();

		open_world(&w,
			   "memory { store = off }\n"
			   "route \"chain\" { candidates = {\"far/x\", \"good\"} }\n");
		free(r->model);
		r->model = xstrdup(models[i]);
		r->is_chat = true;
		r->conversation = xstrdup("01ARZ3NDEKTSV4RRFFQ69G5FAV");
		snprintf(r->id, sizeof r->id, "hob-empty");
		ask(&w, &a, r);
		assert_failed_with(&a, ERR_UNAVAILABLE, "memory.store is off");
		assert_int_equal(nseen, 0);
		world_fini(&w);
	}
}

/* Its words are known, but a new conversation keeps what was only recorded. */
static void a_private_conversation_is_not_gone_on_with_by_what_is_recorded(void **state)
{
	struct world w;
	struct answer a, b;
	struct request *r;
	struct row row = {0};

	(void)state;
	open_world(&w, "memory { titles = false store = \"all\" }\n");
	ask(&w, &a, prompt("far/x", "one"));
	store_change(w.store, a.conversation,
		     &(struct store_change){.is_private = YES, .pinned = UNSAID}, on_row,
		     &row);
	RUN_UNTIL(&w, row.times);
	r = prompt("far/x", "one");
	snprintf(r->id, sizeof r->id, "hob-next");
	request_add_message(r, ROLE_ASSISTANT, "far answers", 11);
	request_add_message(r, ROLE_USER, "two", 3);
	ask(&w, &b, r);
	assert_answered_by(&b, "far/x");
	assert_int_equal(strlen(b.conversation), 26);
	assert_string_not_equal(b.conversation, a.conversation);
	look(&w, a.conversation, &row);
	assert_int_equal(row.messages, 2);
	look(&w, b.conversation, &row);
	assert_int_equal(row.messages, 4);
	/* and by its name it stays here */
	ask(&w, &b, turn("far/x", "three", a.conversation));
	assert_int_equal(b.end.type, EVENT_FAILED);
	assert_int_equal(w.far.starts, 2);
	world_fini(&w);
}

static void spoil_messages(struct world *w)
{
	char *path = xasprintf("%s/memory.db", w->dir);
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 10000);
	assert_int_equal(sqlite3_exec(db,
				      "PRAGMA ignore_check_constraints = 1;"
				      "DROP TRIGGER message_ro;"
				      "UPDATE message SET role = 'odd'",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	sqlite3_close(db);
	free(path);
}

static void of_a_conversation_that_cannot_be_read_nothing_leaves(void **state)
{
	struct world w;
	struct answer a;
	char id[64] = "new";

	(void)state;
	open_world(&w, "memory { titles = false }\n");
	say(&w, &a, "good", 20, id);
	spoil_messages(&w);
	ask(&w, &a, turn("far/x", "secret", id));
	assert_failed_with(&a, ERR_FORBIDDEN, "not remembered");
	assert_int_equal(w.far.starts, 0);
	/* a model that is here answers, without memory, as ever */
	ask(&w, &a, turn("good", "go on", id));
	assert_answered_by(&a, "good");
	assert_says(a.reason, "not remembered");
	assert_int_equal(last_seen()->n, 1);
	world_fini(&w);
}

static void of_a_conversation_that_the_policy_does_not_read_nothing_leaves(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	open_world(&w, "memory { titles = false store = \"off\" }\n");
	ask(&w, &a, turn("far/x", "secret", "01ARZ3NDEKTSV4RRFFQ69G5FAV"));
	assert_failed_with(&a, ERR_FORBIDDEN, "not remembered");
	assert_int_equal(w.far.starts, 0);
	ask(&w, &a, turn("good", "go on", "01ARZ3NDEKTSV4RRFFQ69G5FAV"));
	assert_answered_by(&a, "good");
	ask(&w, &a, turn("far/x", "hello", "new"));
	assert_answered_by(&a, "far/x");
	world_fini(&w);
}

/* What is left of it is nothing: the wait is over at the first look, and not after a minute. */
static void no_summary_is_waited_for_when_the_time_is_over(void **state)
{
	struct world w;
	struct answer a;
	struct request *r;
	char id[64] = "new";
	char *text = words(250);

	(void)state;
	open_world(&w, "memory { titles = false summary_model = \"away/y\" }\n"
		       "model \"far/x\" { ctx = 1024 }\n");
	script(&w.away, "hang");
	say(&w, &a, "far/x", 150, id);
	say(&w, &a, "far/x", 150, id);
	r = turn("far/x", text, id);
	r->deadline_ms = clock_mono_ms() + 1;
	RUN_UNTIL(&w, clock_mono_ms() > r->deadline_ms);
	ask(&w, &a, r);
	assert_answered_by(&a, "far/x");
	assert_true(a.dropped > 0);
	assert_int_equal(w.away.cancels, 1);
	assert_int_equal(a.progress, 0); /* no second look */
	free(text);
	world_fini(&w);
}

static void old_tool_results_are_elided_and_named(void **state)
{
	struct world w;
	struct answer a;
	char id[64] = "new";
	char *result = words(200);

	(void)state;
	open_world(&w, "memory { titles = false summary = false }\n");
	for (int i = 0; i < 2; i++) {
		struct request *r = turn("good", "look", id);

		request_add_message(r, ROLE_TOOL, result, strlen(result));
		ask(&w, &a, r);
		snprintf(id, sizeof id, "%s", a.conversation);
		assert_int_equal(a.elided, 0);
	}
	say(&w, &a, "good", 80, id);
	assert_int_equal(a.dropped, 0);
	assert_int_equal(a.elided, 1);
	free(result);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(over_the_soft_limit_a_summary_is_made_behind_the_answer),
		cmocka_unit_test(what_does_not_fit_is_summarised_before_the_call),
		cmocka_unit_test(
			when_the_summariser_fails_turns_are_dropped_and_it_is_said),
		cmocka_unit_test(
			a_summary_longer_than_what_it_stands_for_counts_as_failed),
		cmocka_unit_test(without_summaries_turns_are_dropped_as_before),
		cmocka_unit_test(a_background_summary_gives_way_to_who_waits),
		cmocka_unit_test(a_summary_that_is_under_way_is_not_asked_for_twice),
		cmocka_unit_test(cancel_is_legal_while_history_is_made_to_fit),
		cmocka_unit_test(a_call_that_waits_for_its_summary_can_be_cancelled),
		cmocka_unit_test(a_first_answer_gets_a_title_from_a_warm_model),
		cmocka_unit_test(
			no_remote_model_is_asked_for_a_title_or_of_a_private_summary),
		cmocka_unit_test(memory_store_says_whose_turns_are_kept),
		cmocka_unit_test(what_is_only_recorded_is_sent_as_it_is),
		cmocka_unit_test(store_false_of_a_conversation_reads_and_adds_nothing),
		cmocka_unit_test(a_private_conversation_makes_every_turn_private),
		cmocka_unit_test(an_incognito_conversation_goes_on_and_is_volatile),
		cmocka_unit_test(an_unknown_incognito_conversation_is_an_error),
		cmocka_unit_test(a_parent_makes_another_answer_and_the_hashes_come_back),
		cmocka_unit_test(tool_calls_go_back_as_the_raw_message),
		cmocka_unit_test(the_engine_gets_calls_and_images_of_the_history_as_text),
		cmocka_unit_test(a_summary_by_another_model_reads_calls_as_text),
		cmocka_unit_test(without_its_history_nothing_is_asked_of_a_model),
		cmocka_unit_test(
			a_private_conversation_is_not_gone_on_with_by_what_is_recorded),
		cmocka_unit_test(of_a_conversation_that_cannot_be_read_nothing_leaves),
		cmocka_unit_test(
			of_a_conversation_that_the_policy_does_not_read_nothing_leaves),
		cmocka_unit_test(no_summary_is_waited_for_when_the_time_is_over),
		cmocka_unit_test(old_tool_results_are_elided_and_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
