/* Why the first candidate is first, or why there is none, for people.  Pure.
 *
 * A reason goes into a header: it is ASCII, whatever the names in it are. */
#include "route/plan_impl.h"

#include <math.h>

static void ascii(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s >= 0x80)
			*s = '?';
		else if ((unsigned char)*s < 0x20 || *s == 0x7F)
			*s = ' ';
}

static void add_reason(struct plan *p, const char *fmt, ...) PRINTF(2, 3);
static void add_reason(struct plan *p, const char *fmt, ...)
{
	size_t n = strlen(p->reason);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->reason + n, sizeof p->reason - n, fmt, ap);
	va_end(ap);
}

/* Those that the configuration has before the chosen one, and why not they. */
static bool add_passed_over(struct plan *p, const struct candidate *chosen)
{
	int told = 0;

	for (int at = 0; at < chosen->at && told < 2; at++)
		for (int i = 0; i < p->n; i++) {
			const struct candidate *c = &p->c[i];

			if (c->at != at || (c->use && !c->impatient))
				continue;
			add_reason(p, "%s%.60s %.90s", told++ ? "; " : "", c->model,
				   c->why);
		}
	return told > 0;
}

void reason_of_route(struct plan *p, bool kept, bool soft)
{
	const struct candidate *first = &p->c[p->load_behind ? 1 : 0];

	if (p->route)
		add_reason(p, "route '%.60s'", p->route);
	else
		add_reason(p, "model '%.60s' and its fallbacks", p->asked);
	if (p->rule)
		add_reason(p, ", rule '%.40s'", p->rule);
	add_reason(p, ": ");
	if (p->load_behind)
		add_reason(p, "%.80s answers while %.80s loads", p->c[0].model,
			   p->load_behind);
	else if (kept)
		add_reason(p, "%.80s is this conversation's choice", first->model);
	else if (!isnan(first->score))
		add_reason(p, "%.80s: %.150s", first->model, first->why);
	else if (add_passed_over(p, first))
		add_reason(p, "; %.80s is next", first->model);
	else
		add_reason(p, "%.80s is first", first->model);
	if (soft)
		add_reason(p, "; the budget is nearly used up: local models first");
	ascii(p->reason);
}

void reason_of_one(struct plan *p, bool is_default)
{
	if (p->c[0].upstream)
		add_reason(p, "the model's name is a remote provider's");
	else
		add_reason(p, is_default ? "the default model" : "a local model");
}

/* ---- nothing can */

/* The first of these that somebody was dropped for is the answer: what waiting or the user can change
 * comes before what is the request's fault. */
static enum err_code worst_code(const struct plan *p)
{
	static const enum err_code order[] = {
		ERR_FORBIDDEN, ERR_UNAVAILABLE, ERR_PAYMENT,     ERR_UNAUTHORIZED,
		ERR_CONTEXT,   ERR_MEMORY,      ERR_UNSUPPORTED, ERR_MODEL};

	for (size_t k = 0; k < ARRAY_LEN(order); k++)
		for (int i = 0; i < p->n; i++)
			if (p->c[i].code == order[k])
				return order[k];
	return ERR_INTERNAL;
}

static uint32_t soonest(const struct plan *p)
{
	uint32_t ms = 0;

	for (int i = 0; i < p->n; i++)
		if (p->c[i].retry_after_ms && (!ms || p->c[i].retry_after_ms < ms))
			ms = p->c[i].retry_after_ms;
	return ms;
}

static void add_failure(struct buf *text, const struct plan *p, const struct candidate *c)
{
	size_t n = strlen(NO_SUCH);

	if (p->n > 1 || p->route)
		buf_addf(text, "%s: %s", c->model, c->why);
	else if (!strncmp(c->why, NO_SUCH, n))
		buf_addf(text, "no model '%.150s'%s", c->model, c->why + n);
	else
		buf_addf(text, "model '%.150s': %s", c->model, c->why);
}

void reason_of_failure(struct plan *p)
{
	enum err_code code = worst_code(p);
	struct buf text = {0};

	if (p->error.code != ERR_NONE)
		return; /* a rule refuses */
	if (p->route)
		buf_addf(&text, "route '%.60s': nothing can answer: ", p->route);
	for (int i = 0; i < p->n; i++) {
		buf_adds(&text, i ? "; " : "");
		add_failure(&text, p, &p->c[i]);
	}
	err_put(&p->error, code, "%.500s", text.data ? text.data : "");
	if (code == ERR_UNAVAILABLE)
		p->error.retry_after_ms = soonest(p);
	buf_free(&text);
}
