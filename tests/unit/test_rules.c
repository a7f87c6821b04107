/* Each condition of a rule: when it holds, when not, and what it says then. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include "base/clock.h"
#include "route/rules.h"

static const struct config_rule any = {.name = "r",
				       .images = UNSAID,
				       .tools = UNSAID,
				       .structured = UNSAID,
				       .is_private = UNSAID,
				       .budget_below_usd = -1};
static const struct rules_now noon = {12 * 60, 3, INFINITY};

static const char *why(const struct config_rule *r, const struct features *f,
		       const struct rules_now *now)
{
	static char out[128];

	rules_why_not(r, f, now, out, sizeof out);
	assert_int_equal(rules_hold(r, f, now), !out[0]);
	return out;
}

static void a_rule_without_conditions_holds(void **state)
{
	struct features f = {0};

	(void)state;
	assert_string_equal(why(&any, &f, &noon), "");
}

static void tokens_have_two_bounds(void **state)
{
	struct config_rule r = any;
	struct features f = {.prompt_tokens = 812};

	(void)state;
	r.min_tokens = 8000;
	assert_string_equal(why(&r, &f, &noon),
			    "min_tokens 8000: the prompt has about 812");
	r.min_tokens = 812;
	r.max_tokens = 812;
	assert_string_equal(why(&r, &f, &noon), "");
	f.prompt_tokens = 813;
	assert_string_equal(why(&r, &f, &noon),
			    "max_tokens 812: the prompt has about 813");
}

static void flags_are_asked_for_either_way(void **state)
{
	struct config_rule r = any;
	struct features f = {.nimages = 1};

	(void)state;
	r.images = YES;
	r.tools = NO;
	assert_string_equal(why(&r, &f, &noon), "");
	f.tools = true;
	assert_string_equal(why(&r, &f, &noon), "tools = false: the request has it");
	f.tools = false;
	r.is_private = YES;
	assert_string_equal(why(&r, &f, &noon), "private = true: the request has not");
	f.is_private = true;
	r.structured = YES;
	assert_true(why(&r, &f, &noon)[0]);
	f.structured = true;
	assert_string_equal(why(&r, &f, &noon), "");
}

static void class_and_client_are_names(void **state)
{
	struct config_rule r = any;
	struct features f = {.class = CLASS_BATCH};

	(void)state;
	r.class = "batch";
	assert_string_equal(why(&r, &f, &noon), "");
	r.client = "Zed";
	assert_string_equal(why(&r, &f, &noon), "client Zed: it is unknown");
	f.client = "zed";
	assert_string_equal(why(&r, &f, &noon), "");
	f.class = CLASS_INTERACTIVE;
	assert_string_equal(why(&r, &f, &noon),
			    "class batch: the request is interactive");
}

static void any_of_the_languages_will_do(void **state)
{
	char *list[] = {"C++", "py"};
	struct config_rule r = any;
	struct features f = {0};

	(void)state;
	r.code = (struct names){list, 2};
	assert_string_equal(why(&r, &f, &noon), "code: none was recognised");
	f.codes[f.ncodes++] = "rust";
	assert_string_equal(why(&r, &f, &noon), "code: in another language");
	f.codes[f.ncodes++] = "python";
	assert_string_equal(why(&r, &f, &noon), "");
}

static bool word_in(const char *word, const char *text)
{
	char *list[] = {"xyzzy", (char *)word};
	struct config_rule r = any;
	struct features f = {.last_user = str_of(text)};

	r.words = (struct names){list, 2};
	return rules_hold(&r, &f, &noon);
}

static void words_are_whole_and_any_case(void **state)
{
	(void)state;
	assert_true(word_in("translate", "Please TRANSLATE this"));
	assert_true(word_in("translate", "translate"));
	assert_false(word_in("translate", "translates"));
	assert_false(word_in("translate", "mistranslate it"));
	assert_true(word_in("translate", "mistranslate, (translate)"));
	assert_false(word_in("a", "an_a_b"));
	assert_true(word_in("c++", "is c++ hard?"));
	assert_true(word_in("résumé", "my RÉSUMÉ is here"));
	assert_true(word_in("résumé", "my re\xCC\x81sume\xCC\x81")); /* decomposed */
	assert_true(word_in("straße", "STRASSE"));
	assert_false(word_in("sum", "résumé sumé"));
	assert_true(word_in("翻译", "请翻译这个"));
	assert_true(word_in("перевод", "ПЕРЕВОД!"));
	assert_false(word_in("перевод", "переводчик"));
	assert_false(word_in("x", ""));
}

static void a_regex_is_matched_against_the_last_message(void **state)
{
	struct config_rule r = any;
	struct features f = {.last_user = STR("/think about é")};
	struct err e = {0};

	(void)state;
	r.regex = "^/think\\b.*\\w$";
	assert_int_equal(rules_check(&r, &e), 0);
	assert_string_equal(why(&r, &f, &noon), "");
	f.last_user = STR("please /think");
	assert_string_equal(why(&r, &f, &noon), "regex: the last message does not match");
	rules_free(&r);
	f.last_user = STR("/think x"); /* never checked: compiled for the call */
	assert_string_equal(why(&r, &f, &noon), "");
	f.last_user = STR("/think \xFF\xFE x"); /* no UTF-8: nothing matches across it */
	assert_false(rules_hold(&r, &f, &noon));
}

