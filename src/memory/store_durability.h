/* Whether a turn that counts as kept survives a power cut.  Threads as in store.h. */
#ifndef HOB_STORE_DURABILITY_H
#define HOB_STORE_DURABILITY_H

#include "memory/store.h"

/* true, as after opening: each commit waits for the disk.  false: a crash of ours loses nothing still, a
 * power cut may take the last commits, and leaves the file whole.  From the next job on. */
void store_set_durable(struct store *s, bool durable);

#endif
