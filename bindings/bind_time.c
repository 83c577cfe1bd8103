/* perigee.core.time: clocks. In a VM with a frozen clock (perigee.test), wall
 * time moves with it. */
#include "bindings/bind.h"
#include "bindings/modules.h"
#include "core/base/clock.h"

/* now() -> Unix milliseconds. */
static int time_now(lua_State *L)
{
    int64_t shift_ns =
        (int64_t)perilua_now_ns(perilua_vm_of(L)) - (int64_t)uv_hrtime();
    double now_ms = (double)peri_clock_wall_ms();

    /* Not frozen: the difference is the time between the two readings. */
    if (peri_timers_frozen(perilua_timers(perilua_vm_of(L)))) {
        int64_t shift_ms = shift_ns / 1000000;

        now_ms += (double)shift_ms;
    }
    lua_pushnumber(L, now_ms);
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
