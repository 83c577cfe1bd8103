/* Redis values: arguments from Lua, replies to Lua. */
#include <math.h>
#include <stdlib.h>

#include "bindings/json.h"
#include "bindings/json_marks.h"
#include "bindings/redis_bind.h"
#include "bindings/sqlite_value.h"
#include "core/base/number.h"
#include "core/redis/command.h"

#define LUA_TCDATA 10
#define COMMAND_MAX_BYTES ((size_t)512 << 20) /* what Redis takes, too */

/* ---- arguments ---- */

__attribute__((noreturn)) static void misuse(lua_State *L, peri_buf *out,
                                             const char *what)
{
    if (out != NULL) {
        peri_buf_fini(out);
    }
    luaL_where(L, 3);
    lua_pushfstring(L, "redis: %s", what);
    lua_concat(L, 2);
    lua_error(L);
    abort(); /* it does not return */
}

/* NULL, or what is wrong with a single argument. */
static const char *refusal(lua_State *L, int index)
{
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
        return NULL;
    case LUA_TNUMBER:
        return isfinite(lua_tonumber(L, index))
                   ? NULL
                   : "an argument is NaN or infinite";
    case LUA_TCDATA: {
        const char *why = NULL;

        perilua_json_push_integer(L, index);
        if (lua_isnil(L, -1)) {
            why = "an argument is a cdata that is no 64-bit integer";
        }
        lua_pop(L, 1);
        return why;
    }
    case LUA_TNIL:
        return "an argument is nil";
    case LUA_TBOOLEAN:
        return "an argument is a boolean: Redis has none, use 1 and 0";
    default:
        return "an argument is neither a string nor a number";
    }
}

/* How many arguments the table at index stands for; checks them. */
static size_t count_table(lua_State *L, int index)
{
    size_t length = lua_objlen(L, index);
    size_t count = 0;
    const char *why = NULL;

    if (length > 0) {
        for (size_t i = 1; i <= length && why == NULL; i++) {
            lua_rawgeti(L, index, (int)i);
            why = refusal(L, lua_gettop(L));
            lua_pop(L, 1);
        }
        count = length;
    } else {
        lua_pushnil(L);
        while (why == NULL && lua_next(L, index) != 0) {
            why = refusal(L, lua_gettop(L) - 1);
            if (why == NULL) {
                why = refusal(L, lua_gettop(L));
            }
            lua_pop(L, 1);
            count += 2;
        }
    }
    if (why != NULL) {
        misuse(L, NULL, why);
    }
    return count;
}

static size_t count_arguments(lua_State *L, int index)
{
    size_t count = 0;

    for (int last = lua_gettop(L); index <= last; index++) {
        if (lua_istable(L, index)) {
            count += count_table(L, index);
        } else {
            const char *why = refusal(L, index);

            if (why != NULL) {
                misuse(L, NULL, why);
            }
            count++;
        }
    }
    return count;
}

static int put_one(lua_State *L, int index, peri_buf *out)
{
    char text[PERI_NUMBER_TEXT_BYTES];
    peri_slice slice;
    int rc;

    if (lua_type(L, index) == LUA_TNUMBER) {
        slice = peri_slice_of(text,
                              peri_number_write(lua_tonumber(L, index), text));
        return peri_redis_put(out, slice);
    }
    if (lua_type(L, index) == LUA_TCDATA) {
        perilua_json_push_integer(L, index);
        slice.data = lua_tolstring(L, -1, &slice.length);
        rc = peri_redis_put(out, slice);
        lua_pop(L, 1);
        return rc;
    }
    slice.data = lua_tolstring(L, index, &slice.length);
    return peri_redis_put(out, slice);
}

static int put_table(lua_State *L, int index, peri_buf *out)
{
    size_t length = lua_objlen(L, index);
    int rc = 0;

    for (size_t i = 1; i <= length && rc == 0; i++) {
        lua_rawgeti(L, index, (int)i);
        rc = put_one(L, lua_gettop(L), out);
        lua_pop(L, 1);
    }
    if (length > 0) {
        return rc;
    }
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        if (rc == 0) {
            rc = put_one(L, lua_gettop(L) - 1, out);
        }
        if (rc == 0) {
            rc = put_one(L, lua_gettop(L), out);
        }
        lua_pop(L, 1);
    }
    return rc;
}

void perilua_redis_encode(lua_State *L, int index, peri_buf *out)
{
    int last = lua_gettop(L);
    int rc;

    luaL_checkstack(L, 4, "a command's arguments");
    peri_buf_init(out, COMMAND_MAX_BYTES);
    rc = peri_redis_put_count(out, count_arguments(L, index));
    for (; index <= last && rc == 0; index++) {
        rc = lua_istable(L, index) ? put_table(L, index, out)
                                   : put_one(L, index, out);
    }
    if (rc < 0) {
        misuse(L, out, "a command of more than 512 MB");
    }
}

perilua_lease *perilua_redis_to_lease(lua_State *L, int index)
{
    bool equal;

    if (lua_getmetatable(L, index) == 0) {
        return NULL;
    }
    luaL_getmetatable(L, PERILUA_REDIS_LEASE);
    equal = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return equal ? lua_touserdata(L, index) : NULL;
}

/* ---- errors ---- */

