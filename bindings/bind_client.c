/* perigee.core.client: requests to other servers. See perigee/client.lua. */
#include <stdio.h>
#include <stdlib.h>

#include "bindings/bind.h"
#include "bindings/client_bind.h"
#include "core/base/alloc.h"
#include "core/http/date.h"

#define CALL "perigee.client.Call"
#define PREPARED "perigee.client.Prepared"
#define PREPARED_MAX ((size_t)1 << 20)

int perilua_open_client(lua_State *L);

/* A request without a body that is sent again and again. */
typedef struct perilua_prepared {
    peri_call_options options; /* its slices are in text */
    peri_buf text;             /* host, head, what and a NUL */
    const char *what;
    unsigned refs; /* Lua's, and of calls */
} prepared;

static void prepared_unref(prepared *p)
{
    if (--p->refs == 0) {
        peri_buf_fini(&p->text);
        free(p);
    }
}

static void box_free(perilua_client_call *box)
{
    perilua_client_close(box);
    if (box->request != NULL) {
        prepared_unref(box->request);
    } else {
        union {
            const char *in;
            char *out;
        } own = {box->what};

        free(own.out);
    }
    free(box);
}

static perilua_client_call *check_box(lua_State *L, int index)
{
    perilua_client_call **at = luaL_checkudata(L, index, CALL);

    return *at;
}

/* ---- waiting ---- */

static void wake(perilua_client_call *box)
{
    bool orphan = box->orphan;

    perilua_task_wake(&box->wait, perilua_client_push_result, box);
    if (orphan) {
        box_free(box);
    }
}

static void on_event(void *data)
{
    perilua_client_call *box = data;

    if (box->wait.task != NULL && perilua_client_is_ready(box)) {
        wake(box);
    }
}

/* Nobody waits for the answer any more: its connection is closed. */
static void on_cancel(perilua_wait *wait)
{
    perilua_client_call *box = PERI_CONTAINER(wait, perilua_client_call, wait);

    perilua_client_close(box);
    if (box->orphan) {
        box_free(box);
    }
}

static void on_owner_ended(perilua_owned *owned)
{
    perilua_client_call *box =
        PERI_CONTAINER(owned, perilua_client_call, owned);

    perilua_client_close(box);
    if (box->wait.task != NULL) {
        wake(box);
    }
}

static int await(lua_State *L, perilua_client_call *box,
                 perilua_client_want want)
{
    int count;

    if (box->wait.task != NULL) {
        return luaL_error(L, "another task waits for this answer");
    }
    box->want = want;
    if (perilua_client_is_ready(box)) {
        count = perilua_client_push_result(L, box);
        if (box->orphan) {
            box_free(box);
        }
        return count;
    }
    box->wait.cancel = on_cancel;
    return perilua_task_park(L, &box->wait);
}

/* ---- functions ---- */

/* start(options) -> call; or nil and an error. See perigee/client.lua. */
static int client_start(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);
    peri_field fields[PERILUA_CLIENT_FIELDS_MAX];
    peri_call_options options;
    peri_slice what;
    perilua_client_call **at;
    perilua_client_call *box;
    char why[256];

    luaL_checktype(L, 1, LUA_TTABLE);
    what = perilua_client_get_options(L, 1, &options, fields);
    if (vm->env->client == NULL || vm->current == NULL) {
        return luaL_error(L, "cannot wait here: no task is running");
    }
    perilua_task_check(L);
    if (!perilua_client_get_identity(L, 1, vm, &options, why, sizeof why)) {
        return perilua_fail(L, "invalid", "bad_tls", "%s: %s",
                            what.data != NULL ? what.data : "", why);
    }
    at = lua_newuserdata(L, sizeof *at);
    box = peri_calloc(1, sizeof *box);
    perilua_owned_init(&box->owned, on_owner_ended);
    box->what = peri_strndup(what.data, what.length);
    box->whole = options.whole;
    *at = box;
    luaL_getmetatable(L, CALL);
    lua_setmetatable(L, -2);
    if (peri_call_start(vm->env->client, &options, on_event, box, &box->call) <
        0) {
        return perilua_fail(
            L, "invalid", "bad_request",
            "%s: a method, target or header that cannot be sent", box->what);
    }
    if (!options.whole) {
        perilua_task_own(vm->current, &box->owned);
    }
    return 1;
}

