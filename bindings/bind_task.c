/* perigee.core.task: tasks and groups for Lua. */
#include <stdlib.h>
#include <string.h>

#include "bindings/bind.h"
#include "bindings/bind_sync.h"
#include "bindings/error.h"
#include "bindings/modules.h"
#include "core/base/alloc.h"
#include "core/base/buf.h"

#define HANDLE_NAME "perigee.Task"
#define GROUP_NAME "perigee.Group"

/* ---- sleep ---- */

typedef struct sleeper {
    perilua_wait wait;
    peri_timer timer;
    perilua_vm *vm;
} sleeper;

static void on_sleep_cancel(perilua_wait *wait)
{
    sleeper *s = PERI_CONTAINER(wait, sleeper, wait);

    peri_timer_stop(perilua_timers(s->vm), &s->timer);
    free(s);
}

static void on_slept(peri_timer *timer)
{
    sleeper *s = PERI_CONTAINER(timer, sleeper, timer);

    perilua_task_wake(&s->wait, perilua_push_true, NULL);
    free(s);
}

/* sleep(duration) -> true. */
static int task_sleep(lua_State *L)
{
    uint64_t delay_ms = perilua_check_ms(L, 1);
    perilua_vm *vm = perilua_vm_of(L);
    sleeper *s = peri_calloc(1, sizeof *s);

    s->vm = vm;
    s->wait.cancel = on_sleep_cancel;
    peri_timer_start(perilua_timers(vm), &s->timer,
                     perilua_now_ns(vm) + delay_ms * 1000000u, on_slept);
    return perilua_task_park(L, &s->wait);
}

/* ---- groups: whoever of several children ends next ---- */

struct perilua_group {
    peri_list ended; /* tasks, by `grouped` */
    peri_list waiters;
    int running;
};

/* ---- handles ---- */

typedef struct handle {
    perilua_task *task;
} handle;

static handle *check_handle(lua_State *L, int index)
{
    return luaL_checkudata(L, index, HANDLE_NAME);
}

/* Pushes the results of an ended task: its values, or nil and its error. */
static int push_results(lua_State *L, void *data)
{
    perilua_task *task = data;
    int base;

    if (task->nresults < 0) {
        lua_pushnil(L);
        lua_pushvalue(task->co, -1);
        lua_xmove(task->co, L, 1);
        return 2;
    }
    luaL_checkstack(L, task->nresults + 1, "too many results");
    base = lua_gettop(task->co) - task->nresults;
    for (int i = 1; i <= task->nresults; i++) {
        lua_pushvalue(task->co, base + i);
    }
    lua_xmove(task->co, L, task->nresults);
    return task->nresults;
}

/* What was raised becomes an error object, with a traceback when it was not
 * one: join's callers can then ask for its kind. The failed coroutine's stack
 * is only read; the work is done on the main thread's. */
static void make_error_object(perilua_task *task)
{
    lua_State *L = task->vm->L;

    perilua_require(L, "perigee.error");
    lua_getfield(L, -1, "is");
    lua_pushvalue(task->co, -1);
    lua_xmove(task->co, L, 1);
    lua_call(L, 1, 1);
    if (!lua_toboolean(L, -1)) {
        lua_getfield(L, -2, "wrap");
        lua_xmove(task->co, L, 1);
        lua_call(L, 1, 1);
        luaL_traceback(L, task->co, NULL, 0);
        lua_setfield(L, -2, "traceback");
        lua_xmove(L, task->co, 1);
    }
    lua_pop(L, 2);
}

static void on_child_done(void *data, perilua_task *task, lua_State *co, int rc,
                          int nresults)
{
    perilua_group *group = task->group;

    (void)data;
    (void)co;
    if (rc < 0) {
        make_error_object(task);
    }
    task->nresults = rc < 0 ? -1 : nresults;
    while (perilua_wake_first(&task->joiners, push_results, task)) {
        task->joined = true;
    }
    if (group != NULL) {
        group->running--;
        peri_list_append(&group->ended, &task->grouped);
        perilua_wake_first(&group->waiters, perilua_push_true, NULL);
    }
}

