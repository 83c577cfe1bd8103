/* perigee.core.request: what a req table gives to read, and streamed answers.
 *
 * A req table is {request, serial} with the metatable of perigee.request; the
 * functions here take it as their first argument. */
#include <stdlib.h>
#include <string.h>

#include "bindings/bind.h"
#include "bindings/gen.h"
#include "bindings/json_marks.h"
#include "bindings/modules.h"
#include "core/base/alloc.h"
#include "core/base/url.h"
#include "core/loop/tls.h"

#define ARGUMENTS_MAX 1000

perilua_request *perilua_check_request(lua_State *L, int index)
{
    perilua_request *request;
    lua_Number serial;

    luaL_checktype(L, index, LUA_TTABLE);
    lua_rawgeti(L, index, 1);
    lua_rawgeti(L, index, 2);
    request = lua_touserdata(L, -2);
    serial = lua_tonumber(L, -1);
    lua_pop(L, 2);
    if (request == NULL || (lua_Number)request->serial != serial ||
        request->exchange == NULL) {
        luaL_error(L, "the request has ended: copy what you need of it before "
                      "its answer is given");
    }
    return request;
}

peri_exchange *perilua_check_exchange(lua_State *L, int index)
{
    return perilua_check_request(L, index)->exchange;
}

/* ---- the head ---- */

static int request_method(lua_State *L)
{
    peri_exchange *ex = perilua_check_exchange(L, 1);

    perilua_push_slice(L, peri_exchange_text(ex, ex->method_text));
    return 1;
}

static int request_path(lua_State *L)
{
    peri_exchange *ex = perilua_check_exchange(L, 1);

    perilua_push_slice(L, peri_exchange_text(ex, ex->path));
    return 1;
}

static int request_target(lua_State *L)
{
    peri_exchange *ex = perilua_check_exchange(L, 1);

    perilua_push_slice(L, peri_exchange_text(ex, ex->target));
    return 1;
}

static int request_id(lua_State *L)
{
    perilua_push_slice(L, peri_exchange_id(perilua_check_exchange(L, 1)));
    return 1;
}

static int request_remote(lua_State *L)
{
    perilua_push_slice(L, peri_exchange_remote(perilua_check_exchange(L, 1)));
    return 1;
}

static int request_route(lua_State *L)
{
    peri_exchange *ex = perilua_check_exchange(L, 1);

    if (ex->route == NULL) {
        return 0;
    }
    lua_pushstring(L, ex->route->pattern);
    return 1;
}

static int request_deadline(lua_State *L)
{
    int64_t ms;

    perilua_check_exchange(L, 1);
    ms = perilua_task_remaining_ms(L);
    if (ms < 0) {
        return 0;
    }
    lua_pushnumber(L, (lua_Number)ms);
    return 1;
}

static int request_is_tls(lua_State *L)
{
    lua_pushboolean(L, perilua_check_exchange(L, 1)->is_tls);
    return 1;
}

