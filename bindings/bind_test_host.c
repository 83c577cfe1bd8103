/* perigee.core.test: applications inside of this process, through the door
 * that embedders use (perigee.h). */
#include <stdlib.h>
#include <string.h>

#include "bindings/bind.h"
#include "bindings/bind_test.h"
#include "bindings/gen.h"
#include "bindings/perigee.h"
#include "core/base/alloc.h"
#include "core/base/buf.h"

#define HOST_NAME "perigee.core.test.host"
#define FIELDS_MAX 1000
#define LOGS_MAX_BYTES ((size_t)64 << 20)

typedef struct test_host {
    perigee_host *host; /* NULL once it is being closed */
    peri_buf logs;
    perilua_wait wait; /* of open() or close() */
    char *error;       /* why it did not open; owned */
    bool opening;
    bool closed;
    bool released;
} test_host;

static void maybe_free(test_host *h)
{
    if (h->closed && h->released) {
        peri_buf_fini(&h->logs);
        free(h->error);
        free(h);
    }
}

static void on_cancel(perilua_wait *wait)
{
    (void)wait; /* it lies in the host or the call, which goes on */
}

static test_host *check_host(lua_State *L)
{
    test_host **box = luaL_checkudata(L, 1, HOST_NAME);

    return *box;
}

/* An open host, or a Lua error. */
static test_host *check_open(lua_State *L)
{
    test_host *h = check_host(L);

    luaL_argcheck(L, h->host != NULL && !h->opening, 1, "the host is closed");
    return h;
}

static void keep_log(void *data, const char *line, size_t length)
{
    test_host *h = data;

    peri_buf_append(&h->logs, line, length); /* beyond the limit: lost */
}

/* ---- the end ---- */

static void on_closed(void *data)
{
    test_host *h = data;

    h->closed = true;
    if (h->released) {
        maybe_free(h);
        return;
    }
    /* Whom it wakes may be the last, and h be collected before this returns. */
    perilua_task_wake(&h->wait, NULL, NULL);
}

static void host_shut(test_host *h)
{
    perigee_host *host = h->host;

    if (host != NULL) {
        h->host = NULL;
        perigee_close(host, on_closed, h);
    }
}

/* close() */
static int host_close(lua_State *L)
{
    test_host *h = check_host(L);

    host_shut(h);
    if (h->closed) {
        return 0;
    }
    h->wait.cancel = on_cancel;
    return perilua_task_park(L, &h->wait);
}

static int host_gc(lua_State *L)
{
    test_host *h = check_host(L);

    host_shut(h);
    h->released = true;
    maybe_free(h);
    return 0;
}

/* ---- the beginning ---- */

static int push_opened(lua_State *L, void *data)
{
    const test_host *h = data;

    if (h->error != NULL) {
        return perilua_fail(L, "invalid", NULL, "%s", h->error);
    }
    lua_pushboolean(L, 1);
    return 1;
}

static void on_ready(void *data, const char *error)
{
    test_host *h = data;

    h->opening = false;
    h->error = error != NULL ? peri_strdup(error) : NULL;
    perilua_task_wake(&h->wait, push_opened, h);
}

/* host() -> a host that is not open yet. */
static int test_host_new(lua_State *L)
{
    test_host **box = lua_newuserdata(L, sizeof(test_host *));
    test_host *h = peri_calloc(1, sizeof *h);

    *box = h;
    h->closed = true;
    peri_buf_init(&h->logs, LOGS_MAX_BYTES);
    luaL_getmetatable(L, HOST_NAME);
    lua_setmetatable(L, -2);
    return 1;
}

/* open(dir, env, overrides) -> true, or nil and an error. Once. */
static int host_open(lua_State *L)
{
    test_host *h = check_host(L);
    const char *overrides[64] = {NULL};
    perigee_options options = {
        .dir = luaL_checkstring(L, 2),
        .env = luaL_checkstring(L, 3),
        .overrides = overrides,
        .log = keep_log,
        .log_data = h,
    };
    int rc;

    luaL_checktype(L, 4, LUA_TTABLE);
    luaL_argcheck(L, lua_objlen(L, 4) < 64, 4, "too many settings");
    for (size_t i = 0; i < lua_objlen(L, 4); i++) {
        lua_rawgeti(L, 4, (int)i + 1);
        overrides[i] = luaL_checkstring(L, -1); /* the table holds it */
        lua_pop(L, 1);
    }
    luaL_argcheck(L, h->host == NULL && h->closed, 1, "it has been opened");
    rc = perigee_open(perilua_vm_of(L)->env->loop, &options, on_ready, h,
                      &h->host);
    if (rc < 0) {
        return perilua_fail_rc(L, rc, options.dir);
    }
    h->opening = true;
    h->closed = false;
    h->wait.cancel = on_cancel;
    return perilua_task_park(L, &h->wait);
}

