/* Downloads of model files by libcurl's easy interface.  Client side, blocking.
 *
 * A reader may question that redirects are followed by hand: the token must go to the first host
 * only, every hop must be https (or this machine), and the sum that the hub announces stands in
 * the headers of the first answer, which libcurl's own following would mix with the others. */
#include "cli/pull.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/pull_part.h"
#include "net/fetch.h"

enum { MAX_ATTEMPTS = 5, ETAG_BYTES = 256 };

/* One file or listing on its way. */
struct transfer {
	const struct pull *p;
	CURL *easy;
	const char *url;
	struct buf *text;                 /* a listing grows here, or */
	struct part *part;                /* a file here */
	char source[1024];                /* what the part is of: "repo@revision/file" */
	uint64_t total;                   /* 0 = unknown */
	uint64_t resumed;                 /* bytes that were there before this attempt */
	char sha256[PULL_SHA256_HEX + 1]; /* "" = unknown */
	char etag[ETAG_BYTES];
	bool begun; /* the head of the final answer was judged */
	char detail[CURL_ERROR_SIZE];
	struct err e; /* set inside callbacks */
};

/* ---- URLs ---- */

static bool url_part(const char *url, CURLUPart what, unsigned flags, char *out,
		     size_t size)
{
	CURLU *u = curl_url();
	char *text = NULL;
	bool ok = !curl_url_set(u, CURLUPART_URL, url, 0) &&
		  !curl_url_get(u, what, &text, flags);

	if (ok)
		snprintf(out, size, "%s", text);
	curl_free(text);
	curl_url_cleanup(u);
	return ok;
}

bool pull_url_ok(const char *url)
{
	char scheme[16], host[256];

	if (!url_part(url, CURLUPART_SCHEME, 0, scheme, sizeof scheme) ||
	    !url_part(url, CURLUPART_HOST, 0, host, sizeof host))
		return false;
	return !strcmp(scheme, "https") ||
	       (!strcmp(scheme, "http") && fetch_host_is_loopback(host));
}

static bool same_origin(const char *a, const char *b)
{
	static const CURLUPart parts[] = {CURLUPART_SCHEME, CURLUPART_HOST,
					  CURLUPART_PORT};
	char x[256], y[256];

	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		if (!url_part(a, parts[i], CURLU_DEFAULT_PORT, x, sizeof x) ||
		    !url_part(b, parts[i], CURLU_DEFAULT_PORT, y, sizeof y) ||
		    strcmp(x, y))
			return false;
	return true;
}

/* A path of the hub as part of a URL; false when it could climb out of its repository. */
static bool add_path(struct buf *url, const char *path)
{
	while (*path) {
		size_t n = strcspn(path, "/");
		char *safe;

		if (n == 0 || (n == 1 && path[0] == '.') ||
		    (n == 2 && !memcmp(path, "..", 2)))
			return false;
		safe = curl_easy_escape(NULL, path, (int)n);
		buf_addf(url, "/%s", safe);
		curl_free(safe);
		path += n;
		if (*path == '/')
			path++;
	}
	return true;
}

/* ---- one answer ---- */

