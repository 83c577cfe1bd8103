/* Census: the objects of a VM by type, counted a slice at a time.
 *
 * Whatever can be reached from the registry by the ways that Lua's debug
 * library has is counted once, with an estimate of its size: tables, strings,
 * functions with their upvalues, coroutines with their stacks, userdata and
 * cdata. Bytecode and what the compiler has made are not. The VM goes on
 * working between slices, so what is made meanwhile may be missing. */
#ifndef PERILUA_CENSUS_H
#define PERILUA_CENSUS_H

#include "bindings/vm.h"
#include "core/base/stacks.h"

typedef struct perilua_census perilua_census;

/* The VM must be at rest in all calls. Caller owns. */
perilua_census *perilua_census_create(perilua_vm *vm);

/* Counts for limit_ns or so. False: all is counted, or cannot be. */
bool perilua_census_step(perilua_census *census, uint64_t limit_ns);

/* Adds "T;table" and the like, objects and bytes, and "M;heap_bytes", all that
 * Lua itself counts. */
void perilua_census_add(const perilua_census *census, peri_stacks *out);

/* vm_gone: the state is not there any more. NULL is allowed. */
void perilua_census_destroy(perilua_census *census, bool vm_gone);

#endif
