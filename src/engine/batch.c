/* Continuous batching: jobs, and the choice of rows for a step.
 *
 * Main thread.  Jobs are listed by class, then by arrival; batch_slots.c gives them slots in that order.  A
 * reader may question that several prompts may share a step: the bound of GRAPH_MAX_ROWS rows is what keeps running
 * answers smooth, and four short prompts in one pass cost less than four passes. */
#include "base/clock.h"
#include "engine/batch_impl.h"

struct batch *batch_new(const struct model *m, const struct kernels *k, struct pool *pool,
			int ctx, int slots, batch_event_fn *fn, void *arg)
{
	struct batch *b = xcalloc(1, sizeof(*b));

	b->m = m;
	b->k = k;
	b->kv = kv_new(&m->hp, ctx, slots);
	b->graph = graph_new(m, k, pool, b->kv->shape.capacity, slots);
	b->fn = fn;
	b->arg = arg;
	return b;
}

static void seq_free(struct seq *s)
{
	tokens_free(&s->all);
	sampler_free(s->sampler);
	stops_free(&s->stops);
	free(s);
}

void batch_free(struct batch *b)
{
	if (!b)
		return;
	while (b->seqs) {
		struct seq *s = b->seqs;

		b->seqs = s->next;
		seq_leave_slot(b, s);
		seq_free(s);
	}
	graph_free(b->graph);
	kv_free(b->kv);
	buf_free(&b->text);
	buf_free(&b->out);
	free(b);
}

size_t batch_bytes(const struct batch *b)
{
	return graph_bytes(b->graph) + kv_bytes_max(b->kv);
}

int batch_ctx(const struct batch *b)
{
	return b->kv->ctx;
}

bool batch_busy(const struct batch *b)
{
	return b->seqs != NULL;
}

bool batch_ready(const struct batch *b)
{
	for (const struct seq *s = b->seqs; s; s = s->next)
		if (s->state == SEQ_PREFILL || s->state == SEQ_DECODE)
			return true;
	return batch_may_admit(b);
}

/* --- leaving ------------------------------------------------------------------------------- */

/* The slot keeps what was computed; the memory goes in reap(), so that lists may be walked. */
static void seq_leave(struct batch *b, struct seq *s)
{
	seq_move(s, SEQ_GONE);
	seq_leave_slot(b, s);
}

static void reap(struct batch *b)
{
	struct seq **p = &b->seqs;

	while (*p) {
		struct seq *s = *p;

		if (s->state != SEQ_GONE) {
			p = &s->next;
			continue;
		}
		*p = s->next;
		seq_free(s);
	}
}

void batch_emit(struct batch *b, const struct seq *s, struct batch_event ev)
{
	ev.job = s->job;
	ev.prompt_tokens = s->prompt_n;
	ev.cached_tokens = s->cached;
	ev.completion_tokens = s->completion;
	b->fn(b->arg, &ev);
}

static void seq_finish(struct batch *b, struct seq *s, const char *reason)
{
	uint64_t now = clock_mono_us();

	b->out.len = 0;
	b->text.len = 0;
	detok_flush(&s->detok, &b->text);
	if (!s->stops.hit) {
		stops_feed(&s->stops, buf_str(&b->text), &b->out);
		stops_flush(&s->stops, &b->out);
	}
	if (b->out.len)
		batch_emit(b, s,
			   (struct batch_event){.kind = BATCH_TEXT,
						.text = buf_str(&b->out)});
	batch_emit(b, s,
		   (struct batch_event){.kind = BATCH_FINISHED,
					.reason = reason,
					.prefill_us = s->first_us - s->slot_us,
					.decode_us = now - s->first_us});
	seq_leave(b, s);
}

static struct seq *find(const struct batch *b, int64_t job)
{
	for (struct seq *s = b->seqs; s; s = s->next)
		if (s->job == job)
			return s;
	return NULL;
}

bool batch_has(const struct batch *b, int64_t job)
{
	return find(b, job) != NULL;
}

bool batch_cancel(struct batch *b, int64_t job)
{
	struct seq *s = find(b, job);

	if (!s)
		return false;
	seq_leave(b, s);
	reap(b);
	return true;
}

