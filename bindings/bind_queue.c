/* perigee.core.queue: what the embedded driver and the runner of jobs need of
 * C: signals, rings, owners, and holding on to a generation. */
#include <stdlib.h>
#include <unistd.h>

#include "bindings/bind.h"
#include "bindings/bind_sync.h"
#include "bindings/budget.h"
#include "bindings/gen.h"
#include "bindings/modules.h"
#include "core/base/alloc.h"
#include "core/queue/owner.h"
#include "core/queue/wake.h"

#define SIGNAL_NAME "perigee.queue.Signal"
#define OWNER_NAME "perigee.queue.Owner"
#define BELL_NAME "perigee.queue.Bell"

int perilua_open_queue(lua_State *L);

/* ---- signals: one who waits, and is told that there is something ---- */

typedef struct notice {
    bool set; /* while nobody waited */
    peri_list waiters;
} notice;

typedef struct notice_wait {
    perilua_wait wait;
    perilua_vm *vm;
    peri_list link;
    peri_timer timer;
} notice_wait;

static void notice_wait_free(notice_wait *w)
{
    peri_list_remove(&w->link);
    peri_timer_stop(perilua_timers(w->vm), &w->timer);
    free(w);
}

static void on_signal_cancel(perilua_wait *wait)
{
    notice_wait_free(PERI_CONTAINER(wait, notice_wait, wait));
}

static int push_false(lua_State *L, void *data)
{
    (void)data;
    lua_pushboolean(L, 0);
    return 1;
}

static void on_signal_timeout(peri_timer *timer)
{
    notice_wait *w = PERI_CONTAINER(timer, notice_wait, timer);

    /* Whoever runs now may set the signal: not for this one. */
    peri_list_remove(&w->link);
    perilua_task_wake(&w->wait, push_false, NULL);
    free(w);
}

static void notice_set(notice *s)
{
    bool any = !peri_list_empty(&s->waiters);
    size_t count = 0;

    for (peri_list *at = s->waiters.next; at != &s->waiters; at = at->next) {
        count++;
    }
    /* Whoever is woken may run now, and wait again: that is for the next. */
    while (count-- > 0 && !peri_list_empty(&s->waiters)) {
        notice_wait *w = PERI_CONTAINER(s->waiters.next, notice_wait, link);

        peri_list_remove(&w->link);
        perilua_task_wake(&w->wait, perilua_push_true, NULL);
        notice_wait_free(w);
    }
    s->set = !any;
}

static int notice_new(lua_State *L)
{
    notice *s = lua_newuserdata(L, sizeof *s);

    s->set = false;
    peri_list_init(&s->waiters);
    luaL_getmetatable(L, SIGNAL_NAME);
    lua_setmetatable(L, -2);
    return 1;
}

/* signal:wait([ms]) -> true; false: so much time has passed. */
static int notice_wait_for(lua_State *L)
{
    notice *s = luaL_checkudata(L, 1, SIGNAL_NAME);
    lua_Number ms = luaL_optnumber(L, 2, -1);
    perilua_vm *vm = perilua_vm_of(L);
    notice_wait *w;

    if (s->set) {
        s->set = false;
        lua_pushboolean(L, 1);
        return 1;
    }
    w = peri_calloc(1, sizeof *w);
    w->vm = vm;
    w->wait.cancel = on_signal_cancel;
    peri_list_append(&s->waiters, &w->link);
    if (ms >= 0 && ms < 9e12) {
        peri_timer_start(perilua_timers(vm), &w->timer,
                         perilua_now_ns(vm) + (uint64_t)(ms * 1e6),
                         on_signal_timeout);
    }
    return perilua_task_park(L, &w->wait);
}

static int notice_set_lua(lua_State *L)
{
    notice_set(luaL_checkudata(L, 1, SIGNAL_NAME));
    return 0;
}

/* ---- bells ---- */

typedef struct bell {
    peri_wake *wake; /* NULL: closed */
    notice *notice;  /* kept alive by the userdata's environment */
} bell;

static void on_rung(void *data)
{
    bell *b = data;

    notice_set(b->notice);
}

/* bell(path, signal) -> bell, or nil and an error. The signal is set when
 * somebody rings; nil: this one only rings. */
static int bell_new(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    notice *s =
        lua_isnoneornil(L, 2) ? NULL : luaL_checkudata(L, 2, SIGNAL_NAME);
    bell *b = lua_newuserdata(L, sizeof *b);
    int rc;

    b->wake = NULL;
    b->notice = s;
    luaL_getmetatable(L, BELL_NAME);
    lua_setmetatable(L, -2);
    lua_createtable(L, 1, 0);
    lua_pushvalue(L, 2);
    lua_rawseti(L, -2, 1);
    lua_setfenv(L, -2);
    rc = peri_wake_open(perilua_vm_of(L)->env->loop, path,
                        s != NULL ? on_rung : NULL, b, &b->wake);
    if (rc < 0) {
        b->wake = NULL;
        return perilua_fail_rc(L, rc, path);
    }
    return 1;
}

