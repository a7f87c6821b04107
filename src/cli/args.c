/* Command lines: getopt_long behind one table for each command.
 *
 * Main thread.  A reader may ask why getopt's own messages are turned off: they say what
 * is wrong but not what was meant, and a wrong option should cost one look, not a man
 * page. */
#include "cli/args.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>

#include "base/buf.h"
#include "base/nearest.h"
#include "cli/commands.h"

enum { HELP_INDEX = ARGS_MAX_OPTIONS, LONG_BASE = 256 };

void args_init(struct args *a, const struct args_spec *spec, int argc, char **argv)
{
	ASSERT(spec->noptions <= ARGS_MAX_OPTIONS);
	*a = (struct args){.spec = spec, .argc = argc, .argv = argv};
	optind = 0; /* glibc: start anew */
	opterr = 0;
}

int args_usage(const struct args_spec *spec, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "hob %s: ", spec->command);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nusage: hob %s %s\nMore: hob %s --help\n", spec->command,
		spec->usage, spec->command);
	return CLI_USAGE;
}

static void help_line(FILE *out, char letter, const char *name, const char *value,
		      const char *help)
{
	char left[64];
	int n;

	n = snprintf(left, sizeof left, "%c%c%s --%s%s%s", letter ? '-' : ' ',
		     letter ? letter : ' ', letter ? "," : " ", name, value ? " " : "",
		     value ? value : "");
	fprintf(out, n <= 26 ? "  %-26s %s\n" : "  %s\n  %26s %s\n", left,
		n <= 26 ? help : "", help);
}

void args_help(const struct args_spec *spec, FILE *out)
{
	fprintf(out, "usage: hob %s %s\n\n%s\n\n", spec->command, spec->usage,
		spec->summary);
	for (int i = 0; i < spec->noptions; i++)
		help_line(out, spec->options[i].letter, spec->options[i].name,
			  spec->options[i].value, spec->options[i].help);
	help_line(out, 'h', "help", NULL, "show this help");
	if (spec->notes)
		fprintf(out, "\n%s\n", spec->notes);
}

static void unknown_option(struct args *a, const char *text)
{
	char word[64];
	struct nearest near = {.word = word};

	snprintf(word, sizeof word, "%s", text + strspn(text, "-"));
	word[strcspn(word, "=")] = '\0';
	for (int i = 0; i < a->spec->noptions; i++)
		nearest_offer(&near, a->spec->options[i].name);
	nearest_offer(&near, "help");
	if (near.best && !strncmp(text, "--", 2))
		a->status = args_usage(a->spec, "no option %s; did you mean --%s?", text,
				       near.best);
	else
		a->status = args_usage(a->spec,
				       "no option %s; text that begins with a dash goes "
				       "after --",
				       text);
}

/* getopt says '?' for an unknown option, ':' for one without its value. */
static void wrong_option(struct args *a, int c)
{
	const struct args_option *o = NULL;
	char letter[3] = {'-', (char)optopt, '\0'};
	const char *text =
		optopt > 0 && optopt < LONG_BASE ? letter : a->argv[optind - 1];

	for (int i = 0; i < a->spec->noptions; i++)
		if (optopt == LONG_BASE + i ||
		    (optopt && optopt == a->spec->options[i].letter))
			o = &a->spec->options[i];
	if (c == ':' && o)
		a->status =
			args_usage(a->spec, "--%s needs a value: %s", o->name, o->value);
	else if (o || optopt == LONG_BASE + HELP_INDEX)
		a->status = args_usage(a->spec, "%s takes no value", text);
	else
		unknown_option(a, text);
}

int args_next(struct args *a, const char **value)
{
	struct option longs[ARGS_MAX_OPTIONS + 2] = {{0}};
	struct buf shorts = {0};
	int c, n = a->spec->noptions;

	buf_adds(&shorts, ":h");
	for (int i = 0; i < n; i++) {
		const struct args_option *o = &a->spec->options[i];

		longs[i] = (struct option){o->name,
					   o->value ? required_argument : no_argument,
					   NULL, LONG_BASE + i};
		if (o->letter)
			buf_addf(&shorts, "%c%s", o->letter, o->value ? ":" : "");
	}
	longs[n] = (struct option){"help", no_argument, NULL, LONG_BASE + HELP_INDEX};
	c = getopt_long(a->argc, a->argv, shorts.data, longs, NULL);
	buf_free(&shorts);
	a->first = optind;
	if (c == -1)
		return ARGS_END;
	if (c == 'h' || c == LONG_BASE + HELP_INDEX) {
		args_help(a->spec, stdout);
		a->status = CLI_OK;
		return ARGS_STOP;
	}
	if (value)
		*value = optarg;
	if (c >= LONG_BASE)
		return c - LONG_BASE;
	for (int i = 0; c != '?' && c != ':' && i < n; i++)
		if (a->spec->options[i].letter == c)
			return i;
	wrong_option(a, c);
	return ARGS_STOP;
}

bool args_int(struct args *a, int option, const char *value, int64_t min, int64_t max,
	      int64_t *out)
{
	if (str_to_i64(str_of(value), min, max, out))
		return true;
	a->status = args_usage(
		a->spec, "--%s '%s': give a whole number from %lld to %lld",
		a->spec->options[option].name, value, (long long)min, (long long)max);
	return false;
}

bool args_double(struct args *a, int option, const char *value, double min, double max,
		 double *out)
{
	char *end = NULL;
	double x;

	errno = 0;
	x = strtod(value, &end);
	if (end != value && !*end && !errno && isfinite(x) && x >= min && x <= max) {
		*out = x;
		return true;
	}
	a->status = args_usage(a->spec, "--%s '%s': give a number from %g to %g",
			       a->spec->options[option].name, value, min, max);
	return false;
}
