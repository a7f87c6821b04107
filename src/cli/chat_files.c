/* Files in and out: /file and /save.  Main thread.
 *
 * A reader may ask why a name is tried as it is before its wildcards mean anything: "a[1].txt" is a file
 * more often than a pattern. */
#include "cli/chat.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <unistd.h>

#include "cli/render.h"

/* One word of a command line: quotes hold spaces together, a backslash takes the next character as it is.
 * False: there is none; *p moves behind it. */
static bool next_word(const char **p, struct buf *word)
{
	char quote = '\0';
	const char *s = *p + strspn(*p, " \t\n");

	buf_clear(word);
	buf_adds(word, "");
	if (!*s)
		return false;
	for (; *s && (quote || !strchr(" \t\n", *s)); s++) {
		if (quote ? *s == quote : *s == '"' || *s == '\'')
			quote = quote ? '\0' : *s;
		else if (*s == '\\' && quote != '\'' && s[1])
			buf_addc(word, *++s);
		else
			buf_addc(word, *s);
	}
	*p = s;
	return true;
}

static char *with_home(const char *path)
{
	const char *home = getenv("HOME");

	if (*path != '~' || (path[1] && path[1] != '/') || !home)
		return xstrdup(path);
	return xasprintf("%s%s", home, path + 1);
}

static void add_one(struct chat *ch, const char *path)
{
	int images = ch->attached.nimages;
	struct err e;

	if (!attach_file(&ch->attached, path, false, &e)) {
		chat_say(ch, "(%s %s goes with the next prompt)",
			 ch->attached.nimages > images ? "image" : "file", path);
		return;
	}
	chat_complain(ch, "%s", e.text);
	chat_fail(ch, CLI_FAIL);
}

static void add_matching(struct chat *ch, const char *word)
{
	char *path = with_home(word);
	glob_t found;

	if (access(path, F_OK) && !glob(path, GLOB_ERR, NULL, &found)) {
		for (size_t i = 0; i < found.gl_pathc; i++)
			add_one(ch, found.gl_pathv[i]);
		globfree(&found);
	} else {
		add_one(ch, path); /* it says what is wrong */
	}
	free(path);
}

void chat_do_file(struct chat *ch, const char *arg)
{
	struct buf word = {0};

	if (!*arg) {
		chat_complain(ch,
			      ch->attached.nfiles ? "%d files go with the next prompt"
						  : "/file PATH...",
			      ch->attached.nfiles);
		return;
	}
	while (next_word(&arg, &word))
		add_matching(ch, word.data);
	buf_free(&word);
}

/* When the daemon keeps nothing. */
static char *own_markdown(const struct chat *ch)
{
	struct buf b = {0};

	for (int i = 0; i < ch->path.n; i++)
		buf_addf(&b, "## %s\n\n%s\n\n", ch->path.list[i].role,
			 ch->path.list[i].text);
	buf_adds(&b, "");
	return buf_take(&b, NULL);
}

/* A new file, for nobody else to read: it is a conversation. */
static int write_new(const char *path, const char *text, struct err *e)
{
	size_t n = strlen(text), done = 0;
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), rc = 0;

	if (fd < 0)
		return err_sys(e, errno, "write '%s'", path);
	while (!rc && done < n) {
		ssize_t k = write(fd, text + done, n - done);

		if (k < 0 && errno != EINTR)
			rc = err_sys(e, errno, "write '%s'", path);
		done += k > 0 ? (size_t)k : 0;
	}
	if (close(fd) && !rc)
		rc = err_sys(e, errno, "write '%s'", path);
	return rc;
}

static char *markdown(struct chat *ch)
{
	char *path, *text;

	if (!ch->conversation)
		return own_markdown(ch);
	path = xasprintf("/v1/hob/conversations/%s/export?format=markdown",
			 ch->conversation);
	text = chat_download(ch, path);
	free(path);
	return text;
}

void chat_do_save(struct chat *ch, const char *arg)
{
	struct buf word = {0};
	char *text = NULL, *path = NULL;
	struct err e;

	if (!next_word(&arg, &word) || arg[strspn(arg, " \t\n")]) {
		chat_complain(ch, "/save FILE (quotes around a name with spaces)");
		chat_fail(ch, CLI_USAGE);
	} else if ((text = markdown(ch))) {
		path = with_home(word.data);
		if (!write_new(path, text, &e)) {
			chat_say(ch, "(saved in %s)", path);
		} else {
			chat_complain(ch, "%s", e.text);
			chat_fail(ch, CLI_FAIL);
		}
	}
	free(path);
	free(text);
	buf_free(&word);
}
