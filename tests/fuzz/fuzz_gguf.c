/* libFuzzer: any bytes as a GGUF file, its tensors touched, its vocabulary built and
 * used. Build: clang -fsanitize=fuzzer,address,undefined with the engine's and base's
 * sources. */
#include "engine/vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gguf *g = gguf_from_memory(data, size, "fuzz", NULL);
	struct tokens t = {0};
	struct vocab *v;
	volatile uint8_t sink = 0;

	if (!g)
		return 0;
	for (int i = 0; i < gguf_tensor_count(g); i++) {
		const struct gguf_tensor *tensor = gguf_tensor_at(g, i);

		sink = sink + tensor->data[0] + tensor->data[tensor->bytes - 1];
	}
	v = vocab_new(g, NULL);
	if (v) {
		vocab_encode(v, (struct str){(const char *)data, size < 512 ? size : 512},
			     true, true, &t);
		for (size_t i = 0; i < t.n; i++)
			sink = sink + (uint8_t)vocab_piece(v, t.ids[i], true).len;
		vocab_free(v);
	}
	tokens_free(&t);
	gguf_close(g);
	return 0;
}
