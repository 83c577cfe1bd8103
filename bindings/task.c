/* Task: the scheduler. The one place that resumes coroutines.
 *
 * Coroutines are recycled together with their task. A wake, spawn or cancel
 * from inside a running task goes to the ready queue, which is served when the
 * outermost resume returns, so resumes never nest through Lua code. */
#include "bindings/task.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/bind.h"
#include "bindings/budget.h"
#include "bindings/task_wait.h"
#include "core/base/alloc.h"
#include "core/http/tracer.h"

#define IDLE_TASKS_MAX 512
/* Waits of a cancelled task that raise before it is given up. */
#define REFUSALS_MAX 1000

struct perilua_scheduler {
    perilua_vm *vm;
    peri_timers *timers;
    peri_list tasks;
    peri_list ended; /* of which a handle is left: Lua's heap is hidden from
                      * who looks for leaks when os.exit() is called */
    peri_list ready;
    uv_idle_t kick;      /* serves the ready queue from the loop */
    perilua_task **idle; /* recycled tasks with their coroutines */
    size_t idle_count;
    int threads_ref; /* table that anchors the coroutines */
    int next_anchor;
    int depth; /* resumes on the C stack */
    int open_handles;
    void (*closed)(void *data);
    void *closed_data;
};

static void task_resume(perilua_task *task);

/* ---- the ready queue ---- */

static void serve_ready(perilua_scheduler *sched)
{
    peri_list batch;

    if (peri_list_empty(&sched->ready)) {
        return;
    }
    /* Only what is ready now: a task that yields waits for the next turn. */
    peri_list_init(&batch);
    peri_list_append(&sched->ready, &batch);
    peri_list_remove(&sched->ready);
    perilua_vm_ref(sched->vm);
    while (!peri_list_empty(&batch)) {
        perilua_task *task = PERI_CONTAINER(batch.next, perilua_task, ready);

        peri_list_remove(&task->ready);
        task_resume(task);
    }
    perilua_vm_unref(sched->vm);
}

static void on_kick(uv_idle_t *handle)
{
    perilua_scheduler *sched = handle->data;

    serve_ready(sched);
    if (peri_list_empty(&sched->ready)) {
        uv_idle_stop(handle);
    }
}

static void make_ready(perilua_task *task)
{
    perilua_scheduler *sched = task->vm->scheduler;

    if (task->state != PERILUA_TASK_NEW) {
        task->state = PERILUA_TASK_READY;
    }
    peri_list_append(&sched->ready, &task->ready);
    if (sched->depth == 0) {
        uv_idle_start(&sched->kick, on_kick);
    }
}

/* ---- creation and recycling ---- */

static void new_coroutine(perilua_scheduler *sched, perilua_task *task)
{
    lua_State *L = sched->vm->L;

    lua_rawgeti(L, LUA_REGISTRYINDEX, sched->threads_ref);
    task->co = lua_newthread(L);
    lua_rawseti(L, -2, task->anchor);
    lua_pop(L, 1);
}

static void inherit_span(perilua_task *task, const perilua_task *parent)
{
    if (parent->span != NULL) {
        task->span = parent->span;
        peri_trace_ref(task->span);
    }
}

perilua_task *perilua_task_create(perilua_vm *vm, perilua_task *parent)
{
    perilua_scheduler *sched = vm->scheduler;
    perilua_task *task;

    if (sched->idle_count > 0) {
        task = sched->idle[--sched->idle_count];
    } else {
        task = peri_calloc(1, sizeof *task);
        task->vm = vm;
        task->anchor = ++sched->next_anchor;
        peri_list_init(&task->ready);
        peri_list_init(&task->children);
        peri_list_init(&task->sibling);
        peri_list_init(&task->joiners);
        peri_list_init(&task->owned);
        peri_list_init(&task->grouped);
        new_coroutine(sched, task);
    }
    task->state = PERILUA_TASK_NEW;
    task->parent = parent;
    if (parent != NULL) {
        peri_list_append(&parent->children, &task->sibling);
        task->context = parent->context;
        inherit_span(task, parent);
    }
    peri_list_append(&sched->tasks, &task->link);
    perilua_vm_ref(vm);
    return task;
}

