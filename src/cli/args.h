/* The options of one command as a table: the parser, --help and the hints come from it.
 */
#ifndef HOB_ARGS_H
#define HOB_ARGS_H

#include "base/base.h"

enum { ARGS_MAX_OPTIONS = 24 };

struct args_option {
	const char *name;  /* "max-tokens", without dashes */
	char letter;       /* 'c', or 0 */
	const char *value; /* "N": takes a value, called so in the help; NULL: a flag */
	const char *help;  /* one line */
};

struct args_spec {
	const char *command;               /* "run" */
	const char *usage;                 /* "[OPTIONS] [MODEL] PROMPT..." */
	const char *summary;               /* one sentence */
	const struct args_option *options; /* --help is added to them */
	int noptions;                      /* at most ARGS_MAX_OPTIONS */
	const char *notes;                 /* paragraphs below the options, or NULL */
};

/* What args_next() gives besides the index of an option in the table. */
enum { ARGS_END = -1, ARGS_STOP = -2 };

struct args {
	const struct args_spec *spec; /* borrowed */
	int argc;
	char **argv; /* borrowed; reordered so that operands are last */
	int status;  /* the exit status to return after ARGS_STOP */
	int first;   /* after ARGS_END: index in argv of the first operand */
};

void args_init(struct args *a, const struct args_spec *spec, int argc, char **argv);
/* The next option's index in the table, with *value borrowed from argv when it takes one;
 * ARGS_END; or ARGS_STOP after --help (printed on stdout, status 0) or a wrong option
 * (message on stderr, status 2). One parse at a time in a process: getopt's state is
 * global. */
int args_next(struct args *a, const char **value);

/* Value of an option as a number in [min, max]; on a wrong one prints a message, sets
 * status to 2 and returns false. */
bool args_int(struct args *a, int option, const char *value, int64_t min, int64_t max,
	      int64_t *out);
bool args_double(struct args *a, int option, const char *value, double min, double max,
		 double *out);

/* Prints "hob COMMAND: text" and where to read more, and returns CLI_USAGE. */
int args_usage(const struct args_spec *spec, const char *fmt, ...) PRINTF(2, 3);
void args_help(const struct args_spec *spec, FILE *out);

#endif
