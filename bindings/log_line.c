/* Log line: a walk over tables with everything bounded. */
#include "bindings/log_line.h"

#include <lauxlib.h>
#include <math.h>

#include "bindings/json.h"
#include "bindings/json_marks.h"
#include "core/base/json_text.h"
#include "core/base/number.h"

#define LUA_TCDATA 10
#define ERROR_METATABLE "perigee.error"

typedef struct walker {
    lua_State *L;
    peri_buf *out;
    const perilua_redact *redact;
    unsigned has; /* PERILUA_LOG_HAS_... */
    int depth;
    const void
        *above[PERILUA_LOG_DEPTH_MAX + 1];     /* tables that hold this one */
    uint64_t masks[PERILUA_LOG_DEPTH_MAX + 2]; /* paths that fit so far */
} walker;

static int put_value(walker *w, int index);

/* ---- redaction ---- */

/* Goes from this depth to a key's value: sets the mask below, and says whether
 * the value is censored. */
static bool enter_key(walker *w, peri_slice key)
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

static void start(walker *w, lua_State *L, const perilua_redact *redact,
                  peri_buf *out)
{
    *w = (walker){.L = L, .out = out, .redact = redact};
    if (redact->count != 0) {
        w->masks[0] = UINT64_MAX >> (64 - redact->count);
    }
}

/* ---- values ---- */

static int put(walker *w, const char *text)
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

static int put_string(walker *w, int index)
{
    size_t length;
    const char *text = lua_tolstring(w->L, index, &length);

    return perilua_log_string(w->out, peri_slice_of(text, length));
}

static int put_number(walker *w, double number)
{
    char text[PERI_NUMBER_TEXT_BYTES];

    if (isnan(number)) {
        return put(w, "\"NaN\"");
    }
    if (isinf(number)) {
        return put(w, number > 0 ? "\"Infinity\"" : "\"-Infinity\"");
    }
    return peri_buf_append(w->out, text, peri_number_write(number, text));
}

/* Whether it is json.null. */
static bool is_null(lua_State *L, int index)
{
    bool same;

    perilua_json_push_null(L);
    same = lua_rawequal(L, index, -1) != 0;
    lua_pop(L, 1);
    return same;
}

static int put_other(walker *w, int index)
{
    int type = lua_type(w->L, index);
    int rc;

    if (is_null(w->L, index)) {
        return put(w, "null");
    }
    if (type == LUA_TCDATA) {
        perilua_json_push_integer(w->L, index);
        rc = lua_isnil(w->L, -1) ? put(w, "\"[cdata]\"")
                                 : put(w, lua_tostring(w->L, -1));
        lua_pop(w->L, 1);
        return rc;
    }
    return peri_buf_printf(w->out, "\"[%s]\"", lua_typename(w->L, type));
}

/* A table's key as text, in storage where it isn't a string. */
static peri_slice key_text(walker *w, int index, char *storage, size_t bytes)
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

static bool is_error(lua_State *L, int index)
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
static int put_below(walker *w, peri_slice key, int index)
{
    int rc;

    if (enter_key(w, key)) {
        return put(w, "\"[Redacted]\"");
    }
    w->depth++;
    rc = put_value(w, index);
    w->depth--;
    return rc;
}

static int put_list(walker *w, int index)
{
    size_t length = lua_objlen(w->L, index);
    char storage[32];
    int rc = put(w, "[");

    for (size_t i = 0; rc == 0 && i < length; i++) {
        int n = snprintf(storage, sizeof storage, "%zu", i);

        if (i != 0) {
            rc = put(w, ",");
        }
        if (i == PERILUA_LOG_ENTRIES_MAX) {
            return rc | peri_buf_printf(w->out, "\"[%zu more]\"]", length - i);
        }
        lua_rawgeti(w->L, index, (int)i + 1);
        rc |= put_below(w, peri_slice_of(storage, (size_t)n), lua_gettop(w->L));
        lua_pop(w->L, 1);
    }
    return rc == 0 ? put(w, "]") : PERI_ELIMIT;
}

static int put_member(walker *w, peri_slice key, int index)
{
    if (peri_json_append_string(w->out, key) < 0 || put(w, ":") < 0) {
        return PERI_ELIMIT;
    }
    return put_below(w, key, index);
}

static int put_map(walker *w, int index)
{
    char storage[32];
    int count = 0;
    int rc = put(w, "{");

    lua_pushnil(w->L);
    while (rc == 0 && lua_next(w->L, index)) {
        int top = lua_gettop(w->L);

        if (count != 0) {
            rc = put(w, ",");
        }
        if (++count > PERILUA_LOG_ENTRIES_MAX) {
            rc |= put(w, "\"...\":\"[more]\"");
            lua_pop(w->L, 2);
            break;
        }
        rc |= put_member(w, key_text(w, top - 1, storage, sizeof storage), top);
        lua_settop(w->L, top - 1);
        if (rc != 0) {
            lua_pop(w->L, 1);
        }
    }
    return rc == 0 ? put(w, "}") : PERI_ELIMIT;
}

