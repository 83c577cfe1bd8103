/* perigee.core.redis: Redis for Lua. See perigee/redis.lua. */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "bindings/redis_bind.h"
#include "bindings/sqlite_value.h"
#include "core/base/alloc.h"

int perilua_open_redis(lua_State *L);

perilua_redis *perilua_redis_check(lua_State *L, int index)
{
    return luaL_checkudata(L, index, PERILUA_REDIS);
}

static int redis_gc(lua_State *L)
{
    perilua_redis *redis = perilua_redis_check(L, 1);
    peri_redis_client *client = redis->client;

    redis->client = NULL;
    if (client != NULL) {
        peri_redis_set_unref(redis->set, client);
    }
    return 0;
}

/* close(client): its server is not used any more. */
static int redis_close(lua_State *L)
{
    const perilua_redis *redis = perilua_redis_check(L, 1);

    if (redis->client != NULL) {
        peri_redis_client_leave(redis->client);
    }
    return redis_gc(L);
}

int perilua_redis_push_closed(lua_State *L)
{
    return perilua_fail(L, "unavailable", "closed",
                        "redis: the server is not used any more");
}

/* stats(client) -> {commands, writes, timeouts, connects}. */
static int redis_stats(lua_State *L)
{
    const perilua_redis *redis = perilua_redis_check(L, 1);
    peri_redis_stats stats = {0};

    if (redis->client != NULL) {
        peri_redis_client_get_stats(redis->client, &stats);
    }
    lua_createtable(L, 0, 4);
    lua_pushnumber(L, (lua_Number)stats.commands);
    lua_setfield(L, -2, "commands");
    lua_pushnumber(L, (lua_Number)stats.writes);
    lua_setfield(L, -2, "writes");
    lua_pushnumber(L, (lua_Number)stats.timeouts);
    lua_setfield(L, -2, "timeouts");
    lua_pushnumber(L, (lua_Number)stats.connects);
    lua_setfield(L, -2, "connects");
    return 1;
}

/* sha1_hex(text). */
static int redis_sha1(lua_State *L)
{
    peri_slice text = perilua_check_slice(L, 1);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    char hex[2 * EVP_MAX_MD_SIZE + 1];

    EVP_Digest(text.data, text.length, digest, &length, EVP_sha1(), NULL);
    for (unsigned i = 0; i < length; i++) {
        snprintf(hex + 2 * (size_t)i, 3, "%02x", digest[i]);
    }
    lua_pushlstring(L, hex, 2 * (size_t)length);
    return 1;
}

/* ---- calls ---- */

typedef struct redis_call {
    peri_redis_op op;
    perilua_wait wait;
    perilua_redis_shape shape;
    perilua_vm *vm;
    perilua_db_watch watch;
} redis_call;

typedef struct outcome {
    const peri_redis_fault *fault;
    const peri_redis_reply *reply;
    perilua_redis_shape shape;
    uint32_t replies;
} outcome;

static int push_outcome(lua_State *L, void *data)
{
    const outcome *o = data;

    if (o->fault != NULL) {
        return perilua_redis_push_fault(L, o->fault);
    }
    return perilua_redis_push_reply(L, o->reply, o->shape, o->replies);
}

/* An error of one of several commands is a value; it is not the call's. */
static void watch_end(redis_call *call, const peri_redis_fault *fault,
                      const peri_redis_reply *reply)
{
    char code[PERI_REDIS_CODE_BYTES] = "";

    if (fault != NULL) {
        snprintf(code, sizeof code, "%s", fault->code);
    } else if (reply->nodes[0].type == PERI_REDIS_ERROR) {
        peri_redis_code(peri_redis_text(reply, &reply->nodes[0]), code);
    }
    perilua_db_end(call->vm, &call->watch, code);
}

static void on_done(peri_redis_op *op, const peri_redis_fault *fault,
                    const peri_redis_reply *reply)
{
    redis_call *call = PERI_CONTAINER(op, redis_call, op);
    outcome o = {fault, reply, call->shape, op->replies};

    watch_end(call, fault, reply);
    /* push is called now, the task may run on now. */
    perilua_task_wake(&call->wait, push_outcome, &o);
    free(call);
}

static void on_cancel(perilua_wait *wait)
{
    redis_call *call = PERI_CONTAINER(wait, redis_call, wait);

    peri_redis_cancel(&call->op);
    perilua_db_end(call->vm, &call->watch, "cancelled");
    free(call);
}

