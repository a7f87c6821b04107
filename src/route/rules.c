/* Rules of routes against the features of a request.  Loop thread.
 *
 * Each condition is a function that says why it does not hold; a rule holds when none has anything to say.
 * The question a reader will ask: why words are not a regex.  \b of PCRE2 needs a space between words,
 * which Chinese, Japanese and Thai do not write; here a character of those scripts is a word of its own.
 * Case is folded by utf8proc, so that "STRASSE" finds "Straße". */
#include "route/rules.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <math.h>
#include <pcre2.h>
#include <time.h>
#include <utf8proc.h>
#include "base/log.h"
#include "base/nearest.h"

struct config_rule_compiled {
	pcre2_code *code;             /* owned */
	pcre2_match_data *data;       /* owned */
	pcre2_match_context *context; /* owned */
	bool told;                    /* that it ran over the limit */
};

static const char *const day_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

void rules_now(struct rules_now *out, double budget_left_usd)
{
	time_t now = time(NULL);
	struct tm tm;

	localtime_r(&now, &tm);
	*out = (struct rules_now){tm.tm_hour * 60 + tm.tm_min, tm.tm_wday,
				  budget_left_usd};
}

/* ---- the regex */

static void compiled_free(struct config_rule_compiled *c)
{
	if (!c)
		return;
	pcre2_match_data_free(c->data);
	pcre2_match_context_free(c->context);
	pcre2_code_free(c->code);
	free(c);
}

static struct config_rule_compiled *compile(const char *regex, struct err *e)
{
	struct config_rule_compiled *c;
	PCRE2_UCHAR text[128];
	PCRE2_SIZE at;
	int errnum;
	pcre2_code *code = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED,
					 PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF |
						 PCRE2_NEVER_BACKSLASH_C,
					 &errnum, &at, NULL);

	if (!code) {
		pcre2_get_error_message(errnum, text, sizeof text);
		err_set(e, ERR_INVALID, "regex '%.100s': %s, at byte %zu", regex,
			(const char *)text, (size_t)at);
		return NULL;
	}
	c = xcalloc(1, sizeof *c);
	c->code = code;
	c->data = pcre2_match_data_create_from_pattern(code, NULL);
	c->context = pcre2_match_context_create(NULL);
	ASSERT(c->data && c->context);
	pcre2_set_match_limit(c->context, RULES_MATCH_LIMIT);
	pcre2_set_heap_limit(c->context, RULES_HEAP_LIMIT_KIB);
	return c;
}

static bool matches(const struct config_rule *r, struct config_rule_compiled *c,
		    struct str text)
{
	int rc = pcre2_match(c->code, (PCRE2_SPTR)text.ptr, text.len, 0, 0, c->data,
			     c->context);

	if (rc < 0 && rc != PCRE2_ERROR_NOMATCH && !c->told) {
		c->told = true;
		log_warn("rule '%s': regex '%.100s' was given up on a prompt of %zu "
			 "bytes (PCRE2 error %d): it counts as not matching",
			 r->name, r->regex, text.len, rc);
	}
	return rc >= 0;
}

static bool regex_holds(const struct config_rule *r, struct str text)
{
	struct config_rule_compiled *c = r->compiled;
	bool yes;

	if (c)
		return matches(r, c, text);
	c = compile(r->regex, NULL);
	yes = c && matches(r, c, text);
	compiled_free(c);
	return yes;
}

/* ---- words */

/* Scripts that write no spaces: Thai, Lao, Khmer, Myanmar, kana, Han. */
static bool stands_alone(utf8proc_int32_t c)
{
	return (c >= 0x0E00 && c <= 0x0EFF) || (c >= 0x1000 && c <= 0x109F) ||
	       (c >= 0x1780 && c <= 0x17FF) || (c >= 0x3040 && c <= 0x30FF) ||
	       (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x4E00 && c <= 0x9FFF) ||
	       (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x20000 && c <= 0x3FFFF);
}

static bool is_word_char(utf8proc_int32_t c)
{
	switch (utf8proc_category(c)) {
	case UTF8PROC_CATEGORY_LU:
	case UTF8PROC_CATEGORY_LL:
	case UTF8PROC_CATEGORY_LT:
	case UTF8PROC_CATEGORY_LM:
	case UTF8PROC_CATEGORY_LO:
	case UTF8PROC_CATEGORY_MN:
	case UTF8PROC_CATEGORY_MC:
	case UTF8PROC_CATEGORY_ND:
	case UTF8PROC_CATEGORY_NL:
	case UTF8PROC_CATEGORY_NO:
		return true;
	default:
		return c == '_';
	}
}

static utf8proc_int32_t char_at(struct str s, size_t at)
{
	utf8proc_int32_t c = -1;

	utf8proc_iterate((const utf8proc_uint8_t *)s.ptr + at,
			 (utf8proc_ssize_t)(s.len - at), &c);
	return c;
}

