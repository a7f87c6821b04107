/* Emphasis, code, links and references in streaming text.  Main thread.
 *
 * Two buffers: `in` holds bytes whose construct has not ended (a code span, a destination: when it
 * fails, its marker becomes text and the rest is read again), and a queue of nodes holds text whose
 * style waits for a closing marker.  The queue is CommonMark's delimiter stack, with the text between.
 *
 * A reader may ask whether reading again is quadratic: each window is capped by a constant, and the two
 * large ones (link, tag) fail at the place where the next one could begin. */
#include "cli/markdown_inline.h"

#include <utf8proc.h>

enum node_kind { NODE_TEXT, NODE_RUN, NODE_BRACKET };

struct markdown_node {
	enum node_kind kind;
	char ch;                  /* of a run */
	bool can_open, can_close; /* an open bracket: can_open */
	bool image;
	unsigned style;
	size_t count, whole; /* markers left, and at first */
	size_t len;          /* text: bytes in `text` */
	uint64_t born;       /* characters before it */
};

enum { NEED_MORE = 0 };
enum { COMPACT_NODES = 64, COMPACT_BYTES = 4096 };

void markdown_inline_init(struct markdown_inline *in, markdown_sink *sink, void *arg)
{
	*in = (struct markdown_inline){.sink = sink, .arg = arg};
}

void markdown_inline_fini(struct markdown_inline *in)
{
	buf_free(&in->in);
	buf_free(&in->text);
	free(in->nodes);
	in->nodes = NULL;
}

void markdown_inline_start(struct markdown_inline *in, unsigned style)
{
	in->base = style;
	in->last = '\n';
	in->chars = 0;
	in->strong = in->verbatim = 0;
	in->brackets = 0;
	in->at = in->scanned = 0;
	buf_clear(&in->in);
}

/* -- the queue */

static struct markdown_node *add_node(struct markdown_inline *in, enum node_kind kind)
{
	struct markdown_node *n;

	if (in->nnodes == in->cap) {
		in->cap = in->cap ? 2 * in->cap : 32;
		in->nodes = xrealloc(in->nodes, in->cap * sizeof *in->nodes);
	}
	n = &in->nodes[in->nnodes++];
	*n = (struct markdown_node){.kind = kind, .style = in->base, .born = in->chars};
	return n;
}

static void add_text(struct markdown_inline *in, const char *p, size_t len,
		     unsigned style)
{
	struct markdown_node *last =
		in->nnodes > in->head ? &in->nodes[in->nnodes - 1] : NULL;

	if (!last) { /* nothing is held */
		in->sink(in->arg, p, len, style);
		return;
	}
	if (last->kind != NODE_TEXT || last->style != style) {
		last = add_node(in, NODE_TEXT);
		last->style = style;
	}
	buf_add(&in->text, p, len);
	last->len += len;
}

static void write_literal(struct markdown_inline *in, const struct markdown_node *n)
{
	if (n->kind == NODE_TEXT) {
		in->sink(in->arg, in->text.data + in->text_at, n->len, n->style);
		in->text_at += n->len;
	} else if (n->kind == NODE_BRACKET) {
		in->sink(in->arg, n->image ? "![" : "[", n->image ? 2 : 1, n->style);
	} else {
		for (size_t i = 0; i < n->count; i++)
			in->sink(in->arg, &n->ch, 1, n->style);
	}
}

/* An opening marker that waited too long: shown; a strong one has its effect from here on. */
static void expire(struct markdown_inline *in, struct markdown_node *n)
{
	n->can_open = false;
	if (n->kind == NODE_BRACKET)
		in->brackets--;
	if (n->kind != NODE_RUN || n->ch == '~' || n->count < 2 || in->strong)
		return;
	in->strong = n->ch;
	in->base |= MD_STRONG;
	for (n++; n < in->nodes + in->nnodes; n++)
		n->style |= MD_STRONG;
}

static void compact(struct markdown_inline *in)
{
	if (in->head == in->nnodes) {
		in->head = in->nnodes = 0;
		buf_clear(&in->text);
		in->text_at = 0;
		return;
	}
	if (in->head >= COMPACT_NODES) {
		in->nnodes -= in->head;
		memmove(in->nodes, in->nodes + in->head, in->nnodes * sizeof *in->nodes);
		in->head = 0;
	}
	if (in->text_at >= COMPACT_BYTES) {
		buf_drop(&in->text, in->text_at);
		in->text_at = 0;
	}
}

