/* The environment of children.  Any thread, while nobody changes ours. */
#include "net/environment.h"

#include <string.h>
#include <unistd.h>

#include "base/base.h"

static bool is_allowed(const char *line, const char *const *allowed, size_t n)
{
	size_t name = strcspn(line, "=");

	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(allowed[i]);
		bool open = allowed[i][len - 1] == '*';

		if (open ? name >= len - 1 && !strncmp(line, allowed[i], len - 1)
			 : name == len && !strncmp(line, allowed[i], len))
			return true;
	}
	return false;
}

char **environment_pick(const char *const *allowed, size_t n)
{
	size_t all = 0, kept = 0;
	char **env;

	while (environ[all])
		all++;
	env = xcalloc(all + 1, sizeof *env);
	for (size_t i = 0; i < all; i++)
		if (is_allowed(environ[i], allowed, n))
			env[kept++] = environ[i];
	return env;
}
