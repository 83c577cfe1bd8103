/* Profile, the master's side: all workers sample themselves for a while, what
 * they saw is added up.
 *
 * One at a time. Also for the dashboard: peri_profile_start(), then
 * peri_profile_render() in done. */
#ifndef PERI_CLUSTER_PROFILE_H
#define PERI_CLUSTER_PROFILE_H

#include "core/base/buf.h"
#include "core/base/stacks.h"
#include "core/cluster/worker.h"

#define PERI_PROFILE_MAX_MS ((uint32_t)300000)
#define PERI_PROFILE_SUMMARY_BYTES 1024

typedef struct peri_master peri_master;
typedef struct peri_profile peri_profile;

typedef struct peri_profile_options {
    peri_profile_kind kind;
    uint32_t duration_ms; /* 1 to PERI_PROFILE_MAX_MS */
    int worker;           /* its slot; -1: all */
} peri_profile_options;

/* Borrowed during the call of done. */
typedef struct peri_profile_result {
    const char *fault; /* NULL: there is a profile */
    peri_profile_kind kind;
    peri_stacks *stacks;
    peri_stacks *types;  /* of a heap: "T;table", objects and bytes */
    uint64_t heap_bytes; /* by Lua's own count, when it was counted */
    uint64_t longest_us; /* that a worker was kept by the counting */
    int workers;         /* that have answered */
    int missing;         /* have ended, or did not answer in time */
    uint64_t started_unix_ms;
    uint64_t took_ms;
} peri_profile_result;

typedef enum peri_profile_format {
    PERI_PROFILE_SVG,
    PERI_PROFILE_PPROF,
    PERI_PROFILE_COLLAPSED
} peri_profile_format;

/* Begins one; done comes once, from the loop. 0; negative: what is wrong is in
 * why, and done does not come (-EBUSY: another one is under way). */
int peri_profile_start(peri_master *master, const peri_profile_options *options,
                       void (*done)(void *data,
                                    const peri_profile_result *result),
                       void *data, char *why, size_t why_bytes);

/* The one that was started with this data: has it come to its end now, or
 * forgets it. Nothing happens when it is over. */
void peri_profile_end(peri_master *master, const void *data);
void peri_profile_forget(peri_master *master, const void *data);

/* Appends a file of that format; a pprof is gzipped. 0 or PERI_ELIMIT. */
int peri_profile_render(const peri_profile_result *result,
                        peri_profile_format format, peri_buf *out);

/* "svg", "pprof", "collapsed". False: none of them. */
bool peri_profile_format_parse(const char *name, peri_profile_format *out);

/* "2 workers, 3.1 s of CPU time in 10.0 s, 3100 samples"; of a heap a second
 * line tells of types. */
void peri_profile_summary(const peri_profile_result *result, char *out,
                          size_t out_bytes);

#endif
