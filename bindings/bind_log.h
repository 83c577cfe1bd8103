/* What log.redact says of the lines of requests, which C writes by itself. */
#ifndef PERILUA_BIND_LOG_H
#define PERILUA_BIND_LOG_H

#include <lua.h>

/* PERI_ACCESS_HIDES_..., by the settings of the state's VM. The stack is as
 * before. */
unsigned perilua_log_hidden(lua_State *L);

#endif
