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
#include "core/base/list.h"
#include "core/loop/timers.h"

typedef struct perilua_wait perilua_wait;
typedef struct perilua_group perilua_group;

typedef struct perilua_owned perilua_owned;

struct perilua_wait {
    perilua_task *task; /* who waits; NULL before park and after wake/cancel */
    /* The task was cancelled or is overdue and no longer waits: give the
     * operation up as soon as it can be. Must not wake, may free the op. */
    void (*cancel)(perilua_wait *wait);
};

/* Called once when a task has ended: rc 0 with nresults values on top of co,
 * or -1 with the error on top (its stack is still there for a traceback). It
 * may push a function and its arguments and call perilua_task_continue(). */
typedef void (*perilua_task_done)(void *data, perilua_task *task, lua_State *co,
                                  int rc, int nresults);

/* What ends with a task, such as the answer of another server that nobody has
 * read to its end. */
struct perilua_owned {
    peri_list link;
    void (*release)(perilua_owned *owned); /* it is off the list already */
};

typedef enum perilua_task_state {
    PERILUA_TASK_NEW,     /* never resumed */
    PERILUA_TASK_READY,   /* will be resumed soon */
    PERILUA_TASK_RUNNING, /* on the C stack, perhaps below another one */
    PERILUA_TASK_WAITING,
    PERILUA_TASK_ENDED
} perilua_task_state;

struct perilua_task {
    lua_State *co;
    perilua_vm *vm;
    int anchor; /* slot of co in the scheduler's table of threads */
    perilua_task_state state;
    perilua_wait *wait;
    peri_list link;  /* of all live tasks, or of ended ones with a handle */
    peri_list ready; /* of the ready queue */
    perilua_task *parent;
    peri_list children;
    peri_list sibling;
    peri_list owned;
    peri_list joiners; /* of those who wait for its end (bind_task.c) */
    perilua_group *group;
    peri_list grouped;
    peri_timer deadline;
    uint64_t deadline_ns; /* 0: none */
    perilua_task_done done;
    /* Of one with a handle that failed: its parent has ended too. */
    void (*orphaned)(perilua_task *task);
    void *data;
    void *context; /* the exchange of the request it works for, or NULL */
    /* What it is at, of a trace; counted. NULL: its context's. */
    struct peri_trace_span *span;
    const char *cancel_kind; /* static; NULL: not cancelled */
    char *cancel_message;
    int nargs;    /* to resume with, when NEW or READY */
    int nresults; /* when ENDED and kept for a handle; -1: an error on top */
    volatile uint32_t cpu_ticks; /* budget.c's */
    bool bounded; /* overdue, it is stopped also while it computes (budget.c) */
    uint16_t refusals; /* waits that it began although it was cancelled */
    bool continued;
    bool has_handle; /* a Lua handle refers to it */
    bool joined;
};

/* A task that is not started yet. The caller pushes the function and its
 * arguments on task->co, then runs it. The parent may be NULL; its deadline is
 * inherited when it is the earlier one. */
perilua_task *perilua_task_create(perilua_vm *vm, perilua_task *parent);

/* Starts: at once when nothing of the VM is running, else as soon as the
 * running task waits or ends. */
void perilua_task_run(perilua_task *task, int nargs, uint64_t deadline_ns,
                      perilua_task_done done, void *data);

/* Inside of done, after a failure: an empty coroutine that can run again; the
 * failed one is given up. */
lua_State *perilua_task_renew(perilua_task *task);

/* Inside of done: runs a function (pushed on co) as the same task, to a
 * second call of done. It starts afresh: not cancelled, without a deadline. */
void perilua_task_continue(perilua_task *task, int nargs);

/* As run, but never before the loop's next turn. */
void perilua_task_run_later(perilua_task *task, int nargs, uint64_t deadline_ns,
                            perilua_task_done done, void *data);

/* As create and run_later: the function and its nargs arguments are taken from
 * L. */
perilua_task *perilua_task_start(perilua_vm *vm, lua_State *L, int nargs,
                                 uint64_t deadline_ns, perilua_task_done done,
                                 void *data);

/* `return perilua_task_park(L, wait)`. Raises where there is no task. */
int perilua_task_park(lua_State *L, perilua_wait *wait);

/* Resumes the waiting task: now, or when the running task waits or ends.
 * Nothing happens when wait->task is NULL. push is called now (it may be NULL:
 * no results). */
void perilua_task_wake(perilua_wait *wait,
                       int (*push)(lua_State *L, void *data), void *data);

/* Sets module (at the top of the stack)[name] = a function that may park. */
void perilua_set_waiting(lua_State *L, const char *name, lua_CFunction fn);

/* Raises the running task's error when it has been cancelled or is overdue:
 * for functions that could go on without waiting, in a loop. */
void perilua_task_check(lua_State *L);

/* Milliseconds until the running task's deadline; -1: none. */
int64_t perilua_task_remaining_ms(lua_State *L);

/* Gives the task an earlier deadline. */
void perilua_task_set_deadline(perilua_task *task, uint64_t deadline_ns);

void perilua_task_clear_deadline(perilua_task *task);

/* Asks a task to end: the wait it is in, and each later one, raises an error
 * of that kind (static text). Its children are cancelled when it ends. */
void perilua_task_cancel(perilua_task *task, const char *kind,
                         const char *message);

/* The task with that anchor, if it lives. */
perilua_task *perilua_task_find(const perilua_vm *vm, int anchor);

/* The handle that kept it has gone. */
void perilua_task_release(perilua_task *task);

static inline void perilua_owned_init(perilua_owned *owned,
                                      void (*release)(perilua_owned *owned))
{
    peri_list_init(&owned->link);
    owned->release = release;
}

/* Released when the task's outermost ancestor has ended: a task may hand it to
 * its parent as its result. */
void perilua_task_own(perilua_task *task, perilua_owned *owned);

/* Repeatable. */
static inline void perilua_task_disown(perilua_owned *owned)
{
    peri_list_remove(&owned->link);
}

/* Puts the running task at the end of the queue until the next loop turn. */
int perilua_task_yield(lua_State *L);

/* The monotonic clock that tasks go by (frozen in tests). */
uint64_t perilua_now_ns(const perilua_vm *vm);
peri_timers *perilua_timers(const perilua_vm *vm);

/* For vm.c. */
typedef struct perilua_scheduler perilua_scheduler;
void perilua_scheduler_create(perilua_vm *vm);
/* Cancels every task, with that kind and message. */
void perilua_scheduler_cancel_all(perilua_vm *vm, const char *kind,
                                  const char *message);
/* All tasks have ended: closes the handles, then calls closed. */
void perilua_scheduler_close(perilua_vm *vm, void (*closed)(void *data),
                             void *data);

#endif
