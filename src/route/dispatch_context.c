/* What of a conversation's path goes to the candidate: counts, the plan, the messages.
 *
 * Loop thread.  Counts come from the store where the same tokenizer has counted before, from the engine for
 * the rest, and from bytes where there is no tokenizer at hand (remote models, children, an engine that does
 * not answer in time).  The engine reads text alone: of a history it gets plain_text.h's form of calls,
 * results and images, for which its tokens are counted; everybody else gets the originals.  Notes and a summary are added to the last leading system message, not sent as
 * messages of their own: templates take one system message, and some of them no more. */
#include "route/dispatch_impl.h"

#include <inttypes.h>
#include "base/json.h"
#include "base/log.h"
#include "memory/store_notes.h"
#include "memory/summary.h"
#include "route/plain_text.h"

/* ---- what the path brought */

/* The model that is known to answer, or likely to: without reading the folder again. */
static const struct model *likely_model(const struct dispatch_job *j)
{
	const struct models *m = j->d->parts.models;
	const char *name = j->r->model;

	if (j->c && job_is_remote(j))
		return NULL;
	if (j->c)
		name = job_candidate(j)->model;
	for (int i = 0; i < models_count(m); i++)
		if (models_at(m, i)->path && !strcmp(models_at(m, i)->name, name))
			return models_at(m, i);
	return NULL;
}

/* The file holds tokenizer and template; 2 is the version of how we read the latter, and of
 * plain_text.h. */
char *context_tokenizer(const struct dispatch_job *j)
{
	const struct model *m = likely_model(j);
	struct model now;

	if (!m || !j->d->parts.engine)
		return NULL;
	now = dispatch_model_now(m);
	return xasprintf("2-%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%" PRIx64, now.dev,
			 now.ino, now.bytes, (uint64_t)now.mtime_ms);
}

void context_take(struct dispatch_job *j, const struct store_path *p)
{
	struct job_context *x = &j->context;

	x->marks = xcalloc((size_t)p->n + 1, sizeof *x->marks);
	for (int i = 0; i < p->n; i++) {
		x->marks[i].id = p->messages[i].id;
		memcpy(x->marks[i].hash, p->messages[i].hash, sizeof x->marks[i].hash);
		x->marks[i].tokens = x->tokenizer ? p->messages[i].tokens : -1;
	}
	x->summaries = xcalloc((size_t)p->nsummaries + 1, sizeof *x->summaries);
	for (int i = 0; i < p->nsummaries; i++) {
		const struct store_summary *s = &p->summaries[i];

		if (s->upto < 0 || s->upto >= p->n)
			continue;
		x->summaries[x->nsummaries++] =
			(struct history_summary){.upto = s->upto,
						 .tokens = s->tokens,
						 .model = xstrdup(s->model),
						 .text = xstrdup(s->text)};
	}
	x->notes = xcalloc((size_t)p->nnotes + 1, sizeof *x->notes);
	for (int i = 0; i < p->nnotes; i++)
		x->notes[x->nnotes++] = xstrdup(p->notes[i].text);
}

static void forget_messages(struct job_context *x)
{
	for (int i = 0; i < x->nmade; i++)
		free(x->made[i]);
	free(x->made);
	free(x->messages);
	x->made = NULL;
	x->messages = NULL;
	x->nmade = x->nmessages = 0;
}

void context_free(struct dispatch_job *j)
{
	struct job_context *x = &j->context;

	forget_messages(x);
	for (int i = 0; i < x->nsummaries; i++) {
		free(x->summaries[i].model);
		free(x->summaries[i].text);
	}
	for (int i = 0; i < x->nnotes; i++)
		free(x->notes[i]);
	for (int i = 0; x->plain && i < j->njoined; i++)
		free(x->plain[i].text);
	free(x->plain);
	free(x->summaries);
	free(x->notes);
	free(x->marks);
	free(x->tokenizer);
	free(x->tokens);
	free(x->asked);
}

static bool is_history(const struct dispatch_job *j, int i)
{
	return i >= j->lead && i < j->lead + j->nhistory;
}

/* ---- as text alone */

bool context_is_plain(const struct dispatch_job *j)
{
	return !job_is_remote(j) && j->runner == j->d->parts.local;
}

/* Once for all candidates; empty where a message is plain as it is, or new: what the engine cannot
 * read of the request itself is an error that names it. */