static const char *header(struct transfer *t, const char *name)
{
	struct curl_header *h;

	return curl_easy_header(t->easy, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK
		       ? h->value
		       : "";
}

static long status_of(struct transfer *t)
{
	long status = 0;

	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	return status;
}

static int set_total(struct transfer *t, uint64_t bytes, struct err *e)
{
	if (bytes > PULL_MAX_FILE_BYTES)
		return err_set(e, ERR_TOO_LARGE,
			       "%s: %llu bytes are more than any model has", t->url,
			       (unsigned long long)bytes);
	if (t->total && t->total != bytes)
		return err_set(e, ERR_CORRUPT, "%s has %llu bytes, expected %llu", t->url,
			       (unsigned long long)bytes, (unsigned long long)t->total);
	t->total = bytes;
	if (t->part)
		t->part->expect = bytes;
	return 0;
}

/* "bytes 100-199/200" must start where we stopped. */
static int check_range(struct transfer *t, struct err *e)
{
	unsigned long long first, last, total;
	const char *range = header(t, "content-range");
	char unit[8];

	if (sscanf(range, "%7s %llu-%llu/%llu", unit, &first, &last, &total) != 4 ||
	    strcmp(unit, "bytes") || first != t->part->bytes || last + 1 != total)
		return err_set(e, ERR_UPSTREAM,
			       "%s: asked for the bytes from %llu on, got '%.80s'",
			       t->url, (unsigned long long)t->part->bytes, range);
	return set_total(t, total, e);
}

/* The head of a good answer for a file: where its bytes belong, and whether they fit. */
static int begin_file(struct transfer *t, struct err *e)
{
	const char *etag = header(t, "etag");
	curl_off_t length = -1;

	if (status_of(t) == 206) {
		if (check_range(t, e) < 0)
			return -1;
	} else {
		if (part_restart(t->part, e) < 0)
			return -1;
		t->resumed = 0;
		curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
		if (length >= 0 && set_total(t, (uint64_t)length, e) < 0)
			return -1;
	}
	if (etag[0] != '"' ||
	    strlen(etag) >= sizeof t->etag) /* weak ones do not do for ranges */
		etag = "";
	snprintf(t->etag, sizeof t->etag, "%s", etag);
	part_remember(t->part, t->source, t->sha256, t->etag);
	return part_room(t->part, e);
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	long status = status_of(t);

	n *= size;
	if (status != 200 && status != 206) /* a page about an error or a redirect */
		return n;
	if (t->text) {
		if (t->text->len + n > PULL_MAX_LIST_BYTES) {
			err_set(&t->e, ERR_TOO_LARGE, "%s: a listing over %d bytes",
				t->url, PULL_MAX_LIST_BYTES);
			return 0;
		}
		buf_add(t->text, bytes, n);
		return n;
	}
	if (!t->begun && begin_file(t, &t->e) < 0)
		return 0;
	t->begun = true;
	if (t->total && t->part->bytes + n > t->total) {
		err_set(&t->e, ERR_CORRUPT, "%s: more bytes than the %llu announced",
			t->url, (unsigned long long)t->total);
		return 0;
	}
	return part_write(t->part, bytes, n, &t->e) < 0 ? 0 : n;
}

static int on_progress(void *arg, curl_off_t total, curl_off_t now, curl_off_t a,
		       curl_off_t b)
{
	struct transfer *t = arg;
	struct pull_progress *p = t->p->progress;

	UNUSED(total);
	UNUSED(now);
	UNUSED(a);
	UNUSED(b);
	return p && !p->step(p, t->part ? t->part->bytes : 0, t->total, t->resumed);
}

static int curl_error(struct transfer *t, CURLcode why, struct err *e)
{
	char host[256] = "the server";
	const char *detail = t->detail[0] ? t->detail : curl_easy_strerror(why);

	url_part(t->url, CURLUPART_HOST, 0, host, sizeof host);
	if (t->e.code) {
		*e = t->e;
		return -1;
	}
	if (why == CURLE_ABORTED_BY_CALLBACK)
		return err_set(e, ERR_CANCELLED,
			       "interrupted; the same command goes on where it "
			       "stopped");
	return err_set(e, ERR_UPSTREAM, "%.100s: %.200s%s", host, detail,
		       t->part && t->part->bytes
			       ? "; the same command goes on where it stopped"
			       : "");
}

static int status_error(struct transfer *t, long status, struct err *e)
{
	switch (status) {
	case 401:
	case 403:
		return err_set(e, ERR_UNAUTHORIZED,
			       "%.200s: no access (status %ld): no such "
			       "repository, or one that needs a token in HF_TOKEN",
			       t->url, status);
	case 404:
		return err_set(e, ERR_NOT_FOUND, "%.300s: not found", t->url);
	case 429:
		return err_set(e, ERR_BUSY, "%.300s: too many requests: try again later",
			       t->url);
	default:
		return err_set(e, ERR_UPSTREAM, "%.300s: status %ld", t->url, status);
	}
}

/* ---- hops ---- */

/* The hub announces the sum of a large file in front of its redirect. */
static void learn_sum(struct transfer *t)
{
	const char *tag = header(t, "x-linked-etag");

	if (tag[0] == '"')
		tag++;
	if (!t->part || t->sha256[0] ||
	    strspn(tag, "0123456789abcdef") != PULL_SHA256_HEX)
		return;
	memcpy(t->sha256, tag, PULL_SHA256_HEX);
	t->sha256[PULL_SHA256_HEX] = 0;
}

static int one_hop(struct transfer *t, const char *url, bool first, struct err *e)
{
	struct curl_slist *headers = NULL;
	char line[ETAG_BYTES + 64];
	CURLcode why;

	if (t->p->token && t->p->token[0] && same_origin(url, t->p->endpoint)) {
		char *bearer = xasprintf("Authorization: Bearer %s", t->p->token);

		headers = curl_slist_append(headers, bearer);
		free(bearer);
	}
	if (t->part && t->part->bytes) {
		snprintf(line, sizeof line, "Range: bytes=%llu-",
			 (unsigned long long)t->part->bytes);
		headers = curl_slist_append(headers, line);
		snprintf(line, sizeof line, "If-Range: %s", t->etag);
		if (t->etag[0])
			headers = curl_slist_append(headers, line);
	}
	curl_easy_setopt(t->easy, CURLOPT_URL, url);
	curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, headers);
	t->detail[0] = 0;
	why = curl_easy_perform(t->easy);
	curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, NULL);
	curl_slist_free_all(headers);
	if (why)
		return curl_error(t, why, e);
	if (first)
		learn_sum(t);
	return 0;
}

