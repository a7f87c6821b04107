/* Code, TeX, links, HTML and character references: what lasts from an opening marker to its end.  Main thread.
 *
 * The bytes wait in the reader's `in` until the end is seen.  A reader may ask why a failed one is not passed on
 * whole: its text may hold emphasis, so only the marker becomes text, and the rest is read again. */
#include "cli/markdown_inline_impl.h"

/* -- code, TeX: text in which nothing has a meaning but its end */

/* Finds where a run of exactly `run` backticks begins at or behind `from`: its place, or SIZE_MAX; *more:
 * a run at the very end may still grow. */
static size_t find_backticks(const struct markdown_inline *in, size_t from, size_t run,
			     bool end, bool *more)
{
	const struct buf *b = &in->in;

	*more = false;
	for (size_t i = from; i < b->len;) {
		size_t first = i;

		while (i < b->len && b->data[i] == '`')
			i++;
		if (i > first && i == b->len && !end) {
			*more = true;
			return SIZE_MAX;
		}
		if (i - first == run)
			return first;
		i += i == first;
	}
	return SIZE_MAX;
}

/* Code between a and b: one space at both ends belongs to the markers; a line break is a space. */
static void add_code(struct markdown_inline *in, size_t a, size_t b)
{
	char *p = in->in.data;

	for (size_t i = a; i < b; i++)
		if (p[i] == '\n')
			p[i] = ' ';
	if (b - a > 2 && p[a] == ' ' && p[b - 1] == ' ') {
		a++;
		b--;
	}
	markdown_add_text(in, p + a, b - a, in->base | MD_CYAN);
}

size_t markdown_take_code(struct markdown_inline *in, bool end)
{
	size_t run, close;
	bool more;

	if (!markdown_run_length(in, in->at, end, &run))
		return NEED_MORE;
	if (run == MARKDOWN_RUN)
		return markdown_take_text(in, run, in->base);
	close = find_backticks(in, in->at + run, run, end, &more);
	if (close != SIZE_MAX && close - in->at - run <= MARKDOWN_HOLD) {
		add_code(in, in->at + run, close);
		return close + run - in->at;
	}
	if (in->in.len - in->at - run <= MARKDOWN_HOLD + MARKDOWN_RUN) {
		if (!end)
			return NEED_MORE;
		return markdown_take_text(in, run, in->base);
	}
	in->verbatim = '`';
	in->verbatim_run = run;
	return markdown_take_text(in, run, in->base | MD_CYAN);
}

size_t markdown_take_tex(struct markdown_inline *in, bool end)
{
	const char *p = in->in.data + in->at;
	size_t have = in->in.len - in->at, i;

	if (have < 2 && !end)
		return NEED_MORE;
	if (have >= 2 && p[1] == '$') {
		in->verbatim = '$';
		in->verbatim_run = 2;
		return markdown_take_text(in, 2, in->base);
	}
	if (have < 2 || markdown_is_space((unsigned char)p[1]))
		return markdown_take_text(in, 1, in->base);
	for (i = 2; i < have && i <= MARKDOWN_HOLD; i++) {
		if (p[i] != '$')
			continue;
		if (p[i - 1] == ' ')
			break; /* "$5 and $6" */
		return markdown_take_text(in, i + 1, in->base);
	}
	if (i == have && i <= MARKDOWN_HOLD && !end)
		return NEED_MORE;
	return markdown_take_text(in, 1, in->base);
}

/* A long span: as it is, until its end. */
size_t markdown_take_verbatim(struct markdown_inline *in, bool end)
{
	unsigned style = in->verbatim == '`' ? in->base | MD_CYAN : in->base;
	const char *p = in->in.data + in->at;
	size_t have = in->in.len - in->at, run;
	char first = in->verbatim == '`' || in->verbatim == '$' ? in->verbatim : '\\';
	const char *stop = memchr(p, first, have);

	if (stop != p)
		return markdown_take_text(in, stop ? (size_t)(stop - p) : have, style);
	if (first == '\\') {
		if (have < 2 && !end)
			return NEED_MORE;
		run = have < 2 ? 1 : 2;
		if (run == 2 && p[1] == in->verbatim)
			in->verbatim = 0;
		else
			run = 1;
		return markdown_take_text(in, run, style);
	}
	if (!markdown_run_length(in, in->at, end, &run))
		return NEED_MORE;
	if (run == in->verbatim_run)
		in->verbatim = 0;
	return markdown_take_text(in, run, style);
}

