/* Fd: descriptors that may be waited for: of commands, and of memory files. */
#ifndef PERI_BASE_FD_H
#define PERI_BASE_FD_H

#include "core/base/slice.h"

/* All of it, in as many pieces as it takes. 0 or -errno. */
int peri_fd_write(int fd, peri_slice bytes);

#endif
