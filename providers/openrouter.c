/* OpenRouter's extras.  Loop thread.
 *
 * A reader may question that bills are asked for three times only: OpenRouter makes them out within
 * seconds, and when it does not, the estimate that was reserved stays, which is the safe side. */
#include "providers/openrouter.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/paths.h"
#include "providers/catalogue.h"
#include "providers/openai.h"
#include "providers/openrouter_wire.h"
#include "providers/replicas.h"

enum { USER_BYTES = 40 };

static const int bill_after_ms[] = {1000, 3000, 10000}; /* since the call ended */

/* An answer that ended without a price. */
struct bill {
	LIST_ENTRY(bill) link;
	struct openrouter *o;
	char *request_id, *path; /* owned */
	struct remote_get *get;  /* while one runs, else NULL */
	size_t tries;
	uint64_t ended_ms, due_ms;
};

struct openrouter {
	struct remote *r;
	struct catalogue *catalogue; /* owned */
	/* Of the configuration, copied: what openrouter_members() reads. */
	struct config_provider section;
	char *title, *referer;
	char user[USER_BYTES]; /* "" until it was needed */
	LIST_HEAD(, bill) bills;
	int nbills;
	uv_timer_t timer; /* of the bill that is due first */

	struct openrouter_quota quota;
	struct remote_get *quota_get;
	bool has_quota, asked_quota;
	uint64_t quota_ms, quota_asked_ms;
};

/* ---- the pseudonym ---- */

static bool is_user(const char *s)
{
	size_t n = strlen(s);

	return n == 36 && !strncmp(s, "hob-", 4) &&
	       strspn(s + 4, "0123456789abcdef") == 32;
}

static bool read_user(const char *path, char *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : read(fd, out, USER_BYTES - 1);

	if (fd >= 0)
		close(fd);
	out[n < 0 ? 0 : n] = 0;
	out[strcspn(out, "\n")] = 0;
	return is_user(out);
}

static bool write_user(const char *dir, const char *path, const char *user)
{
	char *tmp = xasprintf("%s.XXXXXX", path);
	size_t n = strlen(user);
	int fd = paths_make_private(dir, NULL) < 0 ? -1 : mkostemp(tmp, O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, user, n) == (ssize_t)n;

	if (fd >= 0 && close(fd) < 0)
		ok = false;
	if (ok)
		ok = rename(tmp, path) == 0;
	if (!ok && fd >= 0)
		unlink(tmp);
	free(tmp);
	return ok;
}

/* Random and kept, so that it says nothing of the user and yet is the same tomorrow.  Some 40 bytes,
 * read or written once in the life of a provider: not worth a thread. */
static const char *user_of(struct openrouter *o)
{
	unsigned char random[16];
	char *dir, *path;

	if (o->user[0])
		return o->user;
	dir = paths_state_dir();
	path = xasprintf("%s/openrouter-user", dir);
	if (!read_user(path, o->user)) {
		o->user[0] = 0;
		if (getrandom(random, sizeof random, 0) == sizeof random) {
			snprintf(o->user, sizeof o->user, "hob-");
			for (size_t i = 0; i < sizeof random; i++)
				snprintf(o->user + 4 + 2 * i, 3, "%02x", random[i]);
			if (!write_user(dir, path, o->user))
				log_warn("the pseudonym for OpenRouter is not kept in "
					 "'%s'",
					 path);
		}
	}
	free(dir);
	free(path);
	return o->user[0] ? o->user : NULL;
}

/* ---- the quota ---- */

static void on_quota(void *arg, const cJSON *tree, const struct err *why)
{
	struct openrouter *o = arg;
	struct openrouter_quota q;

	o->quota_get = NULL;
	if (why || !openrouter_quota(tree, &q)) {
		log_debug("quota of %s: %s", remote_who(o->r),
			  why ? why->text : "the answer means nothing");
		return;
	}
	o->quota = q;
	o->has_quota = true;
	o->quota_ms = clock_mono_ms();
}

