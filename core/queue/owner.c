/* Owner: locks of open file descriptions, so that threads and forks of other
 * things in the process don't matter. */
#include "core/queue/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int peri_owner_open(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    return fd < 0 ? -errno : fd;
}

static struct flock lock_of(uint32_t number)
{
    return (struct flock){
        .l_type = F_WRLCK,
        .l_whence = SEEK_SET,
        .l_start = (off_t)number,
        .l_len = 1,
    };
}

int peri_owner_take(int fd, uint32_t number)
{
    struct flock lock = lock_of(number);

    return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

bool peri_owner_alive(int fd, uint32_t number)
{
    struct flock lock = lock_of(number);

    /* In doubt it lives: its jobs would run twice. */
    return fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}
