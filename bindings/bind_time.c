/* perigee.core.time: clocks. In a VM with a frozen clock (perigee.test), wall
 * time moves with it. */
#include "bindings/bind.h"
#include "bindings/modules.h"
#include "core/loop/timers.h"

/* now() -> Unix milliseconds. */
static int time_now(lua_State *L)
{
    const peri_timers *timers = perilua_timers(perilua_vm_of(L));

    lua_pushnumber(L, (lua_Number)peri_timers_wall_ms(timers));
    return 1;
}

static int time_monotonic(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)perilua_now_ns(perilua_vm_of(L)) / 1e6);
    return 1;
}

int perilua_open_time(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"now", time_now},
        {"monotonic", time_monotonic},
        {NULL, NULL},
    };

    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
