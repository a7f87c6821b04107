/* What goes first, as a pure function of figures. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "memory/retention.h"

static const int64_t DAY = 86400000, NOW = 1700000000000;

static void bytes_are_too_many_from_ninety_percent_on(void **state)
{
	struct store_limits l = {.max_bytes = 1000000};
	struct retention_state s = {.live_bytes = 900000};

	(void)state;
	assert_false(retention_too_much(&l, &s));
	s.live_bytes++;
	assert_true(retention_too_much(&l, &s));
	s.live_bytes = UINT64_MAX;
	assert_true(retention_too_much(&l, &s));
	l.max_bytes = UINT64_MAX;
	s.live_bytes = 1 << 30;
	assert_false(retention_too_much(&l, &s));
}

static void counts_are_too_many_above_their_limits(void **state)
{
	struct store_limits l = {.max_messages = 10, .max_conversations = 3};
	struct retention_state s = {.messages = 10, .conversations = 3};

	(void)state;
	assert_false(retention_too_much(&l, &s));
	s.messages = 11;
	assert_true(retention_too_much(&l, &s));
	s = (struct retention_state){.conversations = 4};
	assert_true(retention_too_much(&l, &s));
}

static void no_limit_is_never_exceeded(void **state)
{
	struct store_limits l = {0};
	struct retention_state s = {.live_bytes = UINT64_MAX,
				    .messages = INT64_MAX,
				    .conversations = INT64_MAX,
				    .now_ms = NOW,
				    .witness_ms = NOW};

	(void)state;
	assert_false(retention_too_much(&l, &s));
	assert_int_equal(retention_too_old(&l, &s), 0);
	assert_int_equal(retention_failed_before(&l, &s), 0);
}

static void age_is_counted_from_the_clock_when_conversations_are_used(void **state)
{
	struct store_limits l = {.max_age_ms = 30 * DAY, .failed_age_ms = 7 * DAY};
	struct retention_state s = {.now_ms = NOW, .witness_ms = NOW};

	(void)state;
	assert_int_equal(retention_too_old(&l, &s), NOW - 30 * DAY);
	assert_int_equal(retention_failed_before(&l, &s), NOW - 7 * DAY);
}

static void a_clock_far_ahead_makes_nothing_old(void **state)
{
	struct store_limits l = {.max_age_ms = 30 * DAY};
	struct retention_state s = {.now_ms = NOW + 10000 * DAY, .witness_ms = NOW};

	(void)state;
	assert_int_equal(retention_too_old(&l, &s), NOW - 30 * DAY);
}

static void a_clock_that_went_back_makes_nothing_old(void **state)
{
	struct store_limits l = {.max_age_ms = 30 * DAY};
	struct retention_state s = {.now_ms = 1000, .witness_ms = NOW};

	(void)state;
	assert_int_equal(retention_too_old(&l, &s), 0);
	s.now_ms = -5;
	assert_int_equal(retention_too_old(&l, &s), 0);
	s = (struct retention_state){.now_ms = NOW, .witness_ms = 0};
	assert_int_equal(retention_too_old(&l, &s), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_are_too_many_from_ninety_percent_on),
		cmocka_unit_test(counts_are_too_many_above_their_limits),
		cmocka_unit_test(no_limit_is_never_exceeded),
		cmocka_unit_test(
			age_is_counted_from_the_clock_when_conversations_are_used),
		cmocka_unit_test(a_clock_far_ahead_makes_nothing_old),
		cmocka_unit_test(a_clock_that_went_back_makes_nothing_old),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
