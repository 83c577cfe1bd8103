/* Master: binds, spawns, watches, votes, serves the admin listener and the
 * control socket. Runs no code of the application. */
#ifndef PERI_CLUSTER_MASTER_H
#define PERI_CLUSTER_MASTER_H

#include <stdbool.h>

#include "core/base/slice.h"

typedef struct peri_master_options {
    const char *dir; /* absolute; the working directory already */
    const char *env;
    const char *program;           /* /proc/self/exe resolved, for workers */
    const char *const *stage_argv; /* NULL-ended: makes a new bundle, writes it
                                      to the memfd that is descriptor 3, faults
                                      as text to 4; exit 0 or 78 */
    const char *const *run_argv;   /* NULL-ended: starts this host again, for a
                                      new binary (USR2); NULL: not possible */
    /* A file of the dashboard that is in the program ("index.html"); false:
     * there is none of that name. NULL: there is no dashboard. */
    bool (*asset)(const char *name, peri_slice *out);
    int bundle_fd; /* of the first generation; taken */
    bool dev;      /* `perigee dev`: watch, one worker unless told */
} peri_master_options;

/* Serves until told to stop. Returns the exit code (A3). */
int peri_master_run(const peri_master_options *options);

#endif