static redis_call *new_call(lua_State *L, const peri_redis_client *client,
                            peri_slice name, perilua_redis_shape shape,
                            uint32_t replies)
{
    redis_call *call = peri_calloc(1, sizeof *call);

    call->vm = perilua_vm_of(L);
    perilua_db_begin(call->vm, &call->watch, "redis",
                     peri_redis_client_config(client)->name, name,
                     PERI_SLICE(""));
    call->op.done = on_done;
    call->op.replies = replies;
    call->wait.cancel = on_cancel;
    call->shape = shape;
    return call;
}

static int start(lua_State *L, redis_call *call, int rc,
                 const peri_redis_fault *fault)
{
    if (rc < 0) {
        perilua_db_end(call->vm, &call->watch, fault->code);
        free(call);
        return perilua_redis_push_fault(L, fault);
    }
    return perilua_task_park(L, &call->wait);
}

static peri_slice name_at(lua_State *L, int index)
{
    return lua_type(L, index) == LUA_TSTRING ? perilua_check_slice(L, index)
                                             : PERI_SLICE("");
}

/* command(client, shape, name, arguments...). */
static int redis_command(lua_State *L)
{
    perilua_redis *redis = perilua_redis_check(L, 1);
    perilua_redis_shape shape = (perilua_redis_shape)luaL_checkint(L, 2);
    peri_buf command;
    peri_redis_fault fault;
    redis_call *call;
    int rc;

    perilua_task_check(L);
    if (redis->client == NULL) {
        return perilua_redis_push_closed(L);
    }
    perilua_redis_encode(L, 3, &command);
    call = new_call(L, redis->client, name_at(L, 3), shape, 1);
    rc = peri_redis_submit(redis->client, &call->op, peri_buf_slice(&command),
                           &fault);
    peri_buf_fini(&command);
    return start(L, call, rc, &fault);
}

/* many(client or lease, shape, text, count, timeout in ms of a lease; unless
 * told as for any command): commands that were encoded. */
static int redis_many(lua_State *L)
{
    const perilua_lease *lease = perilua_redis_to_lease(L, 1);
    perilua_redis_shape shape = (perilua_redis_shape)luaL_checkint(L, 2);
    peri_slice text = perilua_check_slice(L, 3);
    uint32_t count = (uint32_t)luaL_checkint(L, 4);
    double timeout_ms = luaL_optnumber(L, 5, -1);
    peri_redis_client *client =
        lease != NULL ? lease->client : perilua_redis_check(L, 1)->client;
    peri_redis_fault fault;
    redis_call *call;
    int rc;

    perilua_task_check(L);
    if (lease != NULL && lease->conn == NULL) {
        return perilua_redis_push_fault(L, &lease->fault);
    }
    if (client == NULL) {
        return perilua_redis_push_closed(L);
    }
    call = new_call(L, client,
                    shape == PERILUA_REDIS_EXEC ? PERI_SLICE("MULTI")
                                                : PERI_SLICE("PIPELINE"),
                    shape, count);
    if (lease != NULL) {
        rc = peri_redis_conn_submit(
            lease->conn, &call->op, text,
            timeout_ms >= 0 ? (uint64_t)timeout_ms
                            : peri_redis_client_config(client)->timeout_ms,
            &fault);
    } else {
        rc = peri_redis_submit(client, &call->op, text, &fault);
    }
    return start(L, call, rc, &fault);
}

/* flush(client): sends at once what it was given in this turn of the loop. */
static int redis_flush(lua_State *L)
{
    perilua_redis *redis = perilua_redis_check(L, 1);

    if (redis->client != NULL) {
        peri_redis_flush(redis->client);
    }
    return 0;
}

/* post(client, name, arguments...): a command whose reply nobody wants, sent at
 * once if there is a connection; also by a task that is cut off, and so can
 * wait for nothing any more. */
static int redis_post(lua_State *L)
{
    perilua_redis *redis = perilua_redis_check(L, 1);
    peri_redis_op op = {.replies = 1};
    peri_redis_fault fault;
    peri_buf command;

    if (redis->client == NULL) {
        return 0;
    }
    perilua_redis_encode(L, 2, &command);
    if (peri_redis_submit(redis->client, &op, peri_buf_slice(&command),
                          &fault) == 0) {
        peri_redis_cancel(&op); /* its reply will be dropped */
        peri_redis_flush(redis->client);
    }
    peri_buf_fini(&command);
    return 0;
}

