/* A conversation as OpenAI's `messages`.
 *
 * Any thread; pure.  A message's own JSON is printed anew, without spaces, so that it stays on its
 * line; what it says is as it was. */
#include "memory/openai_out.h"

#include "memory/move_tree.h"

static int add_message(struct buf *out, const struct move_message *m, struct err *e)
{
	cJSON *own;

	if (m->raw_json) {
		own = json_parse(str_of(m->raw_json), e);
		if (!own)
			return -1;
		json_print(out, own);
		cJSON_Delete(own);
		return 0;
	}
	buf_addc(out, '{');
	buf_add_json_text(out, "role", role_name(m->role));
	buf_add_json_text(out, "content", m->text);
	buf_addc(out, '}');
	return 0;
}

int openai_out(struct str jsonl, struct buf *out, struct err *e)
{
	size_t start = out->len;
	struct move_tree t;
	int line_no = 0, n, rc = move_tree_read(&jsonl, &line_no, &t, e), *path;

	if (rc <= 0)
		return rc < 0 ? -1 : err_set(e, ERR_INVALID, "no conversation");
	path = move_tree_path(&t, t.head, &n);
	rc = 0;
	buf_addc(out, '[');
	for (int i = 0; rc == 0 && i < n; i++) {
		if (i)
			buf_addc(out, ',');
		rc = add_message(out, &t.nodes[path[i]].line.message, e);
	}
	buf_adds(out, "]\n");
	if (rc < 0) {
		out->len = start;
		out->data[start] = 0;
	}
	free(path);
	move_tree_free(&t);
	return rc;
}
