/* Stacks: what a profiler saw, added up by call stack.
 *
 * A key is a letter for what the VM was at, then the frames, the outermost
 * first:
 *
 *     N;GET /orders/:id;controllers/orders.lua:show:12@15;perigee/...
 *
 * N compiled code, I the interpreter, C a C function, G the collector, J the
 * compiler, H the host outside of Lua, ? unknown. A frame of Lua ends in
 * @LINE: where it was just then; what stands before it names the function. One
 * line of text a stack is how profiles travel between processes. */
#ifndef PERI_BASE_STACKS_H
#define PERI_BASE_STACKS_H

#include "core/base/buf.h"
#include "core/base/slice.h"

#define PERI_STACK_VALUES 4
#define PERI_STACKS_MAX 20000 /* different ones; the rest is one more */
#define PERI_STACK_KEY_MAX ((size_t)8 << 10)
#define PERI_STACKS_TEXT_MAX ((size_t)32 << 20)

typedef struct peri_stacks peri_stacks;

typedef struct peri_stack {
    peri_slice key; /* borrowed: as long as the stacks live */
    uint64_t values[PERI_STACK_VALUES];
} peri_stack;

/* Caller owns. */
peri_stacks *peri_stacks_create(void);
void peri_stacks_destroy(peri_stacks *stacks);

/* Adds to the stack of that key and returns its number; one that is too long,
 * or one too many, to "?;[other stacks]". */
size_t peri_stacks_add(peri_stacks *stacks, peri_slice key,
                       const uint64_t values[PERI_STACK_VALUES]);

size_t peri_stacks_count(const peri_stacks *stacks);
peri_stack *peri_stacks_get(peri_stacks *stacks, size_t number);

/* "VALUE VALUE VALUE VALUE KEY\n" for each. 0 or PERI_ELIMIT. */
int peri_stacks_write(peri_stacks *stacks, peri_buf *out);

/* Adds what was written; ignores lines that are none. */
void peri_stacks_read(peri_stacks *stacks, peri_slice text);

/* The next frame of a key: moves *rest behind it; false at the end. The first
 * one is the letter. */
bool peri_stack_next(peri_slice *rest, peri_slice *frame);

/* Cuts "@LINE" off; 0: there is none. */
uint32_t peri_stack_line(peri_slice *frame);

/* What is appended to a stack to show its state: "[gc]", "[C]", "[compiler]"
 * or nothing. */
peri_slice peri_stack_leaf(char state);

/* The same without letters and lines: keys are what flame graphs show. Caller
 * owns. */
peri_stacks *peri_stacks_flatten(peri_stacks *stacks);

/* "FRAME;FRAME VALUE\n" for each, of the value of that number, as flamegraph.pl
 * and speedscope read it. 0 or PERI_ELIMIT. */
int peri_stacks_collapse(peri_stacks *stacks, int value, peri_buf *out);

#endif
