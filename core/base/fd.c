/* Fd: see the header. */
#include "core/base/fd.h"

#include <errno.h>
#include <unistd.h>

int peri_fd_write(int fd, peri_slice bytes)
{
    while (bytes.length > 0) {
        ssize_t n = write(fd, bytes.data, bytes.length);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
        bytes.data += n;
        bytes.length -= (size_t)n;
    }
    return 0;
}
