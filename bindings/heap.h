/* Heap: which lines allocate, by samples at LuaJIT's allocator.
 *
 * One block out of every 64 KB or so is a sample that stands for all of them;
 * whose line it was is known at the next look at the stack (budget.h), and
 * whether it is still there when the sampling ends. Belongs to the loop
 * thread. */
#ifndef PERILUA_HEAP_H
#define PERILUA_HEAP_H

#include "bindings/vm.h"
#include "core/base/stacks.h"

typedef struct perilua_heap perilua_heap;

/* Adds to the stacks (borrowed): objects and bytes that were allocated. Asks
 * for looks by the budget of the VMs' host. Caller owns. */
perilua_heap *perilua_heap_create(peri_stacks *stacks);

/* Puts itself before the VM's allocator, takes itself away again. */
void perilua_heap_attach(perilua_heap *heap, perilua_vm *vm);
void perilua_heap_detach(perilua_heap *heap, const perilua_vm *vm);

/* Whether samples of the VM wait for a stack; they get this one. */
bool perilua_heap_waits(const perilua_heap *heap, const perilua_vm *vm);
void perilua_heap_settle(perilua_heap *heap, const perilua_vm *vm,
                         peri_slice key);

/* Adds what is still there, as the third and fourth value; detaches from all
 * and frees. NULL is allowed. */
void perilua_heap_finish(perilua_heap *heap);

#endif
