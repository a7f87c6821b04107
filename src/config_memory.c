/* The section memory {} of the configuration.  Loop thread, at start and at each reload.
 *
 * A limit of 0, and an age of "forever", is no limit.  max_bytes has a least value besides: a file
 * that is smaller than what deleting needs could never be made smaller again. */
#include "config_impl.h"

#include <limits.h>

#include "base/duration.h"
#include "base/paths.h"

enum { MIN_MAX_BYTES = 1 << 20, MAX_MESSAGE_BYTES = 32 << 20, MIN_MESSAGE_BYTES = 1024 };

cfg_opt_t config_memory_opts[] = {CFG_BOOL("enabled", cfg_true, CFGF_NONE),
				  CFG_STR("path", NULL, CFGF_NONE),
				  CFG_STR("store", "opt-in", CFGF_NONE),
				  CFG_STR("durability", "full", CFGF_NONE),
				  CFG_BOOL("summary", cfg_true, CFGF_NONE),
				  CFG_STR("summary_model", NULL, CFGF_NONE),
				  CFG_BOOL("titles", cfg_true, CFGF_NONE),
				  CFG_STR("max_bytes", "2GiB", CFGF_NONE),
				  CFG_STR("max_age", "365d", CFGF_NONE),
				  CFG_INT("max_messages", 1000000, CFGF_NONE),
				  CFG_INT("max_conversations", 0, CFGF_NONE),
				  CFG_STR("max_message", "32MiB", CFGF_NONE),
				  CFG_STR("max_attachment", "16MiB", CFGF_NONE),
				  CFG_STR("failed_age", "7d", CFGF_NONE),
				  CFG_END()};

static const char *const stores[] = {
	[MEMORY_STORE_OFF] = "off",
	[MEMORY_STORE_CLI] = "cli",
	[MEMORY_STORE_OPT_IN] = "opt-in",
	[MEMORY_STORE_ALL] = "all",
};

const char *config_memory_store_name(enum memory_store store)
{
	return stores[store];
}

/* 0, or min to max bytes. */
static int read_bytes(const struct config_at *at, const char *key, uint64_t min,
		      uint64_t max, uint64_t *out, struct err *e)
{
	const char *text = cfg_getstr(at->cfg, key);

	if (!config_bytes(text, out))
		return err_set(e, ERR_INVALID,
			       "%s: %s: %s = '%s' is not a size: write \"2GiB\"",
			       at->file, at->section, key, text);
	if (*out && (*out < min || *out > max))
		return err_set(e, ERR_INVALID,
			       "%s: %s: %s = '%s' is out of range: 0 (no limit), or "
			       "%llu to %llu bytes",
			       at->file, at->section, key, text, (unsigned long long)min,
			       (unsigned long long)max);
	return 0;
}

static int read_age(const struct config_at *at, const char *key, int64_t *out,
		    struct err *e)
{
	const char *text = cfg_getstr(at->cfg, key);

	if (!duration_parse(text, out))
		return err_set(e, ERR_INVALID,
			       "%s: %s: %s = '%s' is not a time: write \"365d\" or "
			       "\"forever\"",
			       at->file, at->section, key, text);
	if (*out == DURATION_FOREVER)
		*out = 0;
	return 0;
}

static int read_count(const struct config_at *at, const char *key, int64_t *out,
		      struct err *e)
{
	int n = 0;

	if (config_range(at, key, 0, INT_MAX, &n, e) < 0)
		return -1;
	*out = n;
	return 0;
}

static int read_limits(struct store_limits *l, const struct config_at *at, struct err *e)
{
	if (read_bytes(at, "max_bytes", MIN_MAX_BYTES, INT64_MAX, &l->max_bytes, e) < 0 ||
	    read_bytes(at, "max_message", MIN_MESSAGE_BYTES, MAX_MESSAGE_BYTES,
		       &l->max_message_bytes, e) < 0 ||
	    read_bytes(at, "max_attachment", MIN_MESSAGE_BYTES, MAX_MESSAGE_BYTES,
		       &l->max_attachment_bytes, e) < 0 ||
	    read_age(at, "max_age", &l->max_age_ms, e) < 0 ||
	    read_age(at, "failed_age", &l->failed_age_ms, e) < 0 ||
	    read_count(at, "max_messages", &l->max_messages, e) < 0)
		return -1;
	return read_count(at, "max_conversations", &l->max_conversations, e);
}

static char *default_path(void)
{
	char *data = paths_data_dir(), *path = xasprintf("%s/memory.db", data);

	free(data);
	return path;
}

int config_read_memory(struct config *c, cfg_t *section, const char *file, struct err *e)
{
	static const char *const durabilities[] = {"normal", "full"};
	struct config_at at = {section, file, "memory"};
	const char *path = cfg_getstr(section, "path");
	int store = config_choice(&at, "store", stores, (int)ARRAY_LEN(stores), e);
	int durable = store < 0 ? -1
				: config_choice(&at, "durability", durabilities,
						(int)ARRAY_LEN(durabilities), e);

	c->memory_enabled = cfg_getbool(section, "enabled");
	c->memory_path = path && path[0] ? config_path_text(&at, "path") : default_path();
	c->memory_summary = cfg_getbool(section, "summary");
	c->memory_summary_model = config_text(&at, "summary_model");
	c->memory_titles = cfg_getbool(section, "titles");
	if (store < 0 || durable < 0)
		return -1;
	c->memory_store = (enum memory_store)store;
	c->memory_durable = durable;
	if (c->memory_summary_model && !c->memory_summary_model[0]) {
		free(c->memory_summary_model);
		c->memory_summary_model = NULL;
	}
	return read_limits(&c->memory_limits, &at, e);
}
