/* perigee.core.app: how perigee.app builds a generation. */
#include <math.h>
#include <string.h>

#include "bindings/bind.h"
#include "bindings/budget.h"
#include "bindings/gen.h"
#include "bindings/modules.h"

static perilua_gen *check_gen(lua_State *L)
{
    perilua_gen *gen = perilua_vm_of(L)->gen;

    if (gen == NULL) {
        luaL_error(L, "no application is being loaded here");
    }
    return gen;
}

static uint32_t method_bit(lua_State *L, int index)
{
    peri_method method = peri_method_parse(perilua_check_slice(L, index));

    luaL_argcheck(L, method < PERI_METHOD_CONNECT, index, "unknown method");
    return 1u << method;
}

#define ANY_METHODS ((1u << PERI_METHOD_CONNECT) - 1)

/* route(method | "ANY", pattern, entry, takes_req[, timeout_ms
 * [, body_max_bytes]]) -> true, or nil and why not. The entry is called as
 * perigee.router says; without arguments when takes_req is false. */
static int app_route(lua_State *L)
{
    perilua_gen *gen = check_gen(L);
    uint32_t methods = strcmp(luaL_checkstring(L, 1), "ANY") == 0
                           ? ANY_METHODS
                           : method_bit(L, 1);
    const char *pattern = luaL_checkstring(L, 2);
    peri_route route = {
        .timeout_ms =
            (uint32_t)fmin(luaL_optnumber(L, 5, PERI_ROUTE_TIMEOUT_UNSET),
                           PERI_ROUTE_TIMEOUT_UNSET),
        .body_max_bytes = lua_isnoneornil(L, 6)
                              ? UINT64_MAX
                              : (uint64_t)luaL_checknumber(L, 6),
    };
    char why[256];
    int handler;

    luaL_checktype(L, 3, LUA_TFUNCTION);
    lua_pushvalue(L, 3);
    handler = luaL_ref(L, LUA_REGISTRYINDEX);
    route.id =
        (uint32_t)handler | (lua_toboolean(L, 4) ? 0 : PERILUA_ROUTE_BARE);
    if (peri_router_add(gen->router, methods, pattern, &route, why,
                        sizeof why) < 0) {
        luaL_unref(L, LUA_REGISTRYINDEX, handler);
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    lua_pushboolean(L, 1);
    return 1;
}

static int take_function(lua_State *L, int table, const char *name)
{
    lua_getfield(L, table, name);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return LUA_NOREF;
    }
    return luaL_ref(L, LUA_REGISTRYINDEX);
}

/* setup{request_metatable, answer_metatable, shape, fail}: once, before any
 * route; not_found: when the application has middleware of its own; refused: in
 * development. */
static int app_setup(lua_State *L)
{
    perilua_gen *gen = check_gen(L);

    luaL_checktype(L, 1, LUA_TTABLE);
    gen->request_metatable = take_function(L, 1, "request_metatable");
    gen->answer_metatable = take_function(L, 1, "answer_metatable");
    gen->shape = take_function(L, 1, "shape");
    gen->fail = take_function(L, 1, "fail");
    gen->not_found = take_function(L, 1, "not_found");
    gen->refused = take_function(L, 1, "refused");
    return 0;
}

/* setting(key) -> string or nil, of the flat settings. */
static int app_setting(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);

    lua_pushstring(
        L, vm->settings == NULL
               ? NULL
               : peri_settings_str(vm->settings, luaL_checkstring(L, 1), NULL));
    return 1;
}

/* files(prefix) -> sorted list of the bundle's file names below it. */
static int app_files(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);
    const char *prefix = luaL_checkstring(L, 1);
    size_t length = strlen(prefix);
    int count = 0;

    lua_newtable(L);
    for (size_t i = 0; vm->bundle != NULL && i < peri_bundle_count(vm->bundle);
         i++) {
        const char *name = peri_bundle_name(vm->bundle, i);

        if (strncmp(name, prefix, length) == 0) {
            lua_pushstring(L, name);
            lua_rawseti(L, -2, ++count);
        }
    }
    return 1;
}

