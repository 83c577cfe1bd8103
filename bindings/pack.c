/* Pack: a byte that tells the type, then the value. */
#include "bindings/pack.h"

#include <lauxlib.h>
#include <math.h>

#include "bindings/json_marks.h"

enum {
    TAG_NULL,
    TAG_FALSE,
    TAG_TRUE,
    TAG_NUMBER,    /* 8 bytes */
    TAG_INTEGER,   /* 4 bytes */
    TAG_STRING,    /* 4 bytes of length, bytes */
    TAG_TABLE,     /* counts of list and pairs, 4 bytes each; then those */
    TAG_LIST,      /* the same, with the mark of JSON lists */
    TAG_HOLE,      /* nil, in a table that is almost a list */
    TAG_SHORT = 32 /* and above: a string of up to 223 bytes */
};

#define SHORT_MAX (255 - TAG_SHORT)
#define LUA_TABLE_MAX (1u << 26)

typedef struct packer {
    lua_State *L;
    peri_buf *out;
    const char *why;
    const void *mark; /* of JSON lists; NULL: not looked up yet */
    const void *empty;
    int depth;
} packer;

typedef struct reader {
    lua_State *L;
    const char *at;
    const char *end;
    int depth;
} reader;

static int pack_value(packer *p, int index);

/* ---- writing ---- */

static int put(packer *p, unsigned char tag, const void *data, size_t bytes)
{
    if (peri_buf_reserve(p->out, bytes + 1) < 0) {
        return PERI_ELIMIT;
    }
    p->out->data[p->out->length] = (char)tag;
    memcpy(p->out->data + p->out->length + 1, data, bytes);
    p->out->length += bytes + 1;
    return 0;
}

static int pack_number(packer *p, double number)
{
    if (number >= INT32_MIN && number <= INT32_MAX) {
        int32_t integer = (int32_t)number;

        if ((double)integer - number >= 0 && (double)integer - number <= 0 &&
            !(integer == 0 && signbit(number))) {
            return put(p, TAG_INTEGER, &integer, sizeof integer);
        }
    }
    return put(p, TAG_NUMBER, &number, sizeof number);
}

static int pack_string(packer *p, int index)
{
    size_t length;
    const char *data = lua_tolstring(p->L, index, &length);
    uint32_t count = (uint32_t)length;

    if (length <= SHORT_MAX) {
        return put(p, (unsigned char)(TAG_SHORT + length), data, length);
    }
    if (length > p->out->max_bytes ||
        put(p, TAG_STRING, &count, sizeof count) < 0) {
        return PERI_ELIMIT;
    }
    return peri_buf_append(p->out, data, length);
}

static int refuse(packer *p, const char *why)
{
    p->why = why;
    return PERI_EFORMAT;
}

/* The tag of a table, by its metatable. */
static int tag_of(packer *p, int index)
{
    const void *found;

    if (!lua_getmetatable(p->L, index)) {
        return TAG_TABLE;
    }
    found = lua_topointer(p->L, -1);
    if (p->mark == NULL) {
        perilua_json_push_array_mark(p->L);
        p->mark = lua_topointer(p->L, -1);
        perilua_json_push_empty_array(p->L);
        p->empty = lua_topointer(p->L, -1);
        lua_pop(p->L, 2);
    }
    lua_pop(p->L, 1);
    if (found == p->mark || lua_topointer(p->L, index) == p->empty) {
        return TAG_LIST;
    }
    return refuse(p, "a table with a metatable");
}