void batch_fail_all(struct batch *b, const struct err *e)
{
	for (struct seq *s = b->seqs; s; s = s->next) {
		batch_emit(b, s, (struct batch_event){.kind = BATCH_FAILED, .err = e});
		seq_leave(b, s);
	}
	reap(b);
}

/* --- joining -------------------------------------------------------------------------------- */

static int check_job(const struct batch *b, const struct batch_job *j, struct err *e)
{
	if (j->prompt.n == 0)
		return err_set(e, ERR_INVALID, "the prompt is empty");
	/* One position must be left for the answer. */
	if (j->prompt.n >= (size_t)b->kv->ctx)
		return err_set(
			e, ERR_CONTEXT,
			"the prompt has %zu tokens, but the context of this "
			"model holds %d including the answer: shorten the prompt or load the "
			"model with a larger ctx",
			j->prompt.n, b->kv->ctx);
	for (size_t i = 0; i < j->prompt.n; i++)
		if (j->prompt.ids[i] < 0 || j->prompt.ids[i] >= b->m->hp.vocab)
			return err_set(e, ERR_INVALID,
				       "token %d is not in the vocabulary",
				       j->prompt.ids[i]);
	return 0;
}

/* Behind all of its class. */
static void seq_insert(struct batch *b, struct seq *s)
{
	struct seq **p = &b->seqs;

	while (*p && (*p)->class <= s->class)
		p = &(*p)->next;
	s->next = *p;
	*p = s;
}

void batch_start(struct batch *b, struct batch_job *j)
{
	struct seq *s = xcalloc(1, sizeof(*s));
	struct err e = {0};
	int rc = check_job(b, j, &e);

	s->job = j->id;
	s->class = j->class;
	s->all = j->prompt;
	s->prompt_n = (int)j->prompt.n;
	s->max_tokens = j->max_tokens;
	s->ignore_eos = j->ignore_eos;
	s->is_volatile = j->is_volatile;
	j->prompt = (struct tokens){0};
	detok_init(&s->detok);
	if (!stops_init(&s->stops, j->stop, j->nstop) && rc == 0)
		rc = err_set(&e, ERR_INVALID,
			     "too many stop strings, or too long: at most %d of "
			     "%d bytes",
			     STOPS_MAX, STOPS_MAX_BYTES);
	if (rc < 0) {
		batch_emit(b, s, (struct batch_event){.kind = BATCH_FAILED, .err = &e});
		seq_free(s);
		return;
	}
	s->sampler = sampler_new(&j->sampling, vocab_size(b->m->vocab));
	seq_insert(b, s);
}

/* --- one step -------------------------------------------------------------------------------- */

struct rows {
	struct graph_row row[GRAPH_MAX_ROWS];
	int n, nlogits;
};

static void add_rows(struct batch *b, struct seq *s, struct rows *r, const int32_t *ids,
		     int n, bool logits)
{
	int pos = s->slot->n;

	kv_append(s->slot, b->kv, ids, n);
	for (int i = 0; i < n; i++)
		r->row[r->n++] = (struct graph_row){ids[i], pos + i, s->slot,
						    logits && i == n - 1};
	if (logits)
		s->row = r->nlogits++;
}

static void add_chunk(struct batch *b, struct seq *s, struct rows *r)
{
	int rest = (int)s->all.n - s->done, room = GRAPH_MAX_ROWS - r->n;
	int n = rest < room ? rest : room;

	add_rows(b, s, r, s->all.ids + s->done, n, n == rest);
	s->done += n;
	b->turn = s->job;
}

/* The prompt of those classes after the one that had the last turn, in order of arrival, round and round.  Those
 * that have a chunk in this step already (row order is by sequence) are left out. */
static struct seq *next_prompt(const struct batch *b, const struct seq *after,
			       unsigned classes)
{
	const struct seq *s = after ? after->next : b->seqs;

	for (int lap = 0; lap < 2; lap++, s = b->seqs)
		for (; s; s = s->next)
			if (s->state == SEQ_PREFILL && s->row == ROW_NOT_YET &&
			    (classes & 1u << s->class))
				return (struct seq *)s;
	return NULL;
}

static bool running(const struct seq *s)
{
	return s->state == SEQ_PREFILL || s->state == SEQ_DECODE;
}

/* Who may take part in a step. */
struct who {
	bool batch;       /* those of class batch */
	unsigned prompts; /* classes (a bit each) whose prompts get chunks */
};