static int bell_ring(lua_State *L)
{
    bell *b = luaL_checkudata(L, 1, BELL_NAME);

    if (b->wake != NULL) {
        peri_wake_ring(b->wake);
    }
    return 0;
}

static int bell_close(lua_State *L)
{
    bell *b = luaL_checkudata(L, 1, BELL_NAME);

    if (b->wake != NULL) {
        peri_wake_close(b->wake);
        b->wake = NULL;
    }
    return 0;
}

/* ---- owners ---- */

typedef struct owner {
    int fd;
} owner;

/* owners(path) -> the file of owners, or nil and an error. */
static int owner_open(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    owner *o = lua_newuserdata(L, sizeof *o);

    o->fd = peri_owner_open(path);
    luaL_getmetatable(L, OWNER_NAME);
    lua_setmetatable(L, -2);
    if (o->fd < 0) {
        return perilua_fail_rc(L, o->fd, path);
    }
    return 1;
}

static int check_owner(lua_State *L)
{
    owner *o = luaL_checkudata(L, 1, OWNER_NAME);

    luaL_argcheck(L, o->fd >= 0, 1, "it is closed");
    return o->fd;
}

/* owners:take(number) -> whether it was free. */
static int owner_take(lua_State *L)
{
    lua_pushboolean(L, peri_owner_take(check_owner(L),
                                       (uint32_t)luaL_checknumber(L, 2)) == 0);
    return 1;
}

/* owners:alive(number) -> whether another process has it. */
static int owner_alive(lua_State *L)
{
    lua_pushboolean(
        L, peri_owner_alive(check_owner(L), (uint32_t)luaL_checknumber(L, 2)));
    return 1;
}

static int owner_close(lua_State *L)
{
    owner *o = luaL_checkudata(L, 1, OWNER_NAME);

    if (o->fd >= 0) {
        close(o->fd);
        o->fd = -1;
    }
    return 0;
}

/* ---- the generation ---- */

/* hold(): jobs run in this generation: it does not end before release(). */
static int queue_hold(lua_State *L)
{
    perilua_gen *gen = perilua_vm_of(L)->gen;

    if (gen != NULL) {
        perilua_gen_hold_job(gen);
    }
    return 0;
}

static int queue_release(lua_State *L)
{
    perilua_gen *gen = perilua_vm_of(L)->gen;

    if (gen != NULL) {
        perilua_gen_release_job(gen);
    }
    return 0;
}

/* stale() -> whether all workers have been told to serve newer code: this
 * generation may not know it yet. */
static int queue_stale(lua_State *L)
{
    const perilua_gen *gen = perilua_vm_of(L)->gen;

    lua_pushboolean(L, gen != NULL &&
                           atomic_load(gen->host->generation) != gen->number);
    return 1;
}

/* check(): raises when the running task has been cancelled. */
static int queue_check(lua_State *L)
{
    perilua_task_check(L);
    return 0;
}

/* bound(): the deadlines of the running task's children hold while they
 * compute, too. */
static int queue_bound(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);
    const perilua_gen *gen = vm->gen;

    if (gen != NULL && gen->host->budget != NULL && vm->current != NULL) {
        vm->current->bounded = true;
        perilua_budget_bound(gen->host->budget, vm);
    }
    return 0;
}

/* runs_jobs() -> whether this worker is to. This generation has jobs then: it
 * is told when it retires. */
static int queue_runs_jobs(lua_State *L)
{
    const perilua_vm *vm = perilua_vm_of(L);
    perilua_gen *gen = vm->gen;
    bool runs = !vm->env->no_jobs;

    if (runs && gen != NULL) {
        gen->runs_jobs = true;
    }
    lua_pushboolean(L, runs);
    return 1;
}

static void add_class(lua_State *L, const char *name, const luaL_Reg *functions,
                      lua_CFunction gc)
{
    perilua_open_class(L, name, functions);
    if (gc != NULL) {
        lua_pushcfunction(L, gc);
        lua_setfield(L, -2, "__gc");
    }
}

int perilua_open_queue(lua_State *L)
{
    static const luaL_Reg signal_functions[] = {{"set", notice_set_lua},
                                                {NULL, NULL}};
    static const luaL_Reg bell_functions[] = {
        {"ring", bell_ring}, {"close", bell_close}, {NULL, NULL}};
    static const luaL_Reg owner_functions[] = {{"take", owner_take},
                                               {"alive", owner_alive},
                                               {"close", owner_close},
                                               {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"signal", notice_new},         {"bell", bell_new},
        {"owners", owner_open},         {"hold", queue_hold},
        {"check", queue_check},         {"stale", queue_stale},
        {"release", queue_release},     {"bound", queue_bound},
        {"runs_jobs", queue_runs_jobs}, {NULL, NULL}};

    add_class(L, SIGNAL_NAME, signal_functions, NULL);
    perilua_set_waiting(L, "wait", notice_wait_for);
    add_class(L, BELL_NAME, bell_functions, bell_close);
    add_class(L, OWNER_NAME, owner_functions, owner_close);
    lua_pop(L, 3);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