static void make_plain(struct dispatch_job *j)
{
	struct plain_text *p;

	if (j->context.plain)
		return;
	p = plain_text_new();
	j->context.plain = xcalloc((size_t)j->njoined + 1, sizeof *j->context.plain);
	for (int i = j->lead; i < j->lead + j->nhistory; i++)
		plain_text_next(p, &j->joined[i], &j->context.plain[i]);
	plain_text_free(p);
}

static const struct message *joined(const struct dispatch_job *j, int i, bool plain)
{
	return plain && j->context.plain[i].text ? &j->context.plain[i] : &j->joined[i];
}

/* ---- the plan */

static int summary_tokens(const struct history_summary *s)
{
	int guess = context_guess(strlen(s->text));

	return (s->tokens > guess ? s->tokens : guess) + CONTEXT_BLOCK_TOKENS;
}

/* The newest notes that fit their share; the first of them, and what they cost. */
static int first_note(const struct job_context *x, int budget, int *tokens)
{
	int64_t sum = CONTEXT_BLOCK_TOKENS,
		most = (int64_t)budget * CONTEXT_NOTES_PERCENT / 100;
	int i = x->nnotes;

	while (i > 0 && sum + context_guess(strlen(x->notes[i - 1])) <= most)
		sum += context_guess(strlen(x->notes[--i]));
	*tokens = i < x->nnotes ? (int)sum : 0;
	return i;
}

static void insert_summary(struct context_summary *s, int n, int upto, int ctx)
{
	for (; n > 0 && s[n - 1].upto > upto; n--)
		s[n] = s[n - 1];
	s[n] = (struct context_summary){upto, context_summary_tokens(ctx) +
						      CONTEXT_BLOCK_TOKENS};
}

/* With one more item for an answer (tokens < 0: none), and one more summary that might come (upto, of joined,
 * < 0: none). */
static void fit(const struct dispatch_job *j, int answer_tokens, int upto,
		struct context_plan *out)
{
	const struct job_context *x = &j->context;
	struct context_item *items = xcalloc((size_t)j->njoined + 2, sizeof *items);
	struct context_summary *s = xcalloc((size_t)x->nsummaries + 2, sizeof *s);
	struct context_ask a = {.items = items,
				.n = j->njoined,
				.nhistory = j->lead + j->nhistory,
				.summaries = s,
				.nsummaries = x->nsummaries,
				.ctx = x->ctx,
				.budget = x->plan_budget};

	for (int i = 0; i < j->njoined; i++)
		items[i] = (struct context_item){
			.role = j->joined[i].role,
			.tokens = x->tokens[i],
			.bytes = strlen(j->joined[i].text),
			/* new ones have no name by which they could be asked for */
			.is_result = j->joined[i].role == ROLE_TOOL && is_history(j, i)};
	if (answer_tokens >= 0)
		items[a.n++] = (struct context_item){.role = ROLE_ASSISTANT,
						     .tokens = answer_tokens};
	for (int i = 0; i < x->nsummaries; i++)
		s[i] = (struct context_summary){j->lead + x->summaries[i].upto,
						summary_tokens(&x->summaries[i])};
	if (upto >= 0)
		insert_summary(s, a.nsummaries++, upto, x->ctx);
	first_note(x, a.budget, &a.notes_tokens);
	context_fit(&a, out);
	out->kept -= j->lead;
	free(items);
	free(s);
}

void context_plan_next(const struct dispatch_job *j, int answer_tokens,
		       struct context_plan *out)
{
	fit(j, answer_tokens, -1, out);
}

void context_plan_with(const struct dispatch_job *j, int upto, struct context_plan *out)
{
	fit(j, -1, upto, out);
}

/* ---- the messages */

static void own(struct job_context *x, char *text)
{
	x->made = xrealloc(x->made, ((size_t)x->nmade + 1) * sizeof *x->made);
	x->made[x->nmade++] = text;
}

/* Notes and summary of this plan; empty: neither. */
static void add_blocks(const struct dispatch_job *j, const struct context_plan *p,
		       struct buf *out)
{
	const struct job_context *x = &j->context;
	int tokens, from = first_note(x, x->plan_budget, &tokens);

	summary_add_notes(out, x->notes + from, x->nnotes - from);
	if (p->summary >= 0)
		summary_add_block(out, x->summaries[p->summary].text,
				  j->lead + x->summaries[p->summary].upto + 1 -
					  p->nsystem,
				  x->summaries[p->summary].model);
}

