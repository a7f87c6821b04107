/* Authorities beside the system's: one PEM of both, in memory.  Loop thread.
 *
 * A reader may question the file without a name.  curl takes more authorities as a second store,
 * as bytes, or as a file.  The first needs the TLS library's own headers and would add them to
 * a store that curl shares between connections; the second is copied whole for every call, and
 * parsed again for every connection; a file is parsed once.  Its path /proc/self/fd/N stays
 * ours until the end, since curl's cache knows a store by its path alone. */
#include "net/fetch_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct trust {
	int fd;      /* owned; the memory file */
	char *path;  /* owned */
	void *bytes; /* mapped */
	size_t nbytes;
	SLIST_ENTRY(trust) link;
};

static const char BEGIN[] = "-----BEGIN CERTIFICATE-----";
static const char END[] = "-----END CERTIFICATE-----";

/* ---- is it PEM? */

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes up to `max` bytes to out and counts all of them; -1: a foreign character. */
static long base64_decode(const char *p, const char *end, unsigned char *out, long max)
{
	unsigned bits = 0;
	int nbits = 0;
	long n = 0;

	for (; p < end && *p != '='; p++) {
		int v = base64_value(*p);

		if (strchr(" \t\r\n", *p))
			continue;
		if (v < 0)
			return -1;
		bits = bits << 6 | (unsigned)v;
		nbits += 6;
		if (nbits < 8)
			continue;
		nbits -= 8;
		if (n < max)
			out[n] = (unsigned char)(bits >> nbits);
		n++;
	}
	for (; p < end; p++)
		if (!strchr("= \t\r\n", *p))
			return -1;
	return n;
}

/* A certificate is one DER sequence that is as long as it says. */
static bool is_certificate(const char *p, const char *end)
{
	unsigned char head[6] = {0};
	long n = base64_decode(p, end, head, sizeof head), length = 0, octets;

	if (n < (long)sizeof head || head[0] != 0x30)
		return false;
	if (head[1] < 0x80)
		return n == 2 + head[1];
	octets = head[1] & 0x7f;
	if (octets < 1 || octets > 4)
		return false;
	for (long i = 0; i < octets; i++)
		length = length << 8 | head[2 + i];
	return n == 2 + octets + length;
}

static int check_pem(const char *pem, const char *file, struct err *e)
{
	const char *p = pem, *end;
	int n = 0;

	for (; (p = strstr(p, BEGIN)); p = end, n++) {
		p += sizeof BEGIN - 1;
		end = strstr(p, END);
		if (!end || !is_certificate(p, end))
			return err_set(e, ERR_INVALID,
				       "ca_file '%s': certificate %d is damaged", file,
				       n + 1);
	}
	return n ? 0
		 : err_set(e, ERR_INVALID, "ca_file '%s' has no certificate in PEM (%s)",
			   file, BEGIN);
}

/* ---- files */

static int read_fd(int fd, const char *file, struct buf *out, struct err *e)
{
	size_t before = out->len;
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, ERR_INVALID, "ca_file '%s' is no regular file", file);
	do {
		if (out->len - before > FETCH_MAX_CA_BYTES)
			return err_set(e, ERR_INVALID, "ca_file '%s' is over %d bytes",
				       file, FETCH_MAX_CA_BYTES);
		buf_reserve(out, 64 << 10);
		n = read(fd, out->data + out->len, 64 << 10);
		if (n > 0)
			out->len += (size_t)n;
	} while (n > 0);
	if (n < 0)
		return err_set(e, ERR_INVALID, "ca_file '%s': %s", file, strerror(errno));
	buf_addc(out, '\n');
	return 0;
}

static int read_file(const char *file, struct buf *out, struct err *e)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;

	if (fd < 0)
		return err_set(e, ERR_INVALID, "ca_file '%s': %s", file, strerror(errno));
	rc = read_fd(fd, file, out, e);
	close(fd);
	return rc;
}

/* Those of ca_file, then the system's, where it has a bundle. */
static int read_both(const char *ca_file, struct buf *out, struct err *e)
{
	const char *system = curl_version_info(CURLVERSION_NOW)->cainfo;

	if (read_file(ca_file, out, e) < 0)
		return -1;
	if (memchr(out->data, 0, out->len))
		return err_set(e, ERR_INVALID, "ca_file '%s' is not text", ca_file);
	if (check_pem(out->data, ca_file, e) < 0)
		return -1;
	if (system && !access(system, R_OK))
		return read_file(system, out, e);
	return 0;
}

/* ---- memory files */

static struct trust *trust_new(const struct buf *pem, struct err *e)
{
	int fd = memfd_create("authorities", MFD_CLOEXEC);
	struct trust *t;
	void *bytes;

	if (fd < 0 || write(fd, pem->data, pem->len) != (ssize_t)pem->len ||
	    (bytes = mmap(NULL, pem->len, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED) {
		err_sys(e, errno, "a memory file for authorities");
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	t = xcalloc(1, sizeof *t);
	t->fd = fd;
	t->path = xasprintf("/proc/self/fd/%d", fd);
	t->bytes = bytes;
	t->nbytes = pem->len;
	return t;
}

static struct trust *trust_find(const struct fetch *f, const struct buf *pem)
{
	struct trust *t;

	SLIST_FOREACH(t, &f->trusts, link)
	if (t->nbytes == pem->len && !memcmp(t->bytes, pem->data, pem->len))
		return t;
	return NULL;
}

const char *trust_get(struct fetch *f, const char *ca_file, struct err *e)
{
	struct trust *t = NULL;
	struct buf pem = {0};

	if (read_both(ca_file, &pem, e) == 0 && !(t = trust_find(f, &pem)) &&
	    (t = trust_new(&pem, e)))
		SLIST_INSERT_HEAD(&f->trusts, t, link);
	buf_free(&pem);
	return t ? t->path : NULL;
}

void trusts_free(struct trust_list *l)
{
	struct trust *t;

	while ((t = SLIST_FIRST(l))) {
		SLIST_REMOVE_HEAD(l, link);
		munmap(t->bytes, t->nbytes);
		close(t->fd);
		free(t->path);
		free(t);
	}
}