lua_State *perilua_task_renew(perilua_task *task)
{
    int status = lua_status(task->co);

    new_coroutine(task->vm->scheduler, task);
    if (status == LUA_ERRMEM) {
        lua_gc(task->vm->L, LUA_GCCOLLECT, 0); /* what the failed one made */
    }
    return task->co;
}

static void task_free(perilua_task *task)
{
    perilua_vm *vm = task->vm;
    perilua_scheduler *sched = vm->scheduler;

    free(task->cancel_message);
    task->cancel_message = NULL;
    task->cancel_kind = NULL;
    task->refusals = 0;
    if (task->span != NULL) {
        peri_trace_unref(task->span);
        task->span = NULL;
    }
    if (sched->idle_count < IDLE_TASKS_MAX && !vm->closing) {
        if (lua_status(task->co) != 0) {
            perilua_task_renew(task); /* a failed one cannot run again */
        } else {
            lua_settop(task->co, 0);
        }
        task->deadline_ns = 0;
        task->cpu_ticks = 0;
        task->bounded = false;
        task->context = NULL;
        task->group = NULL;
        task->nresults = 0;
        task->has_handle = false;
        task->orphaned = NULL;
        task->joined = false;
        sched->idle[sched->idle_count++] = task;
        return;
    }
    if (!vm->closing) {
        lua_rawgeti(vm->L, LUA_REGISTRYINDEX, sched->threads_ref);
        lua_pushnil(vm->L);
        lua_rawseti(vm->L, -2, task->anchor);
        lua_pop(vm->L, 1);
    }
    free(task);
}

/* ---- the end of a task ---- */

static void cancel_children(perilua_task *task)
{
    while (!peri_list_empty(&task->children)) {
        perilua_task *child =
            PERI_CONTAINER(task->children.next, perilua_task, sibling);

        peri_list_remove(&child->sibling);
        child->parent = NULL;
        child->context = NULL;
        if (child->state == PERILUA_TASK_ENDED) {
            child->orphaned(child);
            continue;
        }
        perilua_task_cancel(child, "cancelled", "the parent task has ended");
    }
}

static void release_owned(perilua_task *task)
{
    while (!peri_list_empty(&task->owned)) {
        perilua_owned *owned =
            PERI_CONTAINER(task->owned.next, perilua_owned, link);

        peri_list_remove(&owned->link);
        owned->release(owned);
    }
}

static void push_cancel_error(lua_State *L, const perilua_task *task)
{
    perilua_push_error(L, task->cancel_kind, NULL,
                       task->cancel_message != NULL ? task->cancel_message
                                                    : task->cancel_kind);
}

static void task_ended(perilua_task *task, int rc, int nresults)
{
    perilua_vm *vm = task->vm;
    bool keeps = false;

    if (task->cancel_kind != NULL) {
        /* Whatever it returned or raised, this is its result. */
        if (rc == 0) {
            lua_pop(task->co, nresults);
        }
        push_cancel_error(task->co, task);
        rc = -1;
        nresults = 1;
    }
    cancel_children(task);
    task->continued = false;
    if (task->done != NULL) {
        vm->scheduler->depth++; /* whom it wakes runs when this has ended */
        task->done(task->data, task, task->co, rc, nresults);
        vm->scheduler->depth--;
    }
    if (task->continued) {
        task->state = PERILUA_TASK_NEW;
        make_ready(task);
        return;
    }
    release_owned(task);
    peri_timer_stop(vm->scheduler->timers, &task->deadline);
    task->state = PERILUA_TASK_ENDED;
    if (rc < 0 && task->has_handle && task->parent != NULL) {
        keeps = true; /* it may be joined until its parent ends */
    } else if (rc < 0 && task->orphaned != NULL) {
        task->orphaned(task);
    }
    if (task->parent != NULL && !keeps) {
        peri_list_remove(&task->sibling);
        task->parent = NULL;
    }
    peri_list_remove(&task->link);
    if (task->has_handle) {
        peri_list_append(&vm->scheduler->ended, &task->link);
    } else {
        task_free(task);
    }
    perilua_vm_unref(vm);
}

