/* Pprof: a profile as Go's tools read it (profile.proto), not yet packed.
 *
 * Frames are functions whose name is the frame's text; a function of Lua has
 * its file and its first line, and each place its line. The state of the VM is
 * the label "state". */
#ifndef PERI_BASE_PPROF_H
#define PERI_BASE_PPROF_H

#include "core/base/stacks.h"

typedef struct peri_pprof_type {
    const char *type; /* "cpu" */
    const char *unit; /* "nanoseconds" */
} peri_pprof_type;

typedef struct peri_pprof_options {
    const peri_pprof_type *types; /* of the values, in their order */
    int type_count;
    int default_type; /* what is shown first */
    peri_pprof_type period_type;
    int64_t period;
    int64_t time_unix_ns; /* when it began */
    int64_t duration_ns;
    const char *const *comments;
    size_t comment_count;
} peri_pprof_options;

/* 0 or PERI_ELIMIT. */
int peri_pprof_write(peri_stacks *stacks, const peri_pprof_options *options,
                     peri_buf *out);

#endif
