/* The lines of an answer on a terminal.  Main thread; owns the word that is held and the prefixes.
 *
 * A reader may ask why a held word carries escape sequences in its bytes: all of them are absolute,
 * so they say the same wherever the word lands, and its first style is kept beside it. */
#include "cli/markdown_wrap.h"

#include <utf8proc.h>

enum { NARROWEST = 4 };

int32_t markdown_char(const char *p, size_t n, size_t *len)
{
	utf8proc_int32_t c;
	utf8proc_ssize_t took = utf8proc_iterate((const utf8proc_uint8_t *)p,
						 (utf8proc_ssize_t)(n < 4 ? n : 4), &c);

	if (took < 1) {
		*len = 1;
		return 0xFFFD;
	}
	*len = (size_t)took;
	return c;
}

static bool is_flag_letter(int32_t c)
{
	return c >= 0x1F1E6 && c <= 0x1F1FF;
}

int markdown_width_add(struct markdown_width *s, int32_t c)
{
	bool fresh = !s->any || utf8proc_grapheme_break_stateful(s->last, c, &s->state);
	int before = fresh ? 0 : s->cluster, width = utf8proc_charwidth(c);

	if (fresh)
		s->state = 0;
	if (!fresh && (c == 0xFE0F || is_flag_letter(c)))
		width = 2;
	s->cluster = width > before ? width : before;
	s->last = c;
	s->any = true;
	return s->cluster - before;
}

void markdown_sgr(struct buf *out, unsigned style)
{
	static const struct {
		unsigned bit;
		const char *code;
	} table[] = {{MD_STRONG, ";1"},
		     {MD_FAINT, ";2"},
		     {MD_EM, ";3"},
		     {MD_UNDERLINE, ";4"},
		     {MD_STRIKE, ";9"}};

	buf_adds(out, "\033[0");
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (style & table[i].bit)
			buf_adds(out, table[i].code);
	if (style & MD_COLOURS)
		buf_addf(out, ";%u", 30 + ((style & MD_COLOURS) >> 8));
	buf_addc(out, 'm');
}

void markdown_wrap_init(struct markdown_wrap *w, int (*columns)(void *arg), void *arg)
{
	*w = (struct markdown_wrap){.columns = columns, .arg = arg};
}

void markdown_wrap_fini(struct markdown_wrap *w)
{
	buf_free(&w->lead);
	buf_free(&w->hang);
	buf_free(&w->word);
}

static void set_style(struct markdown_wrap *w, unsigned style)
{
	if (w->shown != style)
		markdown_sgr(w->out, style);
	w->shown = style;
}

static void newline(struct markdown_wrap *w)
{
	set_style(w, 0);
	buf_addc(w->out, '\n');
	w->line_open = w->broken = w->placed = false;
	w->spaces = 0;
	w->col = w->start = 0;
}

/* On a terminal so narrow that the prefix would take more than half, later lines do without. */
static void write_prefix(struct markdown_wrap *w)
{
	if (w->lead.len) {
		buf_add(w->out, w->lead.data, w->lead.len);
		w->col = w->lead_width;
		buf_clear(&w->lead);
	} else if (2 * w->hang_width <= w->width) {
		buf_add(w->out, w->hang.data, w->hang.len);
		w->col = w->hang_width;
	}
}

int markdown_wrap_open_line(struct markdown_wrap *w)
{
	if (w->broken)
		newline(w);
	if (!w->line_open) {
		w->width = w->columns(w->arg);
		if (w->width < NARROWEST)
			w->width = NARROWEST;
		w->col = 0;
		write_prefix(w);
		w->start = w->col;
		w->line_open = true;
	}
	return w->width > w->col ? w->width - w->col : 1;
}

void markdown_wrap_raw(struct markdown_wrap *w, const char *p, size_t n, unsigned style)
{
	set_style(w, style);
	buf_add(w->out, p, n);
}

