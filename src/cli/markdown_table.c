/* Tables on a terminal.  Main thread; owns the rows that are held.
 *
 * A reader may ask why the widths are not taken from all rows: a table of a hundred rows would show nothing
 * for a minute, and what was written is never written again. */
#include "cli/markdown_table.h"

#include <utf8proc.h>

enum { BETWEEN_COLUMNS = 3 };

static void add_to_cell(void *cell, const char *p, size_t n, unsigned style)
{
	struct markdown_cell *c = cell;
	uint16_t s = (uint16_t)style;

	buf_add(&c->text, p, n);
	for (size_t i = 0; i < n; i++)
		buf_add(&c->styles, &s, sizeof s);
}

static void clear_cell(struct markdown_cell *c)
{
	buf_free(&c->text);
	buf_free(&c->styles);
}

void markdown_table_init(struct markdown_table *t, struct markdown_wrap *wrap)
{
	*t = (struct markdown_table){.wrap = wrap};
	markdown_inline_init(&t->inl, add_to_cell, NULL);
}

static void clear_row(struct markdown_cell *row)
{
	for (int i = 0; i < MARKDOWN_TABLE_COLUMNS; i++)
		clear_cell(&row[i]);
}

void markdown_table_fini(struct markdown_table *t)
{
	for (int i = 0; i <= MARKDOWN_TABLE_HELD; i++)
		clear_row(t->rows[i]);
	markdown_inline_fini(&t->inl);
}

/* -- rows as text */

/* Takes the next cell off a row without its first '|'.  False: there is none. */
static bool next_cell(struct str *row, struct str *cell)
{
	size_t i = 0;

	if (!row->len)
		return false;
	while (i < row->len && row->ptr[i] != '|')
		i += row->ptr[i] == '\\' && i + 1 < row->len ? 2 : 1;
	*cell = str_trim((struct str){row->ptr, i});
	if (i < row->len)
		i++;
	row->ptr += i;
	row->len -= i;
	return true;
}

static struct str inner(struct str row)
{
	row = str_trim(row);
	if (row.len && row.ptr[0] == '|') {
		row.ptr++;
		row.len--;
	}
	return row;
}

int markdown_table_cells(struct str row)
{
	struct str rest = inner(row), cell;
	int n = 0;

	while (next_cell(&rest, &cell))
		n++;
	return n;
}

/* ":--", "--:", ":-:" */
static bool is_rule(struct str cell, enum markdown_align *align)
{
	bool left = cell.len && cell.ptr[0] == ':';
	bool right = cell.len > 1 && cell.ptr[cell.len - 1] == ':';
	size_t dashes = cell.len - left - right;

	for (size_t i = 0; i < dashes; i++)
		if (cell.ptr[left + i] != '-')
			return false;
	*align = !right ? ALIGN_LEFT : left ? ALIGN_CENTRE : ALIGN_RIGHT;
	return dashes > 0;
}

bool markdown_table_delimits(struct str line, int ncols)
{
	struct str rest = inner(line), cell;
	enum markdown_align align;
	int n = 0;

	for (; next_cell(&rest, &cell); n++)
		if (!is_rule(cell, &align))
			return false;
	return n == ncols && n > 0 && n <= MARKDOWN_TABLE_COLUMNS;
}

static void read_cell(struct markdown_table *t, struct markdown_cell *out,
		      struct str text, unsigned style)
{
	t->inl.arg = out;
	markdown_inline_start(&t->inl, style);
	for (size_t from = 0, i = 0; from < text.len; i++) {
		bool bar = i + 1 < text.len && !memcmp(text.ptr + i, "\\|", 2);

		if (!bar && i < text.len)
			continue;
		markdown_inline_text(&t->inl, text.ptr + from, i - from);
		from = i + 1;
		i += bar;
	}
	markdown_inline_end(&t->inl);
}

/* Cells beyond the last column belong to it: nothing is lost. */
static void read_row(struct markdown_table *t, struct markdown_cell *cells,
		     struct str row, unsigned style)
{
	struct str rest = inner(row), cell;

