/* Conversations and the candidate each was given: a hash table with a list by last use.
 *
 * Loop thread; pure: time comes in.  Chains of indices in one array, so that nothing is allocated but
 * the names.  The route's name is mixed into the key instead of being kept: two that collide in 64 bits
 * would share a choice, which is harmless. */
#include "route/sticky.h"

#include <sys/queue.h>

enum { BUCKETS = 4096, HASHED_BYTES = 4096 /* of a message: enough to tell it apart */ };

struct pin {
	TAILQ_ENTRY(pin) used; /* the one used longest ago first */
	struct pin *next;      /* in its bucket */
	uint64_t key, used_ms;
	char *model; /* owned; NULL: free */
};

struct sticky {
	struct pin pins[STICKY_MAX];
	struct pin *buckets[BUCKETS];
	TAILQ_HEAD(, pin) by_use;
};

struct sticky *sticky_new(void)
{
	struct sticky *s = xcalloc(1, sizeof *s);

	TAILQ_INIT(&s->by_use);
	for (int i = 0; i < STICKY_MAX; i++)
		TAILQ_INSERT_TAIL(&s->by_use, &s->pins[i], used);
	return s;
}

void sticky_free(struct sticky *s)
{
	if (!s)
		return;
	for (int i = 0; i < STICKY_MAX; i++)
		free(s->pins[i].model);
	free(s);
}

/* ---- keys: FNV-1a, 64 bits */

static uint64_t add(uint64_t hash, const void *p, size_t n)
{
	const unsigned char *b = p;

	for (size_t i = 0; i < n; i++)
		hash = (hash ^ b[i]) * UINT64_C(1099511628211);
	return hash;
}

static uint64_t add_text(uint64_t hash, const char *s)
{
	size_t n = strlen(s);

	hash = add(hash, &n, sizeof n);
	return add(hash, s, n < HASHED_BYTES ? n : HASHED_BYTES);
}

static const char *first_of(const struct message *messages, int n, enum role role)
{
	for (int i = 0; i < n; i++)
		if (messages[i].role == role)
			return messages[i].text;
	return "";
}

uint64_t sticky_key(const struct request *r, const char *conversation,
		    const struct message *messages, int n)
{
	uint64_t hash = UINT64_C(14695981039346656037);

	if (conversation) {
		hash = add_text(hash, conversation);
	} else {
		hash = add_text(hash, first_of(messages, n, ROLE_SYSTEM));
		hash = add_text(hash, n ? first_of(messages, n, ROLE_USER)
					: (r->prompt ? r->prompt : ""));
	}
	return hash ? hash : 1;
}

/* ---- pins */

static uint64_t full_key(const char *route, uint64_t key)
{
	return add_text(key, route);
}

static struct pin **bucket_of(struct sticky *s, uint64_t key)
{
	return &s->buckets[(key ^ key >> 32) % BUCKETS];
}

static struct pin *find(struct sticky *s, uint64_t key)
{
	struct pin *p = *bucket_of(s, key);

	while (p && p->key != key)
		p = p->next;
	return p;
}

static void forget(struct sticky *s, struct pin *p)
{
	struct pin **at = bucket_of(s, p->key);

	if (!p->model)
		return;
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	free(p->model);
	p->model = NULL;
}

static void touch(struct sticky *s, struct pin *p, uint64_t now_ms)
{
	TAILQ_REMOVE(&s->by_use, p, used);
	TAILQ_INSERT_TAIL(&s->by_use, p, used);
	p->used_ms = now_ms;
}

const char *sticky_get(struct sticky *s, const char *route, uint64_t key, uint64_t now_ms)
{
	struct pin *p = find(s, full_key(route, key));

	if (!p)
		return NULL;
	if (now_ms > p->used_ms && now_ms - p->used_ms >= STICKY_MS) {
		forget(s, p);
		return NULL;
	}
	touch(s, p, now_ms);
	return p->model;
}

void sticky_put(struct sticky *s, const char *route, uint64_t key, const char *model,
		uint64_t now_ms)
{
	uint64_t full = full_key(route, key);
	struct pin *p = find(s, full);

	if (p && strcmp(p->model, model)) {
		free(p->model);
		p->model = xstrdup(model);
	} else if (!p) {
		p = TAILQ_FIRST(&s->by_use);
		forget(s, p);
		p->key = full;
		p->model = xstrdup(model);
		p->next = *bucket_of(s, full);
		*bucket_of(s, full) = p;
	}
	touch(s, p, now_ms);
}
