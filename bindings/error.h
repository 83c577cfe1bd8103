/* Error: perigee.error objects made in C.
 *
 * A table {kind, message, code, cause} with perigee.error's metatable. Kinds:
 * contract-forms.md, "Failures". */
#ifndef PERILUA_ERROR_H
#define PERILUA_ERROR_H

#include <lua.h>

#include "core/base/buf.h"

/* Pushes an error; code may be NULL. */
void perilua_push_error(lua_State *L, const char *kind, const char *code,
                        const char *message);

/* Pushes nil and an error, message as printf's; returns 2, so that a function
 * can `return perilua_fail(L, "invalid", NULL, "...")`. */
__attribute__((format(printf, 4, 5))) int perilua_fail(lua_State *L,
                                                       const char *kind,
                                                       const char *code,
                                                       const char *format, ...);

/* The same for a status of core or libuv; what it was that failed goes before
 * its text. The code is peri_err_name's. */
int perilua_fail_rc(lua_State *L, int rc, const char *what);

/* The error at the top of a coroutine that has failed, as a log line has it:
 * {type, message, stack}. Its stack is only read: to make anything in it may
 * collect garbage there, which is the process's end. */
void perilua_write_error(lua_State *co, peri_buf *to);

#endif
