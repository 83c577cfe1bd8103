/* Durations as Lua gives them: milliseconds, or "500ms" "30s" "5m" "2h" "1d".
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/bind.h"

#define DURATION_MAX_MS 3.1536e11 /* ten years */

static double unit_ms(const char *unit)
{
    static const struct {
        const char *name;
        double ms;
    } units[] = {
        {"ms", 1}, {"s", 1e3}, {"m", 6e4}, {"h", 3.6e6}, {"d", 8.64e7}};

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(unit, units[i].name) == 0) {
            return units[i].ms;
        }
    }
    return -1;
}

uint64_t perilua_check_ms(lua_State *L, int index)
{
    double ms = -1;

    if (lua_type(L, index) == LUA_TNUMBER) {
        ms = lua_tonumber(L, index);
    } else if (lua_type(L, index) == LUA_TSTRING) {
        const char *text = lua_tostring(L, index);
        char *end;
        double number = strtod(text, &end);

        if (end != text && *text >= '0' && *text <= '9') {
            ms = number * unit_ms(end);
        }
    }
    if (!(ms >= 0) || ms > DURATION_MAX_MS) {
        luaL_argerror(L, index,
                      "a duration expected: milliseconds, or text such as "
                      "\"500ms\", \"30s\", \"5m\"");
    }
    return (uint64_t)ceil(ms);
}
