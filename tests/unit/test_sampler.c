/* The sampler: what each filter keeps, that draws follow the weights, that a seed
 * repeats. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/sampler.h"

enum { DRAWS = 20000 };

/* Draws from logits and counts each index. */
static void count(struct sampler_params p, const float *logits, int n, int *counts)
{
	struct sampler *s = sampler_new(&p, n);

	memset(counts, 0, (size_t)n * sizeof(*counts));
	for (int i = 0; i < DRAWS; i++) {
		int id = sampler_pick(s, logits);

		assert_in_range(id, 0, n - 1);
		counts[id]++;
	}
	sampler_free(s);
}

static void assert_share(int got, double share)
{
	/* Five standard deviations of a binomial. */
	double slack = 5 * sqrt(DRAWS * share * (1 - share)) + 1;

	if (fabs(got - DRAWS * share) > slack)
		fail_msg("%d of %d draws, not about %.3f", got, DRAWS, share);
}

/* Draws by the weights alone. */
static struct sampler_params unfiltered(void)
{
	struct sampler_params p = sampler_defaults();

	p.temperature = 1;
	p.top_p = 1;
	p.min_p = 0;
	p.top_k = 0;
	return p;
}

static void draws_follow_the_weights(void **state)
{
	const float logits[] = {logf(0.5f), logf(0.3f), logf(0.15f), logf(0.05f)};
	struct sampler_params p = unfiltered();
	int c[4];

	UNUSED(state);
	count(p, logits, 4, c);
	assert_share(c[0], 0.5);
	assert_share(c[1], 0.3);
	assert_share(c[2], 0.15);
	assert_share(c[3], 0.05);
	p.temperature = 0.5f; /* squares the weights */
	count(p, logits, 4, c);
	assert_share(c[0], 0.25 / 0.365);
	assert_share(c[3], 0.0025 / 0.365);
}

static void each_filter_keeps_what_it_says(void **state)
{
	const float logits[] = {logf(0.05f), logf(0.5f), logf(0.15f), logf(0.3f)};
	struct sampler_params p = unfiltered();
	int c[4];

	UNUSED(state);
	p.top_k = 2;
	count(p, logits, 4, c);
	assert_true(c[0] == 0 && c[2] == 0);
	assert_share(c[1], 0.5 / 0.8);
	p = unfiltered();
	p.top_p = 0.85f; /* 0.5 + 0.3 is not enough */
	count(p, logits, 4, c);
	assert_int_equal(c[0], 0);
	assert_share(c[2], 0.15 / 0.95);
	p.top_p = 0; /* at least one */
	count(p, logits, 4, c);
	assert_int_equal(c[1], DRAWS);
	p = unfiltered();
	p.min_p = 0.4f; /* of 0.5: from 0.2 on */
	count(p, logits, 4, c);
	assert_true(c[0] == 0 && c[2] == 0 && c[3] > 0);
	p.top_k = 3;
	p.top_p = 0.6f; /* of 0.95: 0.57, so two */
	p.min_p = 0.1f;
	count(p, logits, 4, c);
	assert_true(c[0] == 0 && c[2] == 0);
	assert_share(c[1], 0.5 / 0.8);
	p.temperature = 100; /* after the filters: flattens, brings nothing back */
	count(p, logits, 4, c);
	assert_true(c[0] == 0 && c[2] == 0);
	assert_share(c[1], 0.5013);
}

static void a_seed_repeats_and_another_differs(void **state)
{
	struct sampler_params p = unfiltered();
	struct sampler *a, *b, *c;
	float logits[64];
	int differ = 0;

	UNUSED(state);
	for (int i = 0; i < 64; i++)
		logits[i] = (float)(i % 7);
	p.seed = 42;
	p.top_p = 0.9f;
	a = sampler_new(&p, 64);
	b = sampler_new(&p, 64);
	p.seed = 43;
	c = sampler_new(&p, 64);
	for (int i = 0; i < 100; i++) {
		int pick = sampler_pick(a, logits);

		assert_int_equal(pick, sampler_pick(b, logits));
		differ += pick != sampler_pick(c, logits);
	}
	assert_true(differ > 50);
	sampler_free(a);
	sampler_free(b);
	sampler_free(c);
}

static void greedy_takes_the_lowest_of_the_highest(void **state)
{
	struct sampler_params p = unfiltered();
	struct sampler *s;

	UNUSED(state);
	p.temperature = 0;
	s = sampler_new(&p, 5);
	assert_true(sampler_is_greedy(s));
	assert_int_equal(sampler_pick(s, (float[]){1, 3, 2, 3, 0}), 1);
	assert_int_equal(sampler_pick(s, (float[]){NAN, -5, NAN, -3, -4}), 3);
	assert_int_equal(sampler_pick(s, (float[]){NAN, NAN, NAN, NAN, NAN}), 0);
	assert_int_equal(sampler_pick(s, (float[]){-INFINITY, 0, INFINITY, 0, 0}), 2);
	sampler_free(s);
}

static void broken_logits_and_parameters_never_crash(void **state)
{
	static const float values[] = {NAN, INFINITY, -INFINITY, 0, 1e38f, -1e38f, 5};
	static const float params[] = {NAN, -1, 0, 1e-30f, 0.5f, 1, 1e30f};

	UNUSED(state);
	for (size_t i = 0; i < ARRAY_LEN(params) * ARRAY_LEN(values); i++) {
		struct sampler_params p = {params[i % 7], params[(i / 7) % 7],
					   params[(i + 3) % 7], (int)i - 5, i};
		struct sampler *s = sampler_new(&p, 9);
		float logits[9];

		for (int k = 0; k < 50; k++) {
			for (int j = 0; j < 9; j++)
				logits[j] = values[(size_t)(i + (size_t)(k * j)) % 7];
			assert_in_range(sampler_pick(s, logits), 0, 8);
		}
		sampler_free(s);
	}
}

static void a_nan_is_never_drawn_while_there_is_another(void **state)
{
	const float logits[] = {NAN, 1, NAN, 1};
	int c[4];

	UNUSED(state);
	count(unfiltered(), logits, 4, c);
	assert_true(c[0] == 0 && c[2] == 0);
	assert_share(c[1], 0.5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(draws_follow_the_weights),
		cmocka_unit_test(each_filter_keeps_what_it_says),
		cmocka_unit_test(a_seed_repeats_and_another_differs),
		cmocka_unit_test(greedy_takes_the_lowest_of_the_highest),
		cmocka_unit_test(broken_logits_and_parameters_never_crash),
		cmocka_unit_test(a_nan_is_never_drawn_while_there_is_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