	for (int i = 0; i < t->ncols && next_cell(&rest, &cell); i++) {
		struct str more;

		while (i == t->ncols - 1 && next_cell(&rest, &more))
			cell.len = (size_t)(more.ptr + more.len - cell.ptr);
		read_cell(t, &cells[i], cell, style);
	}
}

/* -- widths */

static int cell_width(const struct markdown_cell *c)
{
	struct markdown_width w = {0};
	int width = 0;
	size_t len;

	for (size_t i = 0; i < c->text.len; i += len)
		width += markdown_width_add(
			&w, markdown_char(c->text.data + i, c->text.len - i, &len));
	return width;
}

static int sum(const struct markdown_table *t, int most)
{
	int total = BETWEEN_COLUMNS * (t->ncols - 1);

	for (int i = 0; i < t->ncols; i++)
		total += t->widths[i] < most ? t->widths[i] : most;
	return total;
}

static void measure(struct markdown_table *t, bool ended)
{
	int room, most = 1;

	for (int c = 0; c < t->ncols; c++) {
		t->widths[c] = 1;
		for (int r = 0; r < t->nrows; r++) {
			int w = cell_width(&t->rows[r][c]);

			t->widths[c] = w > t->widths[c] ? w : t->widths[c];
		}
		most = t->widths[c] > most ? t->widths[c] : most;
	}
	room = markdown_wrap_open_line(t->wrap);
	while (most > MARKDOWN_TABLE_NARROWEST && sum(t, most) > room)
		most--;
	t->records = sum(t, most) > room;
	for (int c = 0; c < t->ncols; c++) {
		int spare = room - sum(t, most), extra = t->widths[c] / 4;

		if (t->widths[c] > most)
			t->widths[c] = most;
		else if (!ended && extra <= spare && c < t->ncols - 1)
			t->widths[c] += extra;
	}
	if (!ended && !t->records)
		t->widths[t->ncols - 1] += room - sum(t, INT32_MAX);
	t->fixed = true;
}

/* -- writing */

static uint16_t style_at(const struct markdown_cell *c, size_t i)
{
	uint16_t s;

	memcpy(&s, c->styles.data + i * sizeof s, sizeof s);
	return s;
}

/* Bytes of the next line of a cell from `at` that fit into `most` columns, their width in *width, and where
 * the line after it begins in *next. */
static size_t fit(const struct markdown_cell *c, size_t at, int most, int *width,
		  size_t *next)
{
	const char *p = c->text.data;
	struct markdown_width w = {0};
	int col = 0, space_col = 0;
	size_t i = at, len, space = 0, start = at;

	for (; i < c->text.len; i += len) {
		int added = markdown_width_add(
			&w, markdown_char(p + i, c->text.len - i, &len));

		if (markdown_width_began(&w, added))
			start = i;
		if (p[i] == ' ') {
			space = i;
			space_col = col;
		}
		if (col + added > most && i > at) {
			bool at_space = space > at;
			size_t end = at_space ? space : start > at ? start : i;

			*width = at_space ? space_col : col;
			*next = end;
			while (*next < c->text.len && p[*next] == ' ')
				++*next;
			return end - at;
		}
		col += added;
	}
	*width = col;
	*next = c->text.len;
	return c->text.len - at;
}

static void write_styled(struct markdown_wrap *w, const struct markdown_cell *c,
			 size_t at, size_t n)
{
	for (size_t end = at + n, i = at; at < end; at = i) {
		while (i < end && style_at(c, i) == style_at(c, at))
			i++;
		markdown_wrap_raw(w, c->text.data + at, i - at, style_at(c, at));
	}
}

static void pad(struct markdown_wrap *w, int n)
{
	while (n-- > 0)
		markdown_wrap_raw(w, " ", 1, 0);
}

