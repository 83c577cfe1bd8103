/* Budget: stops a task that computes for too long, with the compiler on.
 *
 * A timer on the thread's CPU clock ticks while the thread works; each tick is
 * charged to the task that runs. A task over its budget, or a job that is
 * overdue, gets a hook that raises, again and again until it has given up.
 * LuaJIT's profiler, in line mode, makes compiled code look up often enough to
 * notice. A C function that does not return is not stopped by this: that is the
 * master's watchdog's.
 *
 * Uses a signal and a timer of the process: for our own program, not for hosts
 * inside of somebody else's. One live VM at a time, and one that is
 * being built. */
#ifndef PERILUA_BUDGET_H
#define PERILUA_BUDGET_H

#include <stdint.h>

#include "bindings/vm.h"

typedef struct perilua_budget perilua_budget;

/* Who looks at stacks. */
typedef enum perilua_sampler_kind {
    PERILUA_SAMPLER_PROFILE, /* profile.c */
    PERILUA_SAMPLER_STALLS,  /* stall.c */
    PERILUA_SAMPLERS
} perilua_sampler_kind;

typedef struct perilua_sampler {
    bool looks; /* compiled code of the live VM is to look up */
    /* In signal context, every millisecond of the thread's CPU time. May call
     * perilua_budget_ask(). NULL: it has a clock of its own. */
    void (*tick)(void *data);
    /* Soon after somebody has asked, where the stack of L can be looked at but
     * nothing may be allocated in it or run. state is LuaJIT's letter for what
     * the VM was at when it was asked; '?': unknown. */
    void (*take)(void *data, perilua_vm *vm, lua_State *L, char state);
    /* The task that was asked has ended or waits. */
    void (*left)(void *data, const perilua_task *task);
    void *data;
} perilua_sampler;

/* NULL when the system has no such timer. Call on the loop's thread. */
perilua_budget *perilua_budget_create(void);
void perilua_budget_destroy(perilua_budget *budget);

/* The live VM, whose tasks have limit_ms of CPU time each from now on (0: no
 * limit); NULL: there is none. It must be taken out before it is closed. */
void perilua_budget_watch(perilua_budget *budget, perilua_vm *vm,
                          uint32_t limit_ms);

/* Tasks of this VM that are `bounded` and overdue are stopped, whatever CPU
 * time they have. The VM is the live one. */
void perilua_budget_bound(perilua_budget *budget, perilua_vm *vm);

/* Borrowed until another one, or NULL, takes its place. Where compiled code is
 * to look up, it is thrown away before and after. */
void perilua_budget_sample(perilua_budget *budget, perilua_sampler_kind kind,
                           const perilua_sampler *sampler);

/* From any context: take is called at the VM's next instruction (or line, where
 * code is compiled). */
void perilua_budget_ask(perilua_budget *budget, perilua_vm *vm);

/* The task has been resumed and is back: what was asked of it is over. */
void perilua_budget_left(perilua_vm *vm, const perilua_task *task);

/* The VM of a generation that is being built, beside the live one; NULL: none
 * any more. Its compiler is off for as long, so no profiler is needed. */
void perilua_budget_stage(perilua_budget *budget, perilua_vm *vm,
                          uint32_t limit_ms);

/* Compiled code of this state, which is at rest, will look up for hooks when
 * the profiler is lent to it. budget may be NULL: it will not. */
void perilua_budget_looks(perilua_budget *budget, lua_State *L);

/* The profiler, one a process, for a state on another thread; false: it is lent
 * already, or budget is NULL. Tasks go on being charged, and are stopped when
 * it is back. Then, on any thread, the state being at rest. */
bool perilua_budget_lend(perilua_budget *budget, lua_State *to);
void perilua_budget_give_back(perilua_budget *budget, lua_State *from);

/* vm is about to be closed. budget may be NULL. */
void perilua_budget_forget(perilua_budget *budget, const perilua_vm *vm);

#endif
