/* perigee.core.json: the codec for Lua. */
#include <lauxlib.h>
#include <string.h>

#include "bindings/bind.h"
#include "bindings/json.h"
#include "bindings/json_marks.h"

#define ENCODE_MAX_BYTES ((size_t)1 << 30)
#define KEEP_BYTES ((size_t)256 * 1024) /* of the buffer between calls */

static int buffer_gc(lua_State *L)
{
    peri_buf_fini(lua_touserdata(L, 1));
    return 0;
}

/* Raises for an option of the table at 2 that is none of the names, of which
 * NULL is the last. */
static void check_options(lua_State *L, const char *what,
                          const char *const *names)
{
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, 2) != 0) {
        const char *name = lua_type(L, -2) == LUA_TSTRING
                               ? lua_tostring(L, -2)
                               : luaL_typename(L, -2);
        const char *const *known = names;

        while (*known != NULL && strcmp(name, *known) != 0) {
            known++;
        }
        if (*known == NULL) {
            luaL_error(L, "%s: unknown option %s", what, name);
        }
        lua_pop(L, 1);
    }
}

/* encode(value[, {pretty}]) -> text | nil, err */
static int json_encode(lua_State *L)
{
    peri_buf *buf = lua_touserdata(L, lua_upvalueindex(1));
    bool pretty = false;
    int rc;

    if (lua_gettop(L) != 1 && !lua_isnoneornil(L, 2)) {
        check_options(L, "json.encode", (const char *[]){"pretty", NULL});
        lua_getfield(L, 2, "pretty");
        pretty = lua_toboolean(L, -1);
        lua_pop(L, 1);
    }
    luaL_checkany(L, 1);
    peri_buf_clear(buf);
    rc = pretty ? perilua_json_encode_pretty(L, 1, buf)
                : perilua_json_encode(L, 1, buf);
    if (rc < 0) {
        return perilua_fail(L, rc == PERI_ELIMIT ? "too_large" : "invalid",
                            "json_encode", "can't be encoded: %s",
                            lua_tostring(L, -1));
    }
    lua_pushlstring(L, buf->data, buf->length);
    if (buf->capacity > KEEP_BYTES) {
        peri_buf_fini(buf);
    }
    return 1;
}

static lua_Integer check_limit(lua_State *L, const char *name,
                               lua_Integer fallback)
{
    lua_Integer limit = fallback;

    lua_getfield(L, 2, name);
    if (!lua_isnil(L, -1)) {
        if (lua_type(L, -1) != LUA_TNUMBER || lua_tonumber(L, -1) < 0) {
            luaL_error(L, "%s must be a number", name);
        }
        limit = lua_tointeger(L, -1);
    }
    lua_pop(L, 1);
    return limit;
}

/* decode(text[, {max_depth, max_bytes}]) -> value | nil, err */
static int json_decode(lua_State *L)
{
    peri_slice text = perilua_check_slice(L, 1);
    int depth_max = PERILUA_JSON_DEPTH_MAX;

    if (!lua_isnoneornil(L, 2)) {
        lua_Integer bytes_max;

        check_options(L, "json.decode",
                      (const char *[]){"max_depth", "max_bytes", NULL});
        bytes_max = check_limit(L, "max_bytes", (lua_Integer)text.length);
        if (text.length > (size_t)bytes_max) {
            return perilua_fail(L, "too_large", "json_decode",
                                "more than %d bytes of JSON", (int)bytes_max);
        }
        depth_max = (int)check_limit(L, "max_depth", depth_max);
    }
    if (perilua_json_decode_depth(L, text, depth_max) < 0) {
        return perilua_fail(L, "invalid", "json_decode", "invalid JSON: %s",
                            lua_tostring(L, -1));
    }
    return 1;
}

int perilua_open_json(lua_State *L)
{
    peri_buf *buf;

    lua_createtable(L, 0, 5);
    lua_pushcfunction(L, json_decode);
    lua_setfield(L, -2, "decode");
    buf = lua_newuserdata(L, sizeof *buf);
    peri_buf_init(buf, ENCODE_MAX_BYTES);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, buffer_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_pushcclosure(L, json_encode, 1);
    lua_setfield(L, -2, "encode");
    perilua_json_push_null(L);
    lua_setfield(L, -2, "null");
    perilua_json_push_array_mark(L);
    lua_setfield(L, -2, "array_mark");
    perilua_json_push_empty_array(L);
    lua_setfield(L, -2, "empty_array");
    return 1;
}
