/* Offload state: a Lua state on a thread of its own, for code that computes.
 *
 * It has the standard library, the application's modules from the generation's
 * bundle and what of perigee.* needs no loop. Made on the loop thread, then
 * used by one thread. Its code is stopped by a hook that a signal sets on that
 * thread; compiled code looks up for it only where LuaJIT's profiler says so,
 * of which a process has one (budget.h). */
#ifndef PERILUA_OFFLOAD_STATE_H
#define PERILUA_OFFLOAD_STATE_H

#include "bindings/budget.h"
#include "bindings/vm.h"
#include "core/base/buf.h"

#define PERILUA_OFFLOAD_RESULT_MAX ((size_t)64 << 20)

typedef struct perilua_offload_state perilua_offload_state;

typedef enum perilua_offload_end {
    PERILUA_OFFLOAD_DONE,    /* the output is what run() in Lua gave */
    PERILUA_OFFLOAD_STOPPED, /* it was asked to */
    PERILUA_OFFLOAD_MEMORY,  /* over its limit */
    PERILUA_OFFLOAD_RESULT   /* that is not plain, or too large: the text */
} perilua_offload_end;

/* parent and budget outlive it. NULL: there is no memory for one. */
perilua_offload_state *perilua_offload_state_create(const perilua_vm *parent,
                                                    perilua_budget *budget,
                                                    size_t memory_max_bytes);
void perilua_offload_state_destroy(perilua_offload_state *state);

/* The thread's: runs a packed request (perigee/offload_state.lua). With RESULT
 * the output is a sentence, with MEMORY and STOPPED nothing. */
perilua_offload_end perilua_offload_state_run(perilua_offload_state *state,
                                              peri_slice request,
                                              peri_buf *output);

/* From the loop. Its thread is told, every few milliseconds until the run has
 * ended; the state must not be used for another one. */
void perilua_offload_state_stop(perilua_offload_state *state);

/* From the loop, when that was of no use: lends it the budget's profiler for
 * the rest of the run; the one that it was made with. */
void perilua_offload_state_look_up(perilua_offload_state *state,
                                   perilua_budget *budget);

#endif