/* ---- errors ---- */

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
static int put_extras(walker *w, int index)
{
    char storage[32];
    int rc = 0;

    lua_pushnil(w->L);
    while (lua_next(w->L, index)) {
        int top = lua_gettop(w->L);
        peri_slice key = key_text(w, top - 1, storage, sizeof storage);

        if (rc == 0 && !is_shown_apart(key)) {
            rc = put(w, ",") | put_member(w, key, top);
        }
        lua_settop(w->L, top - 1);
    }
    return rc;
}

static int put_part(walker *w, const char *name, peri_slice text)
{
    if (put(w, name[0] == 't' ? "" : ",") < 0 ||
        peri_json_append_string(w->out, peri_slice_str(name)) < 0 ||
        put(w, ":") < 0) {
        return PERI_ELIMIT;
    }
    if (enter_key(w, peri_slice_str(name))) {
        return put(w, "\"[Redacted]\"");
    }
    return perilua_log_string(w->out, text);
}

static int put_error(walker *w, int index)
{
    lua_State *L = w->L;
    int base = lua_gettop(L);
    peri_slice text;
    int rc = put(w, "{");

    if (!lua_istable(L, index) || !get_string(L, index, "type")) {
        lua_pushstring(L, is_error(L, index) ? "perigee.Error" : "Error");
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
    return rc == 0 ? put(w, "}") : PERI_ELIMIT;
}

/* ---- the walk ---- */

static int put_table(walker *w, int index)
{
    const void *self = lua_topointer(w->L, index);

    for (int i = 0; i < w->depth; i++) {
        if (w->above[i] == self) {
            return put(w, "\"[Circular]\"");
        }
    }
    if (w->depth >= PERILUA_LOG_DEPTH_MAX || !lua_checkstack(w->L, 24)) {
        return put(w, "\"[Object]\"");
    }
    w->above[w->depth] = self;
    if (is_error(w->L, index)) {
        return put_error(w, index);
    }
    return is_list(w->L, index) ? put_list(w, index) : put_map(w, index);
}

/* index: absolute. The stack is as before. */
static int put_value(walker *w, int index)
{
    switch (lua_type(w->L, index)) {
    case LUA_TNIL:
        return put(w, "null");
    case LUA_TBOOLEAN:
        return put(w, lua_toboolean(w->L, index) ? "true" : "false");
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

/* The line's own keys, which a field must not repeat. */
static const char *suffix_of(const walker *w, peri_slice key)
{
    static const struct {
        const char *key;
        unsigned has; /* where the line has got it; 0: always */
    } own[] = {
        {"level", 0},
        {"time", 0},
        {"pid", 0},
        {"hostname", 0},
        {"msg", 0},
        {"reqId", PERILUA_LOG_HAS_REQUEST},
        {"trace_id", PERILUA_LOG_HAS_TRACE},
        {"span_id", PERILUA_LOG_HAS_TRACE},
    };

    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        if ((own[i].has & w->has) == own[i].has &&
            peri_slice_equal(key, peri_slice_str(own[i].key))) {
            return "_";
        }
    }
    return "";
}

static int put_key(walker *w, peri_slice key)
{
    int rc = put(w, ",") | peri_json_append_string(w->out, key);
    const char *suffix = suffix_of(w, key);

    if (rc == 0 && suffix[0] != '\0') {
        w->out->length--;
        rc = put(w, suffix) | put(w, "\"");
    }
    return rc | put(w, ":");
}

static int put_field(walker *w, peri_slice key, int index)
{
    bool error = peri_slice_equal(key, PERI_SLICE("err"));
    int rc;

    if (put_key(w, key) != 0) {
        return PERI_ELIMIT;
    }
    if (enter_key(w, key)) {
        return put(w, "\"[Redacted]\"");
    }
    w->depth++;
    rc = error && !is_null(w->L, index) ? put_error(w, index)
                                        : put_value(w, index);
    w->depth--;
    return rc;
}

/* A field that does not fit leaves a note, if that does. */
static void put_field_or_note(walker *w, peri_slice key, int index)
{
    size_t before = w->out->length;
    int top = lua_gettop(w->L);

    if (put_field(w, key, index) == 0) {
        return;
    }
    lua_settop(w->L, top);
    w->out->length = before;
    if ((put_key(w, key) | put(w, "\"[too large]\"")) != 0) {
        w->out->length = before;
    }
}

void perilua_log_fields(lua_State *L, int index, const perilua_redact *redact,
                        unsigned has, peri_buf *out)
{
    char storage[32];
    walker w;

    start(&w, L, redact, out);
    w.has = has;
    if (!lua_checkstack(L, 24)) {
        return;
    }
    w.above[0] = lua_topointer(L, index);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        int top = lua_gettop(L);

        put_field_or_note(&w, key_text(&w, top - 1, storage, sizeof storage),
                          top);
        lua_settop(L, top - 1);
    }
}

void perilua_log_error(lua_State *L, int index, const perilua_redact *redact,
                       peri_buf *out)
{
    walker w;

    start(&w, L, redact, out);
    if (lua_checkstack(L, 24)) {
        put_field_or_note(&w, PERI_SLICE("err"), index);
    }
}
