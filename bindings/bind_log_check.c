/* perigee.core.log_check: what the configuration may say of logs. Needs no
 * host: the configuration is read before there is one. */
#include <lauxlib.h>

#include "bindings/bind.h"
#include "bindings/log_redact.h"
#include "core/http/access.h"

int perilua_open_log_check(lua_State *L);

/* access_fault(format) -> nil, or what is wrong with log.access.format. */
static int access_fault(lua_State *L)
{
    const char *format = luaL_checkstring(L, 1);
    peri_access *access;
    char why[128];

    if (strcmp(format, "json") == 0) {
        return 0;
    }
    if (peri_access_create(format, &access, why, sizeof why) < 0) {
        lua_pushstring(L, why);
        return 1;
    }
    peri_access_destroy(access);
    return 0;
}

/* redact_fault(path) -> nil, or what is wrong with it. */
static int redact_fault(lua_State *L)
{
    perilua_redact redact = {0};
    int rc = perilua_redact_add(&redact, perilua_check_slice(L, 1));

    perilua_redact_fini(&redact);
    if (rc == 0) {
        return 0;
    }
    lua_pushfstring(L, "must be a dotted path of up to %d names",
                    PERILUA_LOG_SEGMENTS_MAX);
    return 1;
}

int perilua_open_log_check(lua_State *L)
{
    static const luaL_Reg functions[] = {{"access_fault", access_fault},
                                         {"redact_fault", redact_fault},
                                         {NULL, NULL}};

    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
