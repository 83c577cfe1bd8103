/* Upgrade: a new binary on the same listeners (USR2).
 *
 * The master asks the program that is on disk now whether it can make a
 * generation of this application; if so it becomes that program, by exec, with
 * the same pid, lock and listeners. The old workers see their master go and
 * finish what they have; what arrives meanwhile waits in the kernel for the new
 * ones. */
#ifndef PERI_CLUSTER_UPGRADE_H
#define PERI_CLUSTER_UPGRADE_H

#include <stdbool.h>

#include "core/cluster/listen.h"

#define PERI_HANDOVER_MAX 256

/* What the program before this one left open for us. */
typedef struct peri_handover {
    int lock_fd; /* -1: this is a start like any other */
    int listeners[PERI_HANDOVER_MAX];
    int count; /* of listeners that are still to be taken */
    int next;
} peri_handover;

/* Reads and removes the environment variable that tells of it. */
void peri_handover_read(peri_handover *handover);

/* The next listener if they are bound to this address, else -1; with port 0 any
 * port will do, and address gets it. */
int peri_handover_take(peri_handover *handover, peri_address *address);

/* Closes those that nobody took. */
void peri_handover_close(peri_handover *handover);

#endif
