/* Stage: from a directory on disk to the bundle of a generation.
 *
 * Collects config/, scripts/ and the .env files, evaluates and validates the
 * configuration in a VM of its own, compiles every script. Runs no script. */
#ifndef PERILUA_STAGE_H
#define PERILUA_STAGE_H

#include "core/base/buf.h"

typedef struct perilua_stage_options {
    const char *dir;
    const char *env;              /* NULL: decided as A4 says */
    const char *const *overrides; /* "a.b=c", from flags, NULL-ended, or NULL */
    bool dev;                     /* the command is `dev`, or `test` */
    bool certificates;            /* those of http.tls must be there, and fit */
    bool tolerant; /* scripts that do not compile are listed in "@faults" */
} perilua_stage_options;

/* 0 and a sealed memfd that the caller owns, with the entries "@config" (JSON:
 * the effective configuration), "@sources" (JSON: [{key, value, source}],
 * values of secrets masked), "@settings" (core/base/settings.h) and "@env" (the
 * environment's name). Else negative, and faults: a line each, "file:line:
 * what" or "source: what", complete. */
int perilua_stage(const perilua_stage_options *options, int *out_fd,
                  peri_buf *faults);

#endif
