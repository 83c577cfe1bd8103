/* perigee.core.regex: regular expressions for perigee.schema.
 *
 * Searching goes through the FFI, so that it is part of compiled traces: the
 * module gives the function's address, and create that of the expression. */
#include <lauxlib.h>

#include "bindings/bind.h"
#include "core/base/regex.h"

#define REGEX_META "perigee.core.regex"

static int regex_gc(lua_State *L)
{
    peri_regex **box = lua_touserdata(L, 1);

    peri_regex_destroy(*box);
    *box = NULL;
    return 0;
}

/* create(pattern) -> owner, address | nil, fault. The address holds as long
 * as the owner lives. */
static int regex_create(lua_State *L)
{
    peri_slice pattern = perilua_check_slice(L, 1);
    char fault[PERI_REGEX_FAULT_BYTES];
    peri_regex **box = lua_newuserdata(L, sizeof(peri_regex *));

    *box = NULL;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_setmetatable(L, -2);
    *box = peri_regex_create(pattern, fault);
    if (*box == NULL) {
        lua_pushnil(L);
        lua_pushstring(L, fault);
        return 2;
    }
    lua_pushlightuserdata(L, *box);
    return 2;
}

int perilua_open_regex(lua_State *L)
{
    /* ISO C has no conversion from a function to void *. */
    int (*search)(peri_regex *, const char *, size_t) = peri_regex_search;
    void *address;

    memcpy(&address, &search, sizeof address);
    lua_createtable(L, 0, 2);
    lua_pushlightuserdata(L, address);
    lua_setfield(L, -2, "search");
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, regex_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcclosure(L, regex_create, 1);
    lua_setfield(L, -2, "create");
    return 1;
}
