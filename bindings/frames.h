/* Frames: the stack of a Lua state as the text of a profile.
 *
 * Names of functions are read from the sources that the VM was loaded from, so
 * a function has one name whoever calls it. They are kept: a look at a stack
 * allocates only where a function is new. */
#ifndef PERILUA_FRAMES_H
#define PERILUA_FRAMES_H

#include "bindings/vm.h"
#include "core/base/buf.h"

typedef struct perilua_frames perilua_frames;

/* Caller owns. */
perilua_frames *perilua_frames_create(void);
void perilua_frames_destroy(perilua_frames *frames);

/* Appends ";FRAME@LINE" for each function that is active in L, and below it in
 * the task's own coroutine, the outermost first. Of deep stacks the innermost
 * are there. Runs and allocates nothing in L. */
void perilua_frames_append(perilua_frames *frames, const perilua_vm *vm,
                           lua_State *L, peri_buf *out);

/* Appends ";GET /orders/:id" of the request that the task works for, or
 * ";[task]". */
void perilua_frames_root(const perilua_task *task, peri_buf *out);

#endif
