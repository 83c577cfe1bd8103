/* Error: building perigee.error objects from C. */
#include "bindings/error.h"

#include <lauxlib.h>
#include <stdarg.h>

#include "core/base/err.h"
#include "core/base/json_text.h"

/* perigee/error.lua puts the metatable here. */
#define ERROR_METATABLE "perigee.error"

void perilua_push_error(lua_State *L, const char *kind, const char *code,
                        const char *message)
{
    lua_createtable(L, 0, 4);
    lua_pushstring(L, kind);
    lua_setfield(L, -2, "kind");
    lua_pushstring(L, message);
    lua_setfield(L, -2, "message");
    if (code != NULL) {
        lua_pushstring(L, code);
        lua_setfield(L, -2, "code");
    }
    luaL_getmetatable(L, ERROR_METATABLE);
    lua_setmetatable(L, -2);
}

int perilua_fail(lua_State *L, const char *kind, const char *code,
                 const char *format, ...)
{
    va_list args;

    lua_pushnil(L);
    va_start(args, format);
    lua_pushvfstring(L, format, args);
    va_end(args);
    perilua_push_error(L, kind, code, lua_tostring(L, -1));
    lua_remove(L, -2);
    return 2;
}

static const char *kind_of(int rc)
{
    switch (rc) {
    case PERI_ELIMIT:
        return "too_large";
    case PERI_EFORMAT:
        return "invalid";
    case PERI_ETIMEOUT:
        return "timeout";
    case PERI_EGONE:
        return "cancelled";
    case PERI_EEXISTS:
        return "conflict";
    case PERI_ENOTFOUND:
        return "not_found";
    default:
        return "unavailable";
    }
}

int perilua_fail_rc(lua_State *L, int rc, const char *what)
{
    return perilua_fail(L, kind_of(rc), peri_err_name(rc), "%s: %s", what,
                        peri_err_text(rc));
}

/* A number there would be turned into a string: made. */
static const char *text_at(lua_State *co, int index)
{
    return lua_type(co, index) == LUA_TSTRING ? lua_tostring(co, index) : "";
}

void perilua_write_error(lua_State *co, peri_buf *to)
{
    peri_buf stack;

    lua_getfield(co, -1, "kind");
    lua_getfield(co, -2, "message");
    lua_getfield(co, -3, "traceback");
    peri_buf_init(&stack, SIZE_MAX);
    peri_buf_append_str(&stack, text_at(co, -2));
    peri_buf_append_byte(&stack, '\n');
    peri_buf_append_str(&stack, text_at(co, -1));
    peri_buf_append_str(to, "{\"type\":");
    peri_json_append_string(to, peri_slice_str(text_at(co, -3)));
    peri_buf_append_str(to, ",\"message\":");
    peri_json_append_string(to, peri_slice_str(text_at(co, -2)));
    peri_buf_append_str(to, ",\"stack\":");
    peri_json_append_string(to, peri_buf_slice(&stack));
    peri_buf_append_byte(to, '}');
    peri_buf_fini(&stack);
    lua_pop(co, 3);
}
