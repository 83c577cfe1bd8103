/* JSON encode: from Lua values to text.
 *
 * One pass over each table: lua_next gives a list's items in order as long as
 * they lie in the table's array part, so whether it is a list shows while it
 * is written; the rare others are written again, item by item. */
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>

#include "bindings/json.h"
#include "bindings/json_marks.h"
#include "core/base/json_write.h"
#include "core/base/number.h"

#define LUA_TCDATA 10 /* LuaJIT's; not in its headers */
#define POINTER_MAX_BYTES 1024
#define STACK_EACH 32  /* slots for the tables of so many */
#define LEVELS_EACH 8  /* levels */
#define CYCLE_DEPTH 32 /* nobody nests that deep; look for cycles from here */

/* A table that is being written, for cycles and for the place of a fault. */
typedef struct frame {
    const struct frame *parent;
    int table; /* stack index */
    int key;   /* stack index of the current key */
} frame;

typedef struct encoder {
    lua_State *L;
    peri_buf *out;
    const frame *top;
    const void *array_mark; /* NULL: not looked up yet */
    const void *empty_array;
    int depth;
    bool pretty;
} encoder;

typedef struct sorted_key {
    const char *data;
    size_t length;
} sorted_key;

static int encode_value(encoder *e, int index);

static void add_pointer(encoder *e, const frame *f, peri_buf *text)
{
    size_t length;
    const char *key;

    if (f == NULL) {
        return;
    }
    add_pointer(e, f->parent, text);
    if (lua_type(e->L, f->key) == LUA_TNUMBER) {
        peri_buf_printf(text, "/%.14g", lua_tonumber(e->L, f->key) - 1);
        return;
    }
    key = lua_tolstring(e->L, f->key, &length);
    peri_buf_append_byte(text, '/');
    for (size_t i = 0; key != NULL && i < length; i++) {
        if (key[i] == '~' || key[i] == '/') {
            peri_buf_append(text, key[i] == '~' ? "~0" : "~1", 2);
        } else {
            peri_buf_append_byte(text, key[i]);
        }
    }
}

/* Pushes "at /items/3: what". */
static int fail_at(encoder *e, const frame *where, const char *what)
{
    peri_buf text;

    peri_buf_init(&text, POINTER_MAX_BYTES);
    add_pointer(e, where, &text);
    peri_buf_append_byte(&text, '\0');
    lua_checkstack(e->L, 4);
    if (where == NULL || text.length == 0) {
        lua_pushstring(e->L, what);
    } else {
        text.data[text.length - 1] = '\0';
        lua_pushfstring(e->L, "at %s: %s", text.data, what);
    }
    peri_buf_fini(&text);
    return PERI_EFORMAT;
}

static int fail(encoder *e, const char *what)
{
    return fail_at(e, e->top, what);
}

static int fail_full(encoder *e)
{
    lua_pushfstring(e->L, "more than %d bytes of JSON", (int)e->out->max_bytes);
    return PERI_ELIMIT;
}

/* The mark before it (unless it is 0) and the text in quotes; there is room for
 * PERI_JSON_TAIL more bytes behind it. */
static inline int encode_text(encoder *e, char mark, const char *at,
                              size_t length)
{
    int rc = peri_json_write_string(e->out, mark, peri_slice_of(at, length));

    if (rc == 0) {
        return 0;
    }
    return rc == PERI_ELIMIT ? fail_full(e)
                             : fail(e, "a string that is not UTF-8");
}

static int encode_number(encoder *e, double value)
{
    if (!isfinite(value)) {
        return fail(e, isnan(value) ? "not a number" : "an infinite number");
    }
    if (peri_buf_reserve(e->out, PERI_NUMBER_TEXT_BYTES) < 0) {
        return fail_full(e);
    }
    e->out->length += peri_number_write(value, e->out->data + e->out->length);
    return 0;
}

static inline int append(encoder *e, const char *text, size_t length)
{
    return peri_buf_append(e->out, text, length) < 0 ? fail_full(e) : 0;
}

