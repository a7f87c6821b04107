/* The folder of the children's sockets, and the files of one child in it.
 *
 * Loop thread.  The key travels in a file of mode 0600 inside the folder of mode 0700, not in
 * an argument or a variable, which `ps` would show; the file is removed as soon as the process
 * is ready.  Names begin with our process id: what a killed daemon left is recognised by a
 * number that nobody has, and removed. */
#include "providers/llama_server_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/paths.h"

static bool is_stale(const char *name)
{
	size_t digits = strspn(name, "0123456789");
	int64_t pid;

	return name[digits] == '-' &&
	       str_to_i64((struct str){name, digits}, 1, INT32_MAX, &pid) &&
	       pid != getpid() && kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

static void sweep(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *f;

	while (d && (f = readdir(d)))
		if (is_stale(f->d_name))
			unlinkat(dirfd(d), f->d_name, 0);
	if (d)
		closedir(d);
}

/* Ours, and closed to others: whoever can write here could stand in for a child. */
int llama_dir_make(struct llama_servers *l, struct err *e)
{
	struct stat st;

	if (l->dir_ready)
		return 0;
	if (paths_make_private(l->dir, e) < 0)
		return -1;
	if (lstat(l->dir, &st) < 0)
		return err_sys(e, errno, "folder '%s'", l->dir);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return err_set(e, ERR_FORBIDDEN,
			       "'%s' is no folder of ours: remove it, or set "
			       "XDG_RUNTIME_DIR to a folder that nobody else writes to",
			       l->dir);
	if ((st.st_mode & 077) && chmod(l->dir, 0700) < 0)
		return err_sys(e, errno, "close the folder '%s' to others", l->dir);
	sweep(l->dir);
	l->dir_ready = true;
	return 0;
}

static int make_key(struct llama_server *s, struct err *e)
{
	unsigned char bytes[LLAMA_KEY_BYTES];

	if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
		return err_sys(e, errno, "random bytes for a key");
	for (size_t i = 0; i < sizeof bytes; i++)
		snprintf(s->key + 2 * i, 3, "%02x", bytes[i]);
	explicit_bzero(bytes, sizeof bytes);
	return 0;
}

static int write_key(struct llama_server *s, struct err *e)
{
	int fd = open(s->key_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
		      0600);
	size_t n = strlen(s->key);
	bool ok;

	if (fd < 0)
		return err_sys(e, errno, "key file '%s'", s->key_path);
	ok = write(fd, s->key, n) == (ssize_t)n && write(fd, "\n", 1) == 1;
	if (!ok)
		err_sys(e, errno, "key file '%s'", s->key_path);
	close(fd);
	return ok ? 0 : -1;
}

int llama_files_make(struct llama_server *s, struct err *e)
{
	unsigned long long id = s->id;

	s->socket_path = xasprintf("%s/%d-%llu.sock", s->all->dir, (int)getpid(), id);
	s->key_path = xasprintf("%s/%d-%llu.key", s->all->dir, (int)getpid(), id);
	if (strlen(s->socket_path) > LLAMA_MAX_SOCKET_BYTES)
		return err_set(e, ERR_INVALID,
			       "the socket's path '%s' is over %d bytes: set "
			       "XDG_RUNTIME_DIR to a shorter one",
			       s->socket_path, LLAMA_MAX_SOCKET_BYTES);
	if (llama_dir_make(s->all, e) < 0 || make_key(s, e) < 0)
		return -1;
	unlink(s->key_path); /* of a process that had our number and an id of ours */
	unlink(s->socket_path);
	return write_key(s, e);
}

void llama_key_forget(struct llama_server *s)
{
	if (s->key_path)
		unlink(s->key_path);
	free(s->key_path);
	s->key_path = NULL;
}

void llama_files_remove(struct llama_server *s)
{
	llama_key_forget(s);
	if (s->socket_path)
		unlink(s->socket_path);
	explicit_bzero(s->key, sizeof s->key);
}
