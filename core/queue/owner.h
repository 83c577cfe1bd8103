/* Owner: whether a process that has taken jobs is still there.
 *
 * Each has a number and holds a lock on the byte of that number in a file that
 * all share. The kernel lets go of it when the process dies, however it dies;
 * so there is nothing to renew, and no script can be too busy for it. */
#ifndef PERI_QUEUE_OWNER_H
#define PERI_QUEUE_OWNER_H

#include <stdbool.h>
#include <stdint.h>

/* The file, made if absent; a descriptor that the caller closes, or -errno. */
int peri_owner_open(const char *path);

/* Takes the number for as long as fd is open. 0, or -errno (-EAGAIN: somebody
 * has it). */
int peri_owner_take(int fd, uint32_t number);

/* Whether another open file has the number. */
bool peri_owner_alive(int fd, uint32_t number);

#endif
