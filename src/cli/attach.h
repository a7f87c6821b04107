/* Files that go with a prompt: text as a fenced block, images as parts of the message.
 *
 * Blocking, main thread; shared by `hob chat` and `hob run`. */
#ifndef HOB_ATTACH_H
#define HOB_ATTACH_H

#include "base/buf.h"
#include "base/err.h"

enum {
	ATTACH_TEXT_MAX_BYTES = 2 << 20,   /* of one file */
	ATTACH_IMAGE_MAX_BYTES = 12 << 20, /* 16 MiB as base64 */
	ATTACH_ALL_MAX_BYTES = 24
			       << 20, /* encoded; the daemon takes requests of 32 MiB */
	ATTACH_MAX_FILES = 64,
};

struct attach {
	struct buf text;   /* fenced blocks, in order */
	struct buf images; /* JSON: {"type":"image_url",...},... */
	int nfiles, nimages;
};

/* Reads one file.  is_image: it must be one (PNG, JPEG, WebP or GIF); else it may be.
 * Errors: no regular file, too large, neither text nor a known image. */
int attach_file(struct attach *a, const char *path, bool is_image, struct err *e);
void attach_clear(struct attach *a);

/* The message's text: blocks, then the prompt. */
void attach_text(const struct attach *a, struct str prompt, struct buf *out);
/* Its content as JSON when there are images, else NULL; owned. */
char *attach_content(const struct attach *a, const char *text);

#endif