static void task_resume(perilua_task *task)
{
    perilua_vm *vm = task->vm;
    perilua_scheduler *sched = vm->scheduler;
    perilua_task *previous = vm->current;
    lua_State *co = task->co;
    int rc;

    if (vm->env->doing != NULL) {
        vm->env->doing(vm->env, task->context);
    }
    task->state = PERILUA_TASK_RUNNING;
    vm->current = task;
    sched->depth++;
    rc = lua_resume(co, task->nargs);
    sched->depth--;
    vm->current = previous;
    if (vm->hooked != 0) {
        vm->hooked = 0;
        perilua_budget_left(vm, task);
    }
    if (rc == LUA_YIELD) {
        if (lua_touserdata(co, -1) == perilua_parked_mark()) {
            lua_pop(co, lua_gettop(co));
            if (task->state != PERILUA_TASK_RUNNING) {
                return;
            }
            push_cancel_error(co, task); /* given up */
            task_ended(task, -1, 1);
            return;
        }
        lua_pushliteral(co, "coroutine.yield outside of a coroutine of the "
                            "handler's own; to wait, use perigee.task");
        rc = LUA_ERRRUN;
    }
    task_ended(task, rc == 0 ? 0 : -1, rc == 0 ? lua_gettop(co) : 1);
}

static void resume_outermost(perilua_task *task)
{
    perilua_scheduler *sched = task->vm->scheduler;
    perilua_vm *vm = task->vm;

    perilua_vm_ref(vm);
    task_resume(task);
    serve_ready(sched);
    if (!peri_list_empty(&sched->ready)) {
        uv_idle_start(&sched->kick, on_kick);
    }
    perilua_vm_unref(vm);
}

static void resume_now_or_soon(perilua_task *task)
{
    if (task->vm->scheduler->depth == 0) {
        resume_outermost(task);
    } else {
        make_ready(task);
    }
}

/* ---- running ---- */

static void on_deadline(peri_timer *timer)
{
    perilua_task *task = PERI_CONTAINER(timer, perilua_task, deadline);

    perilua_task_cancel(task, "timeout", "the deadline has passed");
}

static void task_prepare(perilua_task *task, int nargs, uint64_t deadline_ns,
                         perilua_task_done done, void *data)
{
    task->nargs = nargs;
    task->done = done;
    task->data = data;
    task->deadline_ns = deadline_ns;
    if (task->parent != NULL && task->parent->deadline_ns != 0 &&
        (deadline_ns == 0 || task->parent->deadline_ns < deadline_ns)) {
        task->deadline_ns = task->parent->deadline_ns;
    }
    if (task->parent != NULL) {
        task->bounded = task->parent->bounded;
    }
}

void perilua_task_run(perilua_task *task, int nargs, uint64_t deadline_ns,
                      perilua_task_done done, void *data)
{
    task_prepare(task, nargs, deadline_ns, done, data);
    resume_now_or_soon(task);
}

void perilua_task_run_later(perilua_task *task, int nargs, uint64_t deadline_ns,
                            perilua_task_done done, void *data)
{
    task_prepare(task, nargs, deadline_ns, done, data);
    make_ready(task);
}

void perilua_task_continue(perilua_task *task, int nargs)
{
    task->nargs = nargs;
    task->continued = true;
    free(task->cancel_message);
    task->cancel_message = NULL;
    task->cancel_kind = NULL;
    task->refusals = 0;
    task->cpu_ticks = 0;
    task->deadline_ns = 0;
    peri_timer_stop(task->vm->scheduler->timers, &task->deadline);
}

