/* Log walk: values. Tables are bounded, what JSON has no form for is text. */
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bindings/json.h"
#include "bindings/json_marks.h"
#include "bindings/log_line.h"
#include "bindings/log_walk.h"
#include "core/base/json_text.h"
#include "core/base/number.h"

#define LUA_TCDATA 10

/* Goes from this depth to a key's value: sets the mask below, and says whether
 * the value is censored. */
bool perilua_log_enter(perilua_log_walk *w, peri_slice key)
{
    uint64_t mask = w->masks[w->depth];
    uint64_t below = 0;
    bool censored = false;

    for (int i = 0; mask != 0; i++, mask >>= 1) {
        const char *segment;

        if ((mask & 1) == 0 || w->redact->paths[i].length <= w->depth) {
            continue;
        }
        segment = w->redact->paths[i].segments[w->depth];
        if (strcmp(segment, "*") == 0 ||
            peri_slice_equal(peri_slice_str(segment), key)) {
            below |= (uint64_t)1 << i;
            censored |= w->redact->paths[i].length == w->depth + 1;
        }
    }
    w->masks[w->depth + 1] = below;
    return censored;
}

void perilua_log_start(perilua_log_walk *w, lua_State *L,
                       const perilua_redact *redact, peri_buf *out)
{
    *w = (perilua_log_walk){.L = L, .out = out, .redact = redact};
    if (redact->count != 0) {
        w->masks[0] = UINT64_MAX >> (64 - redact->count);
    }
}

int perilua_log_put(perilua_log_walk *w, const char *text)
{
    return peri_buf_append_str(w->out, text);
}

int perilua_log_string(peri_buf *out, peri_slice text)
{
    size_t over = text.length > PERILUA_LOG_STRING_MAX
                      ? text.length - PERILUA_LOG_STRING_MAX
                      : 0;

    text.length -= over;
    if (peri_json_append_string(out, text) < 0) {
        return PERI_ELIMIT;
    }
    if (over == 0) {
        return 0;
    }
    out->length--; /* the quote */
    return peri_buf_printf(out, "[%zu bytes more]\"", over);
}

static int put_string(perilua_log_walk *w, int index)
{
    size_t length;
    const char *text = lua_tolstring(w->L, index, &length);

    return perilua_log_string(w->out, peri_slice_of(text, length));
}

static int put_number(perilua_log_walk *w, double number)
{
    char text[PERI_NUMBER_TEXT_BYTES];

    if (isnan(number)) {
        return perilua_log_put(w, "\"NaN\"");
    }
    if (isinf(number)) {
        return perilua_log_put(w,
                               number > 0 ? "\"Infinity\"" : "\"-Infinity\"");
    }
    return peri_buf_append(w->out, text, peri_number_write(number, text));
}

/* Whether it is json.null. */
bool perilua_log_is_null(lua_State *L, int index)
{
    bool same;

    perilua_json_push_null(L);
    same = lua_rawequal(L, index, -1) != 0;
    lua_pop(L, 1);
    return same;
}

static int put_other(perilua_log_walk *w, int index)
{
    int type = lua_type(w->L, index);
    int rc;

    if (perilua_log_is_null(w->L, index)) {
        return perilua_log_put(w, "null");
    }
    if (type == LUA_TCDATA) {
        perilua_json_push_integer(w->L, index);
        rc = lua_isnil(w->L, -1) ? perilua_log_put(w, "\"[cdata]\"")
                                 : perilua_log_put(w, lua_tostring(w->L, -1));
        lua_pop(w->L, 1);
        return rc;
    }
    return peri_buf_printf(w->out, "\"[%s]\"", lua_typename(w->L, type));
}

/* A table's key as text, in storage where it isn't a string. */
peri_slice perilua_log_key(perilua_log_walk *w, int index, char *storage,
                           size_t bytes)
{
    size_t length;
    const char *text;

    switch (lua_type(w->L, index)) {
    case LUA_TSTRING:
        text = lua_tolstring(w->L, index, &length);
        return peri_slice_of(text, length < PERILUA_LOG_STRING_MAX
                                       ? length
                                       : PERILUA_LOG_STRING_MAX);
    case LUA_TNUMBER:
        length = (size_t)snprintf(storage, bytes, "%.14g",
                                  lua_tonumber(w->L, index));
        return peri_slice_of(storage, length);
    case LUA_TBOOLEAN:
        return peri_slice_str(lua_toboolean(w->L, index) ? "true" : "false");
    default:
        return peri_slice_str(lua_typename(w->L, lua_type(w->L, index)));
    }
}

