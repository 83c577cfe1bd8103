/* Arena: a chain of blocks, bumped through. */
#include "core/base/arena.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"

#define ALIGNMENT _Alignof(max_align_t)

typedef struct block {
    struct block *next;
    size_t size_bytes; /* of data */
    size_t used_bytes;
    _Alignas(max_align_t) char data[];
} block;

typedef struct hook {
    struct hook *next;
    void (*fn)(void *);
    void *data;
} hook;

struct peri_arena {
    block *newest;
    block *first; /* kept by reset */
    hook *hooks;
    size_t block_bytes;
};

static block *block_add(peri_arena *arena, size_t size_bytes)
{
    block *b = peri_alloc(sizeof *b + size_bytes);

    b->next = arena->newest;
    b->size_bytes = size_bytes;
    b->used_bytes = 0;
    arena->newest = b;
    return b;
}

static void run_hooks(peri_arena *arena)
{
    while (arena->hooks != NULL) {
        hook *h = arena->hooks;

        arena->hooks = h->next;
        h->fn(h->data);
    }
}

peri_arena *peri_arena_create(size_t block_bytes)
{
    peri_arena *arena = peri_calloc(1, sizeof *arena);

    arena->block_bytes = block_bytes;
    arena->first = block_add(arena, block_bytes);
    return arena;
}

void peri_arena_reset(peri_arena *arena)
{
    run_hooks(arena);
    while (arena->newest != arena->first) {
        block *b = arena->newest;

        arena->newest = b->next;
        free(b);
    }
    arena->first->used_bytes = 0;
}

void peri_arena_destroy(peri_arena *arena)
{
    if (arena == NULL) {
        return;
    }
    peri_arena_reset(arena);
    free(arena->first);
    free(arena);
}

void *peri_arena_alloc(peri_arena *arena, size_t size_bytes)
{
    size_t rounded = (size_bytes + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    block *b = arena->newest;
    void *memory;

    assert(rounded >= size_bytes);
    if (rounded > b->size_bytes - b->used_bytes) {
        b = block_add(arena, rounded > arena->block_bytes ? rounded
                                                          : arena->block_bytes);
    }
    memory = b->data + b->used_bytes;
    b->used_bytes += rounded;
    return memset(memory, 0, size_bytes);
}

char *peri_arena_copy(peri_arena *arena, const char *data, size_t length)
{
    char *copy = peri_arena_alloc(arena, length + 1);

    if (length != 0) {
        memcpy(copy, data, length);
    }
    return copy;
}

void peri_arena_on_release(peri_arena *arena, void (*fn)(void *), void *data)
{
    hook *h = peri_arena_alloc(arena, sizeof *h);

    h->fn = fn;
    h->data = data;
    h->next = arena->hooks;
    arena->hooks = h;
}
