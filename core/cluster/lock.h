/* Lock: one host a directory.
 *
 * A locked file, var/perigee.pid, which holds the master's pid. The kernel lets
 * go of it when the process ends, however it ends. */
#ifndef PERI_CLUSTER_LOCK_H
#define PERI_CLUSTER_LOCK_H

#include <stddef.h>

typedef struct peri_lock {
    int fd;
    int dead_pid; /* of a host that ended without letting go; 0: none */
} peri_lock;

/* Makes dir/var if it is absent. 0; PERI_EEXISTS: another host runs, whose pid
 * is *holder_pid; or -errno. why gets a sentence on failure. */
int peri_lock_take(peri_lock *lock, const char *dir, int *holder_pid, char *why,
                   size_t why_bytes);

/* The lock that this process held before it became another program. */
void peri_lock_adopt(peri_lock *lock, int fd);

void peri_lock_drop(peri_lock *lock);

/* The pid of the host that runs in dir, or 0. */
int peri_lock_holder(const char *dir);

#endif
