/* Waits that stand in a list, and the classes made of them. */
#ifndef PERILUA_BIND_SYNC_H
#define PERILUA_BIND_SYNC_H

#include <lauxlib.h>
#include <stdbool.h>

#include "core/base/list.h"

/* Parks the running task at the end of the list. */
int perilua_park_in(lua_State *L, peri_list *list);

/* Wakes the first of the list; false when it is empty. */
bool perilua_wake_first(peri_list *list, int (*push)(lua_State *, void *),
                        void *data);

/* A push function for it: the result true. */
int perilua_push_true(lua_State *L, void *data);

/* Pushes a new metatable, its own __index, with these functions. */
void perilua_open_class(lua_State *L, const char *name,
                        const luaL_Reg *functions);

/* Adds event() and semaphore(n) to the module's table, on top. */
void perilua_add_sync(lua_State *L);

#endif