/* An open step is for those that were passed over: its chunks go to all classes but the highest. */
static struct who choose_classes(const struct batch *b, bool open)
{
	struct who w = {.batch = true};
	unsigned all = 0, highest;

	for (const struct seq *s = b->seqs; s; s = s->next) {
		if (running(s) && s->class == BATCH_COMPLETION && !open)
			w.batch = false;
		if (s->state == SEQ_PREFILL)
			all |= 1u << s->class;
	}
	highest = all & -all;
	w.prompts = open && all != highest ? all & ~highest : highest;
	if (!w.batch)
		w.prompts &= ~(1u << BATCH_BATCH);
	return w;
}

static bool takes_part(const struct seq *s, const struct who *w)
{
	if (s->class == BATCH_BATCH && !w->batch)
		return false;
	return s->state == SEQ_DECODE || (w->prompts & 1u << s->class);
}

/* Was anybody passed over? */
static bool choose_rows(struct batch *b, struct rows *r, bool open)
{
	struct who w = choose_classes(b, open);
	bool passed = false;
	struct seq *s;

	r->n = r->nlogits = 0;
	for (s = b->seqs; s; s = s->next) {
		s->row = s->state == SEQ_PREFILL ? ROW_NOT_YET : ROW_NONE;
		if (!running(s))
			continue;
		if (!takes_part(s, &w))
			passed = true;
		else if (s->state == SEQ_DECODE)
			add_rows(b, s, r, &s->all.ids[s->all.n - 1], 1, true);
	}
	s = find(b, b->turn);
	while (r->n < GRAPH_MAX_ROWS && (s = next_prompt(b, s, w.prompts)) != NULL) {
		s->row = ROW_NONE;
		add_chunk(b, s, r);
	}
	return passed;
}

static int32_t pick(struct batch *b, struct seq *s)
{
	const float *logits = graph_logits(b->graph, s->row);

	if (sampler_is_greedy(s->sampler))
		return b->k->argmax(logits, vocab_size(b->m->vocab));
	return sampler_pick(s->sampler, logits);
}

/* Hands out what the token adds to the text; true when a stop string ended the answer. */
static bool speak(struct batch *b, struct seq *s, int32_t id)
{
	bool hit;

	b->text.len = 0;
	b->out.len = 0;
	detok_push(&s->detok, b->m->vocab, id, &b->text);
	hit = stops_feed(&s->stops, buf_str(&b->text), &b->out);
	if (b->out.len)
		batch_emit(b, s,
			   (struct batch_event){.kind = BATCH_TEXT,
						.text = buf_str(&b->out)});
	return hit;
}

static void seq_token(struct batch *b, struct seq *s, int32_t id)
{
	bool end = vocab_is_eog(b->m->vocab, id);

	s->completion++;
	tokens_add(&s->all, id);
	if (end ? !s->ignore_eos : speak(b, s, id))
		seq_finish(b, s, "stop");
	else if ((s->max_tokens && s->completion >= s->max_tokens) ||
		 s->slot->n >= b->kv->ctx)
		seq_finish(b, s, "length");
}

/* What the pass means to a sequence. */
static void seq_stepped(struct batch *b, struct seq *s)
{
	if (s->state == SEQ_PREFILL && s->row == ROW_NONE && s->done > s->announced &&
	    s->done < s->prompt_n) {
		/* Not again after a preemption. */
		s->announced = s->done;
		batch_emit(b, s,
			   (struct batch_event){.kind = BATCH_PROGRESS, .done = s->done});
	}
	if (s->row < 0)
		return;
	if (s->state == SEQ_PREFILL) {
		if (s->completion == 0)
			s->first_us = clock_mono_us();
		seq_move(s, SEQ_DECODE);
	}
	seq_token(b, s, pick(b, s));
}

void batch_step(struct batch *b)
{
	bool open = b->held >= BATCH_OPEN_STEP - 1;
	struct rows r;

	batch_admit(b);
	b->held = choose_rows(b, &r, open) && !open ? b->held + 1 : 0;
	if (r.n == 0)
		return;
	graph_forward(b->graph, r.row, r.n);
	for (struct seq *s = b->seqs; s; s = s->next)
		if (running(s))
			seq_stepped(b, s);
	reap(b);
}
