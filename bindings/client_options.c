/* perigee.core.client: the options of a call, read from a table of Lua. */
#include "bindings/bind.h"
#include "bindings/client_bind.h"

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
    if (lua_objlen(L, -1) > (size_t)2 * PERILUA_CLIENT_FIELDS_MAX) {
        luaL_error(L, "more than %d headers", PERILUA_CLIENT_FIELDS_MAX);
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

peri_slice perilua_client_get_options(lua_State *L, int table,
                                      peri_call_options *options,
                                      peri_field *fields)
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
    options->fields = fields;
    options->field_count = get_fields(L, table, fields);
    return get_slice(L, table, "what");
}

/* options.tls: whom to trust, as whom to go; absent: plain. False: why. */
bool perilua_client_get_identity(lua_State *L, int table, perilua_vm *vm,
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