/* ---- requests ---- */

typedef struct test_call {
    perilua_wait wait;
} test_call;

static int push_answer(lua_State *L, void *data)
{
    const perigee_answer *answer = data;

    if (answer->status == 0) {
        return perilua_fail(L, "cancelled", NULL, "the exchange was aborted");
    }
    lua_pushinteger(L, answer->status);
    lua_createtable(L, (int)answer->field_count, 0);
    for (size_t i = 0; i < answer->field_count; i++) {
        lua_createtable(L, 2, 0);
        lua_pushstring(L, answer->fields[i].name);
        lua_rawseti(L, -2, 1);
        lua_pushstring(L, answer->fields[i].value);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_pushlstring(L, answer->body, answer->body_length);
    return 3;
}

static void on_answer(void *data, const perigee_answer *answer)
{
    test_call *call = data;

    perilua_task_wake(&call->wait, push_answer, (void *)(uintptr_t)answer);
    free(call);
}

/* The fields {{name, value}, ...} at index; borrowed from Lua, as long as the
 * table is there. Freed by the caller. */
static perigee_field *check_fields(lua_State *L, int index, size_t *count)
{
    perigee_field *fields;

    luaL_checktype(L, index, LUA_TTABLE);
    *count = lua_objlen(L, index);
    luaL_argcheck(L, *count <= FIELDS_MAX, index, "too many fields");
    fields = lua_newuserdata(L, (*count + 1) * sizeof *fields);
    for (size_t i = 0; i < *count; i++) {
        lua_rawgeti(L, index, (int)i + 1);
        luaL_checktype(L, -1, LUA_TTABLE);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        fields[i].name = luaL_checkstring(L, -2);
        fields[i].value = luaL_checkstring(L, -1);
        lua_pop(L, 3);
    }
    return fields;
}

/* request(method, target, fields, body) -> status, fields, body; or nil and an
 * error. */
static int host_request(lua_State *L)
{
    test_host *h = check_open(L);
    perigee_request request = {
        .method = luaL_checkstring(L, 2),
        .target = luaL_checkstring(L, 3),
        .body = luaL_optlstring(L, 5, NULL, NULL),
    };
    test_call *call;
    int rc;

    if (request.body != NULL) {
        request.body_length = lua_objlen(L, 5);
    }
    request.fields = check_fields(L, 4, &request.field_count);
    call = peri_calloc(1, sizeof *call);
    call->wait.cancel = on_cancel;
    rc = perigee_request_start(h->host, &request, on_answer, call);
    if (rc < 0) {
        free(call);
        return perilua_fail_rc(L, rc, "the request");
    }
    return perilua_task_park(L, &call->wait);
}

/* logs() -> the lines since the last call */
static int host_logs(lua_State *L)
{
    test_host *h = check_host(L);

    lua_pushlstring(L, h->logs.length > 0 ? h->logs.data : "", h->logs.length);
    peri_buf_clear(&h->logs);
    return 1;
}

/* ---- its clock ---- */

static peri_timers *check_timers(lua_State *L)
{
    peri_host *inner = perilua_host_inside(check_open(L)->host);

    return perilua_timers(perilua_host_live(inner)->vm);
}

static int host_freeze(lua_State *L)
{
    return perilua_test_freeze(L, check_timers(L));
}

static int host_thaw(lua_State *L)
{
    return perilua_test_thaw(L, check_timers(L));
}

static int host_advance(lua_State *L)
{
    return perilua_test_advance(L, check_timers(L), 2);
}

static int host_due(lua_State *L)
{
    return perilua_test_due(L, check_timers(L));
}

void perilua_test_add_host(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"logs", host_logs}, {"freeze", host_freeze},   {"thaw", host_thaw},
        {"due", host_due},   {"advance", host_advance}, {NULL, NULL},
    };

    luaL_newmetatable(L, HOST_NAME);
    lua_pushcfunction(L, host_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    perilua_set_waiting(L, "open", host_open);
    perilua_set_waiting(L, "close", host_close);
    perilua_set_waiting(L, "request", host_request);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, test_host_new);
    lua_setfield(L, -2, "host");
}
