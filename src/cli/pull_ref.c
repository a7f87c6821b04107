/* References of `hob pull`.  Pure functions.
 *
 * A reader may question why a quantisation must stand between separators: "Q4_K" must not find
 * "Q4_K_M", and "Q8_0" is in the name of many a file that is something else. */
#include "cli/pull_ref.h"

#include <ctype.h>
#include <strings.h>

#include "base/buf.h"
#include "base/nearest.h"

enum { MAX_LISTED = 12 };

bool pull_name_ok(const char *name, size_t n)
{
	if (n == 0 || n > PULL_NAME_MAX || name[0] == '.')
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)name[i]) && !strchr("._-", name[i]))
			return false;
	return memmem(name, n, "..", 2) == NULL;
}

static bool is_gguf(struct str name)
{
	return name.len > 5 && !strncasecmp(name.ptr + name.len - 5, ".gguf", 5);
}

static struct str base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return str_of(slash ? slash + 1 : path);
}

/* "-00001-of-00003.gguf" at the end. */
static bool is_split(struct str name)
{
	static const char shape[] = "-#####-of-#####.gguf";
	size_t n = sizeof shape - 1;

	if (name.len < n)
		return false;
	for (size_t i = 0; i < n; i++) {
		char c = name.ptr[name.len - n + i];

		if (shape[i] == '#' ? !isdigit((unsigned char)c) : tolower(c) != shape[i])
			return false;
	}
	return true;
}

static int refuse_split(struct str name, struct err *e)
{
	return err_set(e, ERR_UNSUPPORTED,
		       "'%.*s' is one part of a split model: hob cannot join "
		       "these yet; choose a file that is whole",
		       (int)name.len, name.ptr);
}

static int from_catalogue(struct pull_ref *ref, const char *name, struct err *e)
{
	struct nearest near = {.word = name};

	ref->entry = catalogue_by_name(name);
	if (!ref->entry) {
		for (size_t i = 0; i < catalogue_count(); i++)
			nearest_offer(&near, catalogue_at(i)->name);
		return err_set(e, ERR_MODEL,
			       "no model '%.100s' in the catalogue%s%s%s; see 'hob "
			       "pull --list', or name hf.co/OWNER/REPO",
			       name, near.best ? "; did you mean '" : "",
			       near.best ? near.best : "", near.best ? "'?" : "");
	}
	ref->repo = xstrdup(ref->entry->repo);
	ref->revision = xstrdup(ref->entry->revision);
	ref->file = xstrdup(ref->entry->file);
	ref->filename = xstrdup(ref->entry->filename);
	return 0;
}

/* The part of a repository's name before "-GGUF". */
static size_t stem_len(struct str repo)
{
	static const char tail[] = "-gguf";
	size_t n = sizeof tail - 1;

	if (repo.len > n && !strncasecmp(repo.ptr + repo.len - n, tail, n))
		return repo.len - n;
	return repo.len;
}

static int take_what(struct pull_ref *ref, struct str repo, const char *what,
		     struct err *e)
{
	struct str text = str_of(what);
	const char *quant;

	if (what && !pull_name_ok(what, text.len))
		return err_set(e, ERR_INVALID, "'%.100s' is no file name or quantisation",
			       what);
	if (what && is_gguf(text)) {
		if (is_split(text))
			return refuse_split(text, e);
		ref->file = xstrdup(what);
		ref->filename = xstrdup(what);
		return 0;
	}
	if (what) {
		ref->quant = xstrdup(what);
		for (char *p = ref->quant; *p; p++)
			*p = (char)toupper((unsigned char)*p);
	}
	quant = ref->quant ? ref->quant : PULL_DEFAULT_QUANT;
	ref->filename = xasprintf("%.*s.%s.gguf", (int)stem_len(repo), repo.ptr, quant);
	if (!pull_name_ok(ref->filename, strlen(ref->filename)))
		return err_set(e, ERR_INVALID, "'%.100s' is too long a name",
			       ref->filename);
	return 0;
}

static int from_hub(struct pull_ref *ref, const char *text, struct err *e)
{
	const char *slash = strchr(text, '/'), *colon = strchr(text, ':');
	size_t n = colon ? (size_t)(colon - text) : strlen(text);
	struct str owner, repo;

	if (!slash || (colon && colon < slash))
		return err_set(e, ERR_INVALID,
			       "'%.100s' is not OWNER/REPO[:FILE or QUANT]", text);
	owner = (struct str){text, (size_t)(slash - text)};
	repo = (struct str){slash + 1, n - owner.len - 1};
	if (!pull_name_ok(owner.ptr, owner.len) || !pull_name_ok(repo.ptr, repo.len))
		return err_set(e, ERR_INVALID,
			       "'%.100s' is not OWNER/REPO[:FILE or QUANT]", text);
	ref->repo = xstrndup(text, n);
	ref->revision = xstrdup("main");
	return take_what(ref, repo, colon ? colon + 1 : NULL, e);
}

