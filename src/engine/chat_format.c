/* Chat templates: recognising them and rendering the families we know.  Any thread.
 *
 * Recognition compares the template's whole text: as a frame around a default system
 * prompt, or by its hash.  A template that is nearly one we know is not taken for it: the
 * model would be asked in a dialect it was not trained on, and nobody would notice. */
#include "engine/chat_format.h"

#include <sha256.h>

#define MARK_START "<|im_start|>"
#define MARK_END   "<|im_end|>"

#define MESSAGES                                                                        \
	"{{'" MARK_START "' + message['role'] + '\n' + message['content'] + '" MARK_END \
	"' + '\n'}}{% endfor %}"
#define OPENING \
	"{% if add_generation_prompt %}{{ '" MARK_START "assistant\n' }}{% endif %}"
#define WANTS_OPENING                                                                  \
	"{% if not add_generation_prompt is defined %}{% set add_generation_prompt = " \
	"false %}"                                                                     \
	"{% endif %}"
#define LOOP "{% for message in messages %}"
#define ADD_SYSTEM                                                               \
	"{% if loop.first and messages[0]['role'] != 'system' %}{{ '" MARK_START \
	"system\n"
#define END_SYSTEM MARK_END "\n' }}{% endif %}"

/* Templates by text, with \n written out as a newline.  after NULL: the whole text;
 * otherwise the default system prompt stands between the two. */
static const struct {
	enum chat_family family;
	const char *before, *after;
} frames[] = {
	{CHAT_CHATML, LOOP MESSAGES OPENING, NULL},
	{CHAT_CHATML, WANTS_OPENING LOOP MESSAGES OPENING, NULL},
	{CHAT_SMOLLM2, LOOP ADD_SYSTEM, END_SYSTEM MESSAGES OPENING},
};

/* Templates by SHA-256 of the same form of the text: those with branches for tools, of
 * which only the one without tools is rendered here. */
