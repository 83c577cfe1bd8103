/* Hot data: copying plain values between states. */
#include "bindings/hot.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "bindings/json.h"
#include "bindings/json_marks.h"
#include "core/base/err.h"

#define PATH_KEYS_MAX 8 /* of a field that is told of */

typedef struct copier {
    lua_State *from;
    lua_State *to;
    int depth;
    char *why;
    size_t why_bytes;
} copier;

static int copy_fields(copier *c);

/* Is the table on top of from, which has a metatable, a list of JSON? */
static bool is_json_list(lua_State *from)
{
    bool is_list;

    lua_getmetatable(from, -1);
    perilua_json_push_array_mark(from);
    perilua_json_push_empty_array(from);
    is_list = lua_rawequal(from, -2, -3) || lua_rawequal(from, -1, -4);
    lua_pop(from, 3);
    return is_list;
}

static int copy_table(copier *c)
{
    bool has_metatable = lua_getmetatable(c->from, -1) != 0;

    if (has_metatable) {
        lua_pop(c->from, 1);
        if (!is_json_list(c->from)) {
            snprintf(c->why, c->why_bytes, "a table with a metatable");
            return PERI_EFORMAT;
        }
    }
    lua_newtable(c->to);
    if (copy_fields(c) < 0) {
        lua_pop(c->to, 1);
        return PERI_EFORMAT;
    }
    if (has_metatable) {
        perilua_json_push_array_mark(c->to);
        lua_setmetatable(c->to, -2);
    }
    return 0;
}

/* Copies the value on top of from; leaves it there, pushes one on to. */
static int copy_value(copier *c)
{
    size_t length;
    const char *text;

    switch (lua_type(c->from, -1)) {
    case LUA_TBOOLEAN:
        lua_pushboolean(c->to, lua_toboolean(c->from, -1));
        return 0;
    case LUA_TNUMBER:
        lua_pushnumber(c->to, lua_tonumber(c->from, -1));
        return 0;
    case LUA_TSTRING:
        text = lua_tolstring(c->from, -1, &length);
        lua_pushlstring(c->to, text, length);
        return 0;
    case LUA_TTABLE:
        return copy_table(c);
    default:
        if (lua_islightuserdata(c->from, -1) &&
            lua_touserdata(c->from, -1) == NULL) {
            perilua_json_push_null(c->to);
            return 0;
        }
        snprintf(c->why, c->why_bytes, "a %s", luaL_typename(c->from, -1));
        return PERI_EFORMAT;
    }
}

static void prepend_key(copier *c)
{
    char inner[256];

    if (c->depth > PATH_KEYS_MAX) {
        return; /* or no room would be left for the reason */
    }
    snprintf(inner, sizeof inner, "%s", c->why);
    if (lua_type(c->from, -2) == LUA_TSTRING) {
        snprintf(c->why, c->why_bytes, ".%.60s%s%s", lua_tostring(c->from, -2),
                 inner[0] == '.' || inner[0] == '[' ? "" : ": ", inner);
    } else {
        snprintf(c->why, c->why_bytes, "[%g]%s%s", lua_tonumber(c->from, -2),
                 inner[0] == '.' || inner[0] == '[' ? "" : ": ", inner);
    }
}

static int copy_pair(copier *c)
{
    int key = lua_type(c->from, -2);

    if (key != LUA_TSTRING && key != LUA_TNUMBER) {
        snprintf(c->why, c->why_bytes, "a key that is a %s",
                 lua_typename(c->from, key));
        return PERI_EFORMAT;
    }
    lua_pushvalue(c->from, -2);
    copy_value(c); /* a string or a number: cannot fail */
    lua_pop(c->from, 1);
    if (copy_value(c) < 0) {
        lua_pop(c->to, 1);
        prepend_key(c);
        return PERI_EFORMAT;
    }
    lua_rawset(c->to, -3);
    return 0;
}

/* The tables on top of both. */
static int copy_fields(copier *c)
{
    int rc = 0;

    if (c->depth == PERILUA_HOT_DEPTH_MAX) {
        snprintf(c->why, c->why_bytes, "nested too deep, or a cycle");
        return PERI_EFORMAT;
    }
    c->depth++;
    luaL_checkstack(c->from, 8, "hot.data");
    luaL_checkstack(c->to, 8, "hot.data");
    lua_pushnil(c->from);
    while (rc == 0 && lua_next(c->from, -2) != 0) {
        rc = copy_pair(c);
        lua_pop(c->from, rc < 0 ? 2 : 1);
    }
    c->depth--;
    return rc;
}

int perilua_hot_copy(lua_State *L, int index, lua_State *to, char *why,
                     size_t why_bytes)
{
    copier c = {.from = L, .to = to, .why = why, .why_bytes = why_bytes};
    char inner[256];
    int rc = PERI_EFORMAT;

    lua_pushvalue(L, index);
    if (lua_istable(L, -1)) {
        rc = copy_fields(&c);
    } else {
        snprintf(why, why_bytes, "a %s", luaL_typename(L, -1));
    }
    lua_pop(L, 1);
    if (rc < 0) {
        snprintf(inner, sizeof inner, "%.200s", why);
        snprintf(why, why_bytes, "hot.data%s%s",
                 inner[0] == '.' || inner[0] == '[' ? "" : ": ", inner);
    }
    return rc;
}