/* The mark, unless it is 0, and a new line with its indentation. */
static int append_line(encoder *e, char mark, int depth)
{
    size_t indent = 2 * (size_t)depth;
    char *to;

    if (peri_buf_reserve(e->out, 2 + indent) < 0) {
        return fail_full(e);
    }
    to = e->out->data + e->out->length;
    if (mark != '\0') {
        *to++ = mark;
    }
    *to++ = '\n';
    memset(to, ' ', indent);
    e->out->length = (size_t)(to - e->out->data) + indent;
    return 0;
}

/* A comma or an opening bracket, and in pretty text a new line. */
static inline int append_mark(encoder *e, char mark, int depth)
{
    return e->pretty ? append_line(e, mark, depth) : append(e, &mark, 1);
}

static int close_with(encoder *e, const char *mark)
{
    if (e->pretty && append_line(e, '\0', e->depth - 1) < 0) {
        return PERI_ELIMIT;
    }
    return append(e, mark, 1);
}

/* mark"key": */
static inline int encode_key(encoder *e, char mark, int key)
{
    size_t length;
    const char *text = lua_tolstring(e->L, key, &length);
    int rc = encode_text(e, mark, text, length);

    if (rc == 0) {
        e->out->data[e->out->length++] = ':';
        if (e->pretty) {
            e->out->data[e->out->length++] = ' ';
        }
    }
    return rc;
}

/* How many items the list at index has; negative with a fault pushed when it
 * is not a list. */
static int count_items(encoder *e, int table)
{
    lua_State *L = e->L;
    double largest = 0;
    int count = 0;

    lua_pushnil(L);
    while (lua_next(L, table) != 0) {
        double key;

        if (lua_type(L, -2) != LUA_TNUMBER) {
            return fail_at(e, e->top->parent,
                           "a table with both items and named fields");
        }
        key = lua_tonumber(L, -2);
        if (key < 1 || key != floor(key)) {
            return fail_at(e, e->top->parent,
                           "a table with keys that are neither names nor "
                           "positions");
        }
        largest = key > largest ? key : largest;
        count++;
        lua_pop(L, 1);
    }
    if (largest != count) {
        return fail_at(e, e->top->parent, "a list with holes");
    }
    return count;
}

/* A list whose items lua_next does not give in order. */
static int encode_items(encoder *e, int table)
{
    lua_State *L = e->L;
    int count = count_items(e, table);
    int rc = count < 0 ? count : 0;

    for (int i = 1; i <= count && rc == 0; i++) {
        lua_pushinteger(L, i);
        lua_rawgeti(L, table, i);
        rc = append_mark(e, i == 1 ? '[' : ',', e->depth);
        if (rc == 0) {
            rc = encode_value(e, table + 2);
        }
        if (rc == 0) {
            lua_settop(L, table);
        }
    }
    return rc < 0 ? rc : close_with(e, "]");
}

/* The first key, a number, and its value are on the stack. */
static int encode_array(encoder *e, int table)
{
    lua_State *L = e->L;
    size_t start = e->out->length;
    double expected = 0;
    int rc;

    do {
        expected++;
        if (lua_type(L, table + 1) != LUA_TNUMBER ||
            lua_tonumber(L, table + 1) != expected) {
            lua_settop(L, table);
            e->out->length = start;
            return encode_items(e, table);
        }
        rc = append_mark(e, expected == 1 ? '[' : ',', e->depth);
        if (rc == 0) {
            rc = encode_value(e, table + 2);
        }
        if (rc < 0) {
            return rc;
        }
        lua_settop(L, table + 1);
    } while (lua_next(L, table) != 0);
    return close_with(e, "]");
}

static int refuse_key(encoder *e, int key)
{
    lua_State *L = e->L;

    switch (lua_type(L, key)) {
    case LUA_TNUMBER:
        return fail_at(e, e->top->parent,
                       "a table with both items and named fields");
    default:
        lua_pushfstring(L, "a table with a %s as a key", luaL_typename(L, key));
        return fail_at(e, e->top->parent, lua_tostring(L, -1));
    }
}

