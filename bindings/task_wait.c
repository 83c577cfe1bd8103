/* The Lua side of waiting: what wraps a C function that may park, and a
 * coroutine library that lets waits through. */
#include "bindings/task_wait.h"

#include "bindings/task.h"

/* Addresses that Lua code cannot make: what a park yields, and what a wait
 * returns when it must raise instead. */
static const char parked_mark = 'p';
static const char raise_mark = 'r';

static void *mark(const char *which)
{
    union {
        const char *in;
        void *out;
    } plain = {which};

    return plain.out;
}

void *perilua_parked_mark(void)
{
    return mark(&parked_mark);
}

void *perilua_raise_mark(void)
{
    return mark(&raise_mark);
}

/* The wrapper raises what a wait was told to raise: a C function cannot, it
 * has returned when it is resumed. */
static const char waiting_source[] =
    "local raise, error = ...\n"
    "local function finish(first, ...)\n"
    "  if first == raise then error((...), 0) end\n"
    "  return first, ...\n"
    "end\n"
    "return function(wait)\n"
    "  return function(...) return finish(wait(...)) end\n"
    "end\n";

/* coroutine.resume that hands a wait inside of it outwards, to the task. */
static const char coroutine_source[] =
    "local parked, coroutine, error = ...\n"
    "local resume, yield = coroutine.resume, coroutine.yield\n"
    "local create = coroutine.create\n"
    "local pass\n"
    "function pass(co, ok, first, ...)\n"
    "  if ok and first == parked then\n"
    "    return pass(co, resume(co, yield(parked)))\n"
    "  end\n"
    "  return ok, first, ...\n"
    "end\n"
    "local function check(ok, ...)\n"
    "  if not ok then error((...), 0) end\n"
    "  return ...\n"
    "end\n"
    "function coroutine.resume(co, ...)\n"
    "  return pass(co, resume(co, ...))\n"
    "end\n"
    "function coroutine.wrap(f)\n"
    "  local co = create(f)\n"
    "  return function(...) return check(pass(co, resume(co, ...))) end\n"
    "end\n";

#define WAITING_KEY "perigee.waiting"

static void load_lua(lua_State *L, const char *source, size_t length,
                     const char *name)
{
    if (luaL_loadbuffer(L, source, length, name) != 0) {
        lua_error(L);
    }
}

void perilua_install_waiting(lua_State *L)
{
    load_lua(L, waiting_source, sizeof waiting_source - 1, "=perigee.task");
    lua_pushlightuserdata(L, perilua_raise_mark());
    lua_getglobal(L, "error");
    lua_call(L, 2, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, WAITING_KEY);
    load_lua(L, coroutine_source, sizeof coroutine_source - 1, "=perigee.task");
    lua_pushlightuserdata(L, perilua_parked_mark());
    lua_getglobal(L, "coroutine");
    lua_getglobal(L, "error");
    lua_call(L, 3, 0);
}

void perilua_set_waiting(lua_State *L, const char *name, lua_CFunction fn)
{
    lua_getfield(L, LUA_REGISTRYINDEX, WAITING_KEY);
    lua_pushcfunction(L, fn);
    lua_call(L, 1, 1);
    lua_setfield(L, -2, name);
}
