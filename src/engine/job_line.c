/* Commands about jobs: from a line of wire.h to a job of the batch.  Main thread, no state.
 *
 * What is wrong here fails the job and not the process: these values come from the client, by way of the
 * router. */
#include "engine/job_line.h"

#include "engine/stops.h"

enum { MAX_MESSAGES = 65536 };

static int read_messages(const cJSON *line, struct chat_message **out, int *n,
			 struct err *e)
{
	const cJSON *list = NULL, *item;
	int count, i = 0;

	*out = NULL;
	*n = 0;
	if (json_array(line, "messages", &list, e) < 0)
		return -1;
	count = list ? cJSON_GetArraySize(list) : 0;
	if (count > MAX_MESSAGES)
		return err_set(e, ERR_TOO_LARGE, "%d messages, at most %d", count,
			       MAX_MESSAGES);
	*out = xcalloc((size_t)count + 1, sizeof(**out));
	cJSON_ArrayForEach(item, list)
	{
		const char *role = NULL, *text = NULL;

		if (json_string(item, "role", &role, e) < 0 ||
		    json_string(item, "content", &text, e) < 0)
			return -1;
		if (!role || !chat_role_by_name(str_of(role), &(*out)[i].role))
			return err_set(e, ERR_INVALID,
				       "messages[%d]: role '%s' is not known", i,
				       role ? role : "");
		(*out)[i++].text = str_of(text);
	}
	*n = count;
	return 0;
}

/* The prompt of a job: a chat's messages by the model's template, or raw text. Special tokens are known
 * in raw text only: who completes raw text writes the template himself. */
static int read_prompt(const struct model *m, const cJSON *line, struct tokens *out,
		       struct err *e)
{
	struct chat_message *messages = NULL;
	const char *prompt = NULL;
	int n, rc = -1;

	if (json_string(line, "prompt", &prompt, e) < 0 ||
	    read_messages(line, &messages, &n, e) < 0)
		goto out;
	if (prompt) {
		vocab_encode(m->vocab, str_of(prompt), true, vocab_add_bos(m->vocab),
			     out);
		rc = 0;
	} else {
		rc = chat_render(&m->chat, messages, n, out, e);
	}
out:
	free(messages);
	return rc;
}

static int read_sampling(const cJSON *line, struct sampler_params *p, struct err *e)
{
	double temperature = SAMPLER_DEFAULT_TEMPERATURE, top_p = SAMPLER_DEFAULT_TOP_P;
	double min_p = SAMPLER_DEFAULT_MIN_P;
	int64_t top_k = SAMPLER_DEFAULT_TOP_K, seed = 0;
	int have_seed;

	*p = sampler_defaults();
	have_seed = json_int(line, "seed", INT64_MIN / 2, INT64_MAX / 2, &seed, e);
	if (have_seed < 0 ||
	    json_double(line, "temperature", 0, (double)SAMPLER_MAX_TEMPERATURE,
			&temperature, e) < 0 ||
	    json_double(line, "top_p", 0, 1, &top_p, e) < 0 ||
	    json_double(line, "min_p", 0, 1, &min_p, e) < 0 ||
	    json_int(line, "top_k", 0, VOCAB_MAX_TOKENS, &top_k, e) < 0)
		return -1;
	p->temperature = (float)temperature;
	p->top_p = (float)top_p;
	p->min_p = (float)min_p;
	p->top_k = (int)top_k;
	p->seed = have_seed ? (uint64_t)seed : sampler_random_seed();
	return 0;
}

static int read_stops(const cJSON *line, struct str **out, int *n, struct err *e)
{
	const cJSON *list = NULL, *item;
	int i = 0;

	*out = NULL;
	*n = 0;
	if (json_array(line, "stop", &list, e) < 0)
		return -1;
	*n = list ? cJSON_GetArraySize(list) : 0;
	if (*n > STOPS_MAX)
		return err_set(e, ERR_INVALID, "stop: %d strings, at most %d", *n,
			       STOPS_MAX);
	*out = xcalloc((size_t)*n + 1, sizeof(**out));
	cJSON_ArrayForEach(item, list)
	{
		if (!cJSON_IsString(item))
			return err_set(e, ERR_INVALID, "stop[%d] is not a string", i);
		(*out)[i++] = str_of(item->valuestring);
	}
	return 0;
}

static int read_class(const cJSON *line, enum batch_class *out, struct err *e)
{
	static const char *const names[] = {[BATCH_COMPLETION] = "completion",
					    [BATCH_INTERACTIVE] = "interactive",
					    [BATCH_BATCH] = "batch"};
	const char *name = NULL;

	*out = BATCH_INTERACTIVE;
	if (json_string(line, "class", &name, e) < 0)
		return -1;
	for (size_t i = 0; name && i < ARRAY_LEN(names); i++)
		if (strcmp(names[i], name) == 0) {
			*out = (enum batch_class)i;
			return 0;
		}
	return name ? err_set(e, ERR_INVALID, "class '%.20s' is not known", name) : 0;
}

int job_line_start(struct instance *l, const cJSON *line, int64_t id, struct err *e)
{
	struct batch_job job = {.id = id};
	struct str *stop = NULL;
	int64_t max_tokens = 0;
	int rc = -1;

	if (json_int(line, "max_tokens", 0, INT32_MAX, &max_tokens, e) < 0 ||
	    json_bool(line, "ignore_eos", &job.ignore_eos, e) < 0 ||
	    json_bool(line, "volatile", &job.is_volatile, e) < 0 ||
	    read_class(line, &job.class, e) < 0 ||
	    read_sampling(line, &job.sampling, e) < 0 ||
	    read_stops(line, &stop, &job.nstop, e) < 0 ||
	    read_prompt(instance_model(l), line, &job.prompt, e) < 0)
		goto out;
	job.stop = stop;
	job.max_tokens = (int)max_tokens;
	batch_start(l->batch, &job);
	rc = 0;
out:
	tokens_free(&job.prompt);
	free(stop);
	return rc;
}

int job_line_count(const struct instance *l, const cJSON *line, int64_t job,
		   struct buf *out, struct err *e)
{
	struct chat_message *messages = NULL;
	struct chat_count c = {0};
	int n, rc = -1;

	if (read_messages(line, &messages, &n, e) < 0)
		goto out;
	c.tokens = xcalloc((size_t)n + 1, sizeof(*c.tokens));
	if (chat_count(&instance_model(l)->chat, messages, n, &c, e) < 0)
		goto out;
	buf_addf(out, "{\"ev\":\"count\",\"job\":%lld,\"tokens\":[", (long long)job);
	for (int i = 0; i < n; i++)
		buf_addf(out, "%s%d", i ? "," : "", c.tokens[i]);
	buf_addf(out, "],\"extra\":%d,\"ctx\":%d}\n", c.extra, batch_ctx(l->batch));
	rc = 0;
out:
	free(c.tokens);
	free(messages);
	return rc;
}