/* When what is known is older than this. */
static void ask_quota(struct openrouter *o, uint64_t older_ms)
{
	uint64_t now = clock_mono_ms();

	if (o->quota_get || (o->has_quota && now - o->quota_ms < older_ms) ||
	    (o->asked_quota && now - o->quota_asked_ms < OPENROUTER_QUOTA_AGAIN_MS))
		return;
	o->asked_quota = true;
	o->quota_asked_ms = now;
	o->quota_get = remote_get(o->r, "/key", OPENROUTER_MAX_BYTES, on_quota, o);
}

/* ---- bills ---- */

static void plan(struct openrouter *o);

static void bill_free(struct bill *b)
{
	LIST_REMOVE(b, link);
	b->o->nbills--;
	if (b->get)
		remote_get_cancel(b->get);
	free(b->request_id);
	free(b->path);
	free(b);
}

static void tell(struct openrouter *o, const struct late_cost *cost)
{
	struct provider *p = remote_provider(o->r);

	if (p->listener && p->listener->late_cost)
		p->listener->late_cost(p->listener, p, cost);
}

/* Told last: the listener may do anything but close us within the call. */
static void on_bill(void *arg, const cJSON *tree, const struct err *why)
{
	struct bill *b = arg;
	struct openrouter *o = b->o;
	struct late_cost cost = {0};
	char *id = NULL;

	b->get = NULL;
	if (!why && openrouter_bill(tree, &cost)) {
		id = b->request_id;
		b->request_id = NULL;
		bill_free(b);
	} else if (b->tries < ARRAY_LEN(bill_after_ms)) {
		b->due_ms = b->ended_ms + (uint64_t)bill_after_ms[b->tries];
	} else {
		log_debug("%s: no bill for %s", remote_who(o->r), b->request_id);
		bill_free(b);
	}
	plan(o);
	if (id) {
		cost.request_id = id;
		tell(o, &cost);
		free(id);
	}
}

static void on_timer(uv_timer_t *t)
{
	struct openrouter *o = t->data;
	uint64_t now = clock_mono_ms();
	struct bill *b;

	LIST_FOREACH(b, &o->bills, link)
	if (!b->get && b->due_ms <= now) {
		b->tries++;
		b->get = remote_get(o->r, b->path, OPENROUTER_MAX_BYTES, on_bill, b);
	}
	plan(o);
}

/* The timer of the first that is due; none when all wait for answers. */
static void plan(struct openrouter *o)
{
	uint64_t now = clock_mono_ms(), first = UINT64_MAX;
	struct bill *b;

	LIST_FOREACH(b, &o->bills, link)
	if (!b->get && b->due_ms < first)
		first = b->due_ms;
	if (first == UINT64_MAX)
		uv_timer_stop(&o->timer);
	else
		uv_timer_start(&o->timer, on_timer, first > now ? first - now : 0, 0);
}

/* Ids are from outside. */
static char *bill_path(const char *id)
{
	struct buf path = {0};

	buf_adds(&path, "/generation?id=");
	buf_add_escaped(&path, id);
	return buf_take(&path, NULL);
}

static void add_bill(struct openrouter *o, const struct remote_ended *e)
{
	struct bill *b;

	if (o->nbills == OPENROUTER_BILLS)
		return;
	b = xcalloc(1, sizeof *b);
	b->o = o;
	b->request_id = xstrdup(e->request_id);
	b->path = bill_path(e->generation_id);
	b->ended_ms = clock_mono_ms();
	b->due_ms = b->ended_ms + (uint64_t)bill_after_ms[0];
	LIST_INSERT_HEAD(&o->bills, b, link);
	o->nbills++;
	plan(o);
}

/* ---- as extras ---- */

static struct names copy_names(const struct names *from)
{
	struct names to = {xcalloc((size_t)from->n + 1, sizeof *to.list), from->n};

	for (int i = 0; i < from->n; i++)
		to.list[i] = xstrdup(from->list[i]);
	return to;
}

static void free_names(struct names *n)
{
	for (int i = 0; i < n->n; i++)
		free(n->list[i]);
	free(n->list);
}

static char *copy_text(const char *s)
{
	return s ? xstrdup(s) : NULL;
}

