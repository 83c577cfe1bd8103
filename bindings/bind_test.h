/* perigee.core.test in parts: each adds its functions to the module's table on
 * top of the stack. */
#ifndef PERILUA_BIND_TEST_H
#define PERILUA_BIND_TEST_H

#include <lua.h>

#include "core/loop/timers.h"

/* spawn(argv, env, dir) -> process */
void perilua_test_add_process(lua_State *L);

/* socket() -> a socket to connect, write to and read from */
void perilua_test_add_socket(lua_State *L);

/* host() -> an application to open, ask and close */
void perilua_test_add_host(lua_State *L);

/* The functions freeze(), thaw(), advance(ns) and due() on some timers; the
 * argument of advance is at index. */
int perilua_test_freeze(lua_State *L, peri_timers *timers);
int perilua_test_thaw(lua_State *L, peri_timers *timers);
int perilua_test_advance(lua_State *L, peri_timers *timers, int index);
int perilua_test_due(lua_State *L, const peri_timers *timers);

#endif
