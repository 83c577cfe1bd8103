/* JSON: the strict codec, for other bindings. See perigee.json. */
#ifndef PERILUA_JSON_H
#define PERILUA_JSON_H

#include <lua.h>

#include "core/base/buf.h"

#define PERILUA_JSON_DEPTH_MAX 1000

/* Appends the value at index as JSON. 0, or negative with why (static or on
 * the Lua stack's top: one string is pushed on failure, nothing on success).
 * Raises nothing but memory errors; the buf is as before on failure. */
int perilua_json_encode(lua_State *L, int index, peri_buf *out);

/* Pushes the decoded value and returns 0; or pushes a string that says what is
 * wrong and at which byte, and returns negative. */
int perilua_json_decode(lua_State *L, peri_slice text);

/* Pushes json.null. */
void perilua_json_push_null(lua_State *L);

#endif