static void *x_open(struct remote *r, const struct config_provider *c)
{
	struct openrouter *o = xcalloc(1, sizeof *o);

	o->r = r;
	o->catalogue = catalogue_new(r, c);
	o->section.zdr = c->zdr;
	o->section.data_collection = copy_text(c->data_collection);
	o->section.sort = copy_text(c->sort);
	o->section.order = copy_names(&c->order);
	o->section.only = copy_names(&c->only);
	o->section.ignore = copy_names(&c->ignore);
	o->title = xstrdup(c->app_title ? c->app_title : "hob");
	o->referer = copy_text(c->app_url);
	LIST_INIT(&o->bills);
	uv_timer_init(remote_loop(r), &o->timer);
	o->timer.data = o;
	return o;
}

static void on_closed(uv_handle_t *h)
{
	struct openrouter *o = h->data;

	free(o->section.data_collection);
	free(o->section.sort);
	free_names(&o->section.order);
	free_names(&o->section.only);
	free_names(&o->section.ignore);
	free(o->title);
	free(o->referer);
	free(o);
}

static void x_close(void *x)
{
	struct openrouter *o = x;

	catalogue_free(o->catalogue);
	while (!LIST_EMPTY(&o->bills))
		bill_free(LIST_FIRST(&o->bills));
	if (o->quota_get)
		remote_get_cancel(o->quota_get);
	uv_close((uv_handle_t *)&o->timer, on_closed);
}

static void add_header(struct buf *lines, const char *name, const char *value)
{
	if (!value || !value[0])
		return;
	for (const char *s = value; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return; /* no header can hold it */
	buf_addf(lines, "%s: %s\n", name, value);
}

static void x_headers(void *x, struct buf *lines)
{
	struct openrouter *o = x;

	add_header(lines, "HTTP-Referer", o->referer);
	add_header(lines, "X-OpenRouter-Title", o->title);
}

static void x_members(void *x, const struct request *r, struct buf *out)
{
	struct openrouter *o = x;

	openrouter_members(out, &o->section, r, user_of(o));
}

static int x_max_output(void *x, const char *model)
{
	return catalogue_max_output(((struct openrouter *)x)->catalogue, model);
}

static void x_ended(void *x, const struct remote_ended *e)
{
	struct openrouter *o = x;

	catalogue_ended(o->catalogue, e);
	if (e->got_answer && e->generation_id[0] && e->usage->cost_usd < 0)
		add_bill(o, e);
	if (e->failed == ERR_PAYMENT)
		ask_quota(o, OPENROUTER_QUOTA_AGAIN_MS);
	else if (e->got_answer)
		ask_quota(o, OPENROUTER_QUOTA_MS);
}

static void x_warm(void *x)
{
	struct openrouter *o = x;

	catalogue_warm(o->catalogue);
	ask_quota(o, OPENROUTER_QUOTA_AGAIN_MS); /* it makes the connection, too */
}

static const struct remote_models *x_models(void *x)
{
	return catalogue_models(((struct openrouter *)x)->catalogue);
}

static void x_details(void *x, struct buf *out)
{
	struct openrouter *o = x;

	buf_adds(out, "\"quota\":");
	if (o->has_quota)
		openrouter_quota_json(out, &o->quota,
				      (int64_t)((clock_mono_ms() - o->quota_ms) / 1000));
	else
		buf_adds(out, "null");
	buf_adds(out, ",\"replicas\":");
	replicas_json(remote_replicas(o->r), out);
}

/* The list of all its models, not /models/user, which leaves out what the account's settings forbid:
 * it is there before a key is, and what the key may not use is told by the call, with the reason. */
const struct remote_protocol openrouter_protocol = {
	.name = "openrouter",
	OPENAI_DIALECT,
	.models = openrouter_models,
};

const struct remote_extras openrouter_extras = {
	.open = x_open,
	.close = x_close,
	.headers = x_headers,
	.members = x_members,
	.takes = openrouter_takes,
	.max_output = x_max_output,
	.ended = x_ended,
	.warm = x_warm,
	.models = x_models,
	.details_json = x_details,
};