static int pack_list(packer *p, int table, uint32_t count)
{
    for (uint32_t i = 1; i <= count; i++) {
        int rc;

        lua_rawgeti(p->L, table, (int)i);
        rc = lua_isnil(p->L, -1) ? put(p, TAG_HOLE, "", 0)
                                 : pack_value(p, lua_gettop(p->L));
        lua_pop(p->L, 1);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static bool is_in_list(lua_State *L, int key, uint32_t count)
{
    double number;

    if (lua_type(L, key) != LUA_TNUMBER) {
        return false;
    }
    number = lua_tonumber(L, key);
    return number >= 1 && number <= count && floor(number) >= number;
}

static int pack_pairs(packer *p, int table, uint32_t list, uint32_t *count)
{
    lua_State *L = p->L;

    *count = 0;
    lua_pushnil(L);
    while (lua_next(L, table) != 0) {
        int top = lua_gettop(L);
        int type = lua_type(L, top - 1);
        int rc = 0;

        if (!is_in_list(L, top - 1, list)) {
            if (type != LUA_TSTRING && type != LUA_TNUMBER &&
                type != LUA_TBOOLEAN) {
                rc = refuse(p, "a key that is no string, number or boolean");
            }
            if (rc == 0) {
                rc = pack_value(p, top - 1);
            }
            if (rc == 0) {
                rc = pack_value(p, top);
            }
            (*count)++;
        }
        lua_pop(L, 1);
        if (rc < 0) {
            lua_pop(L, 1);
            return rc;
        }
    }
    return 0;
}

static int pack_table(packer *p, int index)
{
    int tag = tag_of(p, index);
    uint32_t counts[2] = {(uint32_t)lua_objlen(p->L, index), 0};
    size_t counts_at = p->out->length + 1 + sizeof counts[0];
    int rc;

    if (tag < 0) {
        return tag;
    }
    if (p->depth == PERILUA_PACK_DEPTH_MAX || !lua_checkstack(p->L, 8)) {
        return refuse(p, "tables nested too deep, or in a circle");
    }
    p->depth++;
    rc = put(p, (unsigned char)tag, counts, sizeof counts);
    if (rc == 0) {
        rc = pack_list(p, index, counts[0]);
    }
    if (rc == 0) {
        rc = pack_pairs(p, index, counts[0], &counts[1]);
    }
    if (rc == 0) {
        memcpy(p->out->data + counts_at, &counts[1], sizeof counts[1]);
    }
    p->depth--;
    return rc;
}

static int pack_value(packer *p, int index)
{
    switch (lua_type(p->L, index)) {
    case LUA_TBOOLEAN:
        return put(p, lua_toboolean(p->L, index) ? TAG_TRUE : TAG_FALSE, "", 0);
    case LUA_TNUMBER:
        return pack_number(p, lua_tonumber(p->L, index));
    case LUA_TSTRING:
        return pack_string(p, index);
    case LUA_TTABLE:
        return pack_table(p, index);
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(p->L, index) == NULL) {
            return put(p, TAG_NULL, "", 0);
        }
        return refuse(p, "a pointer");
    case LUA_TFUNCTION:
        return refuse(p, "a function");
    default:
        return refuse(p, "a value that is not plain data");
    }
}

int perilua_pack(lua_State *L, int index, peri_buf *out, const char **why)
{
    packer p = {.L = L, .out = out};
    int rc = pack_value(&p, index);

    *why = p.why;
    return rc;
}

/* ---- reading ---- */

static int unpack_value(reader *r);

static int take(reader *r, void *to, size_t bytes)
{
    if ((size_t)(r->end - r->at) < bytes) {
        return PERI_EFORMAT;
    }
    memcpy(to, r->at, bytes);
    r->at += bytes;
    return 0;
}

static int unpack_string(reader *r, size_t length)
{
    if ((size_t)(r->end - r->at) < length) {
        return PERI_EFORMAT;
    }
    lua_pushlstring(r->L, r->at, length);
    r->at += length;
    return 0;
}

static int unpack_parts(reader *r, int table, const uint32_t *counts)
{
    for (uint32_t i = 1; i <= counts[0]; i++) {
        if (unpack_value(r) < 0) {
            return PERI_EFORMAT;
        }
        lua_rawseti(r->L, table, (int)i);
    }
    for (uint32_t i = 0; i < counts[1]; i++) {
        if (unpack_value(r) < 0 || lua_isnil(r->L, -1)) {
            return PERI_EFORMAT;
        }
        if (unpack_value(r) < 0) {
            return PERI_EFORMAT;
        }
        lua_rawset(r->L, table);
    }
    return 0;
}

static int unpack_table(reader *r, unsigned char tag)
{
    uint32_t counts[2];
    int rc;

    if (take(r, counts, sizeof counts) < 0 || counts[0] > LUA_TABLE_MAX ||
        counts[0] > (size_t)(r->end - r->at) ||
        counts[1] > (size_t)(r->end - r->at) ||
        r->depth == PERILUA_PACK_DEPTH_MAX || !lua_checkstack(r->L, 8)) {
        return PERI_EFORMAT;
    }
    lua_createtable(r->L, (int)counts[0], (int)counts[1]);
    if (tag == TAG_LIST) {
        perilua_json_push_array_mark(r->L);
        lua_setmetatable(r->L, -2);
    }
    r->depth++;
    rc = unpack_parts(r, lua_gettop(r->L), counts);
    r->depth--;
    return rc;
}

static int unpack_value(reader *r)
{
    unsigned char tag;
    double number;
    int32_t integer;
    uint32_t length;

    if (take(r, &tag, 1) < 0) {
        return PERI_EFORMAT;
    }
    switch (tag) {
    case TAG_NULL:
        lua_pushlightuserdata(r->L, NULL);
        return 0;
    case TAG_FALSE:
    case TAG_TRUE:
        lua_pushboolean(r->L, tag == TAG_TRUE);
        return 0;
    case TAG_NUMBER:
        if (take(r, &number, sizeof number) < 0) {
            return PERI_EFORMAT;
        }
        lua_pushnumber(r->L, number);
        return 0;
    case TAG_INTEGER:
        if (take(r, &integer, sizeof integer) < 0) {
            return PERI_EFORMAT;
        }
        lua_pushnumber(r->L, integer);
        return 0;
    case TAG_STRING:
        return take(r, &length, sizeof length) < 0 ? PERI_EFORMAT
                                                   : unpack_string(r, length);
    case TAG_TABLE:
    case TAG_LIST:
        return unpack_table(r, tag);
    case TAG_HOLE:
        lua_pushnil(r->L);
        return 0;
    default:
        return tag < TAG_SHORT ? PERI_EFORMAT
                               : unpack_string(r, (size_t)(tag - TAG_SHORT));
    }
}

int perilua_unpack(lua_State *L, peri_slice bytes)
{
    reader r = {.L = L, .at = bytes.data, .end = bytes.data + bytes.length};
    int top = lua_gettop(L);

    if (unpack_value(&r) < 0 || r.at != r.end) {
        lua_settop(L, top);
        return PERI_EFORMAT;
    }
    return 0;
}

int perilua_unpack_list(lua_State *L, peri_slice bytes)
{
    reader r = {
        .L = L, .at = bytes.data, .end = bytes.data + bytes.length, .depth = 1};
    int top = lua_gettop(L);
    uint32_t counts[2] = {0, 0};
    uint32_t read = 0;
    unsigned char tag = TAG_NULL;

    if (take(&r, &tag, 1) < 0 || (tag != TAG_TABLE && tag != TAG_LIST) ||
        take(&r, counts, sizeof counts) < 0 || counts[1] != 0 ||
        counts[0] > PERILUA_PACK_RESULTS_MAX ||
        !lua_checkstack(L, (int)counts[0] + 8)) {
        return PERI_EFORMAT;
    }
    while (read < counts[0] && unpack_value(&r) == 0) {
        read++;
    }
    if (read < counts[0] || r.at != r.end) {
        lua_settop(L, top);
        return PERI_EFORMAT;
    }
    return (int)counts[0];
}
