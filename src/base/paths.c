/* XDG folders.  A runtime folder may be absent (ssh, cron, containers): then the socket goes under
 * the cache folder, which is private too, and never under a folder that others can write. */
#include "base/paths.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static char *xdg(const char *variable, const char *fallback, const char *tail)
{
	const char *base = getenv(variable), *home = getenv("HOME");

	if (base && base[0] == '/')
		return xasprintf("%s/%s", base, tail);
	return xasprintf("%s/%s/%s", home && home[0] == '/' ? home : "/", fallback, tail);
}

static char *runtime(const char *tail)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	char dir[64];

	if (run && run[0] == '/')
		return xasprintf("%s/%s", run, tail);
	snprintf(dir, sizeof dir, "/run/user/%u", (unsigned)getuid());
	if (access(dir, W_OK) == 0)
		return xasprintf("%s/%s", dir, tail);
	return xdg("XDG_CACHE_HOME", ".cache", tail);
}

char *paths_socket(void)
{
	const char *named = getenv("HOB_SOCKET");

	return named && named[0] ? xstrdup(named) : runtime("hob/hob.sock");
}

char *paths_children_dir(void)
{
	return runtime("hob/children");
}

char *paths_data_dir(void)
{
	return xdg("XDG_DATA_HOME", ".local/share", "hob");
}

char *paths_models_dir(void)
{
	return xdg("XDG_DATA_HOME", ".local/share", "hob/models");
}

char *paths_state_dir(void)
{
	return xdg("XDG_STATE_HOME", ".local/state", "hob");
}

char *paths_cache_dir(void)
{
	return xdg("XDG_CACHE_HOME", ".cache", "hob");
}

char *paths_config_file(void)
{
	return xdg("XDG_CONFIG_HOME", ".config", "hob/hob.conf");
}

int paths_make_private(const char *dir, struct err *e)
{
	char *path = xstrdup(dir);
	int rc = 0;

	for (char *p = path + 1; rc == 0; p++) {
		char c = *p;

		if (c != '/' && c != 0)
			continue;
		*p = 0;
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			rc = err_sys(e, errno, "make folder '%s'", path);
		*p = c;
		if (c == 0)
			break;
	}
	free(path);
	return rc;
}
