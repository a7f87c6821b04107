/* Character references (HTML 5, §13.5), as many as models write.  Stateless.
 *
 * A reader may ask why so few: what is not in the table is shown as it was written. */
#include "cli/markdown_inline.h"
#include "cli/render.h"

#include <utf8proc.h>

static const struct {
	const char *name;
	int32_t c;
} names[] = {
	{"amp", '&'},      {"lt", '<'},       {"gt", '>'},        {"quot", '"'},
	{"apos", '\''},    {"nbsp", 0xA0},    {"copy", 0xA9},     {"reg", 0xAE},
	{"trade", 0x2122}, {"deg", 0xB0},     {"plusmn", 0xB1},   {"sup2", 0xB2},
	{"sup3", 0xB3},    {"micro", 0xB5},   {"para", 0xB6},     {"sect", 0xA7},
	{"middot", 0xB7},  {"frac12", 0xBD},  {"frac14", 0xBC},   {"frac34", 0xBE},
	{"times", 0xD7},   {"divide", 0xF7},  {"cent", 0xA2},     {"pound", 0xA3},
	{"yen", 0xA5},     {"euro", 0x20AC},  {"ndash", 0x2013},  {"mdash", 0x2014},
	{"lsquo", 0x2018}, {"rsquo", 0x2019}, {"ldquo", 0x201C},  {"rdquo", 0x201D},
	{"laquo", 0xAB},   {"raquo", 0xBB},   {"hellip", 0x2026}, {"bull", 0x2022},
	{"larr", 0x2190},  {"uarr", 0x2191},  {"rarr", 0x2192},   {"darr", 0x2193},
	{"harr", 0x2194},  {"rArr", 0x21D2},  {"lArr", 0x21D0},   {"hArr", 0x21D4},
	{"le", 0x2264},    {"ge", 0x2265},    {"ne", 0x2260},     {"asymp", 0x2248},
	{"infin", 0x221E}, {"sum", 0x2211},   {"radic", 0x221A},  {"pi", 0x3C0},
	{"alpha", 0x3B1},  {"beta", 0x3B2},   {"gamma", 0x3B3},   {"delta", 0x3B4},
	{"lambda", 0x3BB}, {"mu", 0x3BC},     {"sigma", 0x3C3},   {"omega", 0x3C9},
};

static int32_t numeric(struct str s)
{
	bool hex = s.len && (s.ptr[0] | 32) == 'x';
	int32_t c = 0;

	if (s.len <= (size_t)hex || s.len > 8)
		return -1;
	for (size_t i = hex; i < s.len; i++) {
		char d = s.ptr[i], low = (char)(d | 32);
		int digit = d >= '0' && d <= '9'              ? d - '0'
			    : hex && low >= 'a' && low <= 'f' ? low - 'a' + 10
							      : -1;

		if (digit < 0)
			return -1;
		c = c * (hex ? 16 : 10) + digit;
		if (c > 0x10FFFF)
			return -1;
	}
	return c;
}

/* A reference is the one way round the filter in front: controls are refused here again. */
static bool may_show(int32_t c)
{
	return c >= 0x20 && render_harmless(c) && utf8proc_codepoint_valid(c);
}

size_t markdown_entity(struct str name, char out[8])
{
	int32_t c = -1;

	if (name.len && name.ptr[0] == '#') {
		c = numeric((struct str){name.ptr + 1, name.len - 1});
	} else {
		for (size_t i = 0; i < ARRAY_LEN(names); i++)
			if (str_eq(name, names[i].name))
				c = names[i].c;
	}
	if (!may_show(c))
		return 0;
	return (size_t)utf8proc_encode_char(c, (utf8proc_uint8_t *)out);
}