/* file(name) -> its text in the bundle, or nil. */
static int app_file(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);
    peri_slice text = {NULL, 0};

    if (vm->bundle != NULL) {
        text = peri_bundle_find(vm->bundle, luaL_checkstring(L, 1));
    }
    if (text.data == NULL) {
        return 0;
    }
    perilua_push_slice(L, text);
    return 1;
}

/* host() -> {pid, worker, workers, generation, env, dir}. */
static int app_host(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);

    lua_createtable(L, 0, 6);
    lua_pushinteger(L, vm->env->logger->pid);
    lua_setfield(L, -2, "pid");
    lua_pushinteger(L, vm->env->worker < 0 ? 0 : vm->env->worker);
    lua_setfield(L, -2, "worker");
    lua_pushinteger(L, vm->env->workers);
    lua_setfield(L, -2, "workers");
    lua_pushnumber(L, (lua_Number)vm->generation);
    lua_setfield(L, -2, "generation");
    lua_pushstring(L, vm->env->name);
    lua_setfield(L, -2, "env");
    lua_pushstring(L, vm->env->dir);
    lua_setfield(L, -2, "dir");
    lua_pushliteral(L, PERI_VERSION);
    lua_setfield(L, -2, "version");
    return 1;
}

/* in_worker() -> whether this is a worker's process. */
static int app_in_worker(lua_State *L)
{
    lua_pushboolean(L, perilua_vm_of(L)->env->worker >= 0);
    return 1;
}

/* bound_loading(true): tasks that load scripts are stopped as in a worker.
 * bound_loading(false) -> where one was, and why, or nil. For commands: the
 * signals of their process are ours. */
static int app_bound_loading(lua_State *L)
{
    perilua_gen *gen = check_gen(L);
    char text[256];

    if (lua_toboolean(L, 1)) {
        if (gen->host->budget == NULL) {
            gen->host->budget = perilua_budget_create();
        }
        perilua_gen_bound_loading(gen);
        return 0;
    }
    perilua_budget_forget(gen->host->budget, gen->vm);
    if (!perilua_gen_overran(gen, text, sizeof text)) {
        return 0;
    }
    lua_pushstring(L, text);
    return 1;
}

/* fault() -> why the last reload was refused, or nil. */
static int app_fault(lua_State *L)
{
    perilua_vm *vm = perilua_vm_of(L);
    peri_host *host = vm->env->host;

    if (host == NULL || host->fault == NULL) {
        return 0;
    }
    lua_pushstring(L, host->fault);
    return 1;
}

/* log_error(msg, {key, value, ...}): for the library itself; strings only. */
static int app_log_error(lua_State *L)
{
    peri_log_field fields[8];
    const char *message = luaL_checkstring(L, 1);
    int count = 0;

    luaL_checktype(L, 2, LUA_TTABLE);
    for (int i = 1; count < 8; i += 2) {
        lua_rawgeti(L, 2, i);
        lua_rawgeti(L, 2, i + 1);
        if (lua_isnil(L, -2)) {
            break;
        }
        fields[count].key = luaL_checkstring(L, -2);
        fields[count].type = lua_toboolean(L, 3) && count == 0
                                 ? PERI_FIELD_JSON
                                 : PERI_FIELD_STRING;
        fields[count].text = perilua_check_slice(L, -1);
        count++;
    }
    peri_log_fields(perilua_vm_of(L)->env->logger, PERI_LOG_ERROR, message,
                    fields, count);
    return 0;
}

int perilua_open_app(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"route", app_route},
        {"setup", app_setup},
        {"setting", app_setting},
        {"files", app_files},
        {"file", app_file},
        {"host", app_host},
        {"fault", app_fault},
        {"in_worker", app_in_worker},
        {"log_error", app_log_error},
        {"bound_loading", app_bound_loading},
        {NULL, NULL},
    };

    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
