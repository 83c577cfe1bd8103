/* perigee.core.health: words about what the host depends on. See
 * perigee/health.lua. */
#include <stdio.h>

#include "bindings/bind.h"
#include "bindings/modules.h"
#include "core/shm/health.h"

#define TTL_MAX_MS 1e12 /* some 30 years: a check may be asked for rarely */

static peri_health *open_health(lua_State *L)
{
    return peri_health_open(perilua_vm_of(L)->env->regions);
}

/* set(name, status, detail, ttl_ms[, internal]) -> true when it has been noted.
 */
static int health_set(lua_State *L)
{
    static const char *const names[] = {"", "pass", "warn", "fail", NULL};
    const char *name = luaL_checkstring(L, 1);
    peri_health_check check = {
        .status = (peri_health_status)luaL_checkoption(L, 2, NULL, names),
        .internal = lua_toboolean(L, 5)};
    const char *detail = luaL_checkstring(L, 3);
    double ttl_ms = luaL_checknumber(L, 4);
    peri_health *health;
    bool noted = false;

    luaL_argcheck(L, check.status >= PERI_HEALTH_PASS, 2, "no status");
    luaL_argcheck(L, ttl_ms >= 0 && ttl_ms <= TTL_MAX_MS, 4, "out of range");
    snprintf(check.name, sizeof check.name, "%s", name);
    snprintf(check.detail, sizeof check.detail, "%s", detail);
    for (char *at = check.detail; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ') {
            *at = ' '; /* a check is a line */
        }
    }
    health = open_health(L);
    if (health != NULL) {
        noted = peri_health_set(health, &check, (uint64_t)ttl_ms);
        peri_health_close(health);
    }
    lua_pushboolean(L, noted);
    return 1;
}

/* seen_ready(now) -> whether all that is required has been there once. */
static int health_seen_ready(lua_State *L)
{
    bool now = lua_toboolean(L, 1);
    peri_health *health = open_health(L);
    bool seen = false;

    if (health != NULL) {
        seen = peri_health_seen_ready(health, now);
        peri_health_close(health);
    }
    lua_pushboolean(L, seen);
    return 1;
}

/* list() -> {{name, status, detail}, ...}. */
static int health_list(lua_State *L)
{
    static const char *const names[] = {"?", "pass", "warn", "fail"};
    peri_health_check checks[PERI_HEALTH_MAX];
    peri_health *health = open_health(L);
    size_t count = 0;

    if (health != NULL) {
        count = peri_health_read(health, checks, PERI_HEALTH_MAX);
        peri_health_close(health);
    }
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        lua_createtable(L, 0, 3);
        lua_pushstring(L, checks[i].name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, names[checks[i].status & 3]);
        lua_setfield(L, -2, "status");
        lua_pushstring(L, checks[i].detail);
        lua_setfield(L, -2, "detail");
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

int perilua_open_health(lua_State *L)
{
    static const luaL_Reg functions[] = {{"set", health_set},
                                         {"seen_ready", health_seen_ready},
                                         {"list", health_list},
                                         {NULL, NULL}};

    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
