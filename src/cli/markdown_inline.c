/* Emphasis, code, links and references in streaming text.  Main thread.
 *
 * Two buffers: `in` holds bytes whose construct has not ended (a code span, a destination: when it
 * fails, its marker becomes text and the rest is read again), and a queue of nodes holds text whose
 * style waits for a closing marker.  The queue is CommonMark's delimiter stack, with the text between.
 *
 * A reader may ask whether reading again is quadratic: each window is capped by a constant, and the two
 * large ones (link, tag) fail at the place where the next one could begin. */
#include "cli/markdown_inline_impl.h"

#include <utf8proc.h>

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

struct markdown_node *markdown_add_node(struct markdown_inline *in, enum node_kind kind)
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

void markdown_add_text(struct markdown_inline *in, const char *p, size_t len,
		       unsigned style)
{
	struct markdown_node *last =
		in->nnodes > in->head ? &in->nodes[in->nnodes - 1] : NULL;

	if (!last) { /* nothing is held */
		in->sink(in->arg, p, len, style);
		return;
	}
	if (last->kind != NODE_TEXT || last->style != style) {
		last = markdown_add_node(in, NODE_TEXT);
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

bool markdown_is_space(int32_t c)
{
	return c == ' ' || c == '\n' || c == '\t' ||
	       utf8proc_category(c) == UTF8PROC_CATEGORY_ZS;
}

bool markdown_is_punct(int32_t c)
{
	utf8proc_category_t k = utf8proc_category(c);

	return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_SO;
}

static bool is_border(int32_t c)
{
	return markdown_is_space(c) || markdown_is_punct(c) || utf8proc_charwidth(c) == 2;
}

static void set_flanks(struct markdown_node *n, int32_t before, int32_t after)
{
	bool left = !markdown_is_space(after) &&
		    (!markdown_is_punct(after) || is_border(before));
	bool right = !markdown_is_space(before) &&
		     (!markdown_is_punct(before) || is_border(after));

	n->can_open = left;
	n->can_close = right;
	if (n->ch == '_') {
		n->can_open = left && (!right || markdown_is_punct(before));
		n->can_close = right && (!left || markdown_is_punct(after));
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

/* "__init__": a name of Python, more often than a strong word. */
static bool is_dunder(const struct markdown_inline *in, size_t open, size_t close)
{
	const struct markdown_node *o = &in->nodes[open], *name = o + 1;
	const char *p;

	if (o->ch != '_' || o->count != 2 || in->nodes[close].count != 2)
		return false;
	if (close != open + 2 || name->kind != NODE_TEXT)
		return false;
	p = in->text.data + in->text.len - name->len;
	for (size_t i = 0; i < name->len; i++)
		if (!((p[i] | 32) >= 'a' && (p[i] | 32) <= 'z') && p[i] != '_' &&
		    !(p[i] >= '0' && p[i] <= '9'))
			return false;
	return true;
}

static void close_emphasis(struct markdown_inline *in, size_t close)
{
	struct markdown_node *c = &in->nodes[close];
	size_t open;

	while (c->count && find_opener(in, close, &open)) {
		if (is_dunder(in, open, close)) {
			in->nodes[open].can_open = c->can_open = false;
			return;
		}
		join(in, open, close);
	}
	if (c->count >= 2 && c->ch == in->strong) {
		in->strong = 0;
		in->base &= ~(unsigned)MD_STRONG;
		c->can_open = false;
	}
}

bool markdown_run_length(const struct markdown_inline *in, size_t at, bool end,
			 size_t *len)
{
	const char *p = in->in.data;
	size_t i = at;

	while (i < in->in.len && p[i] == p[at] && i - at < MARKDOWN_RUN)
		i++;
	*len = i - at;
	return i < in->in.len || end || *len == MARKDOWN_RUN;
}

size_t markdown_take_text(struct markdown_inline *in, size_t len, unsigned style)
{
	markdown_add_text(in, in->in.data + in->at, len, style);
	return len;
}

static size_t take_run(struct markdown_inline *in, bool end)
{
	struct markdown_node *n;
	size_t len, size, behind;
	int32_t after = '\n';

	if (!markdown_run_length(in, in->at, end, &len))
		return NEED_MORE;
	if (len == MARKDOWN_RUN)
		return markdown_take_text(in, len, in->base);
	behind = in->at + len;
	if (behind < in->in.len)
		after = markdown_char(in->in.data + behind, in->in.len - behind, &size);
	n = markdown_add_node(in, NODE_RUN);
	n->ch = in->in.data[in->at];
	n->count = n->whole = len;
	set_flanks(n, in->last, after);
	if (n->can_close)
		close_emphasis(in, in->nnodes - 1);
	return len;
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
		return markdown_take_verbatim(in, end);
	switch (*p) {
	case '\\':
		return markdown_take_escape(in, end);
	case '`':
		return markdown_take_code(in, end);
	case '*':
	case '_':
	case '~':
		return take_run(in, end);
	case '[':
		return markdown_take_bracket(in, false);
	case ']':
		return markdown_take_link(in, end);
	case '<':
		return markdown_take_tag(in, end);
	case '&':
		return markdown_take_entity(in, end);
	case '$':
		return markdown_take_tex(in, end);
	case '!':
		if (have < 2 && !end)
			return NEED_MORE;
		if (have >= 2 && p[1] == '[')
			return markdown_take_bracket(in, true);
		return markdown_take_text(in, 1, in->base);
	case '\n':
		return markdown_take_text(in, 1, in->base);
	default:
		return markdown_take_text(in, plain_length(p, have), in->base);
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