/* Of a character's bytes, the first. */
static size_t char_start(struct str s, size_t at)
{
	while (at > 0 && ((unsigned char)s.ptr[at] & 0xC0) == 0x80)
		at--;
	return at;
}

/* Is there no word that goes on across position at? */
static bool is_edge(struct str s, size_t at)
{
	utf8proc_int32_t before, behind;

	if (at == 0 || at == s.len)
		return true;
	before = char_at(s, char_start(s, at - 1));
	behind = char_at(s, at);
	return !is_word_char(before) || !is_word_char(behind) || stands_alone(before) ||
	       stands_alone(behind);
}

/* Owned; what is no UTF-8 stays as it is. */
static char *fold(struct str s, size_t *len)
{
	utf8proc_uint8_t *out = NULL;
	utf8proc_ssize_t n = utf8proc_map(
		(const utf8proc_uint8_t *)s.ptr, (utf8proc_ssize_t)s.len, &out,
		UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_CASEFOLD);

	if (n < 0) {
		*len = s.len;
		return xstrndup(s.ptr, s.len);
	}
	*len = (size_t)n;
	return (char *)out;
}

static bool has_word(struct str text, struct str word)
{
	const char *p = text.ptr, *end = text.ptr + text.len;

	if (!word.len)
		return false;
	while ((p = memmem(p, (size_t)(end - p), word.ptr, word.len))) {
		size_t at = (size_t)(p - text.ptr);

		if (is_edge(text, at) && is_edge(text, at + word.len))
			return true;
		p++;
	}
	return false;
}

static bool words_hold(const struct names *words, struct str last_user)
{
	struct str text, word;
	char *folded = fold(last_user, &text.len), *one;
	bool found = false;

	text.ptr = folded;
	for (int i = 0; i < words->n && !found; i++) {
		one = fold(str_of(words->list[i]), &word.len);
		word.ptr = one;
		found = has_word(text, word);
		free(one);
	}
	free(folded);
	return found;
}

/* ---- times */

static bool read_clock(const char **p, int *minute)
{
	const char *s = *p;

	for (int i = 0; i < 5; i++)
		if (i == 2 ? s[i] != ':' : s[i] < '0' || s[i] > '9')
			return false;
	*minute = ((s[0] - '0') * 10 + s[1] - '0') * 60 + (s[3] - '0') * 10 + s[4] - '0';
	*p = s + 5;
	return s[3] <= '5' && *minute <= 24 * 60;
}

/* "22:00-07:00": minutes of the day; the second may be 24:00. */
static bool read_hours(const char *s, int *from, int *to)
{
	return read_clock(&s, from) && *s++ == '-' && read_clock(&s, to) && !*s &&
	       *from < 24 * 60 && *from != *to;
}

static bool hours_hold(const char *hours, int minute, bool *since_yesterday)
{
	int from, to;

	*since_yesterday = false;
	if (!read_hours(hours, &from, &to))
		return false;
	if (from < to)
		return minute >= from && minute < to;
	*since_yesterday = minute < to;
	return minute >= from || minute < to;
}

static int day_of(const char *name)
{
	for (int i = 0; i < 7; i++)
		if (str_eq_nocase(str_of(name), day_names[i]))
			return i;
	return -1;
}

static bool day_holds(const struct names *days, int weekday)
{
	for (int i = 0; i < days->n; i++)
		if (day_of(days->list[i]) == weekday)
			return true;
	return false;
}

/* ---- conditions: each writes why it does not hold, or nothing */

struct ask {
	const struct config_rule *r;
	const struct features *f;
	const struct rules_now *now;
	char *out;
	size_t bytes;
};

static void say(const struct ask *a, const char *fmt, ...) PRINTF(2, 3);
static void say(const struct ask *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->out, a->bytes, fmt, ap);
	va_end(ap);
}

static void tokens(const struct ask *a)
{
	int n = a->f->prompt_tokens;

	if (a->r->min_tokens && n < a->r->min_tokens)
		say(a, "min_tokens %d: the prompt has about %d", a->r->min_tokens, n);
	else if (a->r->max_tokens && n > a->r->max_tokens)
		say(a, "max_tokens %d: the prompt has about %d", a->r->max_tokens, n);
}

static void flag(const struct ask *a, const char *what, enum tristate wanted, bool is)
{
	if (wanted != UNSAID && (wanted == YES) != is)
		say(a, "%s = %s: the request has %s", what,
		    wanted == YES ? "true" : "false", is ? "it" : "not");
}

static void flags(const struct ask *a)
{
	flag(a, "images", a->r->images, a->f->nimages > 0);
	flag(a, "tools", a->r->tools, a->f->tools);
	flag(a, "structured", a->r->structured, a->f->structured);
	flag(a, "private", a->r->is_private, a->f->is_private);
}

static void who(const struct ask *a)
{
	const char *class = request_class_name(a->f->class), *client = a->f->client;

	if (a->r->class && strcmp(a->r->class, class))
		say(a, "class %s: the request is %s", a->r->class, class);
	else if (a->r->client &&
		 (!client || !str_eq_nocase(str_of(client), a->r->client)))
		say(a, "client %s: it is %s", a->r->client, client ? client : "unknown");
}

