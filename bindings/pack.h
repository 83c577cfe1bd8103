/* Pack: plain Lua tables as bytes, for memory that several VMs share.
 *
 * Compact and quick; never leaves the host, so its form may change. Numbers
 * keep every bit, strings every byte; lists that are empty stay lists, and
 * json.null stays what it is. */
#ifndef PERILUA_PACK_H
#define PERILUA_PACK_H

#include <lua.h>

#include "core/base/buf.h"

#define PERILUA_PACK_DEPTH_MAX 100
#define PERILUA_PACK_RESULTS_MAX 100

/* Appends the value at index. 0; PERI_ELIMIT: it is too long; PERI_EFORMAT:
 * *why (static text) says what cannot be packed. */
int perilua_pack(lua_State *L, int index, peri_buf *out, const char **why);

/* Pushes the value and returns 0; PERI_EFORMAT when it is not one. */
int perilua_unpack(lua_State *L, peri_slice bytes);

/* Pushes each value of a list, without a table for them, and returns how many;
 * PERI_EFORMAT when it is no list, or longer than PERILUA_PACK_RESULTS_MAX. */
int perilua_unpack_list(lua_State *L, peri_slice bytes);

#endif
