/* The conversation store under load, through store.h and nothing else: open, append, search, list and read, each
 * timed from the call to its answer on the loop.  Driven by tests/bench/memory; prints one JSON object.
 *
 *      memory_store DATABASE TEXTS QUERIES TURNS CONVERSATIONS SAMPLES MORE
 *
 * TEXTS has a line for each message, a question and its answer in turns; QUERIES a line for each search.  The
 * load is written many turns at once, as a busy daemon would, and stops at 10, 50 and 100 % of TURNS for
 * SAMPLES of each operation, one after the other; then MORE operations of all kinds follow. */
#include <unistd.h>
#include "base/base.h"
#include "base/buf.h"
#include "memory/store_heads.h"
#include "memory/store_search.h"

enum { AT_ONCE = 64, LISTED = 50, FOUND = 20, OPENS = 40, MAX_LINES = 1 << 20 };
enum op { OPEN, APPEND, SEARCH, LIST, READ, OPS };
static const char *const op_names[OPS] = {"open", "append", "search", "list", "read"};

struct lines {
	char **text; /* owned */
	int n, at;
};

struct bench {
	uv_loop_t loop;
	const char *path;
	struct store *store;
	struct lines texts, queries;
	char (*ids)[CONVERSATION_ID_BYTES]; /* owned */
	int nids, next;                     /* next: whose turn it is */
	int waiting;                        /* answers under way */
	int64_t turn[AT_ONCE];
	char before[CONVERSATION_ID_BYTES];
	uint64_t random;
	int64_t found;
	struct buf out;
};

static void die(const char *what, const struct err *e)
{
	fprintf(stderr, "memory_store: %s: %s\n", what, e->text);
	exit(1);
}

static struct lines lines_read(const char *path)
{
	struct lines l = {.text = xcalloc(MAX_LINES, sizeof(char *))};
	FILE *f = fopen(path, "r");
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	if (!f) {
		perror(path);
		exit(1);
	}
	while (l.n < MAX_LINES && (n = getline(&line, &cap, f)) > 0)
		l.text[l.n++] = xstrndup(line, (size_t)n - (line[n - 1] == '\n'));
	free(line);
	fclose(f);
	return l;
}

static const char *line_next(struct lines *l)
{
	return l->text[l->at++ % l->n];
}

static int pick(struct bench *b, int n)
{
	b->random ^= b->random << 13;
	b->random ^= b->random >> 7;
	b->random ^= b->random << 17;
	return (int)(b->random % (uint64_t)n);
}

static void wait_all(struct bench *b)
{
	while (b->waiting)
		uv_run(&b->loop, UV_RUN_ONCE);
}

/* ---- a turn ---- */

struct one {
	struct bench *b;
	int at;
};

static void on_turn(void *arg, const struct err *e, const char *id, int64_t turn)
{
	struct one *o = arg;

	if (e->code != ERR_NONE)
		die("begin", e);
	snprintf(o->b->ids[o->at], CONVERSATION_ID_BYTES, "%s", id);
	o->b->turn[o->at % AT_ONCE] = turn;
	o->b->waiting--;
}

static void on_end(void *arg, const struct err *e, const char *prompt, const char *reply)
{
	struct bench *b = arg;

	UNUSED(prompt), UNUSED(reply);
	if (e->code != ERR_NONE)
		die("end", e);
	b->waiting--;
}

static void begin(struct one *o)
{
	struct bench *b = o->b;
	struct message m = {.role = ROLE_USER, .text = (char *)line_next(&b->texts)};
	struct store_turn_begin ask = {.conversation =
					       b->ids[o->at][0] ? b->ids[o->at] : "new",
				       .model = "bench",
				       .provider = "bench",
				       .messages = &m,
				       .n = 1};

	b->waiting++;
	store_turn_begin(b->store, &ask, on_turn, o);
}

static void end(struct bench *b, int at, const char *text)
{
	struct store_turn_end e = {.status = "done",
				   .text = text,
				   .len = strlen(text),
				   .tokens_in = 100,
				   .tokens_cached = -1,
				   .tokens_out = 100,
				   .ttft_ms = 10,
				   .total_ms = 100,
				   .cost_usd = -1};

	b->waiting++;
	store_turn_end(b->store, b->turn[at % AT_ONCE], &e, on_end, b);
}

/* Turns until there are `until` of them, AT_ONCE conversations side by side. */
static void load(struct bench *b, int *turns, int until)
{
	struct one ones[AT_ONCE];
	const char *answers[AT_ONCE];

	while (*turns < until) {
		int n = until - *turns < AT_ONCE ? until - *turns : AT_ONCE;

		if (b->next == b->nids)
			b->next = 0;
		n = n < b->nids - b->next ? n : b->nids - b->next;
		for (int i = 0; i < n; i++) {
			ones[i] = (struct one){b, b->next + i};
			begin(&ones[i]);
			answers[i] = line_next(&b->texts);
		}
		wait_all(b);
		for (int i = 0; i < n; i++)
			end(b, b->next + i, answers[i]);
		wait_all(b);
		b->next += n;
		*turns += n;
	}
}

/* ---- operations, one at a time ---- */

