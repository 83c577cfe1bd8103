/* perigee.core.breaker: circuit breakers in shared memory. The two calls on the
 * way of every call go through LuaJIT's FFI, as those of dictionaries do. */
#include <math.h>

#include "bindings/bind.h"
#include "bindings/modules.h"
#include "core/shm/breaker.h"

#define HANDLE "perigee.breaker"

typedef struct handle {
    peri_breaker *breaker;
} handle;

double peri_ffi_breaker_enter(peri_breaker *breaker);
void peri_ffi_breaker_leave(peri_breaker *breaker, double entered, int result);

double peri_ffi_breaker_enter(peri_breaker *breaker)
{
    return (double)peri_breaker_enter(breaker);
}

void peri_ffi_breaker_leave(peri_breaker *breaker, double entered, int result)
{
    peri_breaker_leave(breaker, (int64_t)entered, (peri_breaker_result)result);
}

static uint64_t frozen_ms(void *data)
{
    const peri_timers *timers = perilua_timers(data);

    return peri_timers_frozen(timers) ? peri_timers_now_ns(timers) / 1000000u
                                      : 0;
}

static int handle_gc(lua_State *L)
{
    handle *h = luaL_checkudata(L, 1, HANDLE);

    peri_breaker_close(h->breaker);
    h->breaker = NULL;
    return 0;
}

static handle *new_handle(lua_State *L)
{
    handle *h = lua_newuserdata(L, sizeof *h);

    h->breaker = NULL;
    if (luaL_newmetatable(L, HANDLE)) {
        lua_pushcfunction(L, handle_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return h;
}

/* open(name, failures, rate, min_calls, window_ms, open_ms, probes) -> handle,
 * address | nil, err. */
static int breaker_open(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    perilua_vm *vm = perilua_vm_of(L);
    peri_breaker_rules rules = {
        .failures = luaL_checknumber(L, 2),
        .rate = luaL_checknumber(L, 3),
        .min_calls = luaL_checknumber(L, 4),
        .window_ms = (uint64_t)fmax(luaL_checknumber(L, 5), 1),
        .open_ms = (uint64_t)fmax(luaL_checknumber(L, 6), 1),
        .probes = (uint32_t)fmin(fmax(luaL_checknumber(L, 7), 1),
                                 PERI_BREAKER_PROBES_MAX),
    };
    handle *h;

    if (vm->env->regions == NULL) {
        return perilua_fail(L, "unavailable", NULL,
                            "there is no shared memory here");
    }
    h = new_handle(L);
    if (peri_breaker_open(vm->env->regions, name, &rules, &h->breaker) < 0) {
        return perilua_fail(L, "too_large", "shared_full",
                            "the shared memory has no room for \"%s\"", name);
    }
    peri_breaker_set_clock(h->breaker, frozen_ms, vm);
    lua_pushlightuserdata(L, h->breaker);
    return 2;
}

static peri_breaker *check_breaker(lua_State *L)
{
    handle *h = luaL_checkudata(L, 1, HANDLE);

    luaL_argcheck(L, h->breaker != NULL, 1, "closed");
    return h->breaker;
}

static void set_count(lua_State *L, const char *name, uint64_t count)
{
    lua_pushnumber(L, (lua_Number)count);
    lua_setfield(L, -2, name);
}

static int breaker_stats(lua_State *L)
{
    static const char *const names[] = {"closed", "open", "half_open", "?"};
    peri_breaker_counts counts;

    peri_breaker_stat(check_breaker(L), &counts);
    lua_createtable(L, 0, 5);
    lua_pushstring(L, names[counts.state & 3]);
    lua_setfield(L, -2, "state");
    set_count(L, "failed", counts.failed);
    set_count(L, "succeeded", counts.succeeded);
    set_count(L, "opened", counts.opened_total);
    set_count(L, "refused", counts.refused_total);
    return 1;
}

static int breaker_force(lua_State *L)
{
    peri_breaker_force(check_breaker(L), lua_toboolean(L, 2)
                                             ? PERI_BREAKER_OPEN
                                             : PERI_BREAKER_CLOSED);
    return 0;
}

int perilua_open_breaker(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"open", breaker_open},
        {"stats", breaker_stats},
        {"force", breaker_force},
        {NULL, NULL},
    };
    union {
        double (*enter)(peri_breaker *);
        void (*leave)(peri_breaker *, double, int);
        void *address;
    } function;

    lua_newtable(L);
    luaL_register(L, NULL, functions);
    function.enter = peri_ffi_breaker_enter;
    lua_pushlightuserdata(L, function.address);
    lua_setfield(L, -2, "enter");
    function.leave = peri_ffi_breaker_leave;
    lua_pushlightuserdata(L, function.address);
    lua_setfield(L, -2, "leave");
    return 1;
}
