/* perigee.core.redis_check: what the configuration may say of Redis. Needs no
 * host: the configuration is read before there is one. */
#include <lauxlib.h>

#include "bindings/bind.h"
#include "core/redis/url.h"

int perilua_open_redis_check(lua_State *L);

/* url_fault(url) -> nil, or what is wrong with it. */
static int url_fault(lua_State *L)
{
    peri_slice text = perilua_check_slice(L, 1);
    peri_redis_url url;
    const char *why;

    if (peri_redis_url_parse(text, &url, &why) < 0) {
        lua_pushstring(L, why);
        return 1;
    }
    peri_redis_url_fini(&url);
    return 0;
}

int perilua_open_redis_check(lua_State *L)
{
    static const luaL_Reg functions[] = {{"url_fault", url_fault},
                                         {NULL, NULL}};

    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
