/* Amounts of money: from floating point to integers and to text, and what a call costs.
 *
 * Pure.  Prices are doubles because providers give decimal fractions of a USD per token; one call
 * is multiplied out as a double, whose error is far below the 1e-9 USD that it is then rounded
 * to, and only integers are ever summed. */
#include <math.h>
#include "route/money.h"
#include "route/money_books.h"

#define NANO 1000000000

int64_t amount_of(double usd)
{
	if (!(usd > 0))
		return 0;
	return usd * NANO >= (double)AMOUNT_MAX ? AMOUNT_MAX : llround(usd * NANO);
}

/* 0.04 * 1e9 is 40000000.000000004 or so: a millionth of a unit is no reason to round up. */
int64_t amount_above(double usd)
{
	if (!(usd > 0))
		return 0;
	return usd * NANO >= (double)AMOUNT_MAX ? AMOUNT_MAX
						: (int64_t)ceil(usd * NANO - 1e-6);
}

int64_t amount_add(int64_t a, int64_t b)
{
	int64_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return a < 0 ? INT64_MIN : INT64_MAX;
	return sum;
}

double amount_usd(int64_t nano)
{
	return (double)nano / NANO;
}

static const char *decimal(int64_t nano, int least, char out[AMOUNT_BYTES])
{
	int n = snprintf(out, AMOUNT_BYTES, "%s%llu.%09llu", nano < 0 ? "-" : "",
			 (unsigned long long)llabs(nano / NANO),
			 (unsigned long long)llabs(nano % NANO));
	int point = n - 10;

	while (n - point - 1 > least && out[n - 1] == '0')
		n--;
	out[out[n - 1] == '.' ? n - 1 : n] = '\0';
	return out;
}

const char *amount_exact(int64_t nano, char out[AMOUNT_BYTES])
{
	return decimal(nano, 0, out);
}

/* Two decimals, four where cents say little, all where even those say nothing. */
const char *amount_short(int64_t nano, char out[AMOUNT_BYTES])
{
	int64_t unit = nano >= NANO / 10 && nano % (NANO / 100) == 0 ? NANO / 100
		       : nano >= NANO / 1000                         ? NANO / 10000
								     : 1;

	return decimal(amount_add(nano, unit / 2) / unit * unit, 2, out);
}

void sums_add(struct sums *to, const struct sums *more)
{
	int64_t *a[] = {&to->requests,   &to->tokens_in, &to->tokens_cached,
			&to->tokens_out, &to->cost,      &to->estimated,
			&to->unpriced};
	const int64_t b[] = {more->requests,   more->tokens_in, more->tokens_cached,
			     more->tokens_out, more->cost,      more->estimated,
			     more->unpriced};

	for (size_t i = 0; i < ARRAY_LEN(a); i++) {
		*a[i] = amount_add(*a[i], b[i]);
		if (*a[i] < 0)
			*a[i] = 0;
	}
}

static bool known(double price)
{
	return price >= 0 && isfinite(price);
}

/* All of the prompt may be written to the provider's cache, where that has a price of its own. */
double money_most(const struct prices *p, int prompt_tokens, int output_tokens,
		  int images)
{
	double input = p->input, sum;

	if (!known(p->input) || !known(p->output) || prompt_tokens < 0 ||
	    output_tokens < 0)
		return -1;
	if (known(p->cached) && p->cached > input)
		input = p->cached;
	if (known(p->cache_write) && p->cache_write > input)
		input = p->cache_write;
	sum = input * prompt_tokens + p->output * output_tokens;
	if (known(p->request))
		sum += p->request;
	if (known(p->image) && images > 0)
		sum += p->image * images;
	return sum;
}

static int within(int n, int most)
{
	return n < 0 ? 0 : n > most ? most : n;
}

double money_cost(const struct prices *p, const struct usage *u)
{
	int cached, written;
	double sum;

	if (known(u->cost_usd))
		return u->cost_usd;
	if (u->prompt_tokens < 0 || u->completion_tokens < 0 || !p || !known(p->input) ||
	    !known(p->output))
		return -1;
	cached = within(u->cached_tokens, u->prompt_tokens);
	written = within(u->cache_write_tokens, u->prompt_tokens - cached);
	sum = p->input * (u->prompt_tokens - cached - written) +
	      (known(p->cached) ? p->cached : p->input) * cached +
	      (known(p->cache_write) ? p->cache_write : p->input) * written +
	      p->output * u->completion_tokens;
	return known(p->request) ? sum + p->request : sum;
}