static void code(const struct ask *a)
{
	for (int i = 0; i < a->r->code.n; i++) {
		const char *name = features_code_name(str_of(a->r->code.list[i]));

		for (int k = 0; name && k < a->f->ncodes; k++)
			if (!strcmp(a->f->codes[k], name))
				return;
	}
	if (a->r->code.n)
		say(a, "code: %s",
		    a->f->ncodes ? "in another language" : "none was recognised");
}

static void text(const struct ask *a)
{
	if (a->r->words.n && !words_hold(&a->r->words, a->f->last_user))
		say(a, "words: none is in the last message");
	else if (a->r->regex && !regex_holds(a->r, a->f->last_user))
		say(a, "regex: the last message does not match");
}

static void when(const struct ask *a)
{
	bool since_yesterday = false;
	int day = a->now->weekday;

	if (a->r->hours &&
	    !hours_hold(a->r->hours, a->now->minute_of_day, &since_yesterday)) {
		say(a, "hours %s: it is %02d:%02d", a->r->hours,
		    a->now->minute_of_day / 60, a->now->minute_of_day % 60);
		return;
	}
	if (since_yesterday)
		day = (day + 6) % 7;
	if (a->r->days.n && !day_holds(&a->r->days, day))
		say(a, "days: it is %s", day_names[day]);
}

static void budget(const struct ask *a)
{
	double left = a->now->budget_left_usd;

	if (a->r->budget_below_usd < 0 || left < a->r->budget_below_usd)
		return;
	if (isinf(left))
		say(a, "budget_below %g: there is no daily budget",
		    a->r->budget_below_usd);
	else
		say(a, "budget_below %g: %g USD are left", a->r->budget_below_usd, left);
}

void rules_why_not(const struct config_rule *r, const struct features *f,
		   const struct rules_now *now, char *out, size_t bytes)
{
	/* the cheap ones first */
	static void (*const conditions[])(const struct ask *) = {tokens, flags, who, when,
								 budget, code,  text};
	struct ask a = {r, f, now, out, bytes};

	out[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(conditions) && !out[0]; i++)
		conditions[i](&a);
}

bool rules_hold(const struct config_rule *r, const struct features *f,
		const struct rules_now *now)
{
	char why[128];

	rules_why_not(r, f, now, why, sizeof why);
	return !why[0];
}

/* ---- at the start */

static int check_code(const struct config_rule *r, struct err *e)
{
	for (int i = 0; i < r->code.n; i++) {
		const char *word = r->code.list[i], *near;

		if (features_code_name(str_of(word)))
			continue;
		near = features_code_nearest(word);
		return err_set(e, ERR_INVALID, "code: '%.40s' is no language known%s%s%s",
			       word, near ? "; did you mean '" : "", near ? near : "",
			       near ? "'?" : "");
	}
	return 0;
}

static int check_words(const struct config_rule *r, struct err *e)
{
	for (int i = 0; i < r->words.n; i++)
		if (!r->words.list[i][0])
			return err_set(e, ERR_INVALID, "words: one of them is empty");
	return 0;
}

static int check_class(const struct config_rule *r, struct err *e)
{
	for (int i = CLASS_INTERACTIVE; r->class && i <= CLASS_BATCH; i++)
		if (!strcmp(r->class, request_class_name((enum request_class)i)))
			return 0;
	return r->class ? err_set(e, ERR_INVALID,
				  "class '%.40s': use interactive, completion or batch",
				  r->class)
			: 0;
}

static int check_times(const struct config_rule *r, struct err *e)
{
	int from, to;

	if (r->hours && !read_hours(r->hours, &from, &to))
		return err_set(e, ERR_INVALID,
			       "hours '%.40s': use two times such as 22:00-07:00",
			       r->hours);
	for (int i = 0; i < r->days.n; i++)
		if (day_of(r->days.list[i]) < 0)
			return err_set(e, ERR_INVALID,
				       "days: '%.40s' is none: use mon, tue, wed, thu, "
				       "fri, sat or sun",
				       r->days.list[i]);
	return 0;
}

int rules_check(struct config_rule *r, struct err *e)
{
	if (check_class(r, e) < 0 || check_times(r, e) < 0 || check_code(r, e) < 0 ||
	    check_words(r, e) < 0)
		return -1;
	if (r->max_tokens && r->min_tokens > r->max_tokens)
		return err_set(e, ERR_INVALID, "min_tokens %d is above max_tokens %d",
			       r->min_tokens, r->max_tokens);
	if (!r->regex)
		return 0;
	rules_free(r);
	r->compiled = compile(r->regex, e);
	return r->compiled ? 0 : -1;
}

void rules_free(struct config_rule *r)
{
	compiled_free(r->compiled);
	r->compiled = NULL;
}
