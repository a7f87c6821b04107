/* Pastes and their placeholders.  Main thread.
 *
 * A reader may ask why a placeholder is plain text in the line: the line editor can then move over it and
 * search it as it does any text, and a placeholder that was half deleted simply is no longer one. */
#include "cli/lines_paste.h"

static const char end_mark[] = "\033[201~";

long paste_end(const struct buf *b, size_t from)
{
	const char *p;

	if (b->len < from + sizeof end_mark - 1)
		return -1;
	p = memmem(b->data + from, b->len - from, end_mark, sizeof end_mark - 1);
	return p ? p - b->data : -1;
}

static void clean(struct buf *out, struct str s)
{
	while (s.len) {
		size_t n = str_utf8_len(s);

		if (!n) {
			buf_adds(out, "\xEF\xBF\xBD");
			n = 1;
		} else if (*s.ptr == '\r') {
			buf_addc(out, '\n');
			n += s.len > 1 && s.ptr[1] == '\n';
		} else if (*s.ptr) {
			buf_add(out, s.ptr, n);
		}
		s.ptr += n;
		s.len -= n;
	}
}

static int count_lines(const struct buf *b)
{
	int n = b->len && b->data[b->len - 1] != '\n';

	for (size_t i = 0; i < b->len; i++)
		n += b->data[i] == '\n';
	return n;
}

static char *new_mark(const struct pastes *p, const struct buf *text)
{
	int lines = count_lines(text), same = 1;
	char *what = lines > 1 ? xasprintf("%d lines", lines)
			       : xasprintf("%zu bytes", text->len);
	char *mark = xasprintf("[pasted %s]", what);

	for (int i = 0; i < p->n; i++) {
		if (strcmp(p->all[i].mark, mark))
			continue;
		free(mark);
		mark = xasprintf("[pasted %s #%d]", what, ++same);
		i = -1; /* that name may be taken as well */
	}
	free(what);
	return mark;
}

char *pastes_take(struct pastes *p, struct str raw)
{
	struct buf text = {0};
	struct paste *fresh;

	buf_reserve(&text, raw.len);
	text.data[0] = '\0';
	clean(&text, raw);
	if (p->n == PASTE_MAX || (count_lines(&text) <= PASTE_INLINE_MAX_LINES &&
				  text.len <= PASTE_INLINE_MAX_BYTES))
		return buf_take(&text, NULL);
	fresh = &p->all[p->n];
	fresh->mark = new_mark(p, &text);
	fresh->text = buf_take(&text, NULL);
	p->n++;
	return xstrdup(fresh->mark);
}

static const struct paste *paste_at(const struct pastes *p, struct str s)
{
	for (int i = 0; i < p->n; i++)
		if (str_starts(s, p->all[i].mark))
			return &p->all[i];
	return NULL;
}

void pastes_expand(const struct pastes *p, struct str line, struct buf *out)
{
	while (line.len) {
		const struct paste *here = *line.ptr == '[' ? paste_at(p, line) : NULL;
		size_t n = here ? strlen(here->mark) : 1;

		if (here)
			buf_adds(out, here->text);
		else
			buf_addc(out, *line.ptr);
		line.ptr += n;
		line.len -= n;
	}
}

size_t pastes_ending(const struct pastes *p, struct str before)
{
	for (int i = 0; i < p->n; i++) {
		size_t n = strlen(p->all[i].mark);

		if (before.len >= n &&
		    !memcmp(before.ptr + before.len - n, p->all[i].mark, n))
			return n;
	}
	return 0;
}

void pastes_clear(struct pastes *p)
{
	while (p->n) {
		struct paste *last = &p->all[--p->n];

		free(last->mark);
		free(last->text);
	}
}
