/* Requests: made by the wire formats, released by whoever ends the job.  No thread, no
 * globals: an object and its parts. */
#include "route/request.h"

static const char *const role_names[] = {
	[ROLE_SYSTEM] = "system",
	[ROLE_USER] = "user",
	[ROLE_ASSISTANT] = "assistant",
	[ROLE_TOOL] = "tool",
};

const char *request_class_name(enum request_class c)
{
	static const char *const names[] = {[CLASS_INTERACTIVE] = "interactive",
					    [CLASS_COMPLETION] = "completion",
					    [CLASS_BATCH] = "batch"};

	return names[c];
}

const char *role_name(enum role r)
{
	return (unsigned)r < ARRAY_LEN(role_names) ? role_names[r] : "user";
}

bool role_by_name(const char *name, enum role *out)
{
	for (unsigned i = 0; i < ARRAY_LEN(role_names); i++)
		if (!strcmp(name, role_names[i])) {
			*out = (enum role)i;
			return true;
		}
	if (strcmp(name, "developer"))
		return false;
	*out = ROLE_SYSTEM; /* OpenAI renamed it for its reasoning models */
	return true;
}

struct request *request_new(void)
{
	struct request *r = xcalloc(1, sizeof *r);

	r->model = xstrdup("");
	r->keep_alive_ms = KEEP_ALIVE_DEFAULT;
	r->sampling.temperature = r->sampling.top_p = r->sampling.min_p = -1;
	r->sampling.top_k = -1;
	r->sampling.seed = -1;
	r->budget_usd = -1;
	r->keep = UNSAID;
	return r;
}

void request_free(struct request *r)
{
	if (!r)
		return;
	for (int i = 0; i < r->nmessages; i++) {
		free(r->messages[i].text);
		free(r->messages[i].raw_json);
	}
	for (int i = 0; i < r->sampling.nstops; i++)
		free(r->sampling.stops[i]);
	free(r->messages);
	free(r->sampling.stops);
	free(r->model);
	free(r->prompt);
	free(r->extra_json);
	free(r->turn_json);
	free(r->supersede);
	free(r->client_name);
	free(r->conversation);
	free(r->parent);
	free(r->persona);
	free(r);
}

void request_add_message(struct request *r, enum role role, const char *text, size_t n)
{
	size_t have = (size_t)r->nmessages, bytes;

	if (!(have & (have - 1))) { /* full: room for as many again */
		ASSERT(size_mul(have ? 2 * have : 1, sizeof *r->messages, &bytes));
		r->messages = xrealloc(r->messages, bytes);
	}
	r->messages[r->nmessages++] =
		(struct message){.role = role, .text = xstrndup(text, n)};
}
