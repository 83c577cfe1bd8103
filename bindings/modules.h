/* Modules written in C: perigee.core.NAME is opened by perilua_open_NAME. */
#ifndef PERILUA_MODULES_H
#define PERILUA_MODULES_H

#include <lua.h>

typedef struct perilua_module {
    const char *name; /* "perigee.core.json" */
    lua_CFunction open;
} perilua_module;

/* Ended by a NULL name. */
extern const perilua_module perilua_modules[];

#endif