static void a_regex_that_explodes_is_given_up(void **state)
{
	struct config_rule r = any;
	struct features f = {0};
	struct err e = {0};
	char text[4001];

	(void)state;
	memset(text, 'a', 3999);
	text[3999] = '!'; /* each way to split the a's would be tried: 2^4000 and more */
	text[4000] = '\0';
	f.last_user = str_of(text);
	r.regex = "^(a|aa)+$";
	assert_int_equal(rules_check(&r, &e), 0);
	assert_false(rules_hold(&r, &f, &noon));
	text[20] = '\0';
	f.last_user = str_of(text); /* a short one is matched as ever */
	assert_true(rules_hold(&r, &f, &noon));
	rules_free(&r);
}

static bool at(const char *hours, const char *day, int minute, int weekday)
{
	char *list[] = {(char *)day};
	struct config_rule r = any;
	struct rules_now now = {minute, weekday, INFINITY};
	struct features f = {0};

	r.hours = (char *)hours;
	if (day)
		r.days = (struct names){list, 1};
	return rules_hold(&r, &f, &now);
}

static void hours_may_go_over_midnight_and_belong_to_their_first_day(void **state)
{
	enum { SAT = 6, SUN = 0, MON = 1 };

	(void)state;
	assert_true(at("09:00-17:00", NULL, 9 * 60, MON));
	assert_false(at("09:00-17:00", NULL, 17 * 60, MON));
	assert_true(at("22:00-07:00", NULL, 23 * 60, MON));
	assert_true(at("22:00-07:00", NULL, 6 * 60 + 59, MON));
	assert_false(at("22:00-07:00", NULL, 7 * 60, MON));
	assert_true(at("18:00-24:00", NULL, 23 * 60 + 59, MON));
	assert_true(at(NULL, "SAT", 0, SAT));
	assert_false(at(NULL, "sat", 0, SUN));
	assert_true(at("22:00-07:00", "sat", 60, SUN)); /* the night of Saturday */
	assert_false(at("22:00-07:00", "sun", 60, SUN));
	assert_true(at("22:00-07:00", "sun", 60, MON));
}

static void the_budget_left_is_asked_for(void **state)
{
	struct config_rule r = any;
	struct rules_now now = noon;
	struct features f = {0};

	(void)state;
	r.budget_below_usd = 1;
	assert_string_equal(why(&r, &f, &now),
			    "budget_below 1: there is no daily budget");
	now.budget_left_usd = 1;
	assert_string_equal(why(&r, &f, &now), "budget_below 1: 1 USD are left");
	now.budget_left_usd = 0.99;
	assert_string_equal(why(&r, &f, &now), "");
	r.budget_below_usd = 0;
	now.budget_left_usd = 0;
	assert_true(why(&r, &f, &now)[0]);
}

static void what_is_malformed_is_said(void **state)
{
	static const char *const hours[] = {"22-07",       "22:00",        "22:00-7:00",
					    "25:00-07:00", "22:60-07:00",  "07:00-07:00",
					    "24:00-07:00", "22:00-07:00 ", "",
					    "22:00-24:01"};
	char *langs[] = {"pythn"}, *days[] = {"monday"}, *empty[] = {""};
	struct config_rule r = any;
	struct err e = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(hours); i++) {
		r.hours = (char *)hours[i];
		if (rules_check(&r, &e) == 0)
			fail_msg("hours '%s'", hours[i]);
	}
	r = any;
	r.regex = "(";
	assert_int_equal(rules_check(&r, &e), -1);
	assert_non_null(strstr(e.text, "regex '('"));
	r = any;
	r.code = (struct names){langs, 1};
	assert_int_equal(rules_check(&r, &e), -1);
	assert_string_equal(e.text,
			    "code: 'pythn' is no language known; did you mean 'python'?");
	r = any;
	r.days = (struct names){days, 1};
	assert_int_equal(rules_check(&r, &e), -1);
	r = any;
	r.words = (struct names){empty, 1};
	assert_int_equal(rules_check(&r, &e), -1);
	r = any;
	r.class = "fast";
	assert_int_equal(rules_check(&r, &e), -1);
	r = any;
	r.min_tokens = 10;
	r.max_tokens = 5;
	assert_int_equal(rules_check(&r, &e), -1);
	assert_int_equal(e.code, ERR_INVALID);
	r = any;
	r.hours = "00:00-24:00";
	r.class = "completion";
	assert_int_equal(rules_check(&r, &e), 0);
}

static void the_clock_gives_the_moment(void **state)
{
	struct rules_now now;

	(void)state;
	rules_now(&now, 3);
	assert_in_range(now.minute_of_day, 0, 1439);
	assert_in_range(now.weekday, 0, 6);
	assert_true(now.budget_left_usd == 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_rule_without_conditions_holds),
		cmocka_unit_test(tokens_have_two_bounds),
		cmocka_unit_test(flags_are_asked_for_either_way),
		cmocka_unit_test(class_and_client_are_names),
		cmocka_unit_test(any_of_the_languages_will_do),
		cmocka_unit_test(words_are_whole_and_any_case),
		cmocka_unit_test(a_regex_is_matched_against_the_last_message),
		cmocka_unit_test(a_regex_that_explodes_is_given_up),
		cmocka_unit_test(
			hours_may_go_over_midnight_and_belong_to_their_first_day),
		cmocka_unit_test(the_budget_left_is_asked_for),
		cmocka_unit_test(what_is_malformed_is_said),
		cmocka_unit_test(the_clock_gives_the_moment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
