/* Stall: says what kept a worker's loop from turning, with the Lua stack.
 *
 * A timer runs while tasks run and a little longer. When it comes twice in one
 * turn of the loop, a task is asked for its stack; when the turn turns out to
 * have taken longer than log.stall, a line tells of it. The clock is the
 * monotonic one: a C function that blocks is a stall too. In workers; belongs
 * to the loop thread. */
#ifndef PERILUA_STALL_H
#define PERILUA_STALL_H

#include "bindings/host.h"
#include "bindings/vm.h"

typedef struct perilua_stalls perilua_stalls;

/* NULL: the system has no such timer. */
perilua_stalls *perilua_stalls_create(peri_host *host);

/* Closes its handle; frees later, from the loop. NULL is allowed. */
void perilua_stalls_destroy(perilua_stalls *stalls);

/* log.stall; 0: nothing is watched. */
void perilua_stalls_set_limit(perilua_stalls *stalls, uint32_t limit_ms);

/* A task is about to run, for a request or not. stalls may be NULL. */
void perilua_stalls_note(perilua_stalls *stalls, bool request);

#endif