/* prepare(options) -> what fetch() takes; or nil and an error. */
static int client_prepare(lua_State *L)
{
    peri_field fields[PERILUA_CLIENT_FIELDS_MAX];
    peri_call_options options;
    peri_slice what;
    prepared **at;
    prepared *p;
    size_t host_at;
    size_t what_at;

    luaL_checktype(L, 1, LUA_TTABLE);
    what = perilua_client_get_options(L, 1, &options, fields);
    at = lua_newuserdata(L, sizeof *at);
    p = peri_calloc(1, sizeof *p);
    p->refs = 1;
    peri_buf_init(&p->text, PREPARED_MAX);
    *at = p;
    luaL_getmetatable(L, PREPARED);
    lua_setmetatable(L, -2);
    if (peri_call_prepare(&options, &p->text) < 0) {
        return perilua_fail(L, "invalid", "bad_request",
                            "a method, target or header that cannot be sent");
    }
    host_at = p->text.length;
    peri_buf_append_slice(&p->text, options.host);
    what_at = p->text.length;
    peri_buf_append_slice(&p->text, what);
    peri_buf_append(&p->text, "", 1);
    p->options = options;
    p->options.prepared = peri_slice_of(p->text.data, host_at);
    p->options.host = peri_slice_of(p->text.data + host_at, what_at - host_at);
    p->options.method = PERI_SLICE("GET");
    p->options.target = (peri_slice){NULL, 0};
    p->options.fields = NULL;
    p->options.field_count = 0;
    p->options.body = (peri_slice){NULL, 0};
    p->what = p->text.data + what_at;
    return 1;
}

static int prepared_gc(lua_State *L)
{
    prepared **at = luaL_checkudata(L, 1, PREPARED);

    prepared_unref(*at);
    return 0;
}

/* fetch(prepared, total_ms, send_deadline) -> status, head, body, unpacked; or
 * nil and an error. */
static int client_fetch(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);
    prepared **at = luaL_checkudata(L, 1, PREPARED);
    peri_call_options options = (*at)->options;
    int64_t left_ms = perilua_task_remaining_ms(L);
    char number[24];
    peri_field field;
    perilua_client_call *box;

    if (vm->env->client == NULL || vm->current == NULL) {
        return luaL_error(L, "cannot wait here: no task is running");
    }
    perilua_task_check(L);
    options.total_ms = (uint32_t)luaL_checknumber(L, 2);
    if (left_ms >= 0 && lua_toboolean(L, 3)) {
        int64_t least_ms = left_ms < (int64_t)options.total_ms
                               ? left_ms
                               : (int64_t)options.total_ms;

        snprintf(number, sizeof number, "%lld",
                 (long long)(least_ms > 0 ? least_ms : 1));
        field.name = PERI_SLICE("x-request-timeout-ms");
        field.value = peri_slice_str(number);
        options.fields = &field;
        options.field_count = 1;
    }
    box = peri_calloc(1, sizeof *box);
    perilua_owned_init(&box->owned, on_owner_ended);
    box->request = *at;
    box->request->refs++;
    box->what = box->request->what;
    box->whole = true;
    box->orphan = true; /* freed when the wait is over */
    peri_call_start(vm->env->client, &options, on_event, box, &box->call);
    return await(L, box, PERILUA_WANT_RAW);
}

/* headers(head, unpacked) -> table. */
static int client_headers(lua_State *L)
{
    peri_slice head = perilua_check_slice(L, 1);
    bool decoded = lua_toboolean(L, 2);
    peri_reply reply;
    peri_buf body;

    peri_reply_init(&reply);
    peri_buf_init(&body, 0);
    if (peri_reply_feed(&reply, head.data, head.length, &body) < 0) {
        reply.field_count = 0; /* it has been read before */
    }
    perilua_client_push_headers(L, &reply, decoded);
    peri_reply_fini(&reply);
    return 1;
}

