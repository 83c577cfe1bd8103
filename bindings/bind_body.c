/* perigee.core.request, continued: the request's body. */
#include <stdlib.h>

#include "bindings/bind.h"
#include "bindings/gen.h"
#include "bindings/json.h"
#include "bindings/modules.h"
#include "core/base/alloc.h"
#include "core/http/media_type.h"

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
    body_read *read;

    if (ex->reader.fn != NULL) {
        return luaL_error(L, "another task is reading the body");
    }
    read = peri_calloc(1, sizeof *read);
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
    peri_exchange *ex = perilua_check_exchange(L, 1);

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

/* typed_json(req): as json, and an error when it says to be something else. */
static int request_typed_json(lua_State *L)
{
    if (!peri_exchange_may_be_json(perilua_check_exchange(L, 1))) {
        return perilua_fail(L, "invalid", "unsupported_media_type",
                            "the body must be application/json");
    }
    return read_whole(L, true);
}

/* chunk(req) -> string; nil at the end; or nil and an error. */
static int request_chunk(lua_State *L)
{
    peri_exchange *ex = perilua_check_exchange(L, 1);

    if (!ex->has_body) {
        return 0;
    }
    return start_read(L, ex, false, false);
}

void perilua_add_body(lua_State *L)
{
    perilua_set_waiting(L, "body", request_body);
    perilua_set_waiting(L, "json", request_json);
    perilua_set_waiting(L, "typed_json", request_typed_json);
    perilua_set_waiting(L, "chunk", request_chunk);
}
