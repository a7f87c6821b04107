/* Backups: whole, private, in nobody's place, or not at all. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "keep_world.h"

static char *in_folder(const struct world *w, const char *name)
{
	return xasprintf("%s/%s", w->dir, name);
}

static int files(const struct world *w)
{
	DIR *d = opendir(w->dir);
	int n = 0;

	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static void a_backup_is_a_whole_store(void **state)
{
	struct world *w = *state, copy = {0};
	char id[64] = "new", *path = in_folder(w, "copy.db");
	struct store_figures here, there;
	struct stat sb;

	world_turn(w, id, "what is in it", "everything");
	assert_int_equal(world_backup(w, path), ERR_NONE);
	assert_int_equal(stat(path, &sb), 0);
	assert_int_equal(sb.st_mode & 07777, 0600);
	uv_loop_init(&copy.loop);
	snprintf(copy.path, sizeof(copy.path), "%s", path);
	world_open(&copy);
	assert_int_equal(world_search(&copy, "everything", NULL), 1);
	assert_string_equal(copy.hits[0].conversation, id);
	store_figures(w->store, &here);
	store_figures(copy.store, &there);
	assert_int_equal(here.messages, there.messages);
	assert_int_equal(here.conversations, there.conversations);
	/* and one that is written to: the pages are of the same kind */
	world_turn(&copy, id, "goes on", "there");
	assert_int_equal(world_peek(&copy, "PRAGMA auto_vacuum"), 2);
	assert_int_equal(world_peek(&copy, "SELECT count(*) FROM pragma_integrity_check "
					   "WHERE integrity_check <> 'ok'"),
			 0);
	world_close(&copy);
	assert_int_equal(uv_loop_close(&copy.loop), 0);
	free(path);
}

static void a_backup_overwrites_nothing(void **state)
{
	struct world *w = *state;
	char *path = in_folder(w, "there"), *link = in_folder(w, "link"), text[8] = "";
	int fd = open(path, O_CREAT | O_RDWR, 0600);

	assert_int_equal(write(fd, "mine", 4), 4);
	assert_int_equal(symlink("nowhere", link), 0);
	assert_int_equal(world_backup(w, path), ERR_CONFLICT);
	assert_int_equal(world_backup(w, link), ERR_CONFLICT);
	assert_int_equal(world_backup(w, w->path), ERR_CONFLICT);
	assert_int_equal(world_backup(w, w->dir), ERR_CONFLICT);
	assert_int_equal(pread(fd, text, sizeof(text), 0), 4);
	assert_string_equal(text, "mine");
	close(fd);
	free(path);
	free(link);
}

static void a_backup_needs_a_folder_and_a_whole_path(void **state)
{
	struct world *w = *state;
	char *path = in_folder(w, "missing/copy.db"),
	     *below = in_folder(w, "memory.db/x");
	int before = files(w);

	assert_int_not_equal(world_backup(w, path), ERR_NONE);
	assert_int_not_equal(world_backup(w, below), ERR_NONE);
	assert_int_equal(world_backup(w, "relative.db"), ERR_INVALID);
	assert_int_equal(world_backup(w, ""), ERR_INVALID);
	assert_int_equal(files(w), before);
	free(path);
	free(below);
}

static void a_backup_holds_nothing_that_was_deleted(void **state)
{
	struct world *w = *state;
	char id[64] = "new", *path = in_folder(w, "copy.db");
	struct stat sb;
	char *bytes;
	int fd;

	world_turn(w, id, "the zqsecret", "was told");
	assert_int_equal(world_forget(w, &(struct store_forget_ask){.conversation = id}),
			 ERR_NONE);
	assert_int_equal(world_backup(w, path), ERR_NONE);
	fd = open(path, O_RDONLY);
	assert_int_equal(fstat(fd, &sb), 0);
	bytes = xmalloc((size_t)sb.st_size);
	assert_int_equal(read(fd, bytes, (size_t)sb.st_size), sb.st_size);
	assert_null(memmem(bytes, (size_t)sb.st_size, "zqsecret", 8));
	close(fd);
	free(bytes);
	free(path);
}

/* In a child, whose files may not grow beyond a limit: the exit status is the code of the error. */
static void a_full_disk_leaves_nothing_behind(void **state)
{
	struct world *w = *state;
	char id[64] = "new", *path = in_folder(w, "copy.db"), *text = xmalloc(2000001);
	int before, status;
	pid_t pid;

	memset(text, 'x', 2000000);
	text[2000000] = 0;
	world_turn(w, id, text, "long");
	free(text);
	world_close(w);
	before = files(w);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit limit = {1 << 20, 1 << 20};

		signal(SIGXFSZ, SIG_IGN);
		uv_loop_init(&w->loop);
		world_open(w);
		setrlimit(RLIMIT_FSIZE, &limit);
		_exit((int)world_backup(w, path));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), ERR_DISK_FULL);
	assert_int_not_equal(access(path, F_OK), 0);
	world_open(w);
	world_close(w); /* what the child left of the log is gone then */
	assert_int_equal(files(w), before);
	free(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_WORLD(a_backup_is_a_whole_store),
		WITH_WORLD(a_backup_overwrites_nothing),
		WITH_WORLD(a_backup_needs_a_folder_and_a_whole_path),
		WITH_WORLD(a_backup_holds_nothing_that_was_deleted),
		WITH_WORLD(a_full_disk_leaves_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
