/* Helpers for the functions that Lua calls. */
#ifndef PERILUA_BIND_H
#define PERILUA_BIND_H

#include <stdint.h>

#include "bindings/error.h"
#include "bindings/task.h"
#include "bindings/vm.h"
#include "core/base/slice.h"

static inline peri_slice perilua_check_slice(lua_State *L, int index)
{
    size_t length;
    const char *data = luaL_checklstring(L, index, &length);

    return peri_slice_of(data, length);
}

static inline void perilua_push_slice(lua_State *L, peri_slice slice)
{
    lua_pushlstring(L, slice.data != NULL ? slice.data : "", slice.length);
}

/* A duration: a number of milliseconds or "500ms" "30s" "5m" "2h" "1d"; raises
 * an argument error otherwise. */
uint64_t perilua_check_ms(lua_State *L, int index);

#endif
