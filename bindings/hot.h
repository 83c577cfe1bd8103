/* Hot data: plain Lua data from one state to another. */
#ifndef PERILUA_HOT_H
#define PERILUA_HOT_H

#include <lua.h>
#include <stddef.h>

#define PERILUA_HOT_DEPTH_MAX 100

/* Copies the fields of the table at index of the state L into the table on top
 * of `to`: nil, json.null, booleans, numbers, strings and tables or JSON lists
 * of such. 0, or negative with why, a text that names the place
 * ("hot.data.x: a function"). */
int perilua_hot_copy(lua_State *L, int index, lua_State *to, char *why,
                     size_t why_bytes);

#endif
