/* Files beside a prompt.  Main thread.
 *
 * A reader may ask why the kind comes from the first bytes and not from the name: what is sent as PNG must
 * be PNG, and a model that gets a text file called x.png answers nonsense. */
#include "cli/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* "image/png", or NULL. */
static const char *image_type(const struct buf *b)
{
	static const struct {
		const char *magic;
		size_t n, at;
		const char *type;
	} kinds[] = {
		{"\x89PNG\r\n\x1a\n", 8, 0, "image/png"},
		{"\xFF\xD8\xFF", 3, 0, "image/jpeg"},
		{"GIF87a", 6, 0, "image/gif"},
		{"GIF89a", 6, 0, "image/gif"},
		{"WEBP", 4, 8, "image/webp"},
	};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (b->len >= kinds[i].at + kinds[i].n &&
		    !memcmp(b->data + kinds[i].at, kinds[i].magic, kinds[i].n))
			return kinds[i].type;
	return NULL;
}

static int read_file(const char *path, struct buf *b, struct err *e)
{
	struct stat st;
	int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return err_sys(e, errno, "open '%s'", path);
	if (fstat(fd, &st))
		rc = err_sys(e, errno, "look at '%s'", path);
	else if (!S_ISREG(st.st_mode))
		rc = err_set(e, ERR_INVALID, "'%s' is no file", path);
	while (!rc) {
		char bytes[65536];
		ssize_t n = read(fd, bytes, sizeof bytes);

		if (n == 0)
			break;
		if (n < 0 && errno != EINTR)
			rc = err_sys(e, errno, "read '%s'", path);
		else if (n > 0 && b->len + (size_t)n > ATTACH_IMAGE_MAX_BYTES)
			rc = err_set(e, ERR_TOO_LARGE, "'%s' is larger than %d MiB", path,
				     ATTACH_IMAGE_MAX_BYTES >> 20);
		else if (n > 0)
			buf_add(b, bytes, (size_t)n);
	}
	close(fd);
	return rc;
}

static void add_base64(struct buf *out, const struct buf *b)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *p = (const unsigned char *)b->data;

	buf_reserve(out, b->len / 3 * 4 + 8);
	for (size_t i = 0; i < b->len; i += 3) {
		size_t left = b->len - i;
		unsigned v = (unsigned)p[i] << 16 |
			     (left > 1 ? (unsigned)p[i + 1] << 8 : 0) |
			     (left > 2 ? p[i + 2] : 0);

		buf_addc(out, digits[v >> 18]);
		buf_addc(out, digits[v >> 12 & 63]);
		buf_addc(out, left > 1 ? digits[v >> 6 & 63] : '=');
		buf_addc(out, left > 2 ? digits[v & 63] : '=');
	}
}

static void add_image(struct attach *a, const char *type, const struct buf *b)
{
	buf_addf(&a->images,
		 "%s{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:%s;base64,",
		 a->nimages ? "," : "", type);
	add_base64(&a->images, b);
	buf_adds(&a->images, "\"}}");
	a->nimages++;
}

/* Longer than any run of backticks inside, so that the block ends where the file does. */
static int fence_length(const struct buf *b)
{
	int longest = 2, run = 0;

	for (size_t i = 0; i < b->len; i++) {
		run = b->data[i] == '`' ? run + 1 : 0;
		longest = run > longest ? run : longest;
	}
	return longest + 1;
}

static void add_text(struct attach *a, const char *path, const struct buf *b)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	const char *dot = strrchr(name, '.');
	int fence = fence_length(b);

	buf_addf(&a->text, "%s:\n", name);
	for (int i = 0; i < fence; i++)
		buf_addc(&a->text, '`');
	buf_addf(&a->text, "%s\n", dot && !strpbrk(dot, " \t\n`") ? dot + 1 : "");
	buf_add(&a->text, b->data, b->len);
	if (b->len && b->data[b->len - 1] != '\n')
		buf_addc(&a->text, '\n');
	for (int i = 0; i < fence; i++)
		buf_addc(&a->text, '`');
	buf_adds(&a->text, "\n\n");
}

static bool is_text(const struct buf *b)
{
	struct str s = buf_str(b);

	while (s.len) {
		size_t n = str_utf8_len(s);

		if (!n || !*s.ptr)
			return false;
		s.ptr += n;
		s.len -= n;
	}
	return true;
}

static int add_file(struct attach *a, const char *path, bool must_be_image,
		    const struct buf *b, struct err *e)
{
	const char *type = image_type(b);

	if (a->nfiles == ATTACH_MAX_FILES)
		return err_set(e, ERR_TOO_LARGE, "at most %d files go with one prompt",
			       ATTACH_MAX_FILES);
	if (a->text.len + a->images.len + b->len / 3 * 4 > ATTACH_ALL_MAX_BYTES)
		return err_set(e, ERR_TOO_LARGE,
			       "'%s': the files are larger than %d MiB together", path,
			       ATTACH_ALL_MAX_BYTES >> 20);
	if (!type && must_be_image)
		return err_set(e, ERR_INVALID, "'%s' is no PNG, JPEG, WebP or GIF image",
			       path);
	if (!type && b->len > ATTACH_TEXT_MAX_BYTES)
		return err_set(e, ERR_TOO_LARGE, "'%s' is larger than %d MiB", path,
			       ATTACH_TEXT_MAX_BYTES >> 20);
	if (!type && !is_text(b))
		return err_set(
			e, ERR_INVALID,
			"'%s' is neither UTF-8 text nor a PNG, JPEG, WebP or GIF image",
			path);
	if (type)
		add_image(a, type, b);
	else
		add_text(a, path, b);
	a->nfiles++;
	return 0;
}

int attach_file(struct attach *a, const char *path, bool is_image, struct err *e)
{
	struct buf b = {0};
	int rc = read_file(path, &b, e);

	if (!rc)
		rc = add_file(a, path, is_image, &b, e);
	buf_free(&b);
	return rc;
}

void attach_clear(struct attach *a)
{
	buf_free(&a->text);
	buf_free(&a->images);
	*a = (struct attach){0};
}

void attach_text(const struct attach *a, struct str prompt, struct buf *out)
{
	buf_add(out, a->text.data, a->text.len);
	buf_add(out, prompt.ptr, prompt.len);
}

char *attach_content(const struct attach *a, const char *text)
{
	struct buf b = {0};

	if (!a->nimages)
		return NULL;
	buf_adds(&b, "[{\"type\":\"text\",\"text\":");
	buf_add_json(&b, text, strlen(text));
	buf_adds(&b, "},");
	buf_add(&b, a->images.data, a->images.len);
	buf_addc(&b, ']');
	return buf_take(&b, NULL);
}
