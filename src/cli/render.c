/* Text on its way to the terminal.  Main thread, no state but the caller's filter.
 *
 * A reader may ask why the filter applies when output goes to a file as well: a file is
 * read with cat one day, and a sequence that hides there does no less harm then. */
#include "cli/render.h"

#include <sys/ioctl.h>
#include <unistd.h>
#include <utf8proc.h>

#include "cli/markdown.h"

enum { RENDER_COLUMNS = 80 };

/* Bytes of the character that a lead byte announces, 0 for a byte that cannot lead. */
static int lead_length(unsigned char c)
{
	if (c < 0x80)
		return 1;
	if (c >= 0xC2 && c <= 0xDF)
		return 2;
	if (c >= 0xE0 && c <= 0xEF)
		return 3;
	return c >= 0xF0 && c <= 0xF4 ? 4 : 0;
}

/* Embeddings, overrides and isolates of the bidirectional algorithm (UAX #9) can show a text in another
 * order than it is copied and run; right-to-left scripts and their marks need none of them. */
static bool reorders(utf8proc_int32_t c)
{
	return (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

bool render_harmless(int32_t c)
{
	if (c == '\n' || c == '\t')
		return true;
	return !(c < 0x20 || (c >= 0x7F && c <= 0x9F)) && !reorders(c);
}

static void add_replacement(struct buf *out)
{
	buf_adds(out, "\xEF\xBF\xBD");
}

/* part holds a whole sequence: decode strictly, drop or pass on. */
static void flush_part(struct render_filter *f, struct buf *out)
{
	utf8proc_int32_t c = -1;

	if (f->have == f->need)
		utf8proc_iterate(f->part, f->have, &c);
	if (c < 0)
		add_replacement(out);
	else if (render_harmless(c))
		buf_add(out, f->part, (size_t)f->have);
	f->have = f->need = 0;
}

static void filter_byte(struct render_filter *f, struct buf *out, unsigned char c)
{
	if (f->need && (c & 0xC0) != 0x80)
		flush_part(f, out); /* cut short: have < need, so U+FFFD */
	if (!f->need) {
		f->need = lead_length(c);
		if (!f->need) {
			add_replacement(out);
			return;
		}
	}
	f->part[f->have++] = c;
	if (f->have == f->need)
		flush_part(f, out);
}

void render_filter(struct render_filter *f, struct buf *out, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		filter_byte(f, out, (unsigned char)p[i]);
}

void render_filter_end(struct render_filter *f, struct buf *out)
{
	if (f->need)
		flush_part(f, out);
}

char *render_text(const char *text)
{
	struct render_filter f = {0};
	struct buf b = {0};

	if (text)
		render_filter(&f, &b, text, strlen(text));
	render_filter_end(&f, &b);
	return b.data ? buf_take(&b, NULL) : xstrdup("");
}

char *render_line(const char *text)
{
	char *line = render_text(text);

	for (char *p = line; *p; p++)
		if (*p == '\n' || *p == '\t')
			*p = ' ';
	return line;
}

void render_json(FILE *out, struct str json)
{
	struct render_filter f = {0};
	struct buf b = {0};

	if (isatty(fileno(out)))
		render_filter(&f, &b, json.ptr, json.len);
	else
		buf_add(&b, json.ptr, json.len);
	fwrite(b.data, 1, b.len, out);
	buf_free(&b);
}

void render_answer_init(struct render_answer *a, FILE *out, bool thoughts)
{
	*a = (struct render_answer){
		.out = out, .thoughts = thoughts, .at_line_start = true};
	a->colour = render_colour(fileno(out));
}

static int answer_columns(void *answer)
{
	const struct render_answer *a = answer;

	return render_columns(fileno(a->out), RENDER_COLUMNS);
}

/* Filtered bytes to the screen. */
static void show(struct render_answer *a, struct buf *b, const struct buf *text)
{
	if (!text->len)
		return;
	a->any = true;
	a->at_line_start = text->data[text->len - 1] == '\n';
	if (!a->colour || a->in_thought) {
		buf_add(b, text->data, text->len);
		return;
	}
	if (!a->markdown)
		a->markdown = markdown_new(answer_columns, a);
	markdown_text(a->markdown, b, text->data, text->len);
}

/* What is held of a kind of text, and the end of its line. */
static void end_kind(struct render_answer *a, struct buf *b)
{
	struct buf rest = {0};

	render_filter_end(&a->filter, &rest);
	show(a, b, &rest);
	buf_free(&rest);
	if (a->markdown)
		markdown_end(a->markdown, b);
	else if (a->any && !a->at_line_start)
		buf_addc(b, '\n');
	if (a->colour && a->in_thought)
		buf_adds(b, "\033[0m");
	a->at_line_start = true;
	markdown_free(a->markdown);
	a->markdown = NULL;
}

static void switch_kind(struct render_answer *a, struct buf *b, bool thought)
{
	end_kind(a, b);
	if (a->colour && thought)
		buf_adds(b, "\033[2m");
	a->in_thought = thought;
}

/* Writes and empties b. */
static int put(struct render_answer *a, struct buf *b)
{
	if (b->len)
		fwrite(b->data, 1, b->len, a->out);
	buf_free(b);
	return fflush(a->out) || ferror(a->out) ? -1 : 0;
}

bool render_answer_text(void *answer, const char *p, size_t n, bool is_reasoning)
{
	struct render_answer *a = answer;
	struct buf b = {0}, text = {0};

	if (is_reasoning && !a->thoughts)
		return true;
	if (is_reasoning != a->in_thought)
		switch_kind(a, &b, is_reasoning);
	render_filter(&a->filter, &text, p, n);
	show(a, &b, &text);
	buf_free(&text);
	return !put(a, &b);
}

int render_answer_end(struct render_answer *a)
{
	struct buf b = {0};

	end_kind(a, &b);
	return put(a, &b);
}

void render_progress(bool *shown, const char *stage, int64_t done, int64_t total)
{
	if (!render_colour(STDERR_FILENO))
		return;
	*shown = true;
	fprintf(stderr, "\r\033[K%s", stage);
	if (total > 0)
		fprintf(stderr, " %d %%", (int)(100 * (double)done / (double)total));
	fflush(stderr);
}

void render_progress_end(bool *shown)
{
	if (*shown)
		fputs("\r\033[K", stderr);
	*shown = false;
}

void render_dim(FILE *out, const char *text)
{
	bool colour = render_colour(fileno(out));
	char *line = render_line(text);

	fprintf(out, "%s%s%s\n", colour ? "\033[2m" : "", line, colour ? "\033[0m" : "");
	fflush(out);
	free(line);
}

bool render_colour(int fd)
{
	const char *term = getenv("TERM"), *no = getenv("NO_COLOR");

	if (no && *no) /* no-color.org: present and not empty */
		return false;
	return isatty(fd) && term && *term && strcmp(term, "dumb");
}

int render_columns(int fd, int otherwise)
{
	struct winsize ws;

	if (!isatty(fd) || ioctl(fd, TIOCGWINSZ, &ws) || !ws.ws_col)
		return otherwise;
	return ws.ws_col;
}

int render_width(const char *text)
{
	const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)text;
	int width = 0;

	while (*p) {
		utf8proc_int32_t c;
		utf8proc_ssize_t n = utf8proc_iterate(p, -1, &c);

		if (n < 1) {
			p++;
			width++;
			continue;
		}
		p += n;
		width += utf8proc_charwidth(c);
	}
	return width;
}

const char *render_size(uint64_t bytes, char out[RENDER_SIZE_BYTES])
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
	double x = (double)bytes;
	size_t u = 0;

	while (x >= 999.5 && u + 1 < ARRAY_LEN(units)) {
		x /= 1000;
		u++;
	}
	snprintf(out, RENDER_SIZE_BYTES, u && x < 99.95 ? "%.1f %s" : "%.0f %s", x,
		 units[u]);
	return out;
}

