/* perigee.core.client: requests to other servers. See perigee/client.lua. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "bindings/bind.h"
#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/http/client.h"
#include "core/http/date.h"
#include "core/http/scan_text.h"

#define CALL "perigee.client.Call"
#define PREPARED "perigee.client.Prepared"
#define FIELDS_MAX 200
#define PREPARED_MAX ((size_t)1 << 20)

int perilua_open_client(lua_State *L);

typedef enum want_kind {
    WANT_HEAD,
    WANT_WHOLE,
    WANT_RAW, /* the whole, its head as it came */
    WANT_CHUNK,
    WANT_DRAIN
} want_kind;

/* A request without a body that is sent again and again. */
typedef struct prepared {
    peri_call_options options; /* its slices are in text */
    peri_buf text;             /* host, head, what and a NUL */
    const char *what;
    unsigned refs; /* Lua's, and of calls */
} prepared;

/* A call, and the task that waits for it. The userdata holds a pointer to it;
 * collected while a task waits, it lives on until that wait is over. */
typedef struct client_call {
    peri_call *call; /* NULL: closed */
    perilua_wait wait;
    perilua_owned owned; /* by the task, as a stream that may stay unread */
    const char *what;    /* for messages: "GET http://host/path" */
    prepared *request;   /* whose what is, or NULL: it is the call's own */
    want_kind want;
    bool whole;
    bool orphan;
} client_call;

static void box_close(client_call *box)
{
    perilua_task_disown(&box->owned);
    peri_call_destroy(box->call);
    box->call = NULL;
}

static void prepared_unref(prepared *p)
{
    if (--p->refs == 0) {
        peri_buf_fini(&p->text);
        free(p);
    }
}

static void box_free(client_call *box)
{
    box_close(box);
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

static client_call *check_box(lua_State *L, int index)
{
    client_call **at = luaL_checkudata(L, index, CALL);

    return *at;
}

/* ---- failures ---- */

static const char *code_of(int rc)
{
    if (rc == UV_EAI_NONAME || rc == UV_EAI_NODATA) {
        return "ENOTFOUND";
    }
    return rc <= UV_EAI_ADDRFAMILY && rc > UV_EOF ? uv_err_name(rc)
                                                  : peri_err_name(rc);
}

static int push_cut(lua_State *L, const client_call *box, peri_call_stage stage)
{
    return perilua_fail(L, "unavailable", "ECONNRESET",
                        "%s: the server closed the connection %s", box->what,
                        stage == PERI_CALL_SENT   ? "without an answer"
                        : stage == PERI_CALL_HEAD ? "within the head"
                                                  : "within the body");
}

static int push_fault(lua_State *L, const client_call *box,
                      peri_call_fault fault)
{
    switch (fault.rc) {
    case PERI_ETIMEOUT:
        return perilua_fail(L, "timeout", fault.detail, "%s: %s", box->what,
                            fault.stage <= PERI_CALL_CONNECTING
                                ? "no connection in time"
                            : fault.stage == PERI_CALL_SENT
                                ? "no answer in time"
                                : "the answer was not complete in time");
    case PERI_EFORMAT:
        return perilua_fail(L, "unavailable", "bad_response",
                            "%s: malformed answer: %s", box->what,
                            fault.detail != NULL ? fault.detail : "");
    case PERI_ELIMIT:
        if (fault.stage == PERI_CALL_QUEUED) {
            return perilua_fail(L, "unavailable", "queue_full",
                                "%s: too many requests wait already",
                                box->what);
        }
        return perilua_fail(L, "too_large", "body_max",
                            "%s: the answer's body is larger than body_max",
                            box->what);
    case PERI_EGONE:
        return push_cut(L, box, fault.stage);
    case PERI_ESTATE:
        return perilua_fail(L, "forbidden", "private_address",
                            "%s: the address is not public", box->what);
    default:
        return perilua_fail(L, "unavailable", code_of(fault.rc), "%s: %s",
                            box->what,
                            fault.rc <= UV_EAI_ADDRFAMILY && fault.rc > UV_EOF
                                ? uv_strerror(fault.rc)
                                : peri_err_text(fault.rc));
    }
}

/* ---- results ---- */

static void push_lower(lua_State *L, peri_slice name)
{
    char small[64];
    luaL_Buffer large;

    assert(name.data != NULL); /* a field's name has a byte at least */
    if (name.length <= sizeof small) {
        for (size_t i = 0; i < name.length; i++) {
            char c = name.data[i];

            small[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
        }
        lua_pushlstring(L, small, name.length);
        return;
    }
    luaL_buffinit(L, &large);
    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];

        luaL_addchar(&large, (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c));
    }
    luaL_pushresult(&large);
}