/* Writes what is certain. */
static void flush(struct markdown_inline *in, bool all)
{
	for (; in->head < in->nnodes; in->head++) {
		struct markdown_node *n = &in->nodes[in->head];

		if (n->can_open && n->count && !all) {
			if (in->chars - n->born <= MARKDOWN_HOLD)
				break;
			expire(in, n);
		}
		write_literal(in, n);
	}
	compact(in);
}

/* -- emphasis */

static bool is_space(int32_t c)
{
	return c == ' ' || c == '\n' || c == '\t' ||
	       utf8proc_category(c) == UTF8PROC_CATEGORY_ZS;
}

static bool is_punct(int32_t c)
{
	utf8proc_category_t k = utf8proc_category(c);

	return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_SO;
}

static bool is_border(int32_t c)
{
	return is_space(c) || is_punct(c) || utf8proc_charwidth(c) == 2;
}

static void set_flanks(struct markdown_node *n, int32_t before, int32_t after)
{
	bool left = !is_space(after) && (!is_punct(after) || is_border(before));
	bool right = !is_space(before) && (!is_punct(before) || is_border(after));

	n->can_open = left;
	n->can_close = right;
	if (n->ch == '_') {
		n->can_open = left && (!right || is_punct(before));
		n->can_close = right && (!left || is_punct(after));
	}
	if (n->ch == '~' && n->count != 2)
		n->can_open = n->can_close = false;
}

/* CommonMark's rule of three: "**a*b**" is no emphasis inside. */
static bool fits(const struct markdown_node *open, const struct markdown_node *close)
{
	if (open->kind != NODE_RUN || !open->can_open || open->ch != close->ch ||
	    !open->count)
		return false;
	if (open->ch == '~' || !(open->can_close || close->can_open))
		return true;
	return (open->whole + close->whole) % 3 ||
	       (!(open->whole % 3) && !(close->whole % 3));
}

/* The nearest opener of nodes[close], not past a bracket that may become a link. */
static bool find_opener(const struct markdown_inline *in, size_t close, size_t *at)
{
	for (size_t i = close; i-- > in->head;) {
		if (in->nodes[i].kind == NODE_BRACKET && in->nodes[i].can_open)
			return false;
		if (fits(&in->nodes[i], &in->nodes[close])) {
			*at = i;
			return true;
		}
	}
	return false;
}

static void join(struct markdown_inline *in, size_t open, size_t close)
{
	struct markdown_node *o = &in->nodes[open], *c = &in->nodes[close];
	size_t used = o->count >= 2 && c->count >= 2 ? 2 : 1;
	unsigned style = o->ch == '~' ? MD_STRIKE : used == 2 ? MD_STRONG : MD_EM;

	for (size_t i = open + 1; i < close; i++) {
		in->nodes[i].style |= style;
		if (in->nodes[i].kind == NODE_RUN)
			in->nodes[i].can_open = false;
	}
	o->count -= used;
	c->count -= used;
}

static void close_emphasis(struct markdown_inline *in, size_t close)
{
	struct markdown_node *c = &in->nodes[close];
	size_t open;

	while (c->count && find_opener(in, close, &open))
		join(in, open, close);
	if (c->count >= 2 && c->ch == in->strong) {
		in->strong = 0;
		in->base &= ~(unsigned)MD_STRONG;
		c->can_open = false;
	}
}

/* Bytes of the run of c at p; false when it may go on. */
static bool run_length(const struct markdown_inline *in, size_t at, bool end, size_t *len)
{
	const char *p = in->in.data;
	size_t i = at;

	while (i < in->in.len && p[i] == p[at] && i - at < MARKDOWN_RUN)
		i++;
	*len = i - at;
	return i < in->in.len || end || *len == MARKDOWN_RUN;
}

static size_t take_text(struct markdown_inline *in, size_t len, unsigned style)
{
	add_text(in, in->in.data + in->at, len, style);
	return len;
}