/* [system][notes][summary]: how many messages; m has room for one more than nsystem. */
static int build_head(struct dispatch_job *j, const struct context_plan *p, bool plain,
		      struct message *m)
{
	struct buf text = {0};
	int n = 0;

	for (; n < p->nsystem; n++)
		m[n] = *joined(j, n, plain);
	if (n && !m[n - 1].raw_json)
		buf_adds(&text, m[--n].text);
	add_blocks(j, p, &text);
	if (text.len) {
		m[n].role = ROLE_SYSTEM;
		m[n].raw_json = NULL;
		m[n].text = buf_take(&text, NULL);
		own(&j->context, m[n].text);
		n++;
	} else if (n < p->nsystem) {
		n++; /* an empty one, as it was */
	}
	buf_free(&text);
	return n;
}

/* Only the text of a result shrinks: its raw form keeps the name of the call that it answers. */
static char *elided_raw(const char *raw, const char *text)
{
	struct err e;
	cJSON *m = raw ? json_parse(str_of(raw), &e) : NULL;
	char *out = NULL, *printed;

	if (!m)
		return NULL;
	if (cJSON_ReplaceItemInObjectCaseSensitive(m, "content",
						   cJSON_CreateString(text))) {
		printed = cJSON_PrintUnformatted(m);
		out = printed ? xstrdup(printed) : NULL;
		cJSON_free(printed);
	}
	cJSON_Delete(m);
	return out;
}

static struct message elided(struct dispatch_job *j, int i, bool plain)
{
	struct message m = j->joined[i];
	struct buf text = {0};

	summary_add_elided(&text, strlen(m.text), j->context.marks[i - j->lead].hash);
	m.text = buf_take(&text, NULL);
	own(&j->context, m.text);
	if (plain) {
		m.role = ROLE_USER;
		m.raw_json = NULL;
		return m;
	}
	m.raw_json = elided_raw(m.raw_json, m.text);
	if (m.raw_json)
		own(&j->context, m.raw_json);
	return m;
}

static bool elides(const struct dispatch_job *j, const struct context_plan *p, int i)
{
	struct context_item it = {.role = j->joined[i].role,
				  .tokens = j->context.tokens[i],
				  .bytes = strlen(j->joined[i].text),
				  .is_result = j->joined[i].role == ROLE_TOOL &&
					       is_history(j, i)};

	return i >= p->first && i < p->elided_to && context_is_long(&it);
}

static void build(struct dispatch_job *j, const struct context_plan *p, int from, int to,
		  bool plain)
{
	struct job_context *x = &j->context;

	forget_messages(x);
	x->messages = xcalloc((size_t)j->njoined + 2, sizeof *x->messages);
	x->nmessages = build_head(j, p, plain, x->messages);
	for (int i = from; i < to; i++)
		x->messages[x->nmessages++] =
			elides(j, p, i) ? elided(j, i, plain) : *joined(j, i, plain);
}

struct message *context_copy(struct dispatch_job *j, const struct context_plan *p,
			     int from, int to, bool plain, int *n)
{
	struct job_context kept;
	struct message *out;

	if (plain)
		make_plain(j);
	kept = j->context;
	/* built beside what is being sent */
	j->context.messages = NULL;
	j->context.made = NULL;
	j->context.nmessages = j->context.nmade = 0;
	build(j, p, from, to, plain);
	*n = j->context.nmessages;
	out = xcalloc((size_t)*n + 1, sizeof *out);
	for (int i = 0; i < *n; i++) {
		const struct message *m = &j->context.messages[i];

		out[i].role = m->role;
		out[i].text = xstrdup(m->text);
		out[i].raw_json = m->raw_json ? xstrdup(m->raw_json) : NULL;
	}
	forget_messages(&j->context);
	j->context = kept;
	return out;
}

void context_free_messages(struct message *m, int n)
{
	for (int i = 0; i < n; i++) {
		free(m[i].text);
		free(m[i].raw_json);
	}
	free(m);
}

/* ---- counting */

static int ctx_of(const struct dispatch_job *j)
{
	int ctx = j->lease ? cache_lease_info(j->lease)->ctx : 0;

	return ctx > 0 ? ctx : candidate_ctx(j, job_candidate(j));
}

