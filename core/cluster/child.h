/* Child: processes that the master starts, and being told when they end. */
#ifndef PERI_CLUSTER_CHILD_H
#define PERI_CLUSTER_CHILD_H

#include <stdbool.h>
#include <sys/resource.h>
#include <uv.h>

#include "core/base/list.h"

typedef struct peri_child peri_child;

/* Embedded in its owner, who lives until on_exit. */
struct peri_child {
    peri_list link; /* of peri_children */
    int pid;        /* 0: none */
    void (*on_exit)(peri_child *child, int status, const struct rusage *usage);
};

/* The children of one loop. */
typedef struct peri_children {
    uv_signal_t signal;
    peri_list list;
} peri_children;

typedef struct peri_spawn {
    const char *program;
    const char *const *argv; /* NULL-ended */
    char *const *environment;
    int fds[4]; /* become 3, 4, ... in the child; ended by -1 unless full */
    bool fresh; /* the program that has this name now, not our own image */
    bool quiet; /* standard input is empty, standard output goes to error */
} peri_spawn;

int peri_children_init(peri_children *children, uv_loop_t *loop);
void peri_children_close(peri_children *children);

/* fork and exec. The child ignores what workers ignore (HUP, USR1 and so on)
 * from its first instruction: a signal to all processes of that name meets no
 * default action. 0 or -errno; on_exit is never called from inside. */
int peri_child_start(peri_children *children, peri_child *child,
                     const peri_spawn *spawn);

#endif