static size_t take_run(struct markdown_inline *in, bool end)
{
	struct markdown_node *n;
	size_t len, size, behind;
	int32_t after = '\n';

	if (!run_length(in, in->at, end, &len))
		return NEED_MORE;
	if (len == MARKDOWN_RUN)
		return take_text(in, len, in->base);
	behind = in->at + len;
	if (behind < in->in.len)
		after = markdown_char(in->in.data + behind, in->in.len - behind, &size);
	n = add_node(in, NODE_RUN);
	n->ch = in->in.data[in->at];
	n->count = n->whole = len;
	set_flanks(n, in->last, after);
	if (n->can_close)
		close_emphasis(in, in->nnodes - 1);
	return len;
}

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
	add_text(in, p + a, b - a, in->base | MD_CYAN);
}

static size_t take_code(struct markdown_inline *in, bool end)
{
	size_t run, close;
	bool more;

	if (!run_length(in, in->at, end, &run))
		return NEED_MORE;
	if (run == MARKDOWN_RUN)
		return take_text(in, run, in->base);
	close = find_backticks(in, in->at + run, run, end, &more);
	if (close != SIZE_MAX && close - in->at - run <= MARKDOWN_HOLD) {
		add_code(in, in->at + run, close);
		return close + run - in->at;
	}
	if (in->in.len - in->at - run <= MARKDOWN_HOLD + MARKDOWN_RUN) {
		if (!end)
			return NEED_MORE;
		return take_text(in, run, in->base);
	}
	in->verbatim = '`';
	in->verbatim_run = run;
	return take_text(in, run, in->base | MD_CYAN);
}

static size_t take_tex(struct markdown_inline *in, bool end)
{
	const char *p = in->in.data + in->at;
	size_t have = in->in.len - in->at, i;

	if (have < 2 && !end)
		return NEED_MORE;
	if (have >= 2 && p[1] == '$') {
		in->verbatim = '$';
		in->verbatim_run = 2;
		return take_text(in, 2, in->base);
	}
	if (have < 2 || is_space((unsigned char)p[1]))
		return take_text(in, 1, in->base);
	for (i = 2; i < have && i <= MARKDOWN_HOLD; i++) {
		if (p[i] != '$')
			continue;
		if (p[i - 1] == ' ')
			break; /* "$5 and $6" */
		return take_text(in, i + 1, in->base);
	}
	if (i == have && i <= MARKDOWN_HOLD && !end)
		return NEED_MORE;
	return take_text(in, 1, in->base);
}

/* A long span: as it is, until its end. */
static size_t take_verbatim(struct markdown_inline *in, bool end)
{
	unsigned style = in->verbatim == '`' ? in->base | MD_CYAN : in->base;
	const char *p = in->in.data + in->at;
	size_t have = in->in.len - in->at, run;
	char first = in->verbatim == '`' || in->verbatim == '$' ? in->verbatim : '\\';
	const char *stop = memchr(p, first, have);

	if (stop != p)
		return take_text(in, stop ? (size_t)(stop - p) : have, style);
	if (first == '\\') {
		if (have < 2 && !end)
			return NEED_MORE;
		run = have < 2 ? 1 : 2;
		if (run == 2 && p[1] == in->verbatim)
			in->verbatim = 0;
		else
			run = 1;
		return take_text(in, run, style);
	}
	if (!run_length(in, in->at, end, &run))
		return NEED_MORE;
	if (run == in->verbatim_run)
		in->verbatim = 0;
	return take_text(in, run, style);
}

static size_t take_escape(struct markdown_inline *in, bool end)
{
	const char *p = in->in.data + in->at;
	unsigned char next;

	if (in->in.len - in->at < 2)
		return end ? take_text(in, 1, in->base) : NEED_MORE;
	next = (unsigned char)p[1];
	if (next == '(' || next == '[') {
		in->verbatim = next == '(' ? ')' : ']';
		return take_text(in, 2, in->base);
	}
	if (next == '\n')
		return 1;
	if (next == ')' || next == ']' || next >= 0x80 || !is_punct(next))
		return take_text(in, 1, in->base);
	add_text(in, p + 1, 1, in->base);
	return 2;
}

/* -- links, HTML, references */

static size_t take_tag(struct markdown_inline *in, bool end)
{
	const char *p = in->in.data + in->at;
	size_t have = in->in.len - in->at, i;

	if (have < 2)
		return end ? take_text(in, 1, in->base) : NEED_MORE;
	if (p[1] != '/' && p[1] != '!' && p[1] != '?' &&
	    !((p[1] | 32) >= 'a' && (p[1] | 32) <= 'z'))
		return take_text(in, 1, in->base);
	for (i = 2; i < have && i < MARKDOWN_TAG_BYTES; i++) {
		if (p[i] == '>')
			return take_text(in, i + 1, in->base);
		if (p[i] == '<' || p[i] == '\n')
			return take_text(in, 1, in->base);
	}
	if (i == have && i < MARKDOWN_TAG_BYTES && !end)
		return NEED_MORE;
	return take_text(in, 1, in->base);
}