static void log_unjoined(perilua_task *task)
{
    peri_buf err;

    if (task->state != PERILUA_TASK_ENDED || task->joined ||
        task->nresults >= 0 || task->cancel_kind != NULL) {
        return;
    }
    task->joined = true; /* once */
    peri_buf_init(&err, SIZE_MAX);
    perilua_write_error(task->co, &err);
    peri_log_fields(task->vm->env->logger, PERI_LOG_ERROR,
                    "a task that nobody joins failed",
                    &(peri_log_field){.key = "err",
                                      .type = PERI_FIELD_JSON,
                                      .text = peri_buf_slice(&err)},
                    1);
    peri_buf_fini(&err);
}

static int handle_gc(lua_State *L)
{
    handle *h = check_handle(L, 1);

    if (h->task != NULL) {
        log_unjoined(h->task);
        if (h->task->state == PERILUA_TASK_ENDED) {
            peri_list_remove(&h->task->sibling);
            h->task->parent = NULL;
        }
        peri_list_remove(&h->task->grouped);
        h->task->group = NULL;
        perilua_task_release(h->task);
        h->task = NULL;
    }
    return 0;
}

/* join() -> what the function returned, or nil and its error. */
static int handle_join(lua_State *L)
{
    perilua_task *task = check_handle(L, 1)->task;

    if (task->state == PERILUA_TASK_ENDED) {
        task->joined = true;
        return push_results(L, task);
    }
    if (task == perilua_vm_of(L)->current) {
        return luaL_error(L, "a task cannot join itself");
    }
    return perilua_park_in(L, &task->joiners);
}

static int handle_cancel(lua_State *L)
{
    handle *h = check_handle(L, 1);

    h->task->joined = true; /* no surprise: do not log it */
    perilua_task_cancel(h->task, "cancelled",
                        luaL_optstring(L, 2, "the task was cancelled"));
    return 0;
}

static int handle_status(lua_State *L)
{
    perilua_task *task = check_handle(L, 1)->task;

    lua_pushstring(L, task->state != PERILUA_TASK_ENDED ? "running"
                      : task->nresults < 0              ? "failed"
                                                        : "done");
    return 1;
}

/* Starts the function at first with the arguments behind it; takes them. */
static void launch(lua_State *L, int first, perilua_task *task,
                   uint64_t deadline_ns)
{
    int nargs = lua_gettop(L) - first;

    task->orphaned = log_unjoined;
    lua_xmove(L, task->co, nargs + 1);
    perilua_task_run(task, nargs, deadline_ns, on_child_done, NULL);
}

static perilua_task *spawn_from(lua_State *L, int first, perilua_task *parent,
                                uint64_t deadline_ns, perilua_group *group)
{
    perilua_vm *vm = perilua_vm_of(L);
    perilua_task *task;
    handle *h;

    luaL_checktype(L, first, LUA_TFUNCTION);
    h = lua_newuserdata(L, sizeof *h);
    h->task = NULL;
    luaL_getmetatable(L, HANDLE_NAME);
    lua_setmetatable(L, -2);
    lua_insert(L, first);
    task = perilua_task_create(vm, parent);
    h->task = task;
    task->has_handle = true;
    task->group = group;
    launch(L, first + 1, task, deadline_ns);
    return task;
}

static int task_spawn(lua_State *L)
{
    spawn_from(L, 1, perilua_vm_of(L)->current, 0, NULL);
    return 1;
}

static int task_spawn_detached(lua_State *L)
{
    spawn_from(L, 1, NULL, 0, NULL);
    return 1;
}

/* start(fn, ...): the same without a handle. A handle keeps the coroutine until
 * it is collected; this one's is free for the next task when it ends. */
static int task_start(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    launch(L, 1, perilua_task_create(perilua_vm_of(L), NULL), 0);
    return 0;
}

/* cancel(id, why): the task that has this number now. */
static int task_cancel(lua_State *L)
{
    perilua_task *task =
        perilua_task_find(perilua_vm_of(L), luaL_checkint(L, 1));

    if (task != NULL) {
        perilua_task_cancel(task, "cancelled", luaL_checkstring(L, 2));
    }
    return 0;
}

/* spawn_within(ms, fn, ...): a child with a deadline of its own. */
static int task_spawn_within(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);
    uint64_t deadline_ns =
        perilua_now_ns(vm) + perilua_check_ms(L, 1) * 1000000u;

    spawn_from(L, 2, vm->current, deadline_ns, NULL);
    return 1;
}

