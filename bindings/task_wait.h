/* The Lua side of waiting; for task.c. */
#ifndef PERILUA_TASK_WAIT_H
#define PERILUA_TASK_WAIT_H

#include <lua.h>

/* What a park yields, and what a wait returns when it must raise instead:
 * light userdata that Lua code cannot make. */
void *perilua_parked_mark(void);
void *perilua_raise_mark(void);

/* Once a state: the wrapper of waiting functions, and coroutine.resume and wrap
 * that hand a wait inside of them outwards. */
void perilua_install_waiting(lua_State *L);

#endif
