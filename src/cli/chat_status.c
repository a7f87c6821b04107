/* What is said about an answer: the line below it, /stats, /why and /cost.  Main thread.
 *
 * The line is cut to the terminal's width, because a status that wraps is no longer one line; /stats
 * has the same facts at length. */
#include "cli/chat.h"

#include <unistd.h>
#include <utf8proc.h>

#include "cli/render.h"

static void take(char **to, char *const *from)
{
	free(*to);
	*to = *from ? xstrdup(*from) : NULL;
}

static bool same(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

void chat_status_clear(struct chat *ch)
{
	free(ch->last.id);
	free(ch->last.model);
	free(ch->last.provider);
	free(ch->last.reason);
	free(ch->last.finish);
	free(ch->last.tier);
	ch->last = (struct chat_last){0};
}

/* Cut at a character, with "…" when it does not fit. */
static void cut_to(struct buf *b, int columns)
{
	const char *p = b->data;
	size_t keep = 0;
	int width = 0;

	if (render_width(b->data) <= columns)
		return;
	while (*p) {
		struct str s = {p, b->len - (size_t)(p - b->data)};
		size_t n = str_utf8_len(s);
		utf8proc_int32_t c = 0;

		if (!n)
			break;
		utf8proc_iterate((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)n, &c);
		width += utf8proc_charwidth(c);
		if (width >= columns)
			break;
		p += n;
		keep = (size_t)(p - b->data);
	}
	b->len = keep;
	b->data[keep] = '\0';
	buf_adds(b, "…");
}

static void add_where(struct buf *b, const struct ask_answer *a)
{
	buf_adds(b, a->model ? a->model : "?");
	if (a->tier && strcmp(a->tier, "remote"))
		buf_addf(b, " · %s", a->tier);
	else if (a->provider && *a->provider)
		buf_addf(b, " · %s%s", a->tier ? "remote " : "", a->provider);
}

static void add_tokens(struct buf *b, const struct ask_answer *a)
{
	int64_t used = (a->prompt_tokens > 0 ? a->prompt_tokens : 0) +
		       (a->completion_tokens > 0 ? a->completion_tokens : 0);

	if (a->ctx > 0 && used > a->ctx)
		used = a->ctx; /* the very last token needs no place */
	if (a->ctx > 0)
		buf_addf(b, " · %lld/%lld", (long long)used, (long long)a->ctx);
	else
		buf_addf(b, " · %lld tokens", (long long)used);
	if (a->decode_ms > 0 && a->completion_tokens >= 0)
		buf_addf(b, " · %.1f tokens/s",
			 (double)a->completion_tokens / (a->decode_ms / 1000));
	if (a->cost_usd > 0)
		buf_addf(b, " · $%.6g", a->cost_usd);
}

static void add_left_out(struct buf *b, const struct ask_answer *a)
{
	if (a->finish && !strcmp(a->finish, "length"))
		buf_adds(b, " · cut off at its limit of tokens");
	if (a->summarised > 0)
		buf_addf(b, " · %lld messages summarised", (long long)a->summarised);
	if (a->dropped > 0)
		buf_addf(b, " · the oldest %lld messages were left out",
			 (long long)a->dropped);
	if (a->elided > 0)
		buf_addf(b, " · %lld tool results shortened", (long long)a->elided);
}

/* The reason stands there when this answer came from elsewhere than the one before, or fell back. */
static bool is_news(const struct chat *ch, const struct ask_answer *a)
{
	if (!a->reason || !*a->reason)
		return false;
	return a->attempts > 0 ||
	       (ch->last.any && (!same(ch->last.model, a->model) ||
				 !same(ch->last.provider, a->provider)));
}

void chat_status_take(struct chat *ch, struct ask_answer *a)
{
	struct buf b = {0};
	int fd = isatty(STDOUT_FILENO) ? STDOUT_FILENO : STDERR_FILENO;

	add_where(&b, a);
	add_tokens(&b, a);
	add_left_out(&b, a);
	if (is_news(ch, a))
		buf_addf(&b, " · %s", a->reason);
	cut_to(&b, render_columns(fd, 1000));
	chat_say(ch, "%s", b.data);
	if (a->dropped > 0 && !lines_interactive(ch->lines))
		chat_complain(ch, "the oldest %lld messages were left out",
			      (long long)a->dropped);
	buf_free(&b);
	take(&ch->last.id, &a->id);
	take(&ch->last.model, &a->model);
	take(&ch->last.provider, &a->provider);
	take(&ch->last.reason, &a->reason);
	take(&ch->last.finish, &a->finish);
	take(&ch->last.tier, &a->tier);
	ch->last.prompt_tokens = a->prompt_tokens;
	ch->last.completion_tokens = a->completion_tokens;
	ch->last.cached_tokens = a->cached_tokens;
	ch->last.ctx = a->ctx;
	ch->last.prefill_ms = a->prefill_ms;
	ch->last.decode_ms = a->decode_ms;
	ch->last.cost_usd = a->cost_usd;
	ch->last.any = true;
	ch->answers++;
	if (a->cost_usd > 0)
		ch->spent_usd += a->cost_usd;
}

static void print_line(const char *name, const char *value)
{
	char *line = render_line(value);

	if (*line)
		printf("%-10s %s\n", name, line);
	free(line);
}

static void print_number(const char *name, double x, const char *unit)
{
	if (x >= 0)
		printf("%-10s %.6g%s\n", name, x, unit);
}

void chat_do_stats(struct chat *ch, const char *arg)
{
	const struct chat_last *l = &ch->last;

	UNUSED(arg);
	if (!l->any) {
		chat_say(ch, "(no answer yet)");
		return;
	}
	print_line("model", l->model);
	print_line("provider", l->provider);
	print_line("tier", l->tier);
	print_line("finish", l->finish);
	print_number("prompt", (double)l->prompt_tokens, " tokens");
	print_number("cached", (double)l->cached_tokens, " tokens");
	print_number("answer", (double)l->completion_tokens, " tokens");
	print_number("context", (double)l->ctx, " tokens");
	print_number("prefill", l->prefill_ms, " ms");
	print_number("decode", l->decode_ms, " ms");
	print_number("cost", l->cost_usd, " USD");
}

/* What the daemon noted about the last answer; borrowed from tree, or NULL when it is not known there any
 * more. Its id stands behind "chatcmpl-" in the reply. */
static const cJSON *decision(const struct chat *ch, const cJSON *tree)
{
	const char *id = ch->last.id ? strchr(ch->last.id, '-') : NULL;
	const cJSON *d;

	if (id && tree)
		cJSON_ArrayForEach(d, chat_array(tree, "decisions"))
		{
			if (!strcmp(chat_string(d, "id", ""), id + 1))
				return d;
		}
	return NULL;
}

static void print_attempts(const cJSON *d)
{
	const cJSON *a;

	cJSON_ArrayForEach(a, chat_array(d, "attempts"))
	{
		char *line = xasprintf("%s: %s", chat_string(a, "model", "?"),
				       chat_string(a, "error", "failed"));

		print_line("tried", line);
		free(line);
	}
}

static double millis(const cJSON *d, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(d, key);

	return cJSON_IsNumber(v) ? v->valuedouble : -1;
}

void chat_do_why(struct chat *ch, const char *arg)
{
	const struct chat_last *l = &ch->last;
	const cJSON *d;
	cJSON *tree;

	UNUSED(arg);
	if (!l->any) {
		chat_say(ch, "(no answer yet)");
		return;
	}
	tree = chat_peek(ch, "/v1/hob/routes/decisions?limit=256");
	d = decision(ch, tree);
	print_line("asked", chat_string(d, "asked", ""));
	print_line("route", chat_string(d, "route", ""));
	print_line("model", l->model);
	print_line("provider", l->provider);
	print_line("reason", l->reason ? l->reason : "(none was given)");
	if (d) {
		print_attempts(d);
		print_line("outcome", chat_string(d, "outcome", ""));
		print_line("error", chat_string(d, "error", ""));
		print_number("first", millis(d, "ttft_ms"), " ms to the first token");
		print_number("in all", millis(d, "total_ms"), " ms");
	}
	printf("More: hob why, in a shell\n");
	cJSON_Delete(tree);
}

/* What one model took in this conversation. */
struct bill {
	const char *model; /* borrowed from the tree */
	int64_t turns, tokens_in, tokens_out;
	double usd;
};
enum { BILLS_MAX = 32 };

static double number_of(const cJSON *obj, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(obj, key);

	return cJSON_IsNumber(v) && v->valuedouble > 0 ? v->valuedouble : 0;
}

static int add_turn(struct bill *bills, int n, const cJSON *turn)
{
	const char *model = chat_string(turn, "model", "?");
	int i = 0;

	while (i < n && strcmp(bills[i].model, model))
		i++;
	if (i == BILLS_MAX)
		return n;
	if (i == n)
		bills[n++] = (struct bill){.model = model};
	bills[i].turns++;
	bills[i].tokens_in += (int64_t)number_of(turn, "tokens_in");
	bills[i].tokens_out += (int64_t)number_of(turn, "tokens_out");
	bills[i].usd += number_of(turn, "cost_usd");
	return n;
}

static void print_bills(const struct bill *bills, int n)
{
	double all = 0;

	for (int i = 0; i < n; i++) {
		char *name = render_line(bills[i].model);

		printf("%s: %lld %s, %lld tokens in, %lld out, $%.6g\n", name,
		       (long long)bills[i].turns, bills[i].turns == 1 ? "turn" : "turns",
		       (long long)bills[i].tokens_in, (long long)bills[i].tokens_out,
		       bills[i].usd);
		all += bills[i].usd;
		free(name);
	}
	printf("in all: $%.6g\n", all);
}

void chat_do_cost(struct chat *ch, const char *arg)
{
	struct bill bills[BILLS_MAX];
	const cJSON *turn;
	cJSON *tree;
	int n = 0;

	UNUSED(arg);
	if (!ch->conversation) {
		printf("%d answers: $%.6g\n", ch->answers, ch->spent_usd);
		return;
	}
	tree = chat_call(ch, "GET", NULL, "/v1/hob/conversations/%s/turns?limit=1000",
			 ch->conversation);
	if (!tree)
		return;
	cJSON_ArrayForEach(turn, chat_array(tree, "turns")) n = add_turn(bills, n, turn);
	print_bills(bills, n);
	cJSON_Delete(tree);
}
