/* SQLite values: binding parameters, building rows. */
#include "bindings/sqlite_value.h"

#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>

#include "bindings/bind.h"
#include "bindings/json.h"
#include "bindings/json_marks.h"

#define LUA_TCDATA 10
#define EXACT_MAX ((int64_t)1 << 53)

static const char int64_source[] =
    "local ffi = require 'ffi'\n"
    "local int64 = ffi.typeof 'int64_t'\n"
    "return function(high, low)\n"
    "  return int64(high) * 4294967296LL + int64(low)\n"
    "end\n";

void perilua_sqlite_values_open(lua_State *L)
{
    luaL_newmetatable(L, PERILUA_SQLITE_BLOB);
    lua_pop(L, 1);
    if (luaL_loadbuffer(L, int64_source, sizeof int64_source - 1,
                        "=perigee.sqlite") != 0) {
        lua_error(L);
    }
    lua_call(L, 0, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, PERILUA_SQLITE_INT64);
}

/* ---- parameters ---- */

static bool is_json_null(lua_State *L, int index)
{
    bool equal;

    perilua_json_push_null(L);
    equal = lua_rawequal(L, index < 0 ? index - 1 : index, -1);
    lua_pop(L, 1);
    return equal;
}

static bool is_blob(lua_State *L, int index)
{
    bool equal;

    if (!lua_istable(L, index) || !lua_getmetatable(L, index)) {
        return false;
    }
    luaL_getmetatable(L, PERILUA_SQLITE_BLOB);
    equal = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return equal;
}

/* The value of an int64_t or a uint64_t that fits. */
static bool to_int64(lua_State *L, int index, int64_t *out)
{
    const char *digits;

    if (lua_type(L, index) != LUA_TCDATA) {
        return false;
    }
    perilua_json_push_integer(L, index);
    digits = lua_tostring(L, -1);
    errno = 0;
    *out = digits != NULL ? strtoll(digits, NULL, 10) : 0;
    lua_pop(L, 1);
    return digits != NULL && errno == 0;
}

/* NULL, or why the value cannot be bound. */
static const char *refusal(lua_State *L, int index)
{
    int64_t ignored;

    switch (lua_type(L, index)) {
    case LUA_TNIL:
    case LUA_TBOOLEAN:
    case LUA_TSTRING:
        return NULL;
    case LUA_TNUMBER:
        return isfinite(lua_tonumber(L, index)) ? NULL
                                                : "cannot bind NaN or infinity";
    case LUA_TCDATA:
        if (is_json_null(L, index) || to_int64(L, index, &ignored)) {
            return NULL;
        }
        return "cannot bind this cdata: int64_t only";
    default:
        if (is_json_null(L, index) || is_blob(L, index)) {
            return NULL;
        }
        return "cannot bind a table, function or userdata: encode it first";
    }
}

/* Whether the arguments are one table of names. */
static bool is_named(lua_State *L, int first)
{
    return lua_gettop(L) == first && lua_istable(L, first) &&
           !is_blob(L, first) && !is_json_null(L, first);
}

static const char *refuse_named(lua_State *L, int index)
{
    lua_pushnil(L);
    while (lua_next(L, index)) {
        const char *why = refusal(L, -1);

        if (lua_type(L, -2) != LUA_TSTRING && lua_type(L, -2) != LUA_TNUMBER) {
            return "parameters are named by strings";
        }
        if (why != NULL) {
            lua_pushvalue(L, -2);
            return lua_pushfstring(L, "parameter %s: %s", lua_tostring(L, -1),
                                   why);
        }
        lua_pop(L, 1);
    }
    return NULL;
}

const char *perilua_sqlite_refuse_params(lua_State *L, int first)
{
    int top = lua_gettop(L);

    if (!lua_checkstack(L, 8)) {
        return "too many parameters";
    }
    if (is_named(L, first)) {
        return refuse_named(L, first);
    }
    for (int i = first; i <= top; i++) {
        const char *why = refusal(L, i);

        if (why != NULL) {
            return lua_pushfstring(L, "parameter %d: %s", i - first + 1, why);
        }
    }
    return NULL;
}

static int pack_string(lua_State *L, int index, peri_sqlite_type type,
                       peri_buf *out)
{
    size_t length;
    const char *text = lua_tolstring(L, index, &length);

    return peri_sqlite_pack_bytes(out, type, peri_slice_of(text, length));
}

static int pack_blob(lua_State *L, int index, peri_buf *out)
{
    int rc;

    lua_rawgeti(L, index, 1);
    rc = pack_string(L, -1, PERI_SQLITE_BLOB, out);
    lua_pop(L, 1);
    return rc;
}

static int pack_number(double number, peri_buf *out)
{
    if (number >= -(double)EXACT_MAX && number <= (double)EXACT_MAX &&
        number == floor(number)) {
        return peri_sqlite_pack_int(out, (int64_t)number);
    }
    return peri_sqlite_pack_real(out, number);
}

int perilua_sqlite_pack_value(lua_State *L, int index, peri_buf *out)
{
    int64_t integer;

    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        return peri_sqlite_pack_int(out, lua_toboolean(L, index));
    case LUA_TNUMBER:
        return pack_number(lua_tonumber(L, index), out);
    case LUA_TSTRING:
        return pack_string(L, index, PERI_SQLITE_TEXT, out);
    case LUA_TTABLE:
        return is_blob(L, index) ? pack_blob(L, index, out)
                                 : peri_sqlite_pack_null(out);
    case LUA_TCDATA:
        if (to_int64(L, index, &integer)) {
            return peri_sqlite_pack_int(out, integer);
        }
        return peri_sqlite_pack_null(out);
    default:
        return peri_sqlite_pack_null(out); /* nil and json.null */
    }
}

