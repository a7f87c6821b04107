/* Inside of an open GGUF file: for gguf.c, which fills it, and gguf_get.c, which looks
 * up. */
#ifndef HOB_GGUF_FILE_H
#define HOB_GGUF_FILE_H

#include "engine/gguf.h"
#include "engine/strmap.h"

struct pair {
	struct str key;
	enum gguf_type type;
	const uint8_t *value; /* numbers and bools */
	struct str string;
	struct gguf_array array;
	struct str *strings; /* owned; what array.strings shows */
};

struct gguf {
	char *path; /* owned */
	const uint8_t *base;
	size_t bytes;
	struct gguf_id id;
	bool mapped;
	struct pair *pairs;          /* owned, npairs */
	struct gguf_tensor *tensors; /* owned, ntensors */
	int npairs, ntensors;
	struct strmap by_key, by_name;
	size_t data_offset, tensor_bytes;
};

size_t gguf_type_bytes(enum gguf_type type); /* of one number; 0 for strings and arrays */
uint64_t gguf_load(const uint8_t *p, size_t bytes); /* little endian, any alignment */

#endif
