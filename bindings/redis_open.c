/* perigee.core.redis, continued: clients by the configuration. */
#include <stdio.h>

#include "bindings/redis_bind.h"
#include "core/redis/slot.h"

#define NAME_MAX_BYTES 64

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
    if (setting_str(vm, config->name, "prefix", "")[0] != '\0') {
        return "a prefix of keys is not supported yet";
    }
    return NULL;
}

/* The configuration of that name with its URL, which the caller releases. 1;
 * 0: there is none; negative: why it cannot be used. */
static int configure(lua_State *L, const char *name, peri_redis_config *config,
                     peri_redis_url *target, const char **why)
{
    perilua_vm *vm = perilua_vm_of(L);

    *config = (peri_redis_config){.name = name};
    if (vm->settings != NULL && strlen(name) < NAME_MAX_BYTES) {
        config->url = setting_str(vm, name, "url", NULL);
    }
    if (config->url == NULL || vm->env->redis == NULL) {
        return 0;
    }
    if (peri_redis_url_parse(peri_slice_str(config->url), target, why) < 0) {
        return -1;
    }
    *why = refusal(vm, config);
    if (*why != NULL) {
        peri_redis_url_fini(target);
        return -1;
    }
    config->connect_timeout_ms = setting(vm, name, "connect_timeout", 2000);
    config->timeout_ms = setting(vm, name, "timeout", 5000);
    config->pool = setting(vm, name, "pool", 4);
    config->own_max = setting(vm, name, "connections_max", 1000);
    config->queue_max = setting(vm, name, "queue_max", 10000);
    config->reply_max_bytes = setting(vm, name, "reply_max", 64 << 20);
    config->tls = (peri_redis_tls){
        .ca = setting_str(vm, name, "tls.ca", NULL),
        .cert = setting_str(vm, name, "tls.cert", NULL),
        .key = setting_str(vm, name, "tls.key", NULL),
        .server_name = setting_str(vm, name, "tls.server_name", NULL),
        .insecure =
            strcmp(setting_str(vm, name, "tls.verify", "true"), "false") == 0,
    };
    return 1;
}

static void push_client(lua_State *L, const peri_redis_config *config)
{
    perilua_redis *redis = lua_newuserdata(L, sizeof *redis);

    redis->set = perilua_vm_of(L)->env->redis;
    redis->client = peri_redis_set_ref(redis->set, config);
    luaL_getmetatable(L, PERILUA_REDIS);
    lua_setmetatable(L, -2);
}

/* {mode, master, hosts = {{host, port}...}}. */
static void push_target(lua_State *L, const peri_redis_url *target)
{
    static const char *const modes[] = {"single", "cluster", "sentinel"};

    lua_createtable(L, 0, 3);
    lua_pushstring(L, modes[target->mode]);
    lua_setfield(L, -2, "mode");
    if (target->master != NULL) {
        lua_pushstring(L, target->master);
        lua_setfield(L, -2, "master");
    }
    lua_createtable(L, (int)target->host_count, 0);
    for (uint32_t i = 0; i < target->host_count; i++) {
        lua_createtable(L, 2, 0);
        lua_pushstring(L, target->hosts[i].name);
        lua_rawseti(L, -2, 1);
        lua_pushinteger(L, (lua_Integer)target->hosts[i].port);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "hosts");
}

/* open(name) -> client of the one server; or what the URL leads to (see
 * push_target); nil when the configuration has none of that name; nil and why
 * it cannot be used. */
static int redis_open(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    peri_redis_config config;
    peri_redis_url target;
    const char *why = NULL;
    int rc = configure(L, name, &config, &target, &why);

    if (rc < 0) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    if (rc == 0) {
        return 0;
    }
    if (target.mode == PERI_REDIS_SINGLE) {
        push_client(L, &config);
    } else {
        push_target(L, &target);
    }
    peri_redis_url_fini(&target);
    return 1;
}

/* node(name, host, port, "master" "replica" or "sentinel") -> client of one of
 * several servers; nil when the configuration has none of that name. */
static int redis_node(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    const char *host = luaL_checkstring(L, 2);
    int port = luaL_checkint(L, 3);
    const char *role = luaL_checkstring(L, 4);
    char full[NAME_MAX_BYTES + 300];
    peri_redis_config config;
    peri_redis_url target;
    const char *why = NULL;

    if (strlen(host) > 255 || port < 1 || port > 65535 ||
        configure(L, name, &config, &target, &why) <= 0) {
        return 0;
    }
    config.host = host;
    config.port = (uint32_t)port;
    config.transient = true;
    config.sentinel = strcmp(role, "sentinel") == 0;
    config.readonly =
        strcmp(role, "replica") == 0 && target.mode == PERI_REDIS_CLUSTER;
    peri_redis_url_fini(&target);
    snprintf(full, sizeof full, "%s@%s:%d %s", name, host, port, role);
    config.name = full;
    push_client(L, &config);
    return 1;
}

/* slot(key): of a cluster. */
static int redis_slot(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)peri_redis_slot(perilua_check_slice(L, 1)));
    return 1;
}

void perilua_redis_add_open(lua_State *L)
{
    lua_pushcfunction(L, redis_open);
    lua_setfield(L, -2, "open");
    lua_pushcfunction(L, redis_node);
    lua_setfield(L, -2, "node");
    lua_pushcfunction(L, redis_slot);
    lua_setfield(L, -2, "slot");
}