perilua_task *perilua_task_start(perilua_vm *vm, lua_State *L, int nargs,
                                 uint64_t deadline_ns, perilua_task_done done,
                                 void *data)
{
    perilua_task *task = perilua_task_create(vm, NULL);

    lua_xmove(L, task->co, nargs + 1);
    perilua_task_run_later(task, nargs, deadline_ns, done, data);
    return task;
}

static int push_raise(lua_State *L, const perilua_task *task)
{
    lua_pushlightuserdata(L, perilua_raise_mark());
    push_cancel_error(L, task);
    return 2;
}

int perilua_task_park(lua_State *L, perilua_wait *wait)
{
    perilua_task *task = perilua_vm_of(L)->current;

    if (task == NULL) {
        wait->task = NULL;
        wait->cancel(wait);
        return luaL_error(L, "cannot wait here: no task is running");
    }
    if (task->cancel_kind == NULL && task->deadline_ns != 0 &&
        perilua_now_ns(task->vm) >= task->deadline_ns) {
        perilua_task_cancel(task, "timeout", "the deadline has passed");
    }
    if (task->cancel_kind != NULL) {
        wait->task = NULL;
        wait->cancel(wait);
        if (task->refusals < REFUSALS_MAX || !lua_isyieldable(L)) {
            task->refusals++;
            return push_raise(L, task);
        }
        /* It catches whatever is raised, and would for ever: it is not
         * resumed any more. */
        lua_settop(L, 0);
        lua_pushlightuserdata(L, perilua_parked_mark());
        return lua_yield(L, 1);
    }
    if (!lua_isyieldable(L)) {
        wait->task = NULL;
        wait->cancel(wait);
        return luaL_error(L, "cannot wait inside of a C function such as "
                             "table.sort or string.gsub");
    }
    wait->task = task;
    task->wait = wait;
    task->state = PERILUA_TASK_WAITING;
    if (task->deadline_ns != 0 && task->deadline.position == 0) {
        peri_timer_start(task->vm->scheduler->timers, &task->deadline,
                         task->deadline_ns, on_deadline);
    }
    lua_settop(L, 0);
    lua_pushlightuserdata(L, perilua_parked_mark());
    return lua_yield(L, 1);
}

void perilua_task_wake(perilua_wait *wait,
                       int (*push)(lua_State *L, void *data), void *data)
{
    perilua_task *task = wait->task;

    if (task == NULL) {
        return;
    }
    assert(task->wait == wait);
    wait->task = NULL;
    task->wait = NULL;
    task->nargs = push != NULL ? push(task->co, data) : 0;
    resume_now_or_soon(task);
}

static void no_cancel(perilua_wait *wait)
{
    (void)wait;
}

int perilua_task_yield(lua_State *L)
{
    perilua_task *task = perilua_vm_of(L)->current;
    perilua_wait wait = {.cancel = no_cancel};
    int n = perilua_task_park(L, &wait);

    if (wait.task != NULL) {
        task->wait = NULL; /* it waits for nothing but its turn */
        task->nargs = 0;
        make_ready(task);
    }
    return n;
}

/* ---- cancelling ---- */

perilua_task *perilua_task_find(const perilua_vm *vm, int anchor)
{
    const peri_list *tasks = &vm->scheduler->tasks;

    for (peri_list *link = tasks->next; link != tasks; link = link->next) {
        perilua_task *task = PERI_CONTAINER(link, perilua_task, link);

        if (task->anchor == anchor) {
            return task;
        }
    }
    return NULL;
}

void perilua_task_cancel(perilua_task *task, const char *kind,
                         const char *message)
{
    perilua_wait *wait = task->wait;

    if (task->state == PERILUA_TASK_ENDED || task->cancel_kind != NULL) {
        return;
    }
    task->cancel_kind = kind;
    task->cancel_message = peri_strdup(message);
    if (wait == NULL) {
        return; /* new, running or about to: its next wait raises */
    }
    task->wait = NULL;
    wait->task = NULL;
    wait->cancel(wait);
    task->nargs = push_raise(task->co, task);
    make_ready(task);
}