static int pack_name(lua_State *L, int index, peri_buf *out)
{
    if (lua_type(L, index) == LUA_TNUMBER) {
        return peri_sqlite_pack_int(out, (int64_t)lua_tonumber(L, index));
    }
    return pack_string(L, index, PERI_SQLITE_TEXT, out);
}

static int pack_named(lua_State *L, int index, peri_buf *out)
{
    int64_t count = 0;
    int rc = 0;

    lua_pushnil(L);
    while (lua_next(L, index)) {
        count++;
        lua_pop(L, 1);
    }
    rc |= peri_sqlite_pack_int(out, 1);
    rc |= peri_sqlite_pack_int(out, count);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        rc |= pack_name(L, -2, out);
        rc |= perilua_sqlite_pack_value(L, lua_gettop(L), out);
        lua_pop(L, 1);
    }
    return rc == 0 ? 0 : PERI_ELIMIT;
}

int perilua_sqlite_pack_params(lua_State *L, int first, peri_buf *out)
{
    int top = lua_gettop(L);
    int rc = 0;

    if (is_named(L, first)) {
        return pack_named(L, first, out);
    }
    rc |= peri_sqlite_pack_int(out, 0);
    rc |= peri_sqlite_pack_int(out, top >= first ? top - first + 1 : 0);
    for (int i = first; i <= top; i++) {
        rc |= perilua_sqlite_pack_value(L, i, out);
    }
    return rc == 0 ? 0 : PERI_ELIMIT;
}

/* ---- rows ---- */

void perilua_sqlite_push_int(lua_State *L, lua_State *vm_L, int64_t value)
{
    if (value >= -EXACT_MAX && value <= EXACT_MAX) {
        lua_pushnumber(L, (lua_Number)value);
        return;
    }
    lua_getfield(vm_L, LUA_REGISTRYINDEX, PERILUA_SQLITE_INT64);
    lua_pushnumber(vm_L, (lua_Number)(value >> 32));
    lua_pushnumber(vm_L, (lua_Number)(value & 0xffffffff));
    lua_call(vm_L, 2, 1);
    lua_xmove(vm_L, L, 1);
}

static void push_value(lua_State *L, lua_State *vm_L,
                       const peri_sqlite_value *value)
{
    switch (value->type) {
    case PERI_SQLITE_INT:
        perilua_sqlite_push_int(L, vm_L, value->integer);
        break;
    case PERI_SQLITE_REAL:
        lua_pushnumber(L, value->real);
        break;
    case PERI_SQLITE_TEXT:
    case PERI_SQLITE_BLOB:
        perilua_push_slice(L, value->bytes);
        break;
    case PERI_SQLITE_NULL:
    default:
        lua_pushnil(L);
        break;
    }
}

/* names: stack index of the first column's name. */
static void push_row(lua_State *L, lua_State *vm_L, peri_slice *packed,
                     uint32_t columns, int names)
{
    peri_sqlite_value value;

    lua_createtable(L, 0, (int)columns);
    for (uint32_t i = 0; i < columns; i++) {
        peri_sqlite_unpack(packed, &value);
        if (value.type != PERI_SQLITE_NULL) {
            lua_pushvalue(L, names + (int)i);
            push_value(L, vm_L, &value);
            lua_rawset(L, -3);
        }
    }
}

void perilua_sqlite_push_rows(lua_State *L, lua_State *vm_L, peri_slice *packed,
                              const peri_sqlite_result *result, bool first_only)
{
    int names = lua_gettop(L) + 1;
    peri_sqlite_value name;

    /* SQLite's own limit is 32767 columns; Lua's stack holds some more. */
    if (!lua_checkstack(L, (int)result->columns + 8)) {
        lua_pushnil(L);
        return;
    }
    for (uint32_t i = 0; i < result->columns; i++) {
        peri_sqlite_unpack(packed, &name);
        perilua_push_slice(L, name.bytes);
    }
    if (first_only) {
        if (result->rows != 0) {
            push_row(L, vm_L, packed, result->columns, names);
        } else {
            lua_pushnil(L);
        }
    } else {
        lua_createtable(L, (int)result->rows, 0);
        for (uint32_t i = 1; i <= result->rows; i++) {
            push_row(L, vm_L, packed, result->columns, names);
            lua_rawseti(L, -2, (int)i);
        }
        perilua_json_push_array_mark(L); /* no rows are [] */
        lua_setmetatable(L, -2);
    }
    if (lua_gettop(L) > names) {
        lua_replace(L, names);
        lua_settop(L, names);
    }
}

void perilua_sqlite_push_values(lua_State *L, lua_State *vm_L,
                                peri_slice *packed,
                                const peri_sqlite_result *result)
{
    uint64_t count = (uint64_t)result->rows * result->columns;
    peri_sqlite_value value;

    for (uint32_t i = 0; i < result->columns; i++) {
        peri_sqlite_unpack(packed, &value); /* its name */
    }
    lua_createtable(L, (int)count, 0);
    for (uint64_t i = 1; i <= count; i++) {
        peri_sqlite_unpack(packed, &value);
        if (value.type != PERI_SQLITE_NULL) {
            push_value(L, vm_L, &value);
            lua_rawseti(L, -2, (int)i);
        }
    }
}