/* Follows redirects to the end. 0: the final status is 200 or 206; 1: it is 416. */
static int perform(struct transfer *t, struct err *e)
{
	char *url = xstrdup(t->url), *next = NULL;
	int rc = -1, hops = 0;
	long status;

	for (;;) {
		if (one_hop(t, url, hops == 0, e) < 0)
			break;
		status = status_of(t);
		if (status == 200 || status == 206 || (status == 416 && t->part)) {
			rc = status == 416;
			break;
		}
		if (curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &next) || !next) {
			status_error(t, status, e);
			break;
		}
		if (++hops > PULL_MAX_REDIRECTS || !pull_url_ok(next)) {
			err_set(e, ERR_UPSTREAM,
				"%.200s: a redirect that is not followed (to "
				"'%.100s')",
				t->url, next);
			break;
		}
		free(url);
		url = xstrdup(next);
	}
	free(url);
	return rc;
}

static void transfer_init(struct transfer *t, const struct pull *p, const char *url)
{
	char host[256] = "";

	*t = (struct transfer){.p = p, .url = url, .easy = curl_easy_init()};
	ASSERT(t->easy);
	curl_easy_setopt(t->easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(t->easy, CURLOPT_USERAGENT, "hob");
	curl_easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT, (long)PULL_CONNECT_TIMEOUT_S);
	curl_easy_setopt(t->easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(t->easy, CURLOPT_LOW_SPEED_TIME, (long)PULL_STALL_S);
	curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(t->easy, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(t->easy, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(t->easy, CURLOPT_XFERINFODATA, t);
	curl_easy_setopt(t->easy, CURLOPT_ERRORBUFFER, t->detail);
	if (url_part(url, CURLUPART_HOST, 0, host, sizeof host) &&
	    fetch_host_is_loopback(host))
		curl_easy_setopt(t->easy, CURLOPT_NOPROXY, "*");
}

/* ---- the listing ---- */

struct listing {
	struct pull_file *files; /* owned */
	size_t n;
};

static void listing_free(struct listing *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->files[i].path);
	free(l->files);
}

static void listing_add(struct listing *l, const cJSON *item)
{
	struct pull_file *f = &l->files[l->n];
	const char *path = NULL, *oid = NULL;
	const cJSON *lfs = NULL;
	double bytes = 0;

	if (json_string(item, "path", &path, NULL) <= 0)
		return;
	json_double(item, "size", 0, 1e15, &bytes, NULL);
	if (json_object(item, "lfs", &lfs, NULL) > 0) {
		json_double(lfs, "size", 0, 1e15, &bytes, NULL);
		json_string(lfs, "oid", &oid, NULL);
	}
	*f = (struct pull_file){.path = xstrdup(path), .bytes = (uint64_t)bytes};
	if (oid && strlen(oid) == PULL_SHA256_HEX &&
	    strspn(oid, "0123456789abcdef") == PULL_SHA256_HEX)
		memcpy(f->sha256, oid, sizeof f->sha256);
	l->n++;
}

static int list_repo(const struct pull *p, const struct pull_ref *ref, struct listing *l,
		     struct err *e)
{
	char *url = xasprintf("%s/api/models/%s/tree/%s?recursive=true", p->endpoint,
			      ref->repo, ref->revision);
	struct buf text = {0};
	struct transfer t;
	cJSON *tree = NULL;
	const cJSON *item;
	int rc;

	transfer_init(&t, p, url);
	t.text = &text;
	rc = perform(&t, e);
	if (rc == 0 && (!(tree = json_parse(buf_str(&text), e)) || !cJSON_IsArray(tree)))
		rc = err_set(e, ERR_UPSTREAM, "%.300s: not a listing of files", url);
	if (rc == 0) {
		int n = cJSON_GetArraySize(tree);

		l->files = xcalloc((size_t)(n < PULL_MAX_FILES ? n : PULL_MAX_FILES) + 1,
				   sizeof *l->files);
		cJSON_ArrayForEach(item, tree) if (l->n < PULL_MAX_FILES)
			listing_add(l, item);
	}
	cJSON_Delete(tree);
	curl_easy_cleanup(t.easy);
	buf_free(&text);
	free(url);
	return rc;
}

/* ---- the file ---- */

/* What is to be fetched, once it is known. */
struct wanted {
	char *path; /* owned: in the repository */
	uint64_t bytes;
	char sha256[PULL_SHA256_HEX + 1];
};

static int find_wanted(const struct pull *p, const struct pull_ref *ref, struct wanted *w,
		       struct err *e)
{
	const struct pull_file *f;
	struct listing l = {0};
	int rc = -1;

	if (ref->entry) {
		w->path = xstrdup(ref->file);
		w->bytes = ref->entry->bytes;
		memcpy(w->sha256, ref->entry->sha256, sizeof w->sha256);
		return 0;
	}
	if (list_repo(p, ref, &l, e) == 0 && (f = pull_choose(ref, l.files, l.n, e))) {
		w->path = xstrdup(f->path);
		w->bytes = f->bytes;
		memcpy(w->sha256, f->sha256, sizeof w->sha256);
		rc = 0;
		if (w->bytes > PULL_MAX_FILE_BYTES)
			rc = err_set(e, ERR_TOO_LARGE,
				     "%s: %llu bytes are more than any model has",
				     f->path, (unsigned long long)w->bytes);
	}
	listing_free(&l);
	return rc;
}

/* 1: the file is there already; -1: another one is. */
static int look_there(const struct pull *p, const char *filename, const struct wanted *w,
		      struct pull_result *r, struct err *e)
{
	char *path = xasprintf("%s/%s", p->dir, filename);
	struct stat st;
	int rc = 0;

	if (stat(path, &st) < 0) {
		free(path);
		return 0;
	}
	if (!w->bytes || (uint64_t)st.st_size == w->bytes) {
		rc = part_sum(path, p->progress, r->sha256, &r->bytes, e);
		r->verified = rc == 0 && w->sha256[0] && !strcmp(w->sha256, r->sha256);
		r->was_there = rc == 0 && (r->verified || !w->sha256[0]);
	}
	if (rc == 0 && r->was_there) {
		r->path = path;
		return 1;
	}
	if (rc == 0 && !p->force)
		rc = err_set(e, ERR_CONFLICT,
			     "'%s' is another file; remove it, or replace it "
			     "with --force",
			     path);
	free(path);
	return rc;
}

/* Until it is complete, the server says no, or nothing came any more. */
static int attempts(struct transfer *t, struct err *e)
{
	int rc = 0;

	for (int i = 0; i < MAX_ATTEMPTS; i++) {
		uint64_t before = t->part->bytes;

		t->begun = false;
		t->resumed = before;
		if (t->total && t->part->bytes == t->total)
			return 0;
		rc = perform(t, e);
		if (rc == 1) /* our part is no prefix of what is there now */
			rc = i ? err_set(e, ERR_UPSTREAM, "%s: refuses the range", t->url)
			       : part_restart(t->part, e);
		else if (rc == 0)
			return 0;
		if (rc < 0 && (e->code != ERR_UPSTREAM || t->part->bytes <= before))
			return -1;
	}
	return rc;
}

static int download(struct transfer *t, struct pull_result *r, struct err *e)
{
	if (part_resume(t->part, t->source, t->sha256, t->etag, e) < 0)
		return -1;
	if (t->total && t->part->bytes > t->total && part_restart(t->part, e) < 0)
		return -1;
	if (part_room(t->part, e) < 0 || attempts(t, e) < 0)
		return -1;
	if (t->part->bytes == 0 || (t->total && t->part->bytes != t->total))
		return err_set(e, ERR_UPSTREAM, "%s: got %llu of %llu bytes", t->url,
			       (unsigned long long)t->part->bytes,
			       (unsigned long long)t->total);
	r->bytes = t->part->bytes;
	r->verified = t->sha256[0] != 0;
	return part_finish(t->part, t->sha256, r->sha256, e);
}

static int fetch_wanted(const struct pull *p, const struct pull_ref *ref,
			const struct wanted *w, struct pull_result *r, struct err *e)
{
	struct buf url = {0};
	struct part part;
	struct transfer t;
	int rc;

	buf_addf(&url, "%s/%s/resolve/%s", p->endpoint, ref->repo, ref->revision);
	if (!add_path(&url, w->path)) {
		buf_free(&url);
		return err_set(e, ERR_INVALID, "'%.200s' is no path in a repository",
			       w->path);
	}
	transfer_init(&t, p, url.data);
	t.part = &part;
	t.total = w->bytes;
	memcpy(t.sha256, w->sha256, sizeof t.sha256);
	snprintf(t.source, sizeof t.source, "%s@%s/%s", ref->repo, ref->revision,
		 w->path);
	rc = part_open(&part, p, ref->filename, e);
	part.expect = w->bytes;
	if (rc == 0)
		rc = download(&t, r, e);
	if (rc == 0)
		r->path = xstrdup(part.path);
	part_close(&part);
	curl_easy_cleanup(t.easy);
	buf_free(&url);
	return rc;
}

int pull_fetch(const struct pull *p, const struct pull_ref *ref, struct pull_result *r,
	       struct err *e)
{
	struct wanted w = {0};
	int rc;

	*r = (struct pull_result){0};
	if (!pull_url_ok(p->endpoint))
		return err_set(e, ERR_INVALID, "'%.200s' is no https URL", p->endpoint);
	rc = find_wanted(p, ref, &w, e);
	if (rc == 0)
		rc = look_there(p, ref->filename, &w, r, e);
	if (rc == 0)
		rc = fetch_wanted(p, ref, &w, r, e);
	free(w.path);
	return rc < 0 ? -1 : 0;
}

/* ---- from a local file ---- */

static int copy_into(struct part *part, int fd, const char *from,
		     const struct catalogue_entry *entry, struct err *e)
{
	static const size_t block_bytes = 1 << 20;
	struct pull_progress *progress = part->progress;
	char *block = xmalloc(block_bytes);
	ssize_t n = 0;
	int rc = part_restart(part, e);

	part->expect = entry->bytes;
	if (rc == 0)
		rc = part_room(part, e);
	while (rc == 0 && (n = read(fd, block, block_bytes)) > 0) {
		rc = part_write(part, block, (size_t)n, e);
		if (rc == 0 && progress &&
		    !progress->step(progress, part->bytes, entry->bytes, 0))
			rc = err_set(e, ERR_CANCELLED, "interrupted");
	}
	if (n < 0)
		rc = err_sys(e, errno, "read '%s'", from);
	free(block);
	return rc;
}

static int install(const struct pull *p, const struct catalogue_entry *entry, int fd,
		   const char *from, struct pull_result *r, struct err *e)
{
	struct part part;
	int rc = part_open(&part, p, entry->filename, e);

	if (rc == 0)
		rc = copy_into(&part, fd, from, entry, e);
	if (rc == 0 && part_finish(&part, entry->sha256, r->sha256, e) < 0)
		rc = err_wrap(e, "'%.150s' is not %s", from, entry->name);
	if (rc == 0) {
		r->path = xstrdup(part.path);
		r->bytes = entry->bytes;
		r->verified = true;
	}
	part_close(&part);
	return rc;
}

int pull_install(const struct pull *p, const struct catalogue_entry *entry,
		 const char *from, struct pull_result *r, struct err *e)
{
	int fd = open(from, O_RDONLY | O_CLOEXEC), rc;
	struct wanted w = {.bytes = entry->bytes};
	struct stat st;

	*r = (struct pull_result){0};
	memcpy(w.sha256, entry->sha256, sizeof w.sha256);
	if (fd < 0 || fstat(fd, &st) < 0) {
		rc = err_sys(e, errno, "open '%s'", from);
	} else if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != entry->bytes) {
		rc = err_set(e, ERR_CORRUPT,
			     "'%s' is not %s: it has %lld bytes, expected %llu", from,
			     entry->name, (long long)st.st_size,
			     (unsigned long long)entry->bytes);
	} else {
		rc = look_there(p, entry->filename, &w, r, e);
		if (rc == 0)
			rc = install(p, entry, fd, from, r, e);
	}
	if (fd >= 0)
		close(fd);
	return rc < 0 ? -1 : 0;
}

void pull_result_free(struct pull_result *r)
{
	free(r->path);
	*r = (struct pull_result){0};
}