/* answer(call) -> status, headers[, body]; or nil and an error. */
static int client_answer(lua_State *L)
{
    perilua_client_call *box = check_box(L, 1);

    return await(L, box, box->whole ? PERILUA_WANT_WHOLE : PERILUA_WANT_HEAD);
}

/* chunk(call[, timeout_ms]) -> string; nil at the end; or nil and an error. */
static int client_chunk(lua_State *L)
{
    perilua_client_call *box = check_box(L, 1);

    if (box->call != NULL && box->wait.task == NULL) {
        peri_call_set_timeout(box->call, (uint32_t)luaL_optnumber(L, 2, 0));
    }
    return await(L, box, PERILUA_WANT_CHUNK);
}

/* write(call, chunk) -> whether more is wanted. */
static int client_write(lua_State *L)
{
    perilua_client_call *box = check_box(L, 1);
    peri_slice data = perilua_check_slice(L, 2);
    int rc = PERI_EGONE;

    if (box->call != NULL) {
        rc = peri_call_write(box->call, data);
    }
    if (rc != PERI_EAGAIN) {
        lua_pushboolean(L, rc == 0);
        return 1;
    }
    return await(L, box, PERILUA_WANT_DRAIN);
}

static int client_finish(lua_State *L)
{
    perilua_client_call *box = check_box(L, 1);

    if (box->call != NULL) {
        peri_call_finish(box->call);
    }
    return 0;
}

/* Whoever waits for it is told. */
static int client_close(lua_State *L)
{
    perilua_client_call *box = check_box(L, 1);

    perilua_client_close(box);
    if (box->wait.task != NULL) {
        wake(box);
    }
    return 0;
}

static int call_gc(lua_State *L)
{
    perilua_client_call **at = luaL_checkudata(L, 1, CALL);

    if ((*at)->wait.task != NULL) {
        (*at)->orphan = true;
    } else {
        box_free(*at);
    }
    return 0;
}

/* stats() -> {connects, requests, reused, open, waiting}, of this worker. */
static int client_stats(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);
    peri_client_stats stats = {0};

    if (vm->env->client != NULL) {
        peri_client_get_stats(vm->env->client, &stats);
    }
    lua_createtable(L, 0, 5);
    lua_pushnumber(L, (lua_Number)stats.connects);
    lua_setfield(L, -2, "connects");
    lua_pushnumber(L, (lua_Number)stats.requests);
    lua_setfield(L, -2, "requests");
    lua_pushnumber(L, (lua_Number)stats.reused);
    lua_setfield(L, -2, "reused");
    lua_pushnumber(L, stats.open);
    lua_setfield(L, -2, "open");
    lua_pushnumber(L, stats.waiting);
    lua_setfield(L, -2, "waiting");
    return 1;
}

/* date(text) -> Unix seconds, or nil: no date of HTTP's. */
static int client_date(lua_State *L)
{
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    int64_t seconds;

    if (peri_date_parse(peri_slice_of(text, length), &seconds) != 0) {
        return 0;
    }
    lua_pushnumber(L, (lua_Number)seconds);
    return 1;
}

int perilua_open_client(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"start", client_start},     {"prepare", client_prepare},
        {"headers", client_headers}, {"finish", client_finish},
        {"close", client_close},     {"stats", client_stats},
        {"date", client_date},       {NULL, NULL},
    };

    luaL_newmetatable(L, CALL);
    lua_pushcfunction(L, call_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newmetatable(L, PREPARED);
    lua_pushcfunction(L, prepared_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 2);
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    perilua_set_waiting(L, "answer", client_answer);
    perilua_set_waiting(L, "fetch", client_fetch);
    perilua_set_waiting(L, "chunk", client_chunk);
    perilua_set_waiting(L, "write", client_write);
    return 1;
}