/* headers[name] = value, or a list of values; name and value are on top. */
static void add_header(lua_State *L, int headers)
{
    lua_pushvalue(L, -2);
    lua_rawget(L, headers);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_rawset(L, headers);
        return;
    }
    if (!lua_istable(L, -1)) {
        lua_createtable(L, 2, 0);
        lua_insert(L, -2);
        lua_rawseti(L, -2, 1);
    }
    lua_insert(L, -2); /* name, list, value */
    lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
    lua_rawset(L, headers);
}

static bool is_stale(peri_slice name)
{
    assert(name.data != NULL); /* no field is without a name */
    return peri_slice_equal_nocase(name, PERI_SLICE("content-encoding")) ||
           peri_slice_equal_nocase(name, PERI_SLICE("content-length"));
}

static void push_headers(lua_State *L, const peri_reply *reply, bool decoded)
{
    int headers;

    lua_createtable(L, 0, reply->field_count);
    headers = lua_gettop(L);
    for (unsigned i = 0; i < reply->field_count; i++) {
        peri_slice name = peri_reply_text(reply, reply->fields[i].name);

        if (decoded && is_stale(name)) {
            continue;
        }
        push_lower(L, name);
        perilua_push_slice(L, peri_reply_text(reply, reply->fields[i].value));
        add_header(L, headers);
    }
}

static bool is_ready(const client_call *box)
{
    if (box->call == NULL || peri_call_get_fault(box->call).rc != 0) {
        return true;
    }
    switch (box->want) {
    case WANT_HEAD:
        return peri_call_reply(box->call) != NULL;
    case WANT_WHOLE:
    case WANT_RAW:
        return peri_call_complete(box->call);
    case WANT_CHUNK:
        return peri_call_body(box->call).length > 0 ||
               peri_call_complete(box->call);
    case WANT_DRAIN:
    default:
        return peri_call_writable(box->call);
    }
}

static int push_chunk(lua_State *L, client_call *box)
{
    peri_slice body = peri_call_body(box->call);

    if (body.length > 0) {
        perilua_push_slice(L, body);
        peri_call_set_timeout(box->call, 0);
        peri_call_consume(box->call, body.length);
        return 1;
    }
    return 0;
}

static int push_result(lua_State *L, void *data)
{
    client_call *box = data;
    peri_call_fault fault;

    if (box->call == NULL) {
        return perilua_fail(L, "cancelled", "closed",
                            "%s: the answer was closed", box->what);
    }
    fault = peri_call_get_fault(box->call);
    if (box->want == WANT_DRAIN) {
        lua_pushboolean(L, fault.rc == 0);
        return 1;
    }
    if (box->want == WANT_CHUNK && peri_call_body(box->call).length > 0) {
        return push_chunk(L, box);
    }
    if (fault.rc != 0) {
        return push_fault(L, box, fault);
    }
    if (box->want == WANT_CHUNK) {
        return 0;
    }
    lua_pushinteger(L, peri_call_reply(box->call)->status);
    if (box->want == WANT_RAW) {
        perilua_push_slice(L,
                           peri_buf_slice(&peri_call_reply(box->call)->head));
        perilua_push_slice(L, peri_call_body(box->call));
        lua_pushboolean(L, peri_call_decoded(box->call));
        box_close(box);
        return 4;
    }
    push_headers(L, peri_call_reply(box->call), peri_call_decoded(box->call));
    if (box->want == WANT_HEAD) {
        return 2;
    }
    perilua_push_slice(L, peri_call_body(box->call));
    box_close(box);
    return 3;
}

