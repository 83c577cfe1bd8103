/* Arena: memory released in one step.
 *
 * One arena serves one exchange: what a request needs until its response has
 * left the socket comes from here, so no path frees piece by piece. Belongs
 * to the loop thread that created it. */
#ifndef PERI_BASE_ARENA_H
#define PERI_BASE_ARENA_H

#include <stddef.h>

typedef struct peri_arena peri_arena;

/* Caller owns the result; release it with peri_arena_destroy(). */
peri_arena *peri_arena_create(size_t block_bytes);

/* Runs the release hooks, last added first, then frees. NULL is allowed. */
void peri_arena_destroy(peri_arena *arena);

/* As destroy and create, but keeps the first block for the next use. */
void peri_arena_reset(peri_arena *arena);

/* Zero-filled and aligned for any type. Borrowed: valid until destroy. */
void *peri_arena_alloc(peri_arena *arena, size_t size_bytes);

/* A copy with a closing NUL. Borrowed: valid until destroy. */
char *peri_arena_copy(peri_arena *arena, const char *data, size_t length);

/* For what memory alone can't undo: a descriptor, a reference. */
void peri_arena_on_release(peri_arena *arena, void (*fn)(void *), void *data);

#endif
