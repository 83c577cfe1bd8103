/* perigee.core.leases: leases in Redis that no busy script lets run out. */
#include "bindings/bind.h"
#include "bindings/bind_sync.h"
#include "bindings/lease_keeper.h"
#include "bindings/redis_bind.h"

#define KEEPER_NAME "perigee.queue.Keeper"

int perilua_open_leases(lua_State *L);

typedef struct boxed_keeper {
    perilua_keeper *keeper; /* NULL: closed */
} boxed_keeper;

/* keeper(client, lease in ms) -> keeper; nil when there is none to be had. */
static int leases_keeper(lua_State *L)
{
    const perilua_redis *redis = perilua_redis_check(L, 1);
    uint32_t lease_ms = (uint32_t)luaL_checknumber(L, 2);
    boxed_keeper *box;

    if (redis->client == NULL) {
        return 0;
    }
    box = lua_newuserdata(L, sizeof *box);
    box->keeper = perilua_keeper_create(peri_redis_client_config(redis->client),
                                        lease_ms);
    if (box->keeper == NULL) {
        return 0;
    }
    luaL_getmetatable(L, KEEPER_NAME);
    lua_setmetatable(L, -2);
    return 1;
}

/* NULL once it is closed: then there is nothing to keep. */
static perilua_keeper *keeper_of(lua_State *L)
{
    boxed_keeper *box = luaL_checkudata(L, 1, KEEPER_NAME);

    return box->keeper;
}

/* keeper:add(key, token). */
static int keeper_add(lua_State *L)
{
    perilua_keeper *keeper = keeper_of(L);
    peri_slice key = perilua_check_slice(L, 2);
    peri_slice token = perilua_check_slice(L, 3);

    if (keeper != NULL) {
        perilua_keeper_add(keeper, key, token);
    }
    return 0;
}

/* keeper:drop(key). */
static int keeper_drop(lua_State *L)
{
    perilua_keeper *keeper = keeper_of(L);
    peri_slice key = perilua_check_slice(L, 2);

    if (keeper != NULL) {
        perilua_keeper_drop(keeper, key);
    }
    return 0;
}

static int keeper_alive(lua_State *L)
{
    perilua_keeper *keeper = keeper_of(L);

    if (keeper != NULL) {
        perilua_keeper_alive(keeper);
    }
    return 0;
}

static int keeper_close(lua_State *L)
{
    boxed_keeper *box = luaL_checkudata(L, 1, KEEPER_NAME);

    perilua_keeper_destroy(box->keeper);
    box->keeper = NULL;
    return 0;
}

int perilua_open_leases(lua_State *L)
{
    static const luaL_Reg functions[] = {{"add", keeper_add},
                                         {"drop", keeper_drop},
                                         {"alive", keeper_alive},
                                         {"close", keeper_close},
                                         {NULL, NULL}};

    perilua_open_class(L, KEEPER_NAME, functions);
    lua_pushcfunction(L, keeper_close);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushcfunction(L, leases_keeper);
    lua_setfield(L, -2, "keeper");
    return 1;
}
