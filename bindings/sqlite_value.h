/* SQLite values: between Lua's and packed ones. */
#ifndef PERILUA_SQLITE_VALUE_H
#define PERILUA_SQLITE_VALUE_H

#include <lua.h>
#include <stdbool.h>

#include "core/sqlite/value.h"

/* Registry names: the metatable of sqlite.blob values, and a function(high,
 * low) that makes an int64_t. Set by perilua_sqlite_values_open(). */
#define PERILUA_SQLITE_BLOB "perigee.sqlite.blob"
#define PERILUA_SQLITE_INT64 "perigee.sqlite.int64"

void perilua_sqlite_values_open(lua_State *L);

/* Appends one value. 0 or PERI_ELIMIT. */
int perilua_sqlite_pack_value(lua_State *L, int index, peri_buf *out);

/* NULL when the arguments from first on can be bound: any number of values, or
 * one table of names. Else why not (on the stack's top, or static). */
const char *perilua_sqlite_refuse_params(lua_State *L, int first);

/* Appends them, as core/sqlite/op.h says; checked before. 0 or PERI_ELIMIT. */
int perilua_sqlite_pack_params(lua_State *L, int first, peri_buf *out);

/* Pushes a list of rows, or with first_only the first one (nil: none). vm_L is
 * the VM's main thread: L itself may not call functions. Takes the values off
 * packed. */
void perilua_sqlite_push_rows(lua_State *L, lua_State *vm_L, peri_slice *packed,
                              const peri_sqlite_result *result,
                              bool first_only);

/* The same without names: pushes one list of the values of all rows, in their
 * order, with holes for NULL. */
void perilua_sqlite_push_values(lua_State *L, lua_State *vm_L,
                                peri_slice *packed,
                                const peri_sqlite_result *result);

/* A number, or an int64_t where a double is not exact. */
void perilua_sqlite_push_int(lua_State *L, lua_State *vm_L, int64_t value);

#endif
