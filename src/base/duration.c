/* Durations: a sum of numbers with units, largest unit first or not.  Any thread.
 *
 * The numbers are read by hand because strtod follows the locale and takes "inf" and "0x10". */
#include "base/duration.h"

static const struct {
	const char *name;
	double ms;
} units[] = {{"ms", 1}, {"s", 1e3}, {"m", 60e3}, {"h", 3600e3}, {"d", 86400e3}};

bool duration_of_seconds(double seconds, int64_t *ms)
{
	if (seconds != seconds || seconds > DURATION_MAX_DAYS * 86400.0)
		return false;
	*ms = seconds < 0 ? DURATION_FOREVER : (int64_t)(seconds * 1000);
	return true;
}

/* Digits with at most one point; false without a digit. */
static bool take_number(const char **p, double *out)
{
	double v = 0, scale = 0;
	bool any = false;

	for (; (**p >= '0' && **p <= '9') || (**p == '.' && scale == 0); (*p)++) {
		if (**p == '.') {
			scale = 1;
			continue;
		}
		any = true;
		v = v * 10 + (**p - '0');
		scale *= 10;
	}
	*out = scale > 1 ? v / scale : v;
	return any;
}

static double take_unit(const char **p)
{
	size_t n = strspn(*p, "abcdefghijklmnopqrstuvwxyz");

	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (strlen(units[i].name) == n && !strncmp(*p, units[i].name, n)) {
			*p += n;
			return units[i].ms;
		}
	return 0;
}

bool duration_parse(const char *text, int64_t *ms)
{
	double total_ms = 0, number, unit;
	const char *p = text;

	if (!strcmp(text, "forever") || !strcmp(text, "-1")) {
		*ms = DURATION_FOREVER;
		return true;
	}
	do {
		if (!take_number(&p, &number))
			return false;
		unit = !*p && total_ms == 0 ? 1e3 : take_unit(&p);
		if (unit == 0)
			return false;
		total_ms += number * unit;
	} while (*p);
	return duration_of_seconds(total_ms / 1e3, ms);
}