/* All are counted: the plan, then a summary first if it does not fit, else the turn. */
static void counted(struct dispatch_job *j, int extra)
{
	struct job_context *x = &j->context;

	x->ctx = ctx_of(j);
	x->plan_budget = context_budget(x->ctx, j->r->sampling.max_tokens, extra);
	fit(j, -1, -1, &x->plan);
	if (summary_before(j))
		return;
	build(j, &x->plan, x->plan.first, j->njoined, context_is_plain(j));
	memory_begin(j);
}

static void guess_all(struct dispatch_job *j)
{
	for (int i = 0; i < j->njoined; i++) {
		const struct message *m = joined(j, i, context_is_plain(j));

		if (j->context.tokens[i] < 0)
			j->context.tokens[i] = m->raw_json
						       ? features_message_tokens(m)
						       : context_guess(strlen(m->text));
	}
	counted(j, 0);
}

/* Of the history, those that the store did not know. */
static void keep_counts(struct dispatch_job *j)
{
	struct job_context *x = &j->context;
	int64_t *ids = xcalloc((size_t)x->nasked + 1, sizeof *ids);
	int *tokens = xcalloc((size_t)x->nasked + 1, sizeof *tokens);
	int n = 0;

	for (int i = 0; i < x->nasked; i++) {
		int at = x->asked[i] - j->lead;

		if (!is_history(j, x->asked[i]) || x->marks[at].tokens >= 0)
			continue;
		x->marks[at].tokens = tokens[n] = x->tokens[x->asked[i]];
		ids[n++] = x->marks[at].id;
	}
	if (n)
		store_counts_put(j->store, x->tokenizer, ids, tokens, n);
	free(ids);
	free(tokens);
}

static void on_count(void *arg, const int *tokens, int n, int extra, const struct err *e)
{
	struct dispatch_job *j = arg;
	struct job_context *x = &j->context;

	j->count = NULL;
	uv_timer_stop(&j->timer);
	if (e) {
		log_debug("request %s: tokens are guessed: %s", j->r->id, e->text);
		guess_all(j);
		return;
	}
	for (int i = 0; i < n && i < x->nasked; i++)
		x->tokens[x->asked[i]] = tokens[i];
	if (x->tokenizer)
		keep_counts(j);
	counted(j, extra);
}

void context_counted_late(struct dispatch_job *j)
{
	engine_count_cancel(j->count);
	j->count = NULL;
	guess_all(j);
}

/* What the counts of the store are worth for this candidate: all or nothing. */
static void start_counts(struct dispatch_job *j, bool engine)
{
	struct job_context *x = &j->context;
	char *tokenizer = engine ? context_tokenizer(j) : NULL;
	bool same = tokenizer && x->tokenizer && !strcmp(tokenizer, x->tokenizer);

	if (!x->tokens)
		x->tokens = xcalloc((size_t)j->njoined + 1, sizeof *x->tokens);
	if (!same && tokenizer) {
		for (int i = 0; i < j->nhistory; i++)
			x->marks[i].tokens = -1;
		free(x->tokenizer);
		x->tokenizer = tokenizer;
		tokenizer = NULL;
	}
	free(tokenizer);
	for (int i = 0; i < j->njoined; i++)
		x->tokens[i] =
			engine && is_history(j, i) ? x->marks[i - j->lead].tokens : -1;
}

/* The first message always: what the template adds around them depends on it, and the budget with it. */
static void ask_engine(struct dispatch_job *j)
{
	struct job_context *x = &j->context;
	struct message *m = xcalloc((size_t)j->njoined + 1, sizeof *m);

	free(x->asked);
	x->asked = xcalloc((size_t)j->njoined + 1, sizeof *x->asked);
	x->nasked = 0;
	for (int i = 0; i < j->njoined; i++)
		if (x->tokens[i] < 0 || i == 0) {
			x->asked[x->nasked] = i;
			m[x->nasked++] = *joined(j, i, true);
		}
	job_move(j, JOB_COUNT);
	job_wait(j, COUNT_WAIT_MS);
	j->count = engine_count(j->d->parts.engine, cache_lease_id(j->lease), m,
				x->nasked, on_count, j);
	free(m);
}

void context_count(struct dispatch_job *j)
{
	/* a child is not asked to count: what it would cost, a guess saves */
	bool engine = context_is_plain(j) && j->d->parts.engine;

	if (context_is_plain(j))
		make_plain(j);
	start_counts(j, engine);
	if (engine)
		ask_engine(j);
	else
		guess_all(j);
}