static const char *kind_of_code(const char *code)
{
    static const struct {
        const char *code;
        const char *kind;
    } kinds[] = {
        {"WRONGTYPE", "conflict"},     {"BUSYGROUP", "conflict"},
        {"BUSYKEY", "conflict"},       {"EXECABORT", "conflict"},
        {"CROSSSLOT", "invalid"},      {"NOAUTH", "unauthorized"},
        {"WRONGPASS", "unauthorized"}, {"NOPERM", "forbidden"},
        {"NOSCRIPT", "not_found"},     {"NOGROUP", "not_found"},
        {"LOADING", "unavailable"},    {"READONLY", "unavailable"},
        {"OOM", "unavailable"},        {"MISCONF", "unavailable"},
        {"BUSY", "unavailable"},       {"MASTERDOWN", "unavailable"},
        {"NOREPLICAS", "unavailable"}, {"CLUSTERDOWN", "unavailable"},
        {"TRYAGAIN", "unavailable"},   {"UNBLOCKED", "unavailable"},
        {"NOTREADY", "unavailable"},   {"MOVED", "unavailable"},
        {"ASK", "unavailable"},
    };

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i].code, code) == 0) {
            return kinds[i].kind;
        }
    }
    return "internal"; /* ERR and what scripts make up: a mistake of ours */
}

int perilua_redis_push_fault(lua_State *L, const peri_redis_fault *fault)
{
    const char *kind = "unavailable";

    if (fault->rc == PERI_ETIMEOUT) {
        kind = "timeout";
    } else if (fault->rc == PERI_ELIMIT) {
        kind = "too_large";
    } else if (fault->rc == 0) {
        kind = kind_of_code(fault->code);
        kind = strcmp(kind, "internal") == 0 ? "unavailable" : kind;
    }
    return perilua_fail(L, kind, fault->code, "%s", fault->message);
}

static void push_error(lua_State *L, peri_slice text)
{
    char code[PERI_REDIS_CODE_BYTES];

    peri_redis_code(text, code);
    perilua_push_slice(L, text);
    perilua_push_error(L, kind_of_code(code), code, lua_tostring(L, -1));
    lua_remove(L, -2);
}

/* ---- replies ---- */

typedef struct cursor {
    lua_State *L;
    lua_State *main;
    const peri_redis_reply *reply;
    size_t at;
} cursor;

static void push_node(cursor *c, bool inside);

static void push_array(cursor *c, int64_t count)
{
    lua_State *L = c->L;

    luaL_checkstack(L, 8, "a reply");
    lua_createtable(L, (int)count, 0);
    if (count == 0) {
        perilua_json_push_array_mark(L);
        lua_setmetatable(L, -2);
    }
    for (int64_t i = 1; i <= count; i++) {
        push_node(c, true);
        lua_rawseti(L, -2, (int)i);
    }
}

static void push_node(cursor *c, bool inside)
{
    const peri_redis_node *node = &c->reply->nodes[c->at++];

    switch (node->type) {
    case PERI_REDIS_INTEGER:
        perilua_sqlite_push_int(c->L, c->main, node->value);
        break;
    case PERI_REDIS_ERROR:
        push_error(c->L, peri_redis_text(c->reply, node));
        break;
    case PERI_REDIS_STRING:
    case PERI_REDIS_STATUS:
        perilua_push_slice(c->L, peri_redis_text(c->reply, node));
        break;
    case PERI_REDIS_ARRAY:
        push_array(c, node->value);
        break;
    case PERI_REDIS_NIL:
    default:
        if (inside) {
            perilua_json_push_null(c->L);
        } else {
            lua_pushnil(c->L);
        }
        break;
    }
}

static void push_map(cursor *c)
{
    int64_t count = c->reply->nodes[c->at++].value;

    lua_createtable(c->L, 0, (int)(count / 2));
    for (int64_t i = 0; i + 1 < count; i += 2) {
        push_node(c, true);
        push_node(c, true);
        lua_rawset(c->L, -3);
    }
}

/* After MULTI: OK, QUEUED..., and what EXEC gives. */
static int push_exec(cursor *c, uint32_t replies)
{
    const peri_redis_reply *reply = c->reply;
    const peri_redis_node *refused = NULL;
    const peri_redis_node *last = &reply->nodes[replies - 1];

    for (uint32_t i = 0; i + 1 < replies; i++) {
        if (reply->nodes[i].type == PERI_REDIS_ERROR) {
            refused = refused != NULL ? refused : &reply->nodes[i];
        }
    }
    c->at = replies - 1; /* those before are one node each */
    if (refused != NULL || last->type == PERI_REDIS_ERROR) {
        lua_pushnil(c->L);
        push_error(c->L,
                   peri_redis_text(reply, refused != NULL ? refused : last));
        return 2;
    }
    if (last->type == PERI_REDIS_NIL) {
        return perilua_fail(c->L, "conflict", "WATCH",
                            "redis: a watched key was changed");
    }
    push_node(c, false);
    return 1;
}

int perilua_redis_push_reply(lua_State *L, const peri_redis_reply *reply,
                             perilua_redis_shape shape, uint32_t replies)
{
    cursor c = {L, perilua_vm_of(L)->L, reply, 0};

    luaL_checkstack(L, 16, "a reply");
    if (shape == PERILUA_REDIS_LIST) {
        push_array(&c, replies);
        return 1;
    }
    if (shape == PERILUA_REDIS_EXEC) {
        return push_exec(&c, replies);
    }
    if (reply->nodes[0].type == PERI_REDIS_ERROR) {
        lua_pushnil(L);
        push_node(&c, false);
        return 2;
    }
    if (shape == PERILUA_REDIS_MAP &&
        reply->nodes[0].type == PERI_REDIS_ARRAY) {
        push_map(&c);
        return 1;
    }
    push_node(&c, false);
    return 1;
}