/* The first key and its value are on the stack. */
static int encode_object(encoder *e, int table)
{
    lua_State *L = e->L;
    char mark = '{';

    do {
        int rc;

        if (lua_type(L, table + 1) != LUA_TSTRING) {
            return refuse_key(e, table + 1);
        }
        rc = encode_key(e, mark, table + 1);
        if (rc == 0) {
            rc = encode_value(e, table + 2);
        }
        if (rc < 0) {
            return rc;
        }
        mark = ',';
        lua_settop(L, table + 1);
    } while (lua_next(L, table) != 0);
    return append(e, "}", 1);
}

static int compare_keys(const void *a, const void *b)
{
    const sorted_key *x = a;
    const sorted_key *y = b;
    size_t shared = x->length < y->length ? x->length : y->length;
    int order = memcmp(x->data, y->data, shared);

    if (order != 0) {
        return order;
    }
    return (x->length > y->length) - (x->length < y->length);
}

/* Pushes the keys of the table in order, as a userdata that borrows their
 * bytes from the table. */
static int push_sorted_keys(encoder *e, int table, size_t *count)
{
    lua_State *L = e->L;
    sorted_key *keys;
    size_t n = 0;

    lua_pushnil(L);
    while (lua_next(L, table) != 0) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            return refuse_key(e, lua_gettop(L) - 1);
        }
        n++;
        lua_pop(L, 1);
    }
    keys = lua_newuserdata(L, n * sizeof *keys);
    *count = n;
    n = 0;
    lua_pushnil(L);
    while (lua_next(L, table) != 0) {
        keys[n].data = lua_tolstring(L, -2, &keys[n].length);
        n++;
        lua_pop(L, 1);
    }
    qsort(keys, n, sizeof *keys, compare_keys);
    return 0;
}

static int encode_object_pretty(encoder *e, frame *f, int table)
{
    lua_State *L = e->L;
    const sorted_key *keys;
    size_t count = 0;
    int rc;

    lua_settop(L, table);
    rc = push_sorted_keys(e, table, &count);
    keys = rc == 0 ? lua_touserdata(L, table + 1) : NULL;
    f->key = table + 2;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        lua_settop(L, table + 1);
        lua_pushlstring(L, keys[i].data, keys[i].length);
        lua_pushvalue(L, -1);
        lua_rawget(L, table);
        rc = append_mark(e, i == 0 ? '{' : ',', e->depth);
        if (rc == 0) {
            rc = encode_key(e, '\0', table + 2);
        }
        if (rc == 0) {
            rc = encode_value(e, table + 3);
        }
    }
    return rc < 0 ? rc : close_with(e, "}");
}

/* A view (perigee.config) has what it shows in its metatable, above the table:
 * that is written in its place. */
static void look_through(lua_State *L, int table)
{
    lua_settop(L, table + 1);
    lua_pushliteral(L, "__json");
    lua_rawget(L, table + 1);
    if (lua_istable(L, -1)) {
        lua_replace(L, table);
    }
    lua_settop(L, table);
}

static bool is_marked_array(encoder *e, int table)
{
    lua_State *L = e->L;
    const void *mark;

    if (lua_getmetatable(L, table) == 0) {
        return false;
    }
    mark = lua_topointer(L, -1);
    if (e->array_mark == NULL) {
        perilua_json_push_array_mark(L);
        e->array_mark = lua_topointer(L, -1);
        perilua_json_push_empty_array(L);
        e->empty_array = lua_topointer(L, -1);
    }
    if (mark == e->array_mark || lua_topointer(L, table) == e->empty_array) {
        lua_settop(L, table);
        return true;
    }
    look_through(L, table);
    return false;
}

