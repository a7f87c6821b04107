/* An engine without a model: speaks engine/wire.h on its standard input and output and
 * does what the prompt says.  The test program starts itself as `argv[0] --fake-engine
 * FLAGFILE`.
 *
 * Name of the file: "bad*" = corrupt, "die*" = the process kills itself, "slow*" = says
 * that it loads and no more, else 1 MiB.
 * Last message (or prompt): "die", "die-once" (until FLAGFILE is there), "die-late"
 * (after a text), "mute" (closes its ends and lives on), "hang", "fail", "garbage",
 * "sampling" (answers with the line itself), else an echo in two pieces.  count: tokens =
 * bytes of each text, extra = cancels seen so far. */
#ifndef HOB_FAKE_ENGINE_H
#define HOB_FAKE_ENGINE_H

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>
#include "base/json.h"

static void fake_die(void)
{
	fflush(stdout);
	kill(getpid(), SIGKILL);
}

static int fake_number(const cJSON *o, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	return v ? v->valueint : -1;
}

static const char *fake_string(const cJSON *o, const char *key)
{
	const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));

	return s ? s : "";
}

static void fake_text(int job, const char *text)
{
	struct buf b = {0};

	buf_add_json(&b, text, strlen(text));
	printf("{\"ev\":\"text\",\"job\":%d,\"text\":%s}\n", job, b.data);
	buf_free(&b);
}

static void fake_start(const cJSON *o, const char *line, const char *flag_file)
{
	const cJSON *messages = cJSON_GetObjectItemCaseSensitive(o, "messages");
	int n = cJSON_GetArraySize(messages), job = fake_number(o, "job");
	const char *text = fake_string(o, "prompt");

	if (n > 0)
		text = fake_string(cJSON_GetArrayItem(messages, n - 1), "content");
	if (!strcmp(text, "die"))
		fake_die();
	if (!strcmp(text, "die-once") && access(flag_file, F_OK) != 0) {
		close(open(flag_file, O_CREAT | O_WRONLY, 0600));
		fake_die();
	}
	if (!strcmp(text, "mute")) {
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		pause();
	}
	if (!strcmp(text, "hang"))
		return;
	if (!strcmp(text, "fail")) {
		printf("{\"ev\":\"failed\",\"job\":%d,\"code\":\"context_length_"
		       "exceeded\","
		       "\"message\":\"too long\"}\n",
		       job);
		return;
	}
	if (!strcmp(text, "garbage")) {
		printf("{\"ev\":\"text\",\"job\":\n");
		return;
	}
	printf("{\"ev\":\"started\",\"job\":%d,\"prompt_tokens\":%d,\"cached_tokens\":0}"
	       "\n",
	       job, n);
	fake_text(job, "echo ");
	if (!strcmp(text, "die-late"))
		fake_die();
	fake_text(job, !strcmp(text, "sampling") ? line : text);
	printf("{\"ev\":\"finished\",\"job\":%d,\"reason\":\"stop\",\"prompt_tokens\":%d,"
	       "\"cached_tokens\":0,\"completion_tokens\":2,\"prefill_ms\":1,\"decode_"
	       "ms\":2}\n",
	       job, n);
}

static void fake_known(const cJSON *o, const char *ev, const char *more)
{
	printf("{\"ev\":\"%s\",\"model\":%d,\"weights_bytes\":1000000,\"kv_bytes\":48576,"
	       "\"parked_bytes\":1000000,\"ctx\":%d,\"ctx_train\":8192,\"slots\":%d,"
	       "\"arch\":\"fake\",\"name\":\"x\",\"chat\":true%s}\n",
	       ev, fake_number(o, "model"), fake_number(o, "ctx"),
	       fake_number(o, "slots"), more);
}

static void fake_load(const cJSON *o, bool probe)
{
	const char *path = fake_string(o, "path"), *slash = strrchr(path, '/');
	int model = fake_number(o, "model");

	path = slash ? slash + 1 : path;
	if (!strncmp(path, "die", 3))
		fake_die();
	if (!strncmp(path, "bad", 3))
		printf("{\"ev\":\"load_failed\",\"model\":%d,\"code\":\"corrupt\","
		       "\"message\":\"no GGUF\"}\n",
		       model);
	else if (probe)
		fake_known(o, "probed", "");
	else
		printf("{\"ev\":\"loading\",\"model\":%d,\"done\":500000,\"total\":1000000}\n",
		       model);
	if (!probe && strncmp(path, "bad", 3) && strncmp(path, "slow", 4))
		fake_known(o, "loaded",
			   ",\"bytes\":1048576,\"file_bytes\":1000,"
			   "\"source\":\"converted\",\"load_ms\":1.5");
}

static void fake_count(const cJSON *o, int cancels)
{
	const cJSON *messages = cJSON_GetObjectItemCaseSensitive(o, "messages"), *m;
	const char *comma = "";

	printf("{\"ev\":\"count\",\"job\":%d,\"tokens\":[", fake_number(o, "job"));
	cJSON_ArrayForEach(m, messages)
	{
		printf("%s%zu", comma, strlen(fake_string(m, "content")));
		comma = ",";
	}
	printf("],\"extra\":%d,\"ctx\":1024}\n", cancels);
}

static int fake_engine_main(const char *flag_file)
{
	char *line = NULL;
	size_t cap = 0;
	int cancels = 0;

	printf("{\"ev\":\"hello\",\"version\":2,\"kernels\":\"fake\",\"threads\":1}\n");
	fflush(stdout);
	while (getline(&line, &cap, stdin) > 0) {
		cJSON *o = cJSON_Parse(line);
		const char *op = fake_string(o, "op");

		if (!strcmp(op, "load") || !strcmp(op, "probe"))
			fake_load(o, !strcmp(op, "probe"));
		else if (!strcmp(op, "park"))
			printf("{\"ev\":\"parked\",\"model\":%d,\"bytes\":1000000}\n",
			       fake_number(o, "model"));
		else if (!strcmp(op, "unload"))
			printf("{\"ev\":\"unloaded\",\"model\":%d}\n",
			       fake_number(o, "model"));
		else if (!strcmp(op, "start"))
			fake_start(o, line, flag_file);
		else if (!strcmp(op, "count"))
			fake_count(o, cancels);
		else if (!strcmp(op, "cancel"))
			cancels++;
		else if (!strcmp(op, "ping"))
			printf("{\"ev\":\"pong\"}\n");
		else if (!strcmp(op, "quit"))
			_exit(0);
		fflush(stdout);
		cJSON_Delete(o);
	}
	_exit(0);
}

#endif
