/* Where things lie in packed weights and in the key/value cache.  All backends share it.
 *
 * Sixteen rows are a panel; 32 of K in a panel are a tile; q[j][row] holds weights k =
 * 4j..4j+3 of a row, so one 64-byte line is 16 rows x 4 of K.  Tiles lie
 * [panel][cols/32]; those of FORM_U8 hold 64 of K, because 544 bytes would break
 * alignment and scales kept elsewhere would be a second stream, which costs 40 % of the
 * memory's speed.  The float forms lie [panel][cols][16]. */
#ifndef HOB_KERNELS_LAYOUT_H
#define HOB_KERNELS_LAYOUT_H

#include "kernels/kernels.h"

/* Packed weights are kept in files (engine/pack_file.h): count up when a tile or panel changes. */
enum { KMAT_LAYOUT_VERSION = 1 };

enum {
	LINE_BYTES = 64,
	QUADS = BLOCK_COLS / 4,                /* groups of 4 of K in a block */
	BLOCK_BYTES = PANEL_ROWS * BLOCK_COLS, /* one block of a panel, a byte a weight */
	KV_KEYS = 16,                          /* keys interleaved */
	KV_GROUP = 64 /* the cache is padded to this many positions */
};

struct tile_u4 { /* w = d * q + m */
	uint16_t d[PANEL_ROWS], m[PANEL_ROWS];
	uint8_t q[4][PANEL_ROWS]
		 [4]; /* low nibbles k = 4j.., high nibbles k = 16 + 4j.. */
} __attribute__((aligned(64)));

struct tile_u8m { /* w = d * q + m (FORM_U8M); w = s[k / 16] * (q - 32), s = d, m
		     (FORM_U8S16) */
	uint16_t d[PANEL_ROWS], m[PANEL_ROWS];
	uint8_t q[QUADS][PANEL_ROWS][4];
} __attribute__((aligned(64)));

struct tile_u8 { /* two blocks, w = d * (q - 128); the second is unused at the end of an
		    odd number */
	uint16_t d[2][PANEL_ROWS];
	uint8_t q[2][QUADS][PANEL_ROWS][4];
} __attribute__((aligned(64)));

static inline size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

static inline size_t kmat_panel_bytes(enum kmat_form form, int cols)
{
	size_t blocks = (size_t)cols / BLOCK_COLS;

	switch (form) {
	case FORM_U4:
		return blocks * sizeof(struct tile_u4);
	case FORM_U8:
		return (blocks + 1) / 2 * sizeof(struct tile_u8);
	case FORM_U8M:
	case FORM_U8S16:
		return blocks * sizeof(struct tile_u8m);
	case FORM_F16:
	case FORM_BF16:
		return round_up((size_t)cols * PANEL_ROWS * 2, LINE_BYTES);
	case FORM_F32:
		return (size_t)cols * PANEL_ROWS * 4;
	}
	return 0;
}

static inline uint8_t *kmat_panel(const struct kmat *m, int panel)
{
	return m->data + (size_t)panel * kmat_panel_bytes(m->form, m->cols);
}

/* Keys: [kv head][position / 16][dim][16].  Values: [kv head][position][dim padded to
 * 16]. */
static inline size_t kkv_positions(int capacity)
{
	return round_up((size_t)capacity, KV_GROUP);
}

static inline size_t kkv_dims(int head_dim)
{
	return round_up((size_t)head_dim, 16);
}

static inline uint16_t *kkv_keys(const struct kkv *kv, int kvh, int pos)
{
	size_t group = (size_t)pos / KV_KEYS,
	       groups = kkv_positions(kv->capacity) / KV_KEYS;

	return kv->k + ((size_t)kvh * groups + group) * (size_t)kv->head_dim * KV_KEYS;
}

static inline uint16_t *kkv_values(const struct kkv *kv, int kvh, int pos)
{
	size_t row = (size_t)kvh * kkv_positions(kv->capacity) + (size_t)pos;

	return kv->v + row * kkv_dims(kv->head_dim);
}

/* Attention works on this many (token, head) rows that share a key/value head at a time.
 */
enum { ATTN_ROWS = 6 };

/* The first key that a query sees whose last one is keys - 1. */
static inline int attn_first_key(int keys, int window)
{
	return window && keys > window ? keys - window : 0;
}

/* Floats from one row of scores to the next: a line more than a power of two, or all rows
 * would meet in the same sets of the L1 cache (half the speed at 1024 positions). */
static inline size_t attn_score_step(int capacity)
{
	return kkv_positions(capacity) + 16;
}

#endif
