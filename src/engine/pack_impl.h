/* What pack_file.c (one file) wants of pack_dir.c (the folder); nobody else includes it. */
#ifndef HOB_PACK_IMPL_H
#define HOB_PACK_IMPL_H

#include "engine/pack_file.h"

#define PACK_SUFFIX ".pack"
#define PACK_TEMP   ".tmp-"
enum { PACK_NAME_BYTES = 64 };

int pack_dir_fd(const struct pack_dir *d);
const char *pack_dir_path(const struct pack_dir *d);
/* Removes the files used longest ago until `bytes` more fit; `name` will be replaced and does not count.  Files that
 * somebody maps stay.  -1: it cannot fit. */
int pack_dir_make_room(struct pack_dir *d, uint64_t bytes, const char *name,
		       struct err *e);
/* A new locked file with that temporary name; -1 and an error. */
int pack_dir_temp(struct pack_dir *d, char name[PACK_NAME_BYTES], struct err *e);
/* Which heads this process has seen whole. */
bool pack_dir_knows(struct pack_dir *d, uint64_t head_hash);
void pack_dir_learn(struct pack_dir *d, uint64_t head_hash);

#endif
