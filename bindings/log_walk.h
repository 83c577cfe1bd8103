/* Log walk: over tables that a log line shows, with everything bounded; for
 * log_line.c, log_value.c and log_error.c. */
#ifndef PERILUA_LOG_WALK_H
#define PERILUA_LOG_WALK_H

#include "bindings/log_line.h"

typedef struct perilua_log_walk {
    lua_State *L;
    peri_buf *out;
    const perilua_redact *redact;
    unsigned has; /* PERILUA_LOG_HAS_... */
    int depth;
    const void
        *above[PERILUA_LOG_DEPTH_MAX + 1];     /* tables that hold this one */
    uint64_t masks[PERILUA_LOG_DEPTH_MAX + 2]; /* paths that fit so far */
} perilua_log_walk;

/* What appends gives 0 or PERI_ELIMIT, and leaves the stack as it was. Indices
 * are absolute. */

/* ---- log_value.c ---- */

void perilua_log_start(perilua_log_walk *w, lua_State *L,
                       const perilua_redact *redact, peri_buf *out);

/* Goes from this depth to a key's value: sets the mask below, and says whether
 * the value is censored. */
bool perilua_log_enter(perilua_log_walk *w, peri_slice key);

int perilua_log_put(perilua_log_walk *w, const char *text);
int perilua_log_put_value(perilua_log_walk *w, int index);

/* "key":value */
int perilua_log_put_member(perilua_log_walk *w, peri_slice key, int index);

/* A table's key as text, in storage where it isn't a string. */
peri_slice perilua_log_key(perilua_log_walk *w, int index, char *storage,
                           size_t bytes);

/* Whether it is json.null. */
bool perilua_log_is_null(lua_State *L, int index);

/* ---- log_error.c ---- */

/* Whether perigee.error has made it. */
bool perilua_log_is_error(lua_State *L, int index);

int perilua_log_put_error(perilua_log_walk *w, int index);

#endif
