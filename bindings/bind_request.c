/* perigee.core.request: what a req table gives to read, and streamed answers.
 *
 * A req table is {request, serial} with the metatable of perigee.request; the
 * functions here take it as their first argument. */
#include <stdlib.h>
#include <string.h>

#include "bindings/bind.h"
#include "bindings/gen.h"
#include "bindings/json.h"
#include "bindings/modules.h"
#include "core/base/alloc.h"
#include "core/base/url.h"
#include "core/http/file.h"

#define ARGUMENTS_MAX 1000
#define STREAM_FIELDS_MAX 100

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

static peri_exchange *check_exchange(lua_State *L, int index)
{
    return perilua_check_request(L, index)->exchange;
}

/* ---- the head ---- */

static int request_method(lua_State *L)
{
    peri_exchange *ex = check_exchange(L, 1);

    perilua_push_slice(L, peri_exchange_text(ex, ex->method_text));
    return 1;
}

static int request_path(lua_State *L)
{
    peri_exchange *ex = check_exchange(L, 1);

    perilua_push_slice(L, peri_exchange_text(ex, ex->path));
    return 1;
}

static int request_target(lua_State *L)
{
    peri_exchange *ex = check_exchange(L, 1);

    perilua_push_slice(L, peri_exchange_text(ex, ex->target));
    return 1;
}

static int request_id(lua_State *L)
{
    perilua_push_slice(L, peri_exchange_id(check_exchange(L, 1)));
    return 1;
}

static int request_remote(lua_State *L)
{
    perilua_push_slice(L, peri_exchange_remote(check_exchange(L, 1)));
    return 1;
}

static int request_route(lua_State *L)
{
    peri_exchange *ex = check_exchange(L, 1);

    if (ex->route == NULL) {
        return 0;
    }
    lua_pushstring(L, ex->route->pattern);
    return 1;
}

static int request_deadline(lua_State *L)
{
    int64_t ms;

    check_exchange(L, 1);
    ms = perilua_task_remaining_ms(L);
    if (ms < 0) {
        return 0;
    }
    lua_pushnumber(L, (lua_Number)ms);
    return 1;
}

static int request_is_tls(lua_State *L)
{
    lua_pushboolean(L, check_exchange(L, 1)->is_tls);
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
    peri_exchange *ex = check_exchange(L, 1);

    push_joined(L, ex, perilua_check_slice(L, 2));
    return 1;
}

/* headers(req) -> {name in lower case = value}. */
static int request_headers(lua_State *L)
{
    peri_exchange *ex = check_exchange(L, 1);
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
    peri_exchange *ex = check_exchange(L, 1);

    return push_pairs(L, peri_exchange_text(ex, ex->query));
}