/* encode(name, arguments...) -> the command as it is sent. */
static int redis_encode(lua_State *L)
{
    peri_buf command;

    perilua_redis_encode(L, 1, &command);
    lua_pushlstring(L, command.data, command.length);
    peri_buf_fini(&command);
    return 1;
}

/* ---- connections of their own ---- */

static void on_lease_down(void *data, const peri_redis_fault *fault,
                          bool was_up)
{
    perilua_lease *lease = data;

    (void)was_up;
    lease->conn = NULL;
    lease->fault = *fault;
}

/* take(client) -> lease | nil, err. */
static int redis_take(lua_State *L)
{
    perilua_redis *redis = perilua_redis_check(L, 1);
    perilua_lease *lease = lua_newuserdata(L, sizeof *lease);
    const peri_redis_holder holder = {.data = lease, .down = on_lease_down};

    if (redis->client == NULL) {
        return perilua_redis_push_closed(L);
    }
    memset(lease, 0, sizeof *lease);
    lease->conn = peri_redis_take(redis->client, &holder, &lease->fault);
    if (lease->conn == NULL) {
        return perilua_redis_push_fault(L, &lease->fault);
    }
    lease->client = redis->client;
    lease->set = redis->set;
    peri_redis_set_keep(lease->set, lease->client);
    luaL_getmetatable(L, PERILUA_REDIS_LEASE);
    lua_setmetatable(L, -2);
    return 1;
}

static void give_back(perilua_lease *lease, bool keep)
{
    peri_redis_conn *conn = lease->conn;

    if (conn != NULL) {
        lease->conn = NULL;
        memcpy(lease->fault.code, "ESTATE", sizeof "ESTATE");
        snprintf(lease->fault.message, sizeof lease->fault.message,
                 "the connection has been given back");
        lease->fault.rc = PERI_ESTATE;
        peri_redis_give_back(conn, keep);
    }
}

/* give(lease, keep). */
static int redis_give(lua_State *L)
{
    give_back(luaL_checkudata(L, 1, PERILUA_REDIS_LEASE), lua_toboolean(L, 2));
    return 0;
}

static int lease_gc(lua_State *L)
{
    perilua_lease *lease = luaL_checkudata(L, 1, PERILUA_REDIS_LEASE);

    give_back(lease, false);
    peri_redis_set_unref(lease->set, lease->client);
    return 0;
}

/* on(lease, shape, timeout in ms; 0: none, name, arguments...). */
static int redis_on(lua_State *L)
{
    perilua_lease *lease = luaL_checkudata(L, 1, PERILUA_REDIS_LEASE);
    perilua_redis_shape shape = (perilua_redis_shape)luaL_checkint(L, 2);
    double timeout_ms = luaL_checknumber(L, 3);
    peri_buf command;
    peri_redis_fault fault;
    redis_call *call;
    int rc;

    perilua_task_check(L);
    if (lease->conn == NULL) {
        return perilua_redis_push_fault(L, &lease->fault);
    }
    perilua_redis_encode(L, 4, &command);
    call = new_call(L, lease->client, name_at(L, 4), shape, 1);
    rc =
        peri_redis_conn_submit(lease->conn, &call->op, peri_buf_slice(&command),
                               (uint64_t)timeout_ms, &fault);
    peri_buf_fini(&command);
    return start(L, call, rc, &fault);
}

static const luaL_Reg functions[] = {
    {"close", redis_close},   {"stats", redis_stats}, {"sha1_hex", redis_sha1},
    {"encode", redis_encode}, {"flush", redis_flush}, {"post", redis_post},
    {"take", redis_take},     {"give", redis_give},   {NULL, NULL}};

static void make_class(lua_State *L, const char *name, lua_CFunction gc)
{
    luaL_newmetatable(L, name);
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}

int perilua_open_redis(lua_State *L)
{
    perilua_sqlite_values_open(L);
    make_class(L, PERILUA_REDIS, redis_gc);
    make_class(L, PERILUA_REDIS_LEASE, lease_gc);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    perilua_redis_add_open(L);
    perilua_set_waiting(L, "command", redis_command);
    perilua_set_waiting(L, "many", redis_many);
    perilua_set_waiting(L, "on", redis_on);
    perilua_redis_add_sub(L);
    return 1;
}