static void on_list(void *arg, const struct err *e, const struct store_conversation *list,
		    int n)
{
	struct bench *b = arg;

	if (e->code != ERR_NONE)
		die("list", e);
	b->found += n;
	snprintf(b->before, sizeof(b->before), "%s", n ? list[n - 1].id : "");
	b->waiting--;
}

static void on_hits(void *arg, const struct err *e, const struct store_hit *list, int n)
{
	struct bench *b = arg;

	UNUSED(list);
	if (e->code != ERR_NONE)
		die("search", e);
	b->found += n;
	b->waiting--;
}

static void on_path(void *arg, const struct err *e, const struct store_path *p)
{
	struct bench *b = arg;

	if (e->code != ERR_NONE)
		die("read", e);
	b->found += p->n;
	b->waiting--;
}

static void on_closed(void *arg)
{
	((struct bench *)arg)->waiting--;
}

static void ask_list(struct bench *b, int limit)
{
	struct store_list_ask ask = {.limit = limit,
				     .before = b->before[0] ? b->before : NULL};

	b->waiting++;
	store_list(b->store, &ask, on_list, b);
}

/* Open until the first answer. */
static void reopen(struct bench *b)
{
	struct err e = {0};

	b->before[0] = 0;
	b->store = store_open(&b->loop, b->path, &e);
	if (!b->store)
		die("open", &e);
	ask_list(b, 1);
	wait_all(b);
}

static void shut(struct bench *b)
{
	b->waiting++;
	store_close(b->store, on_closed, b);
	wait_all(b);
}

static double run_op(struct bench *b, enum op op)
{
	struct one o = {b, pick(b, b->nids)};
	struct store_search_ask search = {.limit = FOUND};
	struct store_path_ask path = {0};
	uint64_t start;

	if (op == OPEN)
		shut(b);
	while ((op == APPEND || op == READ) && !b->ids[o.at][0])
		o.at = pick(b, b->nids);
	if (op == READ || op == APPEND)
		path.conversation = b->ids[o.at];
	if (op == SEARCH)
		search.query = line_next(&b->queries);
	start = uv_hrtime();
	switch (op) {
	case OPEN:
		reopen(b);
		break;
	case APPEND:
		begin(&o);
		wait_all(b);
		end(b, o.at, line_next(&b->texts));
		break;
	case SEARCH:
		b->waiting++;
		store_search(b->store, &search, on_hits, b);
		break;
	case LIST:
		ask_list(b, LISTED);
		break;
	default:
		b->waiting++;
		store_path(b->store, &path, on_path, b);
	}
	wait_all(b);
	return (double)(uv_hrtime() - start) / 1e6;
}

/* ---- figures ---- */

static long rss_kib(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long pages = 0, resident = 0;

	if (!f || fscanf(f, "%ld %ld", &pages, &resident) != 2)
		resident = 0;
	if (f)
		fclose(f);
	return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void measure(struct bench *b, const char *name, int samples)
{
	buf_addf(&b->out, "%s\"%s\":{\"rss_kib\":%ld", b->out.len > 1 ? "," : "", name,
		 rss_kib());
	for (int op = 0; op < OPS; op++) {
		int n = op == OPEN && samples > OPENS ? OPENS : samples;

		b->before[0] = 0;
		buf_addf(&b->out, ",\"%s\":[", op_names[op]);
		for (int i = 0; i < n; i++)
			buf_addf(&b->out, "%s%.4f", i ? "," : "", run_op(b, (enum op)op));
		buf_addc(&b->out, ']');
	}
	buf_addf(&b->out, ",\"rss_after_kib\":%ld}", rss_kib());
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int percent;
	} levels[] = {{"10", 10}, {"50", 50}, {"100", 100}};
	struct bench b = {.random = 88172645463325252u};
	int turns = 0, all, samples, more;

	if (argc != 8) {
		fputs("memory_store DATABASE TEXTS QUERIES TURNS CONVERSATIONS SAMPLES "
		      "MORE\n",
		      stderr);
		return 2;
	}
	b.path = argv[1];
	b.texts = lines_read(argv[2]);
	b.queries = lines_read(argv[3]);
	all = (int)strtol(argv[4], NULL, 10);
	b.nids = (int)strtol(argv[5], NULL, 10);
	samples = (int)strtol(argv[6], NULL, 10);
	more = (int)strtol(argv[7], NULL, 10);
	if (!b.texts.n || !b.queries.n || all < 10 || b.nids < 1 || samples < 1)
		return 2;
	b.ids = xcalloc((size_t)b.nids, sizeof(*b.ids));
	uv_loop_init(&b.loop);
	reopen(&b);
	buf_addc(&b.out, '{');
	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		load(&b, &turns, (int)((int64_t)all * levels[i].percent / 100));
		measure(&b, levels[i].name, samples);
	}
	for (int i = 0; i < more; i++)
		run_op(&b, (enum op)(APPEND + i % (OPS - APPEND)));
	buf_addf(&b.out, ",\"rss_end_kib\":%ld,\"found\":%lld}\n", rss_kib(),
		 (long long)b.found);
	shut(&b);
	fputs(b.out.data, stdout);
	return 0;
}
