/* File opening that can't leave its root. Blocks: for a thread's use. */
#ifndef PERI_HTTP_FILE_OPEN_H
#define PERI_HTTP_FILE_OPEN_H

#include <sys/stat.h>

#include "core/base/slice.h"

/* From a raw request path to one relative to the root, decoded, with index.html
 * where it ends in a slash. out has raw.length + 16 bytes. 0, or PERI_EFORMAT
 * for what no file is served for: bad escapes, an escaped slash or NUL, empty
 * segments, and those that begin with a dot. */
int peri_file_path(peri_slice raw, char *out);

/* Opens a regular file or a folder for reading: the descriptor, or -errno. */
int peri_file_open(const char *root, const char *path, struct stat *stat);

/* As open where the kernel has no openat2(): follows no links at all. */
int peri_file_open_walking(int root_fd, const char *path);

#endif
