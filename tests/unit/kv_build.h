/* Sequences with made-up rows, for tests of saved KV state. */
#ifndef HOB_TESTS_KV_BUILD_H
#define HOB_TESTS_KV_BUILD_H

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/kv_file.h"
#include "kernels/layout.h"

enum { FAKE_LAYERS = 3, FAKE_CTX = 1024 };

/* A slot's layers with random bytes; the middle layer has another shape. */
struct fake {
	struct kkv layers[FAKE_LAYERS];
	uint16_t *memory[2 * FAKE_LAYERS]; /* owned */
};

static inline struct kkv fake_shape(int layer)
{
	return (struct kkv){.capacity = FAKE_CTX,
			    .kv_heads = layer == 1 ? 1 : 2,
			    .head_dim = layer == 1 ? 24 : 16};
}

static inline size_t fake_bytes(int layer)
{
	struct kkv s = fake_shape(layer);

	return kkv_bytes(s.capacity, s.kv_heads, s.head_dim);
}

/* seed 0: zeros */
static inline void fake_init(struct fake *f, uint32_t seed)
{
	for (int i = 0; i < FAKE_LAYERS; i++) {
		f->layers[i] = fake_shape(i);
		for (int j = 0; j < 2; j++) {
			size_t n = fake_bytes(i) / sizeof(uint16_t);
			uint16_t *p = xcalloc(n, sizeof(*p));

			for (size_t k = 0; seed && k < n; k++) {
				seed = seed * 1664525u + 1013904223u;
				p[k] = (uint16_t)(seed >> 12);
			}
			f->memory[2 * i + j] = p;
		}
		f->layers[i].k = f->memory[2 * i];
		f->layers[i].v = f->memory[2 * i + 1];
	}
}

static inline void fake_fini(struct fake *f)
{
	for (int i = 0; i < 2 * FAKE_LAYERS; i++)
		free(f->memory[i]);
}

/* Position by position, so that the copies of whole ranges are checked by another way. */
static inline bool fake_same(const struct fake *a, const struct fake *b, int from, int to)
{
	for (int i = 0; i < FAKE_LAYERS; i++)
		for (int h = 0; h < a->layers[i].kv_heads; h++)
			for (int pos = from; pos < to; pos++) {
				const struct kkv *x = &a->layers[i], *y = &b->layers[i];
				size_t n = kkv_dims(x->head_dim) * sizeof(uint16_t);

				if (memcmp(kkv_values(x, h, pos), kkv_values(y, h, pos),
					   n))
					return false;
				for (int d = 0; d < x->head_dim; d++) {
					int at = d * KV_KEYS + pos % KV_KEYS;

					if (kkv_keys(x, h, pos)[at] !=
					    kkv_keys(y, h, pos)[at])
						return false;
				}
			}
	return true;
}

/* Tokens that depend on salt from the first on. */
static inline int32_t *fake_tokens(int salt, int n)
{
	int32_t *t = xcalloc((size_t)n, sizeof(*t));

	for (int i = 0; i < n; i++)
		t[i] = salt * 10000 + i;
	return t;
}

static inline void fake_folder(char path[32])
{
	snprintf(path, 32, "kv-XXXXXX");
	ASSERT(mkdtemp(path));
}

/* fn for each name in the folder; returns how many. */
static inline int fake_each(const char *path, void (*fn)(const char *full))
{
	DIR *d = opendir(path);
	struct dirent *e;
	char full[320];
	int n = 0;

	ASSERT(d);
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		n++;
		snprintf(full, sizeof(full), "%s/%s", path, e->d_name);
		if (fn)
			fn(full);
	}
	closedir(d);
	return n;
}

static inline void fake_unlink(const char *full)
{
	unlink(full);
}

static inline void fake_folder_remove(const char *path)
{
	fake_each(path, fake_unlink);
	rmdir(path);
}

#endif
