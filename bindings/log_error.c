/* Log walk: errors, as objects of type, message, stack and what else they have.
 * Whatever was raised is one, a text too. */
#include <lauxlib.h>
#include <string.h>

#include "bindings/log_line.h"
#include "bindings/log_walk.h"
#include "core/base/json_text.h"

#define ERROR_METATABLE "perigee.error"

bool perilua_log_is_error(lua_State *L, int index)
{
    bool equal;

    if (!lua_getmetatable(L, index)) {
        return false;
    }
    luaL_getmetatable(L, ERROR_METATABLE);
    equal = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return equal;
}

static bool get_string(lua_State *L, int index, const char *name)
{
    lua_pushstring(L, name);
    lua_rawget(L, index);
    if (lua_type(L, -1) == LUA_TSTRING) {
        return true;
    }
    lua_pop(L, 1);
    return false;
}

/* Pushes the text of what is no error object: its message or itself. */
static void push_message(lua_State *L, int index)
{
    if (lua_istable(L, index) && get_string(L, index, "message")) {
        return;
    }
    if (lua_type(L, index) == LUA_TSTRING ||
        lua_type(L, index) == LUA_TNUMBER) {
        lua_pushvalue(L, index);
        lua_tostring(L, -1);
        return;
    }
    lua_pushfstring(L, "[%s]", luaL_typename(L, index));
}

/* Pushes what caused it, "\ncaused by: ..." as far as it goes. */
static void push_causes(lua_State *L, int index)
{
    int pieces = 0;
    int base = lua_gettop(L);

    lua_pushvalue(L, index);
    while (lua_istable(L, -1) && pieces < 8) {
        lua_pushliteral(L, "cause");
        lua_rawget(L, -2);
        lua_remove(L, -2);
        if (lua_isnil(L, -1)) {
            break;
        }
        lua_pushliteral(L, "\ncaused by: ");
        push_message(L, lua_gettop(L) - 1);
        lua_concat(L, 2);
        lua_insert(L, -2); /* below the cause, which is looked at next */
        pieces++;
    }
    lua_settop(L, base + pieces);
    lua_concat(L, pieces); /* none: the empty string */
}

/* Pushes the stack: the error's own where it has one, else that of the call. */
static void push_stack(lua_State *L, int index, int message)
{
    size_t length;
    const char *text = lua_tolstring(L, message, &length);

    if (lua_istable(L, index)) {
        if (get_string(L, index, "stack")) {
            return;
        }
        if (get_string(L, index, "traceback")) {
            lua_pushvalue(L, message);
            lua_pushliteral(L, "\n");
            lua_pushvalue(L, -3);
            lua_remove(L, -4);
            lua_concat(L, 3);
            push_causes(L, index);
            lua_concat(L, 2);
            return;
        }
    } else if (memmem(text, length, "stack traceback:", 16) != NULL) {
        lua_pushvalue(L, message);
        return;
    }
    luaL_traceback(L, L, text, 1);
    if (lua_istable(L, index)) {
        push_causes(L, index);
        lua_concat(L, 2);
    }
}

static peri_slice first_line(peri_slice text)
{
    const char *trace =
        memmem(text.data, text.length, "\nstack traceback:", 17);

    return trace != NULL ? peri_slice_of(text.data, (size_t)(trace - text.data))
                         : text;
}

static bool is_shown_apart(peri_slice key)
{
    static const char *const names[] = {"type",  "message",   "stack",
                                        "cause", "traceback", NULL};

    for (int i = 0; names[i] != NULL; i++) {
        if (peri_slice_equal(key, peri_slice_str(names[i]))) {
            return true;
        }
    }
    return false;
}

/* kind, code and whatever else an error carries. */
static int put_extras(perilua_log_walk *w, int index)
{
    char storage[32];
    int rc = 0;

    lua_pushnil(w->L);
    while (lua_next(w->L, index)) {
        int top = lua_gettop(w->L);
        peri_slice key = perilua_log_key(w, top - 1, storage, sizeof storage);

        if (rc == 0 && !is_shown_apart(key)) {
            rc = perilua_log_put(w, ",") | perilua_log_put_member(w, key, top);
        }
        lua_settop(w->L, top - 1);
    }
    return rc;
}

static int put_part(perilua_log_walk *w, const char *name, peri_slice text)
{
    if (perilua_log_put(w, name[0] == 't' ? "" : ",") < 0 ||
        peri_json_append_string(w->out, peri_slice_str(name)) < 0 ||
        perilua_log_put(w, ":") < 0) {
        return PERI_ELIMIT;
    }
    if (perilua_log_enter(w, peri_slice_str(name))) {
        return perilua_log_put(w, "\"[Redacted]\"");
    }
    return perilua_log_string(w->out, text);
}

int perilua_log_put_error(perilua_log_walk *w, int index)
{
    lua_State *L = w->L;
    int base = lua_gettop(L);
    peri_slice text;
    int rc = perilua_log_put(w, "{");

    if (!lua_istable(L, index) || !get_string(L, index, "type")) {
        lua_pushstring(L, perilua_log_is_error(L, index) ? "perigee.Error"
                                                         : "Error");
    }
    rc |= put_part(w, "type", peri_slice_str(lua_tostring(L, -1)));
    push_message(L, index);
    text.data = lua_tolstring(L, -1, &text.length);
    rc |= put_part(w, "message", first_line(text));
    push_stack(L, index, lua_gettop(L));
    text.data = lua_tolstring(L, -1, &text.length);
    rc |= put_part(w, "stack", text);
    if (rc == 0 && lua_istable(L, index)) {
        rc = put_extras(w, index);
    }
    lua_settop(L, base);
    return rc == 0 ? perilua_log_put(w, "}") : PERI_ELIMIT;
}