static const struct {
	enum chat_family family;
	const char *sha256, *default_system;
} hashes[] = {
	/* Qwen/Qwen2.5-7B-Instruct, tokenizer_config.json; the whole Instruct series has
	   it */
	{CHAT_QWEN25, "a18cc698dd45623eb707279d08e66f7bb8d76afc89ead84016b88487b395b5cc",
	 "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
};

static const char *const family_names[CHAT_FAMILY_NR] = {
	[CHAT_NONE] = "none",
	[CHAT_CHATML] = "chatml",
	[CHAT_SMOLLM2] = "smollm2",
	[CHAT_QWEN25] = "qwen2.5",
};

static const char *const role_names[CHAT_ROLE_NR] = {
	[CHAT_SYSTEM] = "system",
	[CHAT_USER] = "user",
	[CHAT_ASSISTANT] = "assistant",
};

const char *chat_family_name(enum chat_family family)
{
	return family_names[family];
}

bool chat_role_by_name(struct str name, enum chat_role *out)
{
	for (int i = 0; i < CHAT_ROLE_NR; i++) {
		if (str_eq(name, role_names[i])) {
			*out = (enum chat_role)i;
			return true;
		}
	}
	return false;
}

/* Files hold the newline of a string as itself or as \n; white space at the end means
 * nothing. */
static void normalise(struct str text, struct buf *out)
{
	for (size_t i = 0; i < text.len; i++) {
		if (text.ptr[i] == '\\' && i + 1 < text.len && text.ptr[i + 1] == 'n') {
			buf_addc(out, '\n');
			i++;
		} else {
			buf_addc(out, text.ptr[i]);
		}
	}
	while (out->len && strchr(" \t\r\n", out->data[out->len - 1]))
		out->data[--out->len] = 0;
}

/* May this stand between the quotes of a frame?  Then it says the same as text. */
static bool is_plain(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (strchr("'\\{}", s.ptr[i])) /* strchr finds NUL, too */
			return false;
	return !memmem(s.ptr, s.len, MARK_END, strlen(MARK_END)) &&
	       !memmem(s.ptr, s.len, MARK_START, strlen(MARK_START));
}

/* Puts what stands between before and after into middle. */
static bool match_frame(struct str text, const char *before, const char *after,
			char *middle)
{
	size_t b = strlen(before), a = after ? strlen(after) : 0;

	if (!text.ptr) /* an empty template */
		return false;
	if (!after)
		return str_eq(text, before);
	if (text.len < b + a || memcmp(text.ptr, before, b) ||
	    memcmp(text.ptr + text.len - a, after, a))
		return false;
	text = (struct str){text.ptr + b, text.len - a - b};
	if (text.len == 0 || text.len >= CHAT_MAX_SYSTEM_BYTES || !is_plain(text))
		return false;
	memcpy(middle, text.ptr, text.len);
	middle[text.len] = 0;
	return true;
}

static enum chat_family match_hash(struct str text, char *default_system)
{
	char hex[SHA256_DIGEST_STRING_LENGTH];

	SHA256Data((const uint8_t *)text.ptr, text.len, hex);
	for (size_t i = 0; i < ARRAY_LEN(hashes); i++) {
		if (strcmp(hex, hashes[i].sha256))
			continue;
		snprintf(default_system, CHAT_MAX_SYSTEM_BYTES, "%s",
			 hashes[i].default_system);
		return hashes[i].family;
	}
	return CHAT_NONE;
}

enum chat_family chat_family_of(struct str template_text,
				char default_system[CHAT_MAX_SYSTEM_BYTES])
{
	enum chat_family family = CHAT_NONE;
	struct buf text = {0};

	default_system[0] = 0;
	normalise(template_text, &text);
	for (size_t i = 0; i < ARRAY_LEN(frames) && family == CHAT_NONE; i++)
		if (match_frame(buf_str(&text), frames[i].before, frames[i].after,
				default_system))
			family = frames[i].family;
	if (family == CHAT_NONE)
		family = match_hash(buf_str(&text), default_system);
	buf_free(&text);
	return family;
}

static void refuse(struct chat_format *f, const char *model, const char *why)
{
	f->family = CHAT_NONE;
	snprintf(f->why_not, sizeof(f->why_not),
		 "model '%.80s' cannot chat here: %s; POST /v1/completions or "
		 "'hob run --raw' go on from raw text",
		 model, why);
}

void chat_format_init(struct chat_format *f, const struct gguf *g, const struct vocab *v,
		      const char *model)
{
	struct str template = {0};

	*f = (struct chat_format){.vocab = v};
	/* Without a template, markers in the vocabulary are what tells ChatML. */
	f->im_start = vocab_find(v, STR(MARK_START));
	f->im_end = vocab_find(v, STR(MARK_END));
	switch (gguf_str(g, "tokenizer.chat_template", &template)) {
	case GGUF_FOUND:
		f->family = chat_family_of(template, f->default_system);
		if (f->family == CHAT_NONE)
			refuse(f, model,
			       "its chat template is none of those this build knows");
		break;
	case GGUF_ABSENT:
		f->family = CHAT_CHATML;
		break;
	case GGUF_WRONG_TYPE:
		refuse(f, model, "its chat template is no text");
		break;
	}
	if (f->family == CHAT_NONE ||
	    (vocab_is_control(v, f->im_start) && vocab_is_control(v, f->im_end)))
		return;
	if (template.ptr)
		refuse(f, model,
		       "its vocabulary lacks the markers " MARK_START " and " MARK_END);
	else
		refuse(f, model,
		       "its file has no chat template, so it is a base model: take an "
		       "instruct model for chat");
}

/* <|im_start|>role\ntext<|im_end|>\n.  Role and text are one stretch for the tokenizer,
 * as they are between two markers of a rendered template: "\n" may merge with what
 * follows. */
static void render_one(const struct chat_format *f, enum chat_role role, struct str text,
		       struct tokens *out)
{
	struct buf b = {0};

	buf_addf(&b, "%s\n", role_names[role]);
	buf_add(&b, text.ptr, text.len);
	tokens_add(out, f->im_start);
	vocab_encode(f->vocab, buf_str(&b), false, false, out);
	tokens_add(out, f->im_end);
	vocab_encode(f->vocab, STR("\n"), false, false, out);
	buf_free(&b);
}

/* What comes before the first message: BOS and the default system prompt. */
static void render_head(const struct chat_format *f, const struct chat_message *messages,
			struct tokens *out)
{
	if (vocab_add_bos(f->vocab))
		tokens_add(out, vocab_bos(f->vocab));
	if (f->default_system[0] && messages[0].role != CHAT_SYSTEM)
		render_one(f, CHAT_SYSTEM, str_of(f->default_system), out);
}

static void render_opening(const struct chat_format *f, struct tokens *out)
{
	tokens_add(out, f->im_start);
	vocab_encode(f->vocab, STR("assistant\n"), false, false, out);
}

static int check(const struct chat_format *f, const struct chat_message *messages, int n,
		 struct err *e)
{
	if (f->family == CHAT_NONE)
		return err_set(e, ERR_UNSUPPORTED, "%s", f->why_not);
	if (n < 1)
		return err_set(e, ERR_INVALID, "a chat needs at least one message");
	for (int i = 0; i < n; i++)
		if ((unsigned)messages[i].role >= CHAT_ROLE_NR)
			return err_set(e, ERR_INVALID, "message %d has an unknown role",
				       i);
	return 0;
}

int chat_render(const struct chat_format *f, const struct chat_message *messages, int n,
		struct tokens *out, struct err *e)
{
	if (check(f, messages, n, e))
		return -1;
	render_head(f, messages, out);
	for (int i = 0; i < n; i++)
		render_one(f, messages[i].role, messages[i].text, out);
	render_opening(f, out);
	return 0;
}

int chat_count(const struct chat_format *f, const struct chat_message *messages, int n,
	       struct chat_count *out, struct err *e)
{
	struct tokens t = {0};

	if (check(f, messages, n, e))
		return -1;
	render_head(f, messages, &t);
	render_opening(f, &t);
	out->extra = (int)t.n;
	for (int i = 0; i < n; i++) {
		t.n = 0;
		render_one(f, messages[i].role, messages[i].text, &t);
		out->tokens[i] = (int)t.n;
	}
	tokens_free(&t);
	return 0;
}