/* The terminal wraps what is wider than a line. */
static void advance(struct markdown_wrap *w, int columns)
{
	w->col += columns;
	while (w->col > w->width)
		w->col -= w->width;
}

/* The word's place is certain: here, or at the start of the next line. */
static void place(struct markdown_wrap *w)
{
	markdown_wrap_open_line(w);
	if (w->col > w->start && w->col + w->spaces + w->word_width > w->width) {
		newline(w);
		markdown_wrap_open_line(w);
	} else if (w->col > w->start && w->spaces) {
		set_style(w, w->space_style);
		for (int i = 0; i < w->spaces; i++)
			buf_addc(w->out, ' ');
		w->col += w->spaces;
	}
	set_style(w, w->word_first);
	buf_add(w->out, w->word.data, w->word.len);
	w->shown = w->word_last;
	advance(w, w->word_width);
	buf_clear(&w->word);
	w->word_width = w->spaces = 0;
	w->placed = true;
}

static void end_word(struct markdown_wrap *w)
{
	if (w->word.len)
		place(w);
	w->placed = false;
	w->last = 0;
	w->clusters = (struct markdown_width){0};
}

static bool is_closing(int32_t c)
{
	utf8proc_category_t k = utf8proc_category(c);

	return k == UTF8PROC_CATEGORY_PE || k == UTF8PROC_CATEGORY_PF ||
	       k == UTF8PROC_CATEGORY_PO || (c < 0x80 && strchr(".,;:!?)]}%", c));
}

static bool is_opening(int32_t c)
{
	utf8proc_category_t k = utf8proc_category(c);

	return k == UTF8PROC_CATEGORY_PS || k == UTF8PROC_CATEGORY_PI;
}

/* May a line end between the word so far and c? */
static bool may_part(const struct markdown_wrap *w, int32_t c)
{
	if (!w->last || is_closing(c) || is_opening(w->last))
		return false;
	return utf8proc_charwidth(c) == 2 || utf8proc_charwidth(w->last) == 2;
}

static void hold(struct markdown_wrap *w, const char *p, size_t n, unsigned style)
{
	if (!w->word.len)
		w->word_first = style;
	else if (w->word_last != style)
		markdown_sgr(&w->word, style);
	w->word_last = style;
	buf_add(&w->word, p, n);
}

static void add_char(struct markdown_wrap *w, const char *p, size_t n, int32_t c,
		     unsigned style)
{
	struct markdown_width next = w->clusters;
	int added = markdown_width_add(&next, c);
	bool began = markdown_width_began(&next, added) && added;

	if (began && may_part(w, c)) {
		end_word(w);
		added = markdown_width_add(&w->clusters, c);
	} else {
		w->clusters = next;
	}
	if (began || !w->last)
		w->last = c;
	if (w->placed) {
		set_style(w, style);
		buf_add(w->out, p, n);
		advance(w, added);
		return;
	}
	hold(w, p, n, style);
	w->word_width += added;
	if (w->broken || !w->line_open || w->col == w->start ||
	    w->col + w->spaces + w->word_width > w->width)
		place(w);
}

void markdown_wrap_text(struct markdown_wrap *w, const char *p, size_t n, unsigned style)
{
	size_t len;

	for (size_t i = 0; i < n; i += len) {
		int32_t c = markdown_char(p + i, n - i, &len);

		if (c == '\n') {
			end_word(w);
			w->broken = w->line_open;
			w->spaces = 0;
		} else if (c == ' ' || c == '\t') {
			end_word(w);
			/* more than fit on a line say nothing more */
			w->spaces += w->spaces < w->width;
			if (w->spaces <= 1)
				w->space_style = style;
		} else {
			add_char(w, p + i, len, c, style);
		}
	}
}

void markdown_wrap_end_line(struct markdown_wrap *w)
{
	end_word(w);
	if (w->line_open)
		newline(w);
	w->broken = false;
	w->spaces = 0;
}

void markdown_wrap_blank(struct markdown_wrap *w)
{
	set_style(w, 0);
	buf_addc(w->out, '\n');
}
