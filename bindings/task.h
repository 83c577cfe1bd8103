/* Task: one coroutine of the application, and what it waits for.
 *
 * Only task.c resumes coroutines. A C function that has to wait parks the
 * running task and returns; whoever has the result wakes it:
 *
 *     static int foo_get(lua_State *L)
 *     {
 *         foo_op *op = ...;              // outlives the call; embeds a wait
 *         op->wait.cancel = foo_on_cancel;
 *         foo_start(op, on_foo_done);    // never calls back from inside
 *         return perilua_task_park(L, &op->wait);
 *     }
 *     static void on_foo_done(foo_op *op)        // on the loop thread
 *     {
 *         perilua_task_wake(&op->wait, push_foo, op);
 *         foo_free(op);
 *     }
 *
 * What push leaves on the stack is what the function returns in Lua. Register
 * such functions with perilua_set_waiting(), which wraps them so that a
 * cancelled or overdue task gets its error raised. An op that refers to the VM
 * after the park holds perilua_vm_ref() on it. */
#ifndef PERILUA_TASK_H
#define PERILUA_TASK_H

#include "bindings/vm.h"

typedef struct perilua_wait perilua_wait;

struct perilua_wait {
    perilua_task *task; /* who waits; NULL before park and after wake/cancel */
    /* The task was cancelled or is overdue and no longer waits: give the
     * operation up as soon as it can be. Must not wake, may free the op. */
    void (*cancel)(perilua_wait *wait);
};

/* `return perilua_task_park(L, wait)`. Raises where there is no task. */
int perilua_task_park(lua_State *L, perilua_wait *wait);

/* Resumes the waiting task now, nested in the caller. Nothing happens when
 * wait->task is NULL. push may be NULL: no results. */
void perilua_task_wake(perilua_wait *wait,
                       int (*push)(lua_State *L, void *data), void *data);

/* Sets module (at the top of the stack)[name] = a function that may park. */
void perilua_set_waiting(lua_State *L, const char *name, lua_CFunction fn);

/* Milliseconds until the running task's deadline; -1: none. */
int64_t perilua_task_remaining_ms(lua_State *L);

/* Starts a task that runs the function below its nargs arguments (all popped
 * from L). done is called when it has ended: rc 0 with its results on co's
 * stack (count in nresults), or -1 with the error value on top. Never called
 * from inside, unless the task ends before it first waits. */
typedef void (*perilua_task_done)(void *data, lua_State *co, int rc,
                                  int nresults);
perilua_task *perilua_task_start(perilua_vm *vm, lua_State *L, int nargs,
                                 uint64_t deadline_ns, perilua_task_done done,
                                 void *data);

/* Asks a task to end: its wait raises an error of that kind ("cancelled",
 * "timeout", "unavailable"). Children are cancelled with it. */
void perilua_task_cancel(perilua_task *task, const char *kind,
                         const char *message);

#endif