static int group_new(lua_State *L)
{
    perilua_group *group = lua_newuserdata(L, sizeof *group);

    peri_list_init(&group->ended);
    peri_list_init(&group->waiters);
    group->running = 0;
    luaL_getmetatable(L, GROUP_NAME);
    lua_setmetatable(L, -2);
    lua_newtable(L); /* task -> handle, for next() */
    lua_setfenv(L, -2);
    return 1;
}

/* group:spawn(fn, ...) -> handle. */
static int group_spawn(lua_State *L)
{
    perilua_group *group = luaL_checkudata(L, 1, GROUP_NAME);
    perilua_task *task;

    task = spawn_from(L, 2, perilua_vm_of(L)->current, 0, group);
    group->running++;
    lua_getfenv(L, 1);
    lua_pushlightuserdata(L, task);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    return 1;
}

/* group:ended() -> a handle that has ended and was not handed out yet; nil. */
static int group_ended(lua_State *L)
{
    perilua_group *group = luaL_checkudata(L, 1, GROUP_NAME);
    perilua_task *task;

    if (peri_list_empty(&group->ended)) {
        return 0;
    }
    task = PERI_CONTAINER(group->ended.next, perilua_task, grouped);
    peri_list_remove(&task->grouped);
    lua_getfenv(L, 1);
    lua_pushlightuserdata(L, task);
    lua_rawget(L, -2);
    return 1;
}

/* group:wait(): until one has ended; at once when none is running. */
static int group_wait(lua_State *L)
{
    perilua_group *group = luaL_checkudata(L, 1, GROUP_NAME);

    if (!peri_list_empty(&group->ended) || group->running == 0) {
        lua_pushboolean(L, 1);
        return 1;
    }
    return perilua_park_in(L, &group->waiters);
}

/* The group's handles go with its environment: detach what still runs. */
static int group_gc(lua_State *L)
{
    perilua_group *group = luaL_checkudata(L, 1, GROUP_NAME);

    lua_getfenv(L, 1);
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        handle *h = lua_touserdata(L, -1);

        if (h != NULL && h->task != NULL && h->task->group == group) {
            peri_list_remove(&h->task->grouped);
            h->task->group = NULL;
        }
        lua_pop(L, 1);
    }
    return 0;
}

/* ---- the rest ---- */

/* A number that names the running task until it ends, 0 outside of tasks. */
static int task_current_id(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);

    lua_pushinteger(L, vm->current != NULL ? vm->current->anchor : 0);
    return 1;
}

static int task_remaining(lua_State *L)
{
    int64_t ms = perilua_task_remaining_ms(L);

    if (ms < 0) {
        return 0;
    }
    lua_pushnumber(L, (lua_Number)ms);
    return 1;
}

static int task_now(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)perilua_now_ns(perilua_vm_of(L)) / 1e6);
    return 1;
}

int perilua_open_task(lua_State *L)
{
    static const luaL_Reg handle_functions[] = {
        {"cancel", handle_cancel},
        {"status", handle_status},
        {"__gc", handle_gc},
        {NULL, NULL},
    };
    static const luaL_Reg group_functions[] = {
        {"spawn", group_spawn},
        {"ended", group_ended},
        {"__gc", group_gc},
        {NULL, NULL},
    };
    static const luaL_Reg functions[] = {
        {"spawn", task_spawn},
        {"spawn_detached", task_spawn_detached},
        {"spawn_within", task_spawn_within},
        {"start", task_start},
        {"cancel", task_cancel},
        {"group", group_new},
        {"current_id", task_current_id},
        {"remaining", task_remaining},
        {"now", task_now},
        {NULL, NULL},
    };

    perilua_open_class(L, HANDLE_NAME, handle_functions);
    perilua_set_waiting(L, "join", handle_join);
    perilua_open_class(L, GROUP_NAME, group_functions);
    perilua_set_waiting(L, "wait", group_wait);
    lua_pop(L, 2);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    perilua_set_waiting(L, "sleep", task_sleep);
    perilua_set_waiting(L, "yield", perilua_task_yield);
    perilua_add_sync(L);
    return 1;
}
