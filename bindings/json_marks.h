/* JSON marks: what tells a list from an object when both are empty.
 *
 * A decoded list, and what json.array() was given, has the list metatable;
 * json.empty_array is one read-only list with a metatable of its own. Both
 * metatables live in the registry of each state, made on first use. */
#ifndef PERILUA_JSON_MARKS_H
#define PERILUA_JSON_MARKS_H

#include <lua.h>

/* Pushes the metatable of lists. */
void perilua_json_push_array_mark(lua_State *L);

/* Pushes json.empty_array. */
void perilua_json_push_empty_array(lua_State *L);

/* Pushes the digits of the int64_t or uint64_t cdata at index, nil when it is
 * anything else. */
void perilua_json_push_integer(lua_State *L, int index);

#endif