/* ---- waiting ---- */

static void wake(client_call *box)
{
    bool orphan = box->orphan;

    perilua_task_wake(&box->wait, push_result, box);
    if (orphan) {
        box_free(box);
    }
}

static void on_event(void *data)
{
    client_call *box = data;

    if (box->wait.task != NULL && is_ready(box)) {
        wake(box);
    }
}

/* Nobody waits for the answer any more: its connection is closed. */
static void on_cancel(perilua_wait *wait)
{
    client_call *box = PERI_CONTAINER(wait, client_call, wait);

    box_close(box);
    if (box->orphan) {
        box_free(box);
    }
}

static void on_owner_ended(perilua_owned *owned)
{
    client_call *box = PERI_CONTAINER(owned, client_call, owned);

    box_close(box);
    if (box->wait.task != NULL) {
        wake(box);
    }
}

static int await(lua_State *L, client_call *box, want_kind want)
{
    int count;

    if (box->wait.task != NULL) {
        return luaL_error(L, "another task waits for this answer");
    }
    box->want = want;
    if (is_ready(box)) {
        count = push_result(L, box);
        if (box->orphan) {
            box_free(box);
        }
        return count;
    }
    box->wait.cancel = on_cancel;
    return perilua_task_park(L, &box->wait);
}

/* ---- functions ---- */

static peri_slice get_slice(lua_State *L, int table, const char *name)
{
    peri_slice slice = {NULL, 0};

    lua_getfield(L, table, name);
    if (lua_type(L, -1) == LUA_TSTRING) {
        slice.data = lua_tolstring(L, -1, &slice.length);
    }
    lua_pop(L, 1); /* the table still has it */
    return slice;
}

static bool get_flag(lua_State *L, int table, const char *name)
{
    bool flag;

    lua_getfield(L, table, name);
    flag = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return flag;
}

static double get_number(lua_State *L, int table, const char *name)
{
    double number;

    lua_getfield(L, table, name);
    number = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return number;
}

static uint32_t get_ms(lua_State *L, int table, const char *name)
{
    double ms = get_number(L, table, name);

    return ms <= 0 ? 0 : ms < 1 ? 1 : ms > 1e9 ? 1000000000u : (uint32_t)ms;
}

/* The list {name, value, ...}, whose strings stay where they are. */
static size_t get_fields(lua_State *L, int table, peri_field *fields)
{
    size_t count = 0;

    lua_getfield(L, table, "fields");
    luaL_checktype(L, -1, LUA_TTABLE);
    if (lua_objlen(L, -1) > (size_t)2 * FIELDS_MAX) {
        luaL_error(L, "more than %d headers", FIELDS_MAX);
    }
    for (int i = 1; i < (int)lua_objlen(L, -1); i += 2) {
        lua_rawgeti(L, -1, i);
        lua_rawgeti(L, -2, i + 1);
        if (lua_type(L, -1) != LUA_TSTRING || lua_type(L, -2) != LUA_TSTRING) {
            luaL_error(L, "a header that is no string");
        }
        fields[count].name = perilua_check_slice(L, -2);
        fields[count].value = perilua_check_slice(L, -1);
        count++;
        lua_pop(L, 2);
    }
    lua_pop(L, 1);
    return count;
}

static void get_options(lua_State *L, int table, peri_call_options *options)
{
    *options = (peri_call_options){
        .host = get_slice(L, table, "host"),
        .port = (uint16_t)get_number(L, table, "port"),
        .local = get_flag(L, table, "is_local"),
        .deny_private = get_flag(L, table, "deny_private"),
        .decompress = get_flag(L, table, "decompress"),
        .whole = get_flag(L, table, "whole"),
        .streams_body = get_flag(L, table, "streams_body"),
        .method = get_slice(L, table, "method"),
        .target = get_slice(L, table, "target"),
        .body = get_slice(L, table, "body"),
        .body_max_bytes = (uint64_t)get_number(L, table, "body_max"),
        .connect_ms = get_ms(L, table, "connect_ms"),
        .first_byte_ms = get_ms(L, table, "first_byte_ms"),
        .total_ms = get_ms(L, table, "total_ms"),
    };
}

