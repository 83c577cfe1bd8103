/* Inherit: what a master hands to the worker it starts.
 *
 * Descriptors with agreed numbers, and the environment variables
 * PERIGEE_WORKER_*, which say what they are. */
#ifndef PERI_CLUSTER_INHERIT_H
#define PERI_CLUSTER_INHERIT_H

#include <stddef.h>
#include <stdint.h>

/* The first descriptors of a worker after the standard ones. */
enum {
    PERI_INHERIT_SEGMENT = 3,
    PERI_INHERIT_CHANNEL,
    PERI_INHERIT_BUNDLE,
    PERI_INHERIT_LISTENER,
    PERI_INHERIT_END
};

typedef struct peri_inherited {
    int segment_fd;
    int channel_fd;
    int bundle_fd;
    int listener_fd;
    int record;  /* its record in the segment */
    int number;  /* what the application knows it as, from 0 */
    int workers; /* how many there are */
    int no_jobs; /* 1: of the role web */
    int master_pid;
    uint64_t generation; /* of the bundle */
    char dir[4096];
    char env[64];
    char *logs; /* settings, as text: where the host's log goes, whatever the
                   bundle says. In the worker: its own, to free */
} peri_inherited;

/* The variables as NAME=value, NULL-ended, behind those of the process's own
 * environment. The caller frees the list and, from own_count on, its texts. */
char **peri_inherit_environment(const peri_inherited *inherited,
                                size_t *own_count);

/* In the worker: reads and removes the variables. 0, or PERI_EFORMAT when this
 * process was not started by a master. */
int peri_inherit_read(peri_inherited *out);

#endif
