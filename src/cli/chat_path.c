/* The path of a conversation in memory.  Main thread. */
#include "cli/chat_path.h"

static void grow(struct chat_path *p, int more)
{
	while (p->n + more > p->cap) {
		p->cap = p->cap ? p->cap * 2 : 16;
		p->list = xrealloc(p->list, (size_t)p->cap * sizeof *p->list);
	}
}

/* Roles are few: the path keeps none of its own. */
static const char *known_role(const char *role)
{
	static const char *const roles[] = {"system", "developer", "user", "assistant",
					    "tool"};

	for (size_t i = 0; i < ARRAY_LEN(roles); i++)
		if (!strcmp(role, roles[i]))
			return roles[i];
	return "user";
}

void chat_path_add(struct chat_path *p, const char *role, struct str text,
		   const char *content, const char *hash)
{
	grow(p, 1);
	p->list[p->n++] = (struct chat_message){
		.role = known_role(role),
		.text = str_dup(text),
		.content = content ? xstrdup(content) : NULL,
		.hash = hash ? xstrdup(hash) : NULL,
	};
}

void chat_path_cut(struct chat_path *p, int from, struct chat_path *tail)
{
	int n = p->n - from;

	grow(tail, n);
	if (n)
		memcpy(tail->list, p->list + from, (size_t)n * sizeof *p->list);
	tail->n = n;
	p->n = from;
}

void chat_path_join(struct chat_path *p, struct chat_path *tail)
{
	grow(p, tail->n);
	if (tail->n)
		memcpy(p->list + p->n, tail->list, (size_t)tail->n * sizeof *p->list);
	p->n += tail->n;
	tail->n = 0;
	chat_path_clear(tail);
}

void chat_path_clear(struct chat_path *p)
{
	for (int i = 0; i < p->n; i++) {
		free(p->list[i].text);
		free(p->list[i].content);
		free(p->list[i].hash);
	}
	free(p->list);
	*p = (struct chat_path){0};
}

int chat_path_user(const struct chat_path *p, int n)
{
	for (int i = p->n - 1; i >= 0; i--)
		if (!strcmp(p->list[i].role, "user") && !--n)
			return i;
	return -1;
}

const char *chat_path_parent(const struct chat_path *p, int i)
{
	return i > 0 ? p->list[i - 1].hash : "root";
}

static void add_text_parts(struct buf *out, const cJSON *parts)
{
	const cJSON *part;

	cJSON_ArrayForEach(part, parts)
	{
		const char *text = NULL;

		if (json_string(part, "text", &text, NULL) == 1)
			buf_addf(out, "%s%s", out->len ? "\n" : "", text);
	}
}

static void read_message(struct chat_path *p, const cJSON *m)
{
	const char *role = "user", *hash = NULL;
	const cJSON *content = cJSON_GetObjectItemCaseSensitive(m, "content"),
		    *raw = NULL;
	struct buf text = {0}, json = {0};

	json_string(m, "role", &role, NULL);
	json_string(m, "hash", &hash, NULL);
	if (json_object(m, "message", &raw, NULL) == 1)
		raw = cJSON_GetObjectItemCaseSensitive(raw, "content");
	if (!cJSON_IsArray(raw))
		raw = content;
	if (cJSON_IsArray(raw))
		json_print(&json, raw);
	if (cJSON_IsString(content))
		buf_adds(&text, content->valuestring);
	else
		add_text_parts(&text, raw);
	chat_path_add(p, role, buf_str(&text), json.len ? json.data : NULL, hash);
	buf_free(&text);
	buf_free(&json);
}

void chat_path_read(struct chat_path *p, const cJSON *messages)
{
	const cJSON *m;

	chat_path_clear(p);
	cJSON_ArrayForEach(m, messages)
	{
		if (cJSON_IsObject(m))
			read_message(p, m);
	}
}