/* One line of a cell, and what is left of it from *at on. */
static void write_cell_line(struct markdown_table *t, const struct markdown_cell *c,
			    int col, size_t *at)
{
	int width = 0, spare, before;
	size_t next = *at, n = 0;

	if (*at < c->text.len)
		n = fit(c, *at, t->widths[col], &width, &next);
	spare = t->widths[col] - width;
	before = t->align[col] == ALIGN_RIGHT    ? spare
		 : t->align[col] == ALIGN_CENTRE ? spare / 2
						 : 0;
	pad(t->wrap, before);
	write_styled(t->wrap, c, *at, n);
	if (col < t->ncols - 1) {
		pad(t->wrap, spare - before);
		markdown_wrap_raw(t->wrap, " │ ", strlen(" │ "), MD_FAINT);
	}
	*at = next;
}

static void write_columns(struct markdown_table *t, const struct markdown_cell *row)
{
	size_t at[MARKDOWN_TABLE_COLUMNS] = {0};
	bool more;

	do {
		more = false;
		markdown_wrap_open_line(t->wrap);
		for (int c = 0; c < t->ncols; c++) {
			write_cell_line(t, &row[c], c, &at[c]);
			more |= at[c] < row[c].text.len;
		}
		markdown_wrap_end_line(t->wrap);
	} while (more);
}

static void write_rule(struct markdown_table *t)
{
	markdown_wrap_open_line(t->wrap);
	for (int c = 0; c < t->ncols; c++) {
		for (int i = 0; i < t->widths[c]; i++)
			markdown_wrap_raw(t->wrap, "─", strlen("─"), MD_FAINT);
		if (c < t->ncols - 1)
			markdown_wrap_raw(t->wrap, "─┼─", strlen("─┼─"), MD_FAINT);
	}
	markdown_wrap_end_line(t->wrap);
}

static void wrap_cell(struct markdown_wrap *w, const struct markdown_cell *c)
{
	for (size_t at = 0, i = 0; at < c->text.len; at = i) {
		while (i < c->text.len && style_at(c, i) == style_at(c, at))
			i++;
		markdown_wrap_text(w, c->text.data + at, i - at, style_at(c, at));
	}
}

static void write_record(struct markdown_table *t, const struct markdown_cell *row)
{
	for (int c = 0; c < t->ncols; c++) {
		if (!row[c].text.len)
			continue;
		if (t->rows[0][c].text.len) {
			wrap_cell(t->wrap, &t->rows[0][c]);
			markdown_wrap_text(t->wrap, ": ", 2, 0);
		}
		wrap_cell(t->wrap, &row[c]);
		markdown_wrap_end_line(t->wrap);
	}
	markdown_wrap_blank(t->wrap);
}

static void write_row(struct markdown_table *t, struct markdown_cell *row)
{
	if (t->records)
		write_record(t, row);
	else
		write_columns(t, row);
}

static void write_held(struct markdown_table *t, bool ended)
{
	measure(t, ended);
	if (t->records && t->nrows == 1) { /* a heading alone */
		for (int c = 0; c < t->ncols; c++) {
			wrap_cell(t->wrap, &t->rows[0][c]);
			markdown_wrap_end_line(t->wrap);
		}
	} else if (!t->records) {
		write_columns(t, t->rows[0]);
		write_rule(t);
	}
	for (int r = 1; r < t->nrows; r++) {
		write_row(t, t->rows[r]);
		clear_row(t->rows[r]);
	}
}

void markdown_table_begin(struct markdown_table *t, struct str head, struct str delimiter)
{
	struct str rest = inner(delimiter), cell;

	t->ncols = 0;
	while (next_cell(&rest, &cell))
		is_rule(cell, &t->align[t->ncols++]);
	t->fixed = t->records = false;
	t->nrows = 1;
	clear_row(t->rows[0]);
	read_row(t, t->rows[0], head, MD_STRONG);
}

void markdown_table_row(struct markdown_table *t, struct str row)
{
	struct markdown_cell *cells = t->rows[t->fixed ? 1 : t->nrows];

	read_row(t, cells, row, 0);
	if (t->fixed) {
		write_row(t, cells);
		clear_row(cells);
	} else if (++t->nrows > MARKDOWN_TABLE_HELD) {
		write_held(t, false);
	}
}

void markdown_table_end(struct markdown_table *t)
{
	if (!t->fixed)
		write_held(t, true);
	t->ncols = 0;
	clear_row(t->rows[0]);
}
