/* JSON marks: made once in each state, found again by number. */
#include "bindings/json_marks.h"

#include <lauxlib.h>
#include <stdint.h>

#include "bindings/json.h"

/* Keys of the registry; luaL_ref counts up from 1 and stays clear of them. */
#define REGISTRY_ARRAY_MARK (-0x4a01)
#define REGISTRY_EMPTY_ARRAY (-0x4a02)
#define REGISTRY_INTEGER (-0x4a03)

static const char integer_source[] =
    "local ffi = require 'ffi'\n"
    "local tostring = tostring\n"
    "local int64, uint64 = ffi.typeof 'int64_t', ffi.typeof 'uint64_t'\n"
    "return function(v)\n"
    "  if ffi.istype(int64, v) or ffi.istype(uint64, v) then\n"
    "    return tostring(v):match '^%-?%d+'\n"
    "  end\n"
    "end\n";

static void make_array_mark(lua_State *L)
{
    lua_createtable(L, 0, 2);
    lua_pushliteral(L, "array");
    lua_setfield(L, -2, "__jsontype");
    lua_pushvalue(L, -1);
    lua_rawseti(L, LUA_REGISTRYINDEX, REGISTRY_ARRAY_MARK);
}

static int refuse_write(lua_State *L)
{
    return luaL_error(L, "json.empty_array can't be changed; use json.array{}");
}

static void make_empty_array(lua_State *L)
{
    lua_createtable(L, 0, 0);
    lua_createtable(L, 0, 4);
    lua_pushliteral(L, "array");
    lua_setfield(L, -2, "__jsontype");
    lua_pushcfunction(L, refuse_write);
    lua_setfield(L, -2, "__newindex");
    lua_pushliteral(L, "read-only");
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawseti(L, LUA_REGISTRYINDEX, REGISTRY_EMPTY_ARRAY);
}

static void push_made(lua_State *L, int key, void (*make)(lua_State *L))
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, key);
    if (lua_type(L, -1) == LUA_TNIL) {
        lua_pop(L, 1);
        make(L);
    }
}

void perilua_json_push_array_mark(lua_State *L)
{
    push_made(L, REGISTRY_ARRAY_MARK, make_array_mark);
}

void perilua_json_push_empty_array(lua_State *L)
{
    push_made(L, REGISTRY_EMPTY_ARRAY, make_empty_array);
}

static void make_integer(lua_State *L)
{
    if (luaL_loadbuffer(L, integer_source, sizeof integer_source - 1,
                        "=json.integer") != 0 ||
        lua_pcall(L, 0, 1, 0) != 0) {
        lua_pop(L, 1);
        lua_pushnil(L); /* there is no FFI in this state, so no cdata */
        return;
    }
    lua_pushvalue(L, -1);
    lua_rawseti(L, LUA_REGISTRYINDEX, REGISTRY_INTEGER);
}

void perilua_json_push_integer(lua_State *L, int index)
{
    lua_pushvalue(L, index);
    push_made(L, REGISTRY_INTEGER, make_integer);
    lua_insert(L, -2);
    if (lua_pcall(L, 1, 1, 0) != 0) {
        lua_pop(L, 1);
        lua_pushnil(L);
    }
}

void perilua_json_push_null(lua_State *L)
{
    lua_pushlightuserdata(L, NULL);
}
