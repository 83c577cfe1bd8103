/* Answer: the plain forms that a handler may return, straight to the wire.
 *
 *     table                      200, JSON
 *     string                     200, text
 *     status[, body[, headers]]  body: table, string or nil
 *
 * All other forms go through perigee.response first. */
#include <string.h>

#include "bindings/gen.h"
#include "bindings/json.h"

#define FIELDS_MAX 100

#define TYPE_JSON PERI_SLICE("application/json")
#define TYPE_TEXT PERI_SLICE("text/plain; charset=utf-8")

typedef struct field_list {
    peri_field items[FIELDS_MAX];
    size_t count;
    peri_slice content_type; /* NULL data: not given */
} field_list;

static int add_field(field_list *list, peri_slice name, lua_State *co)
{
    peri_slice value;

    /* lua_tolstring turns a number into a string in place: values only. */
    if (lua_type(co, -1) != LUA_TSTRING && lua_type(co, -1) != LUA_TNUMBER) {
        return PERI_EFORMAT;
    }
    value.data = lua_tolstring(co, -1, &value.length);
    if (peri_slice_equal_nocase(name, PERI_SLICE("content-type"))) {
        list->content_type = value;
        return 0;
    }
    if (list->count == FIELDS_MAX) {
        return PERI_ELIMIT;
    }
    list->items[list->count++] = (peri_field){name, value};
    return 0;
}

/* The value on top: a string, a number, or a list of such. */
static int add_values(field_list *list, peri_slice name, lua_State *co)
{
    int rc = 0;

    if (!lua_istable(co, -1)) {
        return add_field(list, name, co);
    }
    for (int i = 1; rc == 0 && i <= (int)lua_objlen(co, -1); i++) {
        lua_rawgeti(co, -1, i);
        rc = lua_type(co, -1) == LUA_TSTRING ? add_field(list, name, co)
                                             : PERI_EFORMAT;
        lua_pop(co, 1);
    }
    return rc;
}

static int collect_fields(lua_State *co, int index, field_list *list)
{
    lua_pushnil(co);
    while (lua_next(co, index) != 0) {
        peri_slice name;

        if (lua_type(co, -2) != LUA_TSTRING) {
            lua_pop(co, 2);
            return PERI_EFORMAT;
        }
        name.data = lua_tolstring(co, -2, &name.length);
        if (add_values(list, name, co) < 0) {
            lua_pop(co, 2);
            return PERI_EFORMAT;
        }
        lua_pop(co, 1);
    }
    return 0;
}

/* Tables with a metatable of somebody's are not plain: errors, http.* answers.
 * json.array's is. */
static bool is_plain_table(const perilua_request *request, lua_State *co,
                           int index)
{
    bool plain;

    if (!lua_getmetatable(co, index)) {
        return true;
    }
    lua_getfield(co, LUA_REGISTRYINDEX, "perigee.error");
    lua_rawgeti(co, LUA_REGISTRYINDEX, request->gen->answer_metatable);
    plain = !lua_rawequal(co, -1, -3) && !lua_rawequal(co, -2, -3);
    lua_pop(co, 3);
    return plain;
}

static int send_body(perilua_request *request, lua_State *co, int index,
                     int status, const field_list *list)
{
    peri_exchange *ex = request->exchange;
    peri_buf *scratch = &request->gen->host->scratch;
    peri_slice type = list->content_type;
    peri_slice body = {NULL, 0};

    switch (index != 0 ? lua_type(co, index) : LUA_TNIL) {
    case LUA_TSTRING:
        body.data = lua_tolstring(co, index, &body.length);
        if (type.data == NULL) {
            type = TYPE_TEXT;
        }
        break;
    case LUA_TTABLE:
        if (!is_plain_table(request, co, index)) {
            return PERI_EFORMAT;
        }
        peri_buf_clear(scratch);
        if (perilua_json_encode(co, index, scratch) < 0) {
            lua_pop(co, 1); /* why: perigee.response finds and logs it */
            return PERI_EFORMAT;
        }
        body = peri_buf_slice(scratch);
        if (type.data == NULL) {
            type = TYPE_JSON;
        }
        break;
    case LUA_TNIL:
        break;
    default:
        return PERI_EFORMAT;
    }
    peri_exchange_answer(ex, status, type, list->items, list->count, body);
    return 0;
}

static int send_with_status(perilua_request *request, lua_State *co, int base,
                            int n)
{
    field_list list;
    lua_Number status = lua_tonumber(co, base);

    list.count = 0;
    list.content_type = (peri_slice){NULL, 0};
    if (!(status >= 200 && status <= 599) || status != (int)status || n > 3) {
        return PERI_EFORMAT;
    }
    if (n == 3 && !lua_isnil(co, base + 2) &&
        (!lua_istable(co, base + 2) ||
         collect_fields(co, base + 2, &list) < 0)) {
        return PERI_EFORMAT;
    }
    return send_body(request, co, n > 1 ? base + 1 : 0, (int)status, &list);
}

int perilua_answer(perilua_request *request, lua_State *co, int base, int n)
{
    static const field_list none = {.count = 0};

    /* `return value, err` where err is nil: the value alone. */
    while (n > 1 && lua_isnil(co, base + n - 1)) {
        n--;
    }
    if (n == 0) {
        return PERI_EFORMAT;
    }
    switch (lua_type(co, base)) {
    case LUA_TNUMBER:
        return send_with_status(request, co, base, n);
    case LUA_TSTRING:
    case LUA_TTABLE:
        return n == 1 ? send_body(request, co, base, 200, &none) : PERI_EFORMAT;
    default:
        return PERI_EFORMAT;
    }
}