size_t markdown_take_escape(struct markdown_inline *in, bool end)
{
	const char *p = in->in.data + in->at;
	unsigned char next;

	if (in->in.len - in->at < 2)
		return end ? markdown_take_text(in, 1, in->base) : NEED_MORE;
	next = (unsigned char)p[1];
	if (next == '(' || next == '[') {
		in->verbatim = next == '(' ? ')' : ']';
		return markdown_take_text(in, 2, in->base);
	}
	if (next == '\n')
		return 1;
	if (next == ')' || next == ']' || next >= 0x80 || !markdown_is_punct(next))
		return markdown_take_text(in, 1, in->base);
	markdown_add_text(in, p + 1, 1, in->base);
	return 2;
}

/* -- links, HTML, references */

size_t markdown_take_tag(struct markdown_inline *in, bool end)
{
	const char *p = in->in.data + in->at;
	size_t have = in->in.len - in->at, i;

	if (have < 2)
		return end ? markdown_take_text(in, 1, in->base) : NEED_MORE;
	if (p[1] != '/' && p[1] != '!' && p[1] != '?' &&
	    !((p[1] | 32) >= 'a' && (p[1] | 32) <= 'z'))
		return markdown_take_text(in, 1, in->base);
	for (i = 2; i < have && i < MARKDOWN_TAG_BYTES; i++) {
		if (p[i] == '>')
			return markdown_take_text(in, i + 1, in->base);
		if (p[i] == '<' || p[i] == '\n')
			return markdown_take_text(in, 1, in->base);
	}
	if (i == have && i < MARKDOWN_TAG_BYTES && !end)
		return NEED_MORE;
	return markdown_take_text(in, 1, in->base);
}

size_t markdown_take_entity(struct markdown_inline *in, bool end)
{
	const char *p = in->in.data + in->at;
	size_t have = in->in.len - in->at, i;
	char out[8];

	for (i = 1; i < have && i < MARKDOWN_ENTITY_BYTES; i++) {
		if (p[i] == ';') {
			size_t n = markdown_entity((struct str){p + 1, i - 1}, out);

			if (!n)
				break;
			markdown_add_text(in, out, n, in->base);
			return i + 1;
		}
		if (p[i] != '#' && !(p[i] >= '0' && p[i] <= '9') &&
		    !((p[i] | 32) >= 'a' && (p[i] | 32) <= 'z'))
			break;
	}
	if (i == have && i < MARKDOWN_ENTITY_BYTES && !end)
		return NEED_MORE;
	return markdown_take_text(in, 1, in->base);
}

size_t markdown_take_bracket(struct markdown_inline *in, bool image)
{
	struct markdown_node *n = markdown_add_node(in, NODE_BRACKET);

	n->can_open = true;
	n->count = 1;
	n->image = image;
	in->brackets++;
	return image ? 2 : 1;
}

static size_t skip_blanks(const char *p, size_t i, size_t n)
{
	while (i < n && (p[i] == ' ' || p[i] == '\t'))
		i++;
	return i;
}

/* p[0..n) begins behind "](": the destination, without its <>, and the place behind the ')' in *end.  1 found,
 * 0 needs more, -1 is none. */