int pull_ref_parse(struct pull_ref *ref, const char *text, struct err *e)
{
	static const char *const prefixes[] = {"hf.co/", "huggingface.co/"};
	struct str rest = str_of(text);
	int rc;

	*ref = (struct pull_ref){0};
	if (str_starts(rest, "https://"))
		rest.ptr += 8;
	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
		if (str_starts(str_of(rest.ptr), prefixes[i])) {
			rc = from_hub(ref, rest.ptr + strlen(prefixes[i]), e);
			if (rc < 0)
				pull_ref_free(ref);
			return rc;
		}
	if (strchr(text, '/'))
		return err_set(e, ERR_INVALID,
			       "'%.100s': a repository is named "
			       "hf.co/OWNER/REPO[:FILE or QUANT]",
			       text);
	return from_catalogue(ref, text, e);
}

void pull_ref_free(struct pull_ref *ref)
{
	free(ref->repo);
	free(ref->revision);
	free(ref->file);
	free(ref->quant);
	free(ref->filename);
	*ref = (struct pull_ref){0};
}

/* ---- choosing ---- */

/* The quantisation stands in the name between separators, the last one being ".gguf"'s dot;
 * "_" separates nothing, it is part of such names. */
static bool has_quant(struct str name, const char *quant)
{
	size_t n = strlen(quant);

	for (size_t i = 1; i + n < name.len; i++)
		if (!strncasecmp(name.ptr + i, quant, n) &&
		    strchr(".-", name.ptr[i - 1]) && strchr(".-", name.ptr[i + n]))
			return true;
	return false;
}

static bool matches(const struct pull_ref *ref, const struct pull_file *f,
		    const char *quant)
{
	struct str name = base_name(f->path);

	if (ref->file)
		return !strcmp(f->path, ref->file);
	/* What is no language model by itself. */
	if (!is_gguf(name) || str_starts(name, "mmproj") || str_starts(name, "imatrix"))
		return false;
	return !quant || has_quant(name, quant);
}

static void list_files(struct buf *out, const struct pull_ref *ref,
		       const struct pull_file *files, size_t n, const char *quant)
{
	size_t listed = 0;

	for (size_t i = 0; i < n; i++) {
		if (!matches(ref, &files[i], quant) || is_split(base_name(files[i].path)))
			continue;
		if (listed++ < MAX_LISTED)
			buf_addf(out, "%s%s", out->len ? ", " : "", files[i].path);
	}
	if (listed > MAX_LISTED)
		buf_addf(out, " and %zu more", listed - MAX_LISTED);
	if (listed == 0)
		buf_adds(out, "none");
}

static const struct pull_file *not_chosen(const struct pull_ref *ref,
					  const struct pull_file *files, size_t n,
					  size_t found, const char *quant, struct err *e)
{
	struct pull_ref all = {.repo = ref->repo};
	struct buf list = {0};

	list_files(&list, found ? ref : &all, files, n, found ? quant : NULL);
	if (found)
		err_set(e, ERR_INVALID, "%s has %zu files of %s, name one: %.300s",
			ref->repo, found, quant, list.data);
	else
		err_set(e, ERR_NOT_FOUND, "%s has no %s; its GGUF files: %.300s",
			ref->repo, ref->file ? ref->file : quant, list.data);
	buf_free(&list);
	return NULL;
}

const struct pull_file *pull_choose(const struct pull_ref *ref,
				    const struct pull_file *files, size_t n,
				    struct err *e)
{
	const char *quant = ref->quant ? ref->quant : PULL_DEFAULT_QUANT;
	const struct pull_file *best = NULL, *split = NULL, *only = NULL;
	size_t found = 0, whole = 0;

	for (size_t i = 0; i < n; i++) {
		bool is_part = is_split(base_name(files[i].path));

		if (matches(ref, &files[i], NULL) && !is_part) {
			whole++;
			only = &files[i];
		}
		if (!matches(ref, &files[i], quant))
			continue;
		if (is_part) {
			split = &files[i];
			continue;
		}
		found++;
		best = &files[i];
	}
	if (found == 1)
		return best;
	if (found == 0 && split) {
		refuse_split(base_name(split->path), e);
		return NULL;
	}
	if (found == 0 && whole == 1 && !ref->quant) /* nothing to choose from */
		return only;
	return not_chosen(ref, files, n, found, quant, e);
}