/* Of an empty table: whether perigee.json has it as a list. */
static bool is_empty_list(lua_State *L, int index)
{
    bool equal;

    perilua_json_push_empty_array(L);
    equal = lua_rawequal(L, -1, index);
    lua_pop(L, 1);
    if (equal || !lua_getmetatable(L, index)) {
        return equal;
    }
    perilua_json_push_array_mark(L);
    equal = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return equal;
}

/* Every key is one of 1..#t, as far as a line would show them. */
static bool is_list(lua_State *L, int index)
{
    size_t length = lua_objlen(L, index);
    size_t count = 0;

    if (length == 0) {
        return is_empty_list(L, index);
    }
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TNUMBER) {
            lua_pop(L, 1);
            return false;
        }
        if (++count > PERILUA_LOG_ENTRIES_MAX) {
            lua_pop(L, 1);
            return true;
        }
    }
    return count == length;
}

/* The value below the key; censored where a path says so. */
static int put_below(perilua_log_walk *w, peri_slice key, int index)
{
    int rc;

    if (perilua_log_enter(w, key)) {
        return perilua_log_put(w, "\"[Redacted]\"");
    }
    w->depth++;
    rc = perilua_log_put_value(w, index);
    w->depth--;
    return rc;
}

static int put_list(perilua_log_walk *w, int index)
{
    size_t length = lua_objlen(w->L, index);
    char storage[32];
    int rc = perilua_log_put(w, "[");

    for (size_t i = 0; rc == 0 && i < length; i++) {
        int n = snprintf(storage, sizeof storage, "%zu", i);

        if (i != 0) {
            rc = perilua_log_put(w, ",");
        }
        if (i == PERILUA_LOG_ENTRIES_MAX) {
            return rc | peri_buf_printf(w->out, "\"[%zu more]\"]", length - i);
        }
        lua_rawgeti(w->L, index, (int)i + 1);
        rc |= put_below(w, peri_slice_of(storage, (size_t)n), lua_gettop(w->L));
        lua_pop(w->L, 1);
    }
    return rc == 0 ? perilua_log_put(w, "]") : PERI_ELIMIT;
}

int perilua_log_put_member(perilua_log_walk *w, peri_slice key, int index)
{
    if (peri_json_append_string(w->out, key) < 0 ||
        perilua_log_put(w, ":") < 0) {
        return PERI_ELIMIT;
    }
    return put_below(w, key, index);
}

static int put_map(perilua_log_walk *w, int index)
{
    char storage[32];
    int count = 0;
    int rc = perilua_log_put(w, "{");

    lua_pushnil(w->L);
    while (rc == 0 && lua_next(w->L, index)) {
        int top = lua_gettop(w->L);

        if (count != 0) {
            rc = perilua_log_put(w, ",");
        }
        if (++count > PERILUA_LOG_ENTRIES_MAX) {
            rc |= perilua_log_put(w, "\"...\":\"[more]\"");
            lua_pop(w->L, 2);
            break;
        }
        rc |= perilua_log_put_member(
            w, perilua_log_key(w, top - 1, storage, sizeof storage), top);
        lua_settop(w->L, top - 1);
        if (rc != 0) {
            lua_pop(w->L, 1);
        }
    }
    return rc == 0 ? perilua_log_put(w, "}") : PERI_ELIMIT;
}

static int put_table(perilua_log_walk *w, int index)
{
    const void *self = lua_topointer(w->L, index);

    for (int i = 0; i < w->depth; i++) {
        if (w->above[i] == self) {
            return perilua_log_put(w, "\"[Circular]\"");
        }
    }
    if (w->depth >= PERILUA_LOG_DEPTH_MAX || !lua_checkstack(w->L, 24)) {
        return perilua_log_put(w, "\"[Object]\"");
    }
    w->above[w->depth] = self;
    if (perilua_log_is_error(w->L, index)) {
        return perilua_log_put_error(w, index);
    }
    return is_list(w->L, index) ? put_list(w, index) : put_map(w, index);
}

/* index: absolute. The stack is as before. */
int perilua_log_put_value(perilua_log_walk *w, int index)
{
    switch (lua_type(w->L, index)) {
    case LUA_TNIL:
        return perilua_log_put(w, "null");
    case LUA_TBOOLEAN:
        return perilua_log_put(w,
                               lua_toboolean(w->L, index) ? "true" : "false");
    case LUA_TNUMBER:
        return put_number(w, lua_tonumber(w->L, index));
    case LUA_TSTRING:
        return put_string(w, index);
    case LUA_TTABLE:
        return put_table(w, index);
    default:
        return put_other(w, index);
    }
}
