/* Tab: what all candidates have in common is put in, and when that adds nothing they are listed below.
 * Main thread.
 *
 * A reader may ask about the empty lines behind the list: libedit then clears as many rows above the
 * cursor as the prompt takes before it draws anew, and those must not be the list's. */
#include <stdlib.h>
#include <unistd.h>
#include <utf8proc.h>

#include "cli/lines_state.h"
#include "cli/render.h"

enum { LISTED_MAX_ROWS = 20 };

void lines_words_add(struct lines_words *w, const char *text, const char *shown)
{
	if (w->n == LINES_WORDS_MAX) {
		w->more = true;
		return;
	}
	if (w->n == w->cap) {
		w->cap = w->cap ? w->cap * 2 : 32;
		w->words = xrealloc(w->words, (size_t)w->cap * sizeof *w->words);
	}
	w->words[w->n++] =
		(struct lines_word){xstrdup(text), render_line(shown ? shown : text)};
}

static void words_fini(struct lines_words *w)
{
	for (int i = 0; i < w->n; i++) {
		free(w->words[i].text);
		free(w->words[i].shown);
	}
	free(w->words);
}

/* Bytes that all have in common, whole characters. */
static size_t common_length(const struct lines_words *w)
{
	const char *first = w->words[0].text;
	size_t n = strlen(first);

	for (int i = 1; i < w->n; i++) {
		size_t k = 0;

		while (k < n && first[k] == w->words[i].text[k])
			k++;
		n = k;
	}
	while (n && ((unsigned char)first[n] & 0xC0) == 0x80)
		n--;
	return n;
}

static int by_shown(const void *a, const void *b)
{
	return strcmp(((const struct lines_word *)a)->shown,
		      ((const struct lines_word *)b)->shown);
}

static void list(struct lines *l, struct lines_words *w)
{
	int columns = render_columns(STDOUT_FILENO, 80), widest = 1, across, rows;

	qsort(w->words, (size_t)w->n, sizeof *w->words, by_shown);
	for (int i = 0; i < w->n; i++) {
		int width = render_width(w->words[i].shown);

		widest = width > widest ? width : widest;
	}
	across = widest + 2 < columns ? columns / (widest + 2) : 1;
	rows = (w->n + across - 1) / across;
	putchar('\n');
	for (int r = 0; r < rows && r < LISTED_MAX_ROWS; r++) {
		for (int i = r; i < w->n; i += rows)
			printf("%s%*s", w->words[i].shown,
			       i + rows < w->n
				       ? widest + 2 - render_width(w->words[i].shown)
				       : 0,
			       "");
		putchar('\n');
	}
	if (rows > LISTED_MAX_ROWS || w->more)
		printf("(and more)\n");
	for (int up = lines_edit_rows(l, l->columns); up > 0; up--)
		putchar('\n');
	fflush(stdout);
}

unsigned char lines_words_tab(EditLine *edit, int key)
{
	struct lines_words w = {0};
	struct lines *l = NULL;
	const LineInfo *line = el_line(edit);
	char *before = xstrndup(line->buffer, (size_t)(line->cursor - line->buffer));
	unsigned char rc = CC_REFRESH_BEEP;
	size_t have, common;

	UNUSED(key);
	el_get(edit, EL_CLIENTDATA, &l);
	if (l->complete && *before)
		l->complete(l->complete_arg, before, &w);
	have = strlen(before + (w.n ? w.start : 0));
	common = w.n ? common_length(&w) : 0;
	if (common > have) {
		char *more = xstrndup(w.words[0].text + have, common - have);

		if (!el_insertstr(edit, more))
			rc = CC_REFRESH;
		free(more);
	} else if (w.n > 1) {
		list(l, &w);
		rc = CC_REDISPLAY;
	}
	words_fini(&w);
	free(before);
	return rc;
}