static size_t take_entity(struct markdown_inline *in, bool end)
{
	const char *p = in->in.data + in->at;
	size_t have = in->in.len - in->at, i;
	char out[8];

	for (i = 1; i < have && i < MARKDOWN_ENTITY_BYTES; i++) {
		if (p[i] == ';') {
			size_t n = markdown_entity((struct str){p + 1, i - 1}, out);

			if (!n)
				break;
			add_text(in, out, n, in->base);
			return i + 1;
		}
		if (p[i] != '#' && !(p[i] >= '0' && p[i] <= '9') &&
		    !((p[i] | 32) >= 'a' && (p[i] | 32) <= 'z'))
			break;
	}
	if (i == have && i < MARKDOWN_ENTITY_BYTES && !end)
		return NEED_MORE;
	return take_text(in, 1, in->base);
}

static size_t take_bracket(struct markdown_inline *in, bool image)
{
	struct markdown_node *n = add_node(in, NODE_BRACKET);

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
		add_text(in, " ", 1, in->base);
	add_text(in, "(", 1, in->base | MD_FAINT);
	add_text(in, url.ptr, url.len, in->base | MD_FAINT);
	add_text(in, ")", 1, in->base | MD_FAINT);
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
	return take_text(in, 1, in->base);
}

static size_t take_link(struct markdown_inline *in, bool end)
{
	const char *p = in->in.data + in->at;
	size_t have = in->in.len - in->at, at, n, behind = 0;
	struct str url;
	bool closed;
	int found;

	if (!in->brackets)
		return take_text(in, 1, in->base);
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

/* -- the loop */

static const char specials[] = "\n\\`*_~[]!<&$";

/* Not memchr of each: text is mostly none of these. */
static size_t plain_length(const char *p, size_t n)
{
	size_t i = 0;

	while (i < n && !memchr(specials, p[i], sizeof specials - 1))
		i++;
	return i;
}

/* Understands the next piece: its bytes, or NEED_MORE. */
static size_t take(struct markdown_inline *in, bool end)
{
	const char *p = in->in.data + in->at;
	size_t have = in->in.len - in->at;

	if (in->verbatim)
		return take_verbatim(in, end);
	switch (*p) {
	case '\\':
		return take_escape(in, end);
	case '`':
		return take_code(in, end);
	case '*':
	case '_':
	case '~':
		return take_run(in, end);
	case '[':
		return take_bracket(in, false);
	case ']':
		return take_link(in, end);
	case '<':
		return take_tag(in, end);
	case '&':
		return take_entity(in, end);
	case '$':
		return take_tex(in, end);
	case '!':
		if (have < 2 && !end)
			return NEED_MORE;
		if (have >= 2 && p[1] == '[')
			return take_bracket(in, true);
		return take_text(in, 1, in->base);
	case '\n':
		return take_text(in, 1, in->base);
	default:
		return take_text(in, plain_length(p, have), in->base);
	}
}

/* Keeps the last character and counts. */
static void pass(struct markdown_inline *in, size_t n)
{
	const char *p = in->in.data + in->at;
	size_t last = n - 1, len;

	for (size_t i = 0; i < n; i++)
		in->chars += ((unsigned char)p[i] & 0xC0) != 0x80;
	while (last && ((unsigned char)p[last] & 0xC0) == 0x80)
		last--;
	in->last = markdown_char(p + last, n - last, &len);
	in->at += n;
}

static void work(struct markdown_inline *in, bool end)
{
	while (in->at < in->in.len) {
		size_t n = take(in, end);

		if (n == NEED_MORE)
			break;
		pass(in, n);
		flush(in, false);
	}
	buf_drop(&in->in, in->at);
	in->at = 0;
}

void markdown_inline_text(struct markdown_inline *in, const char *p, size_t n)
{
	buf_add(&in->in, p, n);
	work(in, false);
}

void markdown_inline_end(struct markdown_inline *in)
{
	work(in, true);
	flush(in, true);
	in->verbatim = in->strong = 0;
	in->brackets = 0;
}