/* query_all(req, name) -> list of its values. */
static int request_query_all(lua_State *L)
{
    peri_exchange *ex = check_exchange(L, 1);
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

/* ---- the body ---- */

typedef struct body_read {
    perilua_wait wait;
    peri_exchange *exchange;
    bool as_json;
    bool whole;
    int rc;
    peri_slice chunk;
} body_read;

static int push_body_error(lua_State *L, int rc)
{
    switch (rc) {
    case PERI_ELIMIT:
        return perilua_fail(L, "too_large", NULL, "the body is too large");
    case PERI_ETIMEOUT:
        return perilua_fail(L, "timeout", "body_timeout",
                            "the body did not arrive in time");
    case PERI_EFORMAT:
        return perilua_fail(L, "invalid", "bad_body", "the body is malformed");
    default:
        return perilua_fail(L, "cancelled", NULL, "the client has gone away");
    }
}

static int push_whole(lua_State *L, peri_exchange *ex, bool as_json)
{
    peri_slice body = peri_exchange_body(ex);

    if (!as_json) {
        perilua_push_slice(L, body);
        return 1;
    }
    if (perilua_json_decode(L, body) < 0) {
        int n =
            perilua_fail(L, "invalid", "bad_json", "%s", lua_tostring(L, -1));
        return n;
    }
    return 1;
}

static int push_read(lua_State *L, void *data)
{
    body_read *read = data;

    if (read->rc < 0) {
        return push_body_error(L, read->rc);
    }
    if (read->whole) {
        return push_whole(L, read->exchange, read->as_json);
    }
    if (read->chunk.length == 0) {
        return 0;
    }
    perilua_push_slice(L, read->chunk);
    return 1;
}

static void on_read(void *data, int rc, peri_slice chunk)
{
    body_read *read = data;

    read->rc = rc;
    read->chunk = chunk;
    perilua_task_wake(&read->wait, push_read, read);
    free(read);
}

static void on_read_cancel(perilua_wait *wait)
{
    body_read *read = PERI_CONTAINER(wait, body_read, wait);

    peri_exchange_read_cancel(read->exchange);
    free(read);
}

static int start_read(lua_State *L, peri_exchange *ex, bool whole, bool as_json)
{
    body_read *read = peri_calloc(1, sizeof *read);

    read->exchange = ex;
    read->whole = whole;
    read->as_json = as_json;
    read->wait.cancel = on_read_cancel;
    if (whole) {
        peri_exchange_read_all(ex, on_read, read);
    } else {
        peri_exchange_read_chunk(ex, on_read, read);
    }
    return perilua_task_park(L, &read->wait);
}

static int read_whole(lua_State *L, bool as_json)
{
    peri_exchange *ex = check_exchange(L, 1);

    if (ex->body_complete || !ex->has_body) {
        return push_whole(L, ex, as_json);
    }
    return start_read(L, ex, true, as_json);
}

/* body(req) -> string, "" without a body; or nil and an error. */
static int request_body(lua_State *L)
{
    return read_whole(L, false);
}

/* json(req) -> value; or nil and an error. */
static int request_json(lua_State *L)
{
    return read_whole(L, true);
}

/* chunk(req) -> string; nil at the end; or nil and an error. */
static int request_chunk(lua_State *L)
{
    peri_exchange *ex = check_exchange(L, 1);

    if (!ex->has_body) {
        return 0;
    }
    return start_read(L, ex, false, false);
}

/* ---- files ---- */

typedef struct file_wait {
    perilua_wait wait;
    bool starting; /* peri_file_serve may answer at once */
    bool over;
    bool served;
} file_wait;

static int push_served(lua_State *L, void *data)
{
    file_wait *file = data;

    lua_pushboolean(L, file->served);
    return 1;
}

static void file_over(file_wait *file, bool served)
{
    file->served = served;
    file->over = true;
    if (file->starting) {
        return; /* request_file goes on with it */
    }
    perilua_task_wake(&file->wait, push_served, file);
    free(file);
}

static void on_file_served(void *data, peri_exchange *ex)
{
    (void)ex;
    file_over(data, true);
}

static void on_file_absent(void *data, peri_exchange *ex)
{
    (void)ex;
    file_over(data, false);
}

/* The file goes on by itself, or stops when the client has gone. */
static void on_file_cancel(perilua_wait *wait)
{
    (void)wait;
}

/* Fills at most max fields from the list {name, value, name, value, ...}. */
static size_t check_fields(lua_State *L, int index, peri_field *fields,
                           size_t max)
{
    size_t count = 0;

    luaL_checktype(L, index, LUA_TTABLE);
    luaL_checkstack(L, 2 * (int)max + 4, "too many fields");
    for (int i = 1; count < max; i += 2) {
        lua_rawgeti(L, index, i);
        if (lua_isnil(L, -1)) {
            break;
        }
        lua_rawgeti(L, index, i + 1);
        fields[count].name = perilua_check_slice(L, -2);
        fields[count].value = perilua_check_slice(L, -1);
        count++;
    }
    return count;
}

/* file(req, path, fields) -> whether it was there, after it has been sent. path
 * is relative to public/. */
static int request_file(lua_State *L)
{
    perilua_request *request = perilua_check_request(L, 1);
    peri_slice path = perilua_check_slice(L, 2);
    peri_field fields[STREAM_FIELDS_MAX];
    size_t count = check_fields(L, 3, fields, STREAM_FIELDS_MAX);
    file_wait *file = peri_calloc(1, sizeof *file);

    file->wait.cancel = on_file_cancel;
    file->starting = true;
    peri_file_serve(request->gen->host->files, request->exchange, path, fields,
                    count, on_file_served, on_file_absent, file);
    file->starting = false;
    if (file->over) {
        int n = push_served(L, file);

        free(file);
        return n;
    }
    return perilua_task_park(L, &file->wait);
}

/* ---- streamed answers ---- */

typedef struct drain_wait {
    perilua_wait wait;
    peri_exchange *exchange;
    int rc;
} drain_wait;

static int push_written(lua_State *L, void *data)
{
    drain_wait *drain = data;

    if (drain->rc < 0) {
        return perilua_fail(L, "cancelled", peri_err_name(drain->rc),
                            "the client has gone away");
    }
    lua_pushboolean(L, 1);
    return 1;
}

static void on_drained(void *data, int rc)
{
    drain_wait *drain = data;

    drain->rc = rc;
    perilua_task_wake(&drain->wait, push_written, drain);
    free(drain);
}

static void on_drain_cancel(perilua_wait *wait)
{
    drain_wait *drain = PERI_CONTAINER(wait, drain_wait, wait);

    peri_exchange_drain_cancel(drain->exchange);
    free(drain);
}

/* write(req, chunk) -> true; or nil and an error of kind "cancelled". Waits
 * while the client is slow. */
static int request_write(lua_State *L)
{
    peri_exchange *ex = check_exchange(L, 1);
    int rc = peri_exchange_write(ex, perilua_check_slice(L, 2));
    drain_wait *drain;

    if (rc != PERI_EAGAIN) {
        return push_written(L, &(drain_wait){.rc = rc});
    }
    drain = peri_calloc(1, sizeof *drain);
    drain->exchange = ex;
    drain->wait.cancel = on_drain_cancel;
    peri_exchange_on_drain(ex, on_drained, drain);
    return perilua_task_park(L, &drain->wait);
}

/* begin(req, status, {name, value, name, value, ...}[, length]). Names and
 * values are strings; checked by perigee.response. */
static int request_begin(lua_State *L)
{
    peri_exchange *ex = check_exchange(L, 1);
    int status = (int)luaL_checkinteger(L, 2);
    int64_t length = (int64_t)luaL_optnumber(L, 4, -1);
    peri_field fields[STREAM_FIELDS_MAX];
    size_t count = check_fields(L, 3, fields, STREAM_FIELDS_MAX);

    if (!ex->gone && !ex->begun) {
        peri_exchange_begin(ex, status, fields, count, length);
    }
    return 0;
}

static int request_end(lua_State *L)
{
    peri_exchange *ex = check_exchange(L, 1);

    if (ex->begun && !ex->ended && !ex->gone) {
        peri_exchange_end(ex);
    }
    return 0;
}

static int request_abort(lua_State *L)
{
    peri_exchange *ex = check_exchange(L, 1);

    if (!ex->ended && !ex->gone) {
        peri_exchange_abort(ex);
    }
    return 0;
}

/* no_deadline(req): a stream may last; each write has its own time-out. */
static int request_no_deadline(lua_State *L)
{
    perilua_request *request = perilua_check_request(L, 1);

    perilua_task_clear_deadline(request->task);
    return 0;
}

/* allowed(req) -> "GET, HEAD, ..." when the path has routes, nil when none. */
static int request_allowed(lua_State *L)
{
    perilua_request *request = perilua_check_request(L, 1);
    peri_exchange *ex = request->exchange;
    peri_route_match match;
    char allow[128];

    peri_router_match(request->gen->router, (peri_method)ex->method,
                      peri_exchange_text(ex, ex->path), &match);
    if (match.allowed == 0) {
        return 0;
    }
    lua_pushlstring(L, allow,
                    peri_methods_format(match.allowed, allow, sizeof allow));
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
        {"header", request_header},
        {"headers", request_headers},
        {"query", request_query},
        {"query_all", request_query_all},
        {"parse_form", parse_form},
        {"decode_url", decode_url},
        {"begin", request_begin},
        {"finish", request_end},
        {"abort", request_abort},
        {"no_deadline", request_no_deadline},
        {"allowed", request_allowed},
        {"current_is_tls", current_is_tls},
        {NULL, NULL},
    };

    lua_newtable(L);
    luaL_register(L, NULL, functions);
    perilua_set_waiting(L, "body", request_body);
    perilua_set_waiting(L, "json", request_json);
    perilua_set_waiting(L, "chunk", request_chunk);
    perilua_set_waiting(L, "write", request_write);
    perilua_set_waiting(L, "file", request_file);
    return 1;
}
