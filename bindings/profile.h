/* Profile: where a worker's CPU time or memory goes, by call stack.
 *
 * The budget's ticks sample the loop's thread by its CPU clock, so what waits
 * is not counted. A tick inside of a task asks for a look at its stack, which
 * LuaJIT's profiler gives in compiled code too; a tick outside of tasks is the
 * host's own. Each sample stands for the CPU time since the last one: the sum
 * is all of the thread's.
 *
 * Of memory, blocks are sampled instead (heap.h), and in the end all objects
 * are counted (census.h). One profile at a time; belongs to the loop thread. */
#ifndef PERILUA_PROFILE_H
#define PERILUA_PROFILE_H

#include "bindings/host.h"
#include "bindings/vm.h"

typedef struct perilua_profile perilua_profile;

/* Begins; done comes once, from the loop, with lines as core/base/stacks.h has
 * them. 0; -EBUSY: one is under way; -ENOTSUP: not here. */
int perilua_profile_start(peri_host *host, const peri_profile_ask *ask,
                          void (*done)(void *data, peri_slice stacks),
                          void *data);

/* Ends it now, if there is one; done comes in here, or, where a heap has yet to
 * be counted, in a while. */
void perilua_profile_end(peri_host *host);

/* The host is about to close: done comes in here, if at all. */
void perilua_profile_close(peri_host *host);

/* A VM comes, is about to go. profile may be NULL. */
void perilua_profile_add(perilua_profile *profile, perilua_vm *vm);
void perilua_profile_forget(perilua_profile *profile, const perilua_vm *vm);

#endif
