/* Where hob's files are, by the XDG base directory specification.  All results are owned by the
 * caller.  Nothing is created here but by paths_make_private(). */
#ifndef HOB_PATHS_H
#define HOB_PATHS_H

#include "base/err.h"

char *paths_socket(
	void); /* $HOB_SOCKET, $XDG_RUNTIME_DIR/hob/hob.sock, else under the cache folder */
char *paths_children_dir(void); /* hob/children beside it: sockets of children */
char *paths_data_dir(void);    /* $XDG_DATA_HOME/hob */
char *paths_models_dir(void);  /* $XDG_DATA_HOME/hob/models */
char *paths_state_dir(void);   /* $XDG_STATE_HOME/hob: logs, input history */
char *paths_cache_dir(void);   /* $XDG_CACHE_HOME/hob: what can be made again */
char *paths_config_file(void); /* $XDG_CONFIG_HOME/hob/hob.conf */

/* Makes the folder and its parents, each new one with mode 0700; an existing one is left as it is. */
int paths_make_private(const char *dir, struct err *e);

#endif