static void set_text(lua_State *L, const char *name, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

/* tls(req) -> {version, cipher, server_name, resumed, client}; nil: plain. */
static int request_tls(lua_State *L)
{
    const peri_tls *tls = peri_exchange_tls(perilua_check_exchange(L, 1));
    char subject[1024];
    char fingerprint[65];
    peri_tls_info info;

    if (tls == NULL) {
        return 0;
    }
    peri_tls_get_info(tls, &info);
    lua_createtable(L, 0, 5);
    set_text(L, "version", info.version);
    set_text(L, "cipher", info.cipher);
    if (*info.server_name != '\0') {
        set_text(L, "server_name", info.server_name);
    }
    lua_pushboolean(L, info.resumed);
    lua_setfield(L, -2, "resumed");
    /* What nobody we trust has issued says nothing about who it is. */
    if (info.peer_verified &&
        peri_tls_peer(tls, subject, sizeof subject, fingerprint)) {
        lua_createtable(L, 0, 2);
        set_text(L, "subject", subject);
        set_text(L, "fingerprint", fingerprint);
        lua_setfield(L, -2, "client");
    }
    return 1;
}

/* Repeated fields are joined: cookies by "; ", the others by ", ". */
static void push_joined(lua_State *L, const peri_exchange *ex, peri_slice name)
{
    const char *glue =
        peri_slice_equal_nocase(name, PERI_SLICE("cookie")) ? "; " : ", ";
    luaL_Buffer joined;
    int count = 0;

    luaL_buffinit(L, &joined);
    for (uint16_t i = 0; i < ex->field_count; i++) {
        peri_slice value = peri_exchange_text(ex, ex->fields[i].value);

        if (!peri_slice_equal_nocase(peri_exchange_text(ex, ex->fields[i].name),
                                     name)) {
            continue;
        }
        if (count++ > 0) {
            luaL_addstring(&joined, glue);
        }
        luaL_addlstring(&joined, value.data, value.length);
    }
    luaL_pushresult(&joined);
    if (count == 0) {
        lua_pop(L, 1);
        lua_pushnil(L);
    }
}

/* header(req, name) -> string or nil. */
static int request_header(lua_State *L)
{
    peri_exchange *ex = perilua_check_exchange(L, 1);

    push_joined(L, ex, perilua_check_slice(L, 2));
    return 1;
}

/* headers(req) -> {name in lower case = value}. */
static int request_headers(lua_State *L)
{
    peri_exchange *ex = perilua_check_exchange(L, 1);
    char lower[256];

    lua_createtable(L, 0, ex->field_count);
    for (uint16_t i = 0; i < ex->field_count; i++) {
        peri_slice name = peri_exchange_text(ex, ex->fields[i].name);

        if (name.length > sizeof lower) {
            continue;
        }
        for (size_t k = 0; k < name.length; k++) {
            char c = name.data[k];

            lower[k] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
        }
        lua_pushlstring(L, lower, name.length);
        lua_pushvalue(L, -1);
        lua_rawget(L, -3);
        if (!lua_isnil(L, -1)) {
            lua_pop(L, 2); /* joined already */
            continue;
        }
        lua_pop(L, 1);
        push_joined(L, ex, name);
        lua_rawset(L, -3);
    }
    return 1;
}

/* ---- decoding ---- */

void perilua_push_decoded(lua_State *L, peri_slice text, bool plus)
{
    char small[512];
    char *out = small;

    if (text.length == 0 ||
        (memchr(text.data, '%', text.length) == NULL &&
         (!plus || memchr(text.data, '+', text.length) == NULL))) {
        perilua_push_slice(L, text);
        return;
    }
    if (text.length > sizeof small) {
        out = peri_alloc(text.length);
    }
    lua_pushlstring(L, out, peri_url_decode(text, plus, out));
    if (out != small) {
        free(out);
    }
}

typedef struct pair_reader {
    peri_slice rest;
    peri_slice name;
    peri_slice value;
} pair_reader;

static bool next_pair(pair_reader *reader)
{
    while (reader->rest.length > 0) {
        peri_slice pair = reader->rest;
        const char *end = memchr(pair.data, '&', pair.length);
        const char *equals;

        if (end != NULL) {
            pair.length = (size_t)(end - pair.data);
        }
        reader->rest.data += pair.length + (end != NULL);
        reader->rest.length -= pair.length + (end != NULL);
        if (pair.length == 0) {
            continue;
        }
        equals = memchr(pair.data, '=', pair.length);
        reader->name = pair;
        reader->value = (peri_slice){NULL, 0};
        if (equals != NULL) {
            reader->name.length = (size_t)(equals - pair.data);
            reader->value = peri_slice_of(
                equals + 1, pair.length - reader->name.length - 1);
        }
        return true;
    }
    return false;
}

/* Pushes {name = last value}; nil and an error for too many. */
static int push_pairs(lua_State *L, peri_slice text)
{
    pair_reader reader = {.rest = text};
    int count = 0;

    lua_newtable(L);
    while (next_pair(&reader)) {
        if (++count > ARGUMENTS_MAX) {
            return perilua_fail(L, "invalid", NULL, "more than %d arguments",
                                ARGUMENTS_MAX);
        }
        perilua_push_decoded(L, reader.name, true);
        perilua_push_decoded(L, reader.value, true);
        lua_rawset(L, -3);
    }
    return 1;
}

static int request_query(lua_State *L)
{
    peri_exchange *ex = perilua_check_exchange(L, 1);

    return push_pairs(L, peri_exchange_text(ex, ex->query));
}

/* query_all(req, name) -> list of its values. */
static int request_query_all(lua_State *L)
{
    peri_exchange *ex = perilua_check_exchange(L, 1);
    pair_reader reader = {.rest = peri_exchange_text(ex, ex->query)};
    int count = 0;

    luaL_checkstring(L, 2);
    lua_newtable(L);
    while (next_pair(&reader)) {
        perilua_push_decoded(L, reader.name, true);
        if (lua_rawequal(L, -1, 2)) {
            perilua_push_decoded(L, reader.value, true);
            lua_rawseti(L, 3, ++count);
        }
        lua_pop(L, 1);
    }
    perilua_json_push_array_mark(L); /* no values are [] */
    lua_setmetatable(L, 3);
    return 1;
}

/* parse_form(text) -> {name = last value}, or nil and an error. */
static int parse_form(lua_State *L)
{
    return push_pairs(L, perilua_check_slice(L, 1));
}

/* decode_url(text[, plus]) -> string. */
static int decode_url(lua_State *L)
{
    perilua_push_decoded(L, perilua_check_slice(L, 1), lua_toboolean(L, 2));
    return 1;
}

/* reason(status) -> "Not Found"; nil when the status has none. */
static int reason(lua_State *L)
{
    const char *text = peri_status_reason((int)luaL_checkinteger(L, 1));

    lua_pushstring(L, text[0] != '\0' ? text : NULL);
    return 1;
}

/* allowed(req) -> "GET, HEAD, ..." when its path has methods, nil when none. */
static int request_allowed(lua_State *L)
{
    perilua_request *request = perilua_check_request(L, 1);
    char allow[128];

    if (request->allowed == 0) {
        return 0;
    }
    lua_pushlstring(L, allow,
                    peri_methods_format(request->allowed, allow, sizeof allow));
    return 1;
}

/* current_is_tls() -> whether the running task answers a request over TLS. */
static int current_is_tls(lua_State *L)
{
    perilua_task *task = perilua_vm_of(L)->current;
    const peri_exchange *ex = task != NULL ? task->context : NULL;

    lua_pushboolean(L, ex != NULL && ex->is_tls);
    return 1;
}

int perilua_open_request(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"method", request_method},
        {"path", request_path},
        {"target", request_target},
        {"id", request_id},
        {"remote_addr", request_remote},
        {"route", request_route},
        {"deadline_ms", request_deadline},
        {"is_tls", request_is_tls},
        {"tls", request_tls},
        {"header", request_header},
        {"headers", request_headers},
        {"query", request_query},
        {"query_all", request_query_all},
        {"parse_form", parse_form},
        {"decode_url", decode_url},
        {"reason", reason},
        {"allowed", request_allowed},
        {"current_is_tls", current_is_tls},
        {NULL, NULL},
    };

    lua_newtable(L);
    luaL_register(L, NULL, functions);
    perilua_add_body(L);
    perilua_add_stream(L);
    return 1;
}
