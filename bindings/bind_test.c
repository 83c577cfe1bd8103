/* perigee.core.test: what perigee.test needs of the system. */
#define _XOPEN_SOURCE 700 /* nftw */
#include "bindings/bind_test.h"

#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bindings/bind.h"
#include "bindings/modules.h"
#include "core/base/alloc.h"

#define PATH_BYTES 4096
#define FILES_OPEN_MAX 32

/* ---- the clock of this VM ---- */

static peri_timers *timers_of(lua_State *L)
{
    return perilua_timers(perilua_vm_of(L));
}

int perilua_test_freeze(lua_State *L, peri_timers *timers)
{
    (void)L;
    peri_timers_freeze(timers);
    return 0;
}

int perilua_test_thaw(lua_State *L, peri_timers *timers)
{
    (void)L;
    peri_timers_thaw(timers);
    return 0;
}

int perilua_test_advance(lua_State *L, peri_timers *timers, int index)
{
    lua_Number by_ns = luaL_checknumber(L, index);

    luaL_argcheck(L, by_ns >= 0, index, "time does not go back");
    if (!peri_timers_frozen(timers)) {
        return luaL_error(L, "the clock is not frozen");
    }
    peri_timers_advance(timers, (uint64_t)by_ns);
    return 0;
}

int perilua_test_due(lua_State *L, const peri_timers *timers)
{
    uint64_t now_ns = peri_timers_now_ns(timers);
    uint64_t due_ns = peri_timers_next_ns(timers);

    if (due_ns == 0) {
        lua_pushnil(L);
    } else {
        lua_pushnumber(L, due_ns > now_ns ? (lua_Number)(due_ns - now_ns) : 0);
    }
    return 1;
}

static int clock_freeze(lua_State *L)
{
    return perilua_test_freeze(L, timers_of(L));
}

static int clock_thaw(lua_State *L)
{
    return perilua_test_thaw(L, timers_of(L));
}

/* advance(ns): frozen only. Tasks whose time has come are made ready. */
static int clock_advance(lua_State *L)
{
    return perilua_test_advance(L, timers_of(L), 1);
}

/* due() -> nanoseconds until the next timer, or nil. */
static int clock_due(lua_State *L)
{
    return perilua_test_due(L, timers_of(L));
}

/* ---- the time on the wall, which never stands still ---- */

typedef struct real_timer {
    uv_timer_t handle;
    perilua_wait wait;  /* of pause() */
    perilua_task *task; /* of guard(): to be ended; NULL once stopped */
} real_timer;

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void timer_end(real_timer *timer)
{
    uv_close((uv_handle_t *)&timer->handle, on_timer_closed);
}

static real_timer *timer_start(lua_State *L, double delay_ms, uv_timer_cb fn)
{
    real_timer *timer = peri_calloc(1, sizeof *timer);

    uv_timer_init(perilua_vm_of(L)->env->loop, &timer->handle);
    timer->handle.data = timer;
    uv_update_time(timer->handle.loop);
    uv_timer_start(&timer->handle, fn, (uint64_t)delay_ms, 0);
    return timer;
}

static void on_pause_cancel(perilua_wait *wait)
{
    timer_end(PERI_CONTAINER(wait, real_timer, wait));
}

static void on_paused(uv_timer_t *handle)
{
    real_timer *timer = handle->data;

    perilua_task_wake(&timer->wait, NULL, NULL);
    timer_end(timer);
}

/* pause(ms): as perigee.task's sleep, by the wall. */
static int test_pause(lua_State *L)
{
    lua_Number delay_ms = luaL_checknumber(L, 1);
    real_timer *timer = timer_start(L, delay_ms, on_paused);

    timer->wait.cancel = on_pause_cancel;
    return perilua_task_park(L, &timer->wait);
}

static void on_guard(uv_timer_t *handle)
{
    real_timer *timer = handle->data;

    if (timer->task != NULL) {
        perilua_task_cancel(timer->task, "timeout", "the test takes too long");
    }
}

/* unguard(guard) */
static int test_unguard(lua_State *L)
{
    real_timer *timer = lua_touserdata(L, 1);

    timer->task = NULL;
    timer_end(timer);
    return 0;
}

/* guard(ms) -> guard: the running task gets a time-out by the wall, unless it
 * calls unguard() first. It must call it, for it may end before. */
static int test_guard(lua_State *L)
{
    real_timer *timer = timer_start(L, luaL_checknumber(L, 1), on_guard);

    timer->task = perilua_vm_of(L)->current;
    lua_pushlightuserdata(L, timer);
    return 1;
}

/* now() -> milliseconds, by the wall. */
static int test_now(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)uv_hrtime() / 1e6);
    return 1;
}

/* ---- surroundings ---- */

/* setenv(name[, value]); without a value the variable is removed. */
static int test_setenv(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    const char *value = luaL_optstring(L, 2, NULL);
    int rc = value == NULL ? unsetenv(name) : setenv(name, value, 1);

    return rc < 0 ? luaL_error(L, "%s: %s", name, strerror(errno)) : 0;
}

/* environ() -> list of "NAME=value" */
static int test_environ(lua_State *L)
{
    lua_newtable(L);
    for (int i = 0; environ[i] != NULL; i++) {
        lua_pushstring(L, environ[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* make_folder() -> a new temporary folder */
static int test_make_folder(lua_State *L)
{
    const char *base = getenv("TMPDIR");
    char path[PATH_BYTES];

    if (snprintf(path, sizeof path, "%s/perigee-spec-XXXXXX",
                 base != NULL ? base : "/tmp") >= (int)sizeof path) {
        return luaL_error(L, "TMPDIR is too long");
    }
    if (mkdtemp(path) == NULL) {
        return perilua_fail_rc(L, -errno, path);
    }
    lua_pushstring(L, path);
    return 1;
}

static int remove_one(const char *path, const struct stat *info, int type,
                      struct FTW *where)
{
    (void)info;
    (void)type;
    (void)where;
    return remove(path);
}

/* remove(path): with all that is below it. */
static int test_remove(lua_State *L)
{
    nftw(luaL_checkstring(L, 1), remove_one, FILES_OPEN_MAX,
         FTW_DEPTH | FTW_PHYS);
    return 0;
}

/* program() -> path of the program that runs */
static int test_program(lua_State *L)
{
    char path[PATH_BYTES];
    size_t length = sizeof path;

    if (uv_exepath(path, &length) < 0) {
        return luaL_error(L, "the program's path is unknown");
    }
    lua_pushlstring(L, path, length);
    return 1;
}

int perilua_open_test(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"freeze", clock_freeze},
        {"thaw", clock_thaw},
        {"advance", clock_advance},
        {"due", clock_due},
        {"guard", test_guard},
        {"unguard", test_unguard},
        {"now", test_now},
        {"setenv", test_setenv},
        {"environ", test_environ},
        {"make_folder", test_make_folder},
        {"remove", test_remove},
        {"program", test_program},
        {NULL, NULL},
    };

    lua_newtable(L);
    luaL_register(L, NULL, functions);
    perilua_set_waiting(L, "pause", test_pause);
    perilua_test_add_process(L);
    perilua_test_add_socket(L);
    perilua_test_add_host(L);
    return 1;
}
