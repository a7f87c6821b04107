/* Ctrl-C as something a wait can wait for.
 *
 * While enabled SIGINT does not end the process: it sets a flag and makes a descriptor
 * readable.  Signals belong to the whole process, hence the only global state of the
 * client. */
#ifndef HOB_INTERRUPT_H
#define HOB_INTERRUPT_H

#include <stdbool.h>

/* From now on.  SIGPIPE ends the process again, as `hob run ... | head` expects (main()
 * ignores it for the daemon).  Aborts only when no descriptor is left. */
void interrupt_enable(void);
bool interrupt_pending(void);
void interrupt_clear(void); /* forgets a Ctrl-C that was acted on */
int interrupt_fd(void);     /* readable while one is pending; -1 when not enabled */
/* Waits up to ms, less when interrupted; true when interrupted. */
bool interrupt_sleep(int ms);

#endif