static bool contains_itself(const encoder *e, const frame *f)
{
    const void *table = lua_topointer(e->L, f->table);

    for (f = f->parent; f != NULL; f = f->parent) {
        if (lua_topointer(e->L, f->table) == table) {
            return true;
        }
    }
    return false;
}

static int enter(encoder *e, const frame *f)
{
    if (e->depth >= CYCLE_DEPTH && contains_itself(e, f)) {
        return fail(e, "a table that contains itself");
    }
    if (e->depth >= PERILUA_JSON_DEPTH_MAX) {
        return fail(e, "nested deeper than 1000");
    }
    if (e->depth % LEVELS_EACH == 0 && lua_checkstack(e->L, STACK_EACH) == 0) {
        return fail(e, "nested too deep for the Lua stack");
    }
    return 0;
}

/* The table is at the top of the stack; it and nothing else is there again
 * afterwards, unless a fault has been pushed. */
static int encode_table(encoder *e, int table)
{
    lua_State *L = e->L;
    frame f = {e->top, table, table + 1};
    int rc = enter(e, &f);
    bool marked;

    if (rc < 0) {
        return rc;
    }
    marked = is_marked_array(e, table);
    lua_pushnil(L);
    if (lua_next(L, table) == 0) {
        return append(e, marked ? "[]" : "{}", 2);
    }
    e->top = &f;
    e->depth++;
    if (marked || lua_type(L, table + 1) == LUA_TNUMBER) {
        rc = encode_array(e, table);
    } else if (e->pretty) {
        rc = encode_object_pretty(e, &f, table);
    } else {
        rc = encode_object(e, table);
    }
    e->depth--;
    e->top = f.parent;
    return rc;
}

static int encode_cdata(encoder *e, int index)
{
    size_t length;
    const char *digits;
    int rc;

    perilua_json_push_integer(e->L, index);
    digits = lua_tolstring(e->L, -1, &length);
    if (digits == NULL) {
        return fail(e, "a cdata that is not a 64-bit integer");
    }
    rc = append(e, digits, length);
    if (rc == 0) {
        lua_pop(e->L, 1);
    }
    return rc;
}

/* The value is at the top of the stack. */
static int encode_value(encoder *e, int index)
{
    lua_State *L = e->L;
    size_t length;
    const char *text;

    switch (lua_type(L, index)) {
    case LUA_TSTRING:
        text = lua_tolstring(L, index, &length);
        return encode_text(e, '\0', text, length);
    case LUA_TNUMBER:
        return encode_number(e, lua_tonumber(L, index));
    case LUA_TTABLE:
        return encode_table(e, index);
    case LUA_TBOOLEAN:
        return lua_toboolean(L, index) ? append(e, "true", 4)
                                       : append(e, "false", 5);
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, index) == NULL) {
            return append(e, "null", 4);
        }
        return fail(e, "a light userdata");
    case LUA_TNIL:
        return append(e, "null", 4);
    case LUA_TCDATA:
        return encode_cdata(e, index);
    default:
        lua_pushfstring(L, "a %s", luaL_typename(L, index));
        return fail(e, lua_tostring(L, -1));
    }
}

static int encode(lua_State *L, int index, peri_buf *out, bool pretty)
{
    encoder e = {.L = L, .out = out, .pretty = pretty};
    int top = lua_gettop(L);
    size_t length = out->length;
    int value = top;
    int rc;

    if (index != top) {
        lua_checkstack(L, 1);
        lua_pushvalue(L, index);
        value = top + 1;
    }
    rc = encode_value(&e, value);
    if (rc == 0) {
        lua_settop(L, top);
        return 0;
    }
    out->length = length;
    lua_insert(L, top + 1); /* the message, in front of what was left */
    lua_settop(L, top + 1);
    return rc;
}

int perilua_json_encode(lua_State *L, int index, peri_buf *out)
{
    return encode(L, index, out, false);
}

int perilua_json_encode_pretty(lua_State *L, int index, peri_buf *out)
{
    return encode(L, index, out, true);
}
