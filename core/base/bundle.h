/* Bundle: the files of one generation, frozen.
 *
 * A read-only memory file (memfd) with every file of config/ and scripts/ as
 * it was when the generation was made, plus entries that begin with '@' and
 * are made by us. All workers of a generation, and successors of workers that
 * die, load from it: the disk may change meanwhile. */
#ifndef PERI_BASE_BUNDLE_H
#define PERI_BASE_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/slice.h"

#define PERI_BUNDLE_FILES_MAX 20000
#define PERI_BUNDLE_BYTES_MAX ((size_t)256 << 20)

typedef struct peri_bundle peri_bundle;
typedef struct peri_bundle_builder peri_bundle_builder;

peri_bundle_builder *peri_bundle_builder_create(void);
void peri_bundle_builder_destroy(peri_bundle_builder *builder);

/* Copies. 0, PERI_EEXISTS, or PERI_ELIMIT. */
int peri_bundle_add(peri_bundle_builder *builder, const char *name,
                    peri_slice data);

/* Adds the regular files below dir/sub, named "sub/...", links followed, dot
 * files and editors' temporary files left out; no such folder is no error. why
 * gets a sentence naming the file on failure. */
int peri_bundle_add_tree(peri_bundle_builder *builder, const char *dir,
                         const char *sub, char *why, size_t why_bytes);

/* Whether a file or folder of that name (without its path) is left out: dot
 * files, editors' temporary files and backups. */
bool peri_bundle_skips(const char *file_name);

/* Writes a sealed memfd; the caller owns *out_fd. 0 or -errno. */
int peri_bundle_finish(peri_bundle_builder *builder, int *out_fd);

/* Makes a memfd that somebody else wrote unchangeable. 0 or -errno. */
int peri_bundle_seal(int fd);

/* Maps; does not take the descriptor. 0, -errno or PERI_EFORMAT. */
int peri_bundle_open(int fd, peri_bundle **out);
void peri_bundle_close(peri_bundle *bundle);

/* Entries are sorted by name (strcmp). find gives a NULL slice when there is
 * none of that name; an empty file has data that is not NULL. A NUL that is not
 * counted follows the data. Borrowed until close. */
size_t peri_bundle_count(const peri_bundle *bundle);
const char *peri_bundle_name(const peri_bundle *bundle, size_t index);
peri_slice peri_bundle_data(const peri_bundle *bundle, size_t index);
peri_slice peri_bundle_find(const peri_bundle *bundle, const char *name);

#endif