static int scan_destination(const char *p, size_t n, struct str *url, size_t *end)
{
	size_t i = skip_blanks(p, 0, n), from = i;
	int depth = 0;

	if (i < n && p[i] == '<') {
		for (from = ++i; i < n && p[i] != '>'; i++)
			if (p[i] == '\n' || p[i] == '<')
				return -1;
		*url = (struct str){p + from, i - from};
		i++;
	} else {
		for (; i < n && p[i] != ' ' && p[i] != '\t' && p[i] != '\n'; i++) {
			if (p[i] == ')' && !depth--)
				break;
			depth += p[i] == '(';
		}
		*url = (struct str){p + from, i - from};
	}
	i = skip_blanks(p, i, n);
	if (i < n && (p[i] == '"' || p[i] == '\'')) {
		char quote = p[i++];

		while (i < n && p[i] != quote && p[i] != '\n')
			i++;
		i = skip_blanks(p, i + 1, n);
	}
	if (i >= n)
		return 0;
	*end = i + 1;
	return p[i] == ')' ? 1 : -1;
}

/* The last bracket becomes a link: its text underlined, the address behind it. */
static void add_link(struct markdown_inline *in, size_t at, struct str url)
{
	struct markdown_node *open = &in->nodes[at];
	bool image = open->image;
	size_t bytes = 0, behind;
	const char *text;

	for (size_t i = at + 1; i < in->nnodes; i++) {
		struct markdown_node *n = &in->nodes[i];

		n->style |= image ? 0 : MD_UNDERLINE;
		n->can_open = false;
		if (n->kind == NODE_TEXT)
			bytes += n->len;
		else
			bytes += n->count; /* it is shown, and then the two differ */
	}
	behind = in->text.len - (bytes < in->text.len ? bytes : in->text.len);
	text = in->text.data ? in->text.data + behind : "";
	open->kind = NODE_RUN; /* of nothing: it shows no more */
	open->can_open = false;
	open->count = 0;
	if (!url.len || (bytes == url.len && !memcmp(text, url.ptr, bytes)))
		return;
	if (in->nnodes > at + 1)
		markdown_add_text(in, " ", 1, in->base);
	markdown_add_text(in, "(", 1, in->base | MD_FAINT);
	markdown_add_text(in, url.ptr, url.len, in->base | MD_FAINT);
	markdown_add_text(in, ")", 1, in->base | MD_FAINT);
}

static size_t last_bracket(const struct markdown_inline *in)
{
	size_t i = in->nnodes;

	while (i-- > in->head)
		if (in->nodes[i].kind == NODE_BRACKET && in->nodes[i].can_open)
			return i;
	return SIZE_MAX;
}

/* The window in which a link may end: capped, and not past the next link's. */
static size_t link_window(const char *p, size_t have, bool *closed)
{
	size_t n = have < MARKDOWN_URL_BYTES ? have : MARKDOWN_URL_BYTES;
	const char *next = memmem(p + 1, n - 1, "](", 2), *line = memchr(p, '\n', n);

	*closed = n == MARKDOWN_URL_BYTES || next || line;
	if (next)
		n = (size_t)(next - p);
	if (line && (size_t)(line - p) < n)
		n = (size_t)(line - p);
	return n;
}

static size_t no_link(struct markdown_inline *in, size_t at)
{
	in->nodes[at].can_open = false;
	in->brackets--;
	return markdown_take_text(in, 1, in->base);
}

size_t markdown_take_link(struct markdown_inline *in, bool end)
{
	const char *p = in->in.data + in->at;
	size_t have = in->in.len - in->at, at, n, behind = 0;
	struct str url;
	bool closed;
	int found;

	if (!in->brackets)
		return markdown_take_text(in, 1, in->base);
	at = last_bracket(in);
	if (have < 2 && !end)
		return NEED_MORE;
	if (have < 2 || p[1] != '(')
		return no_link(in, at);
	if (!end && have < MARKDOWN_URL_BYTES && in->scanned < have &&
	    !memchr(p + in->scanned, ')', have - in->scanned) &&
	    !memchr(p + in->scanned, '\n', have - in->scanned)) {
		in->scanned = have; /* no end can be among these */
		return NEED_MORE;
	}
	n = link_window(p, have, &closed);
	found = n > 2 ? scan_destination(p + 2, n - 2, &url, &behind) : 0;
	if (!found && !closed && !end) {
		in->scanned = have;
		return NEED_MORE;
	}
	in->scanned = 0;
	if (found != 1)
		return no_link(in, at);
	in->brackets--;
	add_link(in, at, url);
	return behind + 2;
}