const char *render_age(int64_t s, char out[RENDER_AGE_BYTES])
{
	static const struct {
		int64_t below, unit;
		const char *name;
	} steps[] = {{120, 1, "s"},
		     {7200, 60, "min"},
		     {172800, 3600, "h"},
		     {INT64_MAX, 86400, "days"}};
	size_t i = 0;

	if (s < 0) {
		snprintf(out, RENDER_AGE_BYTES, "-");
		return out;
	}
	while (s >= steps[i].below && i + 1 < ARRAY_LEN(steps))
		i++;
	snprintf(out, RENDER_AGE_BYTES, "%lld %s ago", (long long)(s / steps[i].unit),
		 steps[i].name);
	return out;
}

static void table_row(FILE *out, const char *const *row, const int *widths, int ncols,
		      const bool *right)
{
	for (int c = 0; c < ncols; c++) {
		int pad = widths[c] - render_width(row[c]);
		bool last = c == ncols - 1;

		if (right && right[c])
			fprintf(out, "%*s%s", pad, "", row[c]);
		else
			fprintf(out, "%s%*s", row[c], last ? 0 : pad, "");
		fputs(last ? "\n" : "  ", out);
	}
}

void render_table(FILE *out, const char *const *cells, int nrows, int ncols,
		  const bool *right)
{
	int *widths = xcalloc((size_t)ncols, sizeof *widths);

	for (int i = 0; i < nrows * ncols; i++) {
		int w = render_width(cells[i]);

		if (w > widths[i % ncols])
			widths[i % ncols] = w;
	}
	for (int r = 0; r < nrows; r++)
		table_row(out, &cells[r * ncols], widths, ncols, right);
	free(widths);
}
