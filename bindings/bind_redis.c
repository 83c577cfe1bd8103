/* perigee.core.redis: Redis for Lua. See perigee/redis.lua. */
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "bindings/redis_bind.h"
#include "bindings/sqlite_value.h"
#include "core/base/alloc.h"

#define NAME_MAX_BYTES 64

int perilua_open_redis(lua_State *L);

perilua_redis *perilua_redis_check(lua_State *L, int index)
{
    return luaL_checkudata(L, index, PERILUA_REDIS);
}

/* ---- clients ---- */

static uint32_t setting(perilua_vm *vm, const char *name, const char *key,
                        int64_t fallback)
{
    char full[NAME_MAX_BYTES * 2];

    snprintf(full, sizeof full, "redis.%s.%s", name, key);
    return (uint32_t)peri_settings_int(vm->settings, full, fallback);
}

static const char *setting_str(perilua_vm *vm, const char *name,
                               const char *key, const char *fallback)
{
    char full[NAME_MAX_BYTES * 2];

    snprintf(full, sizeof full, "redis.%s.%s", name, key);
    return peri_settings_str(vm->settings, full, fallback);
}

static const char *refusal(perilua_vm *vm, const peri_redis_config *config)
{
    peri_redis_url target;
    const char *why = NULL;

    if (peri_redis_url_parse(peri_slice_str(config->url), &target, &why) < 0) {
        return why;
    }
    peri_redis_url_fini(&target);
    if (setting_str(vm, config->name, "prefix", "")[0] != '\0') {
        return "a prefix of keys is not supported yet";
    }
    return NULL;
}

/* open(name) -> client; nil when the configuration has none of that name; nil
 * and why it cannot be used. */
static int redis_open(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    perilua_vm *vm = perilua_vm_of(L);
    peri_redis_config config = {.name = name};
    const char *why;
    perilua_redis *redis;

    if (vm->settings != NULL && strlen(name) < NAME_MAX_BYTES) {
        config.url = setting_str(vm, name, "url", NULL);
    }
    if (config.url == NULL || vm->env->redis == NULL) {
        return 0;
    }
    why = refusal(vm, &config);
    if (why != NULL) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    config.connect_timeout_ms = setting(vm, name, "connect_timeout", 2000);
    config.timeout_ms = setting(vm, name, "timeout", 5000);
    config.pool = setting(vm, name, "pool", 4);
    config.own_max = setting(vm, name, "connections_max", 1000);
    config.queue_max = setting(vm, name, "queue_max", 10000);
    config.reply_max_bytes = setting(vm, name, "reply_max", 64 << 20);
    redis = lua_newuserdata(L, sizeof *redis);
    redis->set = vm->env->redis;
    redis->client = peri_redis_set_ref(redis->set, &config);
    luaL_getmetatable(L, PERILUA_REDIS);
    lua_setmetatable(L, -2);
    return 1;
}

static int redis_gc(lua_State *L)
{
    perilua_redis *redis = perilua_redis_check(L, 1);

    peri_redis_set_unref(redis->set, redis->client);
    return 0;
}

/* stats(client) -> {commands, writes, timeouts, connects}. */
static int redis_stats(lua_State *L)
{
    peri_redis_stats stats;

    peri_redis_client_get_stats(perilua_redis_check(L, 1)->client, &stats);
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

static void on_done(peri_redis_op *op, const peri_redis_fault *fault,
                    const peri_redis_reply *reply)
{
    redis_call *call = PERI_CONTAINER(op, redis_call, op);
    outcome o = {fault, reply, call->shape, op->replies};

    /* push is called now, the task may run on now. */
    perilua_task_wake(&call->wait, push_outcome, &o);
    free(call);
}

static void on_cancel(perilua_wait *wait)
{
    redis_call *call = PERI_CONTAINER(wait, redis_call, wait);

    peri_redis_cancel(&call->op);
    free(call);
}

static redis_call *new_call(perilua_redis_shape shape, uint32_t replies)
{
    redis_call *call = peri_calloc(1, sizeof *call);

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
        free(call);
        return perilua_redis_push_fault(L, fault);
    }
    return perilua_task_park(L, &call->wait);
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
    perilua_redis_encode(L, 3, &command);
    call = new_call(shape, 1);
    rc = peri_redis_submit(redis->client, &call->op, peri_buf_slice(&command),
                           &fault);
    peri_buf_fini(&command);
    return start(L, call, rc, &fault);
}

/* many(client or lease, shape, text, count): commands that were encoded. */
static int redis_many(lua_State *L)
{
    perilua_lease *lease = perilua_redis_to_lease(L, 1);
    perilua_redis_shape shape = (perilua_redis_shape)luaL_checkint(L, 2);
    peri_slice text = perilua_check_slice(L, 3);
    uint32_t count = (uint32_t)luaL_checkint(L, 4);
    perilua_redis *redis = lease == NULL ? perilua_redis_check(L, 1) : NULL;
    peri_redis_fault fault;
    redis_call *call;
    int rc;

    perilua_task_check(L);
    if (lease != NULL && lease->conn == NULL) {
        return perilua_redis_push_fault(L, &lease->fault);
    }
    call = new_call(shape, count);
    if (lease != NULL) {
        rc = peri_redis_conn_submit(
            lease->conn, &call->op, text,
            peri_redis_client_config(lease->client)->timeout_ms, &fault);
    } else {
        rc = peri_redis_submit(redis->client, &call->op, text, &fault);
    }
    return start(L, call, rc, &fault);
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
    call = new_call(shape, 1);
    rc =
        peri_redis_conn_submit(lease->conn, &call->op, peri_buf_slice(&command),
                               (uint64_t)timeout_ms, &fault);
    peri_buf_fini(&command);
    return start(L, call, rc, &fault);
}

static const luaL_Reg functions[] = {{"open", redis_open},
                                     {"stats", redis_stats},
                                     {"sha1_hex", redis_sha1},
                                     {"encode", redis_encode},
                                     {"take", redis_take},
                                     {"give", redis_give},
                                     {NULL, NULL}};

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
    perilua_set_waiting(L, "command", redis_command);
    perilua_set_waiting(L, "many", redis_many);
    perilua_set_waiting(L, "on", redis_on);
    perilua_redis_add_sub(L);
    return 1;
}
