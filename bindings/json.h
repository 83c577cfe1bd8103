/* JSON: the strict codec, for other bindings. See perigee.json. */
#ifndef PERILUA_JSON_H
#define PERILUA_JSON_H

#include <lua.h>
#include <stdbool.h>

#include "core/base/buf.h"

#define PERILUA_JSON_DEPTH_MAX 1000

/* Appends the value at index as JSON. 0; or PERI_EFORMAT (it can't be encoded)
 * or PERI_ELIMIT (out is full) and a string pushed that says why and where.
 * Raises nothing but memory errors; out is as before on failure. */
int perilua_json_encode(lua_State *L, int index, peri_buf *out);

/* The same for people: indented by two spaces, keys in order. */
int perilua_json_encode_pretty(lua_State *L, int index, peri_buf *out);

/* Pushes the decoded value and returns 0; or pushes a string that says what is
 * wrong and at which byte (the first is 1), and returns PERI_EFORMAT. */
int perilua_json_decode(lua_State *L, peri_slice text);

/* The same with a limit on nested lists and objects of its own, at most
 * PERILUA_JSON_DEPTH_MAX. */
int perilua_json_decode_depth(lua_State *L, peri_slice text, int depth_max);

/* Pushes json.null. */
void perilua_json_push_null(lua_State *L);

#endif