/* options.tls: whom to trust, as whom to go; absent: plain. False: why. */
static bool get_identity(lua_State *L, int table, perilua_vm *vm,
                         peri_call_options *options, char *why,
                         size_t why_bytes)
{
    int rc = 0;

    lua_getfield(L, table, "tls");
    if (lua_istable(L, -1)) {
        int tls = lua_gettop(L);
        peri_client_identity_options identity = {
            .ca = get_slice(L, tls, "ca"),
            .cert = get_slice(L, tls, "cert"),
            .key = get_slice(L, tls, "key"),
            .insecure = get_flag(L, tls, "insecure"),
            .from_1_3 = get_flag(L, tls, "from_1_3"),
        };

        options->server_name = get_slice(L, tls, "server_name");
        options->tunnel = get_slice(L, table, "tunnel");
        options->tunnel_auth = get_slice(L, table, "tunnel_auth");
        rc = peri_client_identity_get(vm->env->client, &identity,
                                      &options->identity, why, why_bytes);
    }
    lua_pop(L, 1); /* the table still has it */
    return rc == 0;
}

/* start(options) -> call; or nil and an error. See perigee/client.lua. */
static int client_start(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);
    peri_field fields[FIELDS_MAX];
    peri_call_options options;
    peri_slice what;
    client_call **at;
    client_call *box;
    char why[256];

    luaL_checktype(L, 1, LUA_TTABLE);
    get_options(L, 1, &options);
    options.fields = fields;
    options.field_count = get_fields(L, 1, fields);
    what = get_slice(L, 1, "what");
    if (vm->env->client == NULL || vm->current == NULL) {
        return luaL_error(L, "cannot wait here: no task is running");
    }
    perilua_task_check(L);
    if (!get_identity(L, 1, vm, &options, why, sizeof why)) {
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
    peri_field fields[FIELDS_MAX];
    peri_call_options options;
    peri_slice what;
    prepared **at;
    prepared *p;
    size_t host_at;
    size_t what_at;

    luaL_checktype(L, 1, LUA_TTABLE);
    get_options(L, 1, &options);
    options.fields = fields;
    options.field_count = get_fields(L, 1, fields);
    what = get_slice(L, 1, "what");
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
    client_call *box;

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
    return await(L, box, WANT_RAW);
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
    push_headers(L, &reply, decoded);
    peri_reply_fini(&reply);
    return 1;
}

/* answer(call) -> status, headers[, body]; or nil and an error. */
static int client_answer(lua_State *L)
{
    client_call *box = check_box(L, 1);

    return await(L, box, box->whole ? WANT_WHOLE : WANT_HEAD);
}

/* chunk(call[, timeout_ms]) -> string; nil at the end; or nil and an error. */
static int client_chunk(lua_State *L)
{
    client_call *box = check_box(L, 1);

    if (box->call != NULL && box->wait.task == NULL) {
        peri_call_set_timeout(box->call, (uint32_t)luaL_optnumber(L, 2, 0));
    }
    return await(L, box, WANT_CHUNK);
}

/* write(call, chunk) -> whether more is wanted. */
static int client_write(lua_State *L)
{
    client_call *box = check_box(L, 1);
    peri_slice data = perilua_check_slice(L, 2);
    int rc = PERI_EGONE;

    if (box->call != NULL) {
        rc = peri_call_write(box->call, data);
    }
    if (rc != PERI_EAGAIN) {
        lua_pushboolean(L, rc == 0);
        return 1;
    }
    return await(L, box, WANT_DRAIN);
}

static int client_finish(lua_State *L)
{
    client_call *box = check_box(L, 1);

    if (box->call != NULL) {
        peri_call_finish(box->call);
    }
    return 0;
}

/* Whoever waits for it is told. */
static int client_close(lua_State *L)
{
    client_call *box = check_box(L, 1);

    box_close(box);
    if (box->wait.task != NULL) {
        wake(box);
    }
    return 0;
}

static int call_gc(lua_State *L)
{
    client_call **at = luaL_checkudata(L, 1, CALL);

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
