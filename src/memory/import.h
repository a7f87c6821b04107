/* What other programs kept, as hob's JSON lines: pure functions in a table.
 *
 * For the process of a command, never for the daemon: what is read here is large, foreign and
 * perhaps hostile.  Each conversation comes out whole, with an id that follows from the foreign
 * one, so that the same file may be imported any number of times.  Nothing is lost silently: what
 * has no place in hob becomes a note in square brackets, or is counted. */
#ifndef HOB_IMPORT_H
#define HOB_IMPORT_H

#include "base/buf.h"
#include "base/err.h"

struct import_counts {
	int conversations, messages, branches;
	int notes; /* parts of an unknown kind, or attachments that are not in the file: written as [...] */
	int hidden;    /* messages that were never shown: left out */
	int empty;     /* conversations without any message: left out */
	int skipped;   /* messages or conversations that could not be read */
	char why[256]; /* of the first that was skipped */
};

struct import_in {
	const char *path; /* of the file; or NULL, of standard input */
	struct str
		text;   /* all of it; empty for a database, which is opened by its path */
	int64_t now_ms; /* stands for a time that the file lacks */
};

/* Takes one conversation, its lines in order; -1 stops the import. */
typedef int import_sink(void *arg, struct str jsonl, struct err *e);

struct import_format {
	const char *name, *what; /* "chatgpt", "ChatGPT's conversations.json" */
	/* By content; text is the beginning of the file (IMPORT_SNIFF_BYTES, or all of it). */
	bool (*sniff)(struct str text);
	/* -1: the file as a whole cannot be read, or the sink said so.  counts may be used then, too. */
	int (*convert)(const struct import_in *in, import_sink *sink, void *arg,
		       struct import_counts *counts, struct err *e);
	bool is_database;
};
enum { IMPORT_SNIFF_BYTES = 64 << 10 };

extern const struct import_format import_formats[]; /* ends with a name of NULL */
const struct import_format *import_format_by_name(const char *name); /* or NULL */
const struct import_format *import_format_sniff(struct str text);    /* or NULL */

#endif