void perilua_task_set_deadline(perilua_task *task, uint64_t deadline_ns)
{
    if (task->deadline_ns == 0 || deadline_ns < task->deadline_ns) {
        task->deadline_ns = deadline_ns;
        peri_timer_stop(task->vm->scheduler->timers, &task->deadline);
    }
}

void perilua_task_clear_deadline(perilua_task *task)
{
    task->deadline_ns = 0;
    peri_timer_stop(task->vm->scheduler->timers, &task->deadline);
}

void perilua_task_own(perilua_task *task, perilua_owned *owned)
{
    while (task->parent != NULL) {
        task = task->parent;
    }
    peri_list_append(&task->owned, &owned->link);
}

void perilua_task_release(perilua_task *task)
{
    task->has_handle = false;
    if (task->state == PERILUA_TASK_ENDED) {
        peri_list_remove(&task->link);
        task_free(task);
    }
}

void perilua_task_check(lua_State *L)
{
    perilua_task *task = perilua_vm_of(L)->current;

    if (task != NULL && task->cancel_kind != NULL) {
        push_cancel_error(L, task);
        lua_error(L);
    }
}

int64_t perilua_task_remaining_ms(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);
    uint64_t now_ns;

    if (vm->current == NULL || vm->current->deadline_ns == 0) {
        return -1;
    }
    now_ns = perilua_now_ns(vm);
    if (vm->current->deadline_ns <= now_ns) {
        return 0;
    }
    return (int64_t)((vm->current->deadline_ns - now_ns) / 1000000u);
}

/* ---- life ---- */

uint64_t perilua_now_ns(const perilua_vm *vm)
{
    return peri_timers_now_ns(vm->scheduler->timers);
}

peri_timers *perilua_timers(const perilua_vm *vm)
{
    return vm->scheduler->timers;
}

void perilua_scheduler_create(perilua_vm *vm)
{
    perilua_scheduler *sched = peri_calloc(1, sizeof *sched);

    sched->vm = vm;
    sched->timers = peri_timers_create(vm->env->loop);
    peri_list_init(&sched->tasks);
    peri_list_init(&sched->ended);
    peri_list_init(&sched->ready);
    uv_idle_init(vm->env->loop, &sched->kick);
    sched->kick.data = sched;
    sched->idle = peri_calloc(IDLE_TASKS_MAX, sizeof(perilua_task *));
    lua_newtable(vm->L);
    sched->threads_ref = luaL_ref(vm->L, LUA_REGISTRYINDEX);
    vm->scheduler = sched;
    perilua_install_waiting(vm->L);
}

void perilua_scheduler_cancel_all(perilua_vm *vm, const char *kind,
                                  const char *message)
{
    perilua_scheduler *sched = vm->scheduler;
    peri_list *link = sched->tasks.next;

    while (link != &sched->tasks) {
        perilua_task *task = PERI_CONTAINER(link, perilua_task, link);

        link = link->next; /* cancel only queues: nothing ends in here */
        perilua_task_cancel(task, kind, message);
    }
}

static void handle_closed(void *data)
{
    perilua_scheduler *sched = data;

    if (--sched->open_handles > 0) {
        return;
    }
    while (sched->idle_count > 0) {
        free(sched->idle[--sched->idle_count]);
    }
    free(sched->idle);
    if (sched->closed != NULL) {
        sched->closed(sched->closed_data);
    }
    free(sched);
}

static void on_kick_closed(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

void perilua_scheduler_close(perilua_vm *vm, void (*closed)(void *data),
                             void *data)
{
    perilua_scheduler *sched = vm->scheduler;

    assert(peri_list_empty(&sched->tasks));
    sched->closed = closed;
    sched->closed_data = data;
    sched->open_handles = 2;
    peri_timers_close(sched->timers, handle_closed, sched);
    uv_close((uv_handle_t *)&sched->kick, on_kick_closed);
}
