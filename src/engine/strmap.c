/* A hash table of borrowed strings: open addressing, at most half full, never shrinks or
 * grows. No thread of its own. */
#include "engine/strmap.h"

#include <xxhash.h>

void strmap_init(struct strmap *m, size_t n)
{
	size_t slots = 16;

	while (slots < 2 * n)
		slots *= 2;
	m->slots = xcalloc(slots, sizeof(*m->slots));
	m->mask = slots - 1;
}

void strmap_fini(struct strmap *m)
{
	free(m->slots);
	*m = (struct strmap){0};
}

static struct strmap_slot *find(const struct strmap *m, struct str key)
{
	size_t i = XXH3_64bits(key.ptr, key.len) & m->mask;

	for (;; i = (i + 1) & m->mask) {
		struct strmap_slot *s = &m->slots[i];

		if (!s->key.ptr)
			return s;
		if (s->key.len == key.len && !memcmp(s->key.ptr, key.ptr, key.len))
			return s;
	}
}

int32_t strmap_set(struct strmap *m, struct str key, int32_t value)
{
	struct strmap_slot *s;
	int32_t old;

	ASSERT(value >= 0);
	if (!key.ptr)
		key.ptr = ""; /* NULL marks a free slot */
	s = find(m, key);
	old = s->key.ptr ? s->value : -1;
	*s = (struct strmap_slot){key, value};
	return old;
}

int32_t strmap_get(const struct strmap *m, struct str key)
{
	const struct strmap_slot *s;

	if (!m->slots)
		return -1;
	if (!key.ptr)
		key.ptr = "";
	s = find(m, key);
	return s->key.ptr ? s->value : -1;
}
