/* Lock: flock() on the pid file. */
#include "core/cluster/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/err.h"

#define PATH_BYTES 4096

static int read_pid(int fd)
{
    char text[24];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);

    if (n <= 0) {
        return 0;
    }
    text[n] = '\0';
    return atoi(text);
}

static int write_pid(int fd)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%d\n", (int)getpid());

    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n) {
        return errno != 0 ? -errno : -EIO;
    }
    return 0;
}

static int fail(int rc, const char *path, char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, "%s: %s", path, peri_err_text(rc));
    return rc;
}

int peri_lock_take(peri_lock *lock, const char *dir, int *holder_pid, char *why,
                   size_t why_bytes)
{
    char path[PATH_BYTES];
    int rc;
    int fd;

    snprintf(path, sizeof path, "%s/var", dir);
    if (mkdir(path, 0755) < 0 && errno != EEXIST) {
        return fail(-errno, path, why, why_bytes);
    }
    snprintf(path, sizeof path, "%s/var/perigee.pid", dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        return fail(-errno, path, why, why_bytes);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        rc = errno == EWOULDBLOCK ? PERI_EEXISTS : -errno;
        *holder_pid = read_pid(fd);
        close(fd);
        if (rc != PERI_EEXISTS) {
            return fail(rc, path, why, why_bytes);
        }
        snprintf(why, why_bytes, "another host runs in this directory: pid %d",
                 *holder_pid);
        return rc;
    }
    lock->fd = fd;
    lock->dead_pid = read_pid(fd);
    rc = write_pid(fd);
    if (rc < 0) {
        close(fd);
        return fail(rc, path, why, why_bytes);
    }
    return 0;
}

void peri_lock_adopt(peri_lock *lock, int fd)
{
    lock->fd = fd;
    lock->dead_pid = 0;
}

void peri_lock_drop(peri_lock *lock)
{
    if (lock->fd < 0) {
        return;
    }
    /* Not unlinked: a second host may have opened it just now. */
    if (ftruncate(lock->fd, 0) < 0) {
        (void)errno; /* an old pid in it says no harm */
    }
    close(lock->fd);
    lock->fd = -1;
}

int peri_lock_holder(const char *dir)
{
    char path[PATH_BYTES];
    int pid = 0;
    int fd;

    snprintf(path, sizeof path, "%s/var/perigee.pid", dir);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    if (flock(fd, LOCK_SH | LOCK_NB) < 0) {
        pid = read_pid(fd);
    }
    close(fd);
    return pid;
}
