/* Heap: an allocator before the allocator, and a table of sampled blocks. */
#include "bindings/heap.h"

#include <stdlib.h>

#include "bindings/budget.h"
#include "bindings/gen.h"
#include "core/base/alloc.h"

#define VMS_MAX 8
#define WAITING_MAX 8
#define INTERVAL_BYTES ((size_t)64 << 10)
#define SAMPLES_BEFORE_DOUBLING 10000 /* then the interval is twice as long */
#define BLOCKS_MAX 65536
#define SLOTS (2 * BLOCKS_MAX) /* a power of two */
#define NEIGHBOURHOODS 16384   /* a power of two */

typedef struct block {
    const void *memory; /* NULL: free, or gone while it waited */
    uint64_t objects;   /* that the sample stands for */
    uint64_t bytes;
    size_t site; /* number of its stack */
} block;

typedef struct attached {
    perilua_heap *heap;
    perilua_vm *vm; /* NULL: free */
    lua_Alloc allocate;
    void *data;
    size_t since; /* bytes since the last sample */
    size_t next;  /* how many there will be */
    block waiting[WAITING_MAX];
    int waiting_count;
} attached;

struct perilua_heap {
    peri_stacks *stacks;
    size_t interval;
    uint32_t samples;
    uint32_t random;
    size_t block_count;
    attached vms[VMS_MAX];
    /* How many blocks have an address that falls there: most that are freed are
     * none of them, which is seen without a look at the table. */
    uint16_t near[NEIGHBOURHOODS];
    block blocks[SLOTS];
};

/* ---- sampled blocks that have a stack ---- */

static size_t place_of(const void *memory)
{
    return (size_t)(((uint64_t)(uintptr_t)memory * 0x9e3779b97f4a7c15u) >> 32) &
           (SLOTS - 1);
}

static uint16_t *near(perilua_heap *heap, const void *memory)
{
    return &heap->near[place_of(memory) & (NEIGHBOURHOODS - 1)];
}

/* Where it is, or where it would be. */
static size_t find(const perilua_heap *heap, const void *memory)
{
    size_t at = place_of(memory);

    while (heap->blocks[at].memory != NULL &&
           heap->blocks[at].memory != memory) {
        at = (at + 1) & (SLOTS - 1);
    }
    return at;
}

static void keep(perilua_heap *heap, const block *b)
{
    size_t at = find(heap, b->memory);

    if (heap->blocks[at].memory == NULL && heap->block_count < BLOCKS_MAX) {
        heap->blocks[at] = *b;
        heap->block_count++;
        ++*near(heap, b->memory);
    }
}

/* Those behind it move up, so that no search ends too early. */
static void drop(perilua_heap *heap, size_t at)
{
    size_t next = at;

    heap->block_count--;
    --*near(heap, heap->blocks[at].memory);
    for (;;) {
        size_t wanted;

        next = (next + 1) & (SLOTS - 1);
        if (heap->blocks[next].memory == NULL) {
            break;
        }
        wanted = place_of(heap->blocks[next].memory);
        if (((next - wanted) & (SLOTS - 1)) >= ((next - at) & (SLOTS - 1))) {
            heap->blocks[at] = heap->blocks[next];
            at = next;
        }
    }
    heap->blocks[at].memory = NULL;
}

/* The block has gone, or moved. */
static void follow(attached *a, const void *from, const void *to)
{
    perilua_heap *heap = a->heap;
    size_t at = *near(heap, from) != 0 ? find(heap, from) : SLOTS;

    if (at != SLOTS && heap->blocks[at].memory != NULL) {
        block moved = heap->blocks[at];

        drop(heap, at);
        moved.memory = to;
        if (to != NULL) {
            keep(heap, &moved);
        }
        return;
    }
    for (int i = 0; i < a->waiting_count; i++) {
        if (a->waiting[i].memory == from) {
            a->waiting[i].memory = to;
        }
    }
}

/* ---- samples ---- */

/* Half of it to one and a half: nothing that repeats hides between samples. */
static size_t next_distance(perilua_heap *heap)
{
    heap->random = heap->random * 1664525u + 1013904223u;
    return heap->interval / 2 + (heap->random >> 8) % heap->interval;
}

static void sample(attached *a, const void *memory, size_t grown_bytes)
{
    perilua_heap *heap = a->heap;
    block b = {.memory = memory, .bytes = a->since};
    bool in_task = a->vm->current != NULL;
    const peri_host *host = a->vm->env->host;

    b.objects = grown_bytes < a->since ? a->since / grown_bytes : 1;
    a->since = 0;
    if (++heap->samples % SAMPLES_BEFORE_DOUBLING == 0) {
        heap->interval *= 2;
    }
    a->next = next_distance(heap);
    if (a->waiting_count == WAITING_MAX) {
        a->waiting[WAITING_MAX - 1].objects += b.objects;
        a->waiting[WAITING_MAX - 1].bytes += b.bytes;
    } else {
        a->waiting[a->waiting_count++] = b;
    }
    if (in_task) {
        perilua_budget_ask(host->budget, a->vm);
    } else {
        perilua_heap_settle(heap, a->vm, PERI_SLICE("H;[host]"));
    }
}

static void *sampled_allocate(void *data, void *memory, size_t old_bytes,
                              size_t new_bytes)
{
    attached *a = data;
    void *result = a->allocate(a->data, memory, old_bytes, new_bytes);

    if (memory != NULL && result != memory &&
        (result != NULL || new_bytes == 0)) {
        follow(a, memory, result);
    }
    if (result != NULL && new_bytes > old_bytes) {
        a->since += new_bytes - old_bytes;
        if (a->since >= a->next) {
            sample(a, result, new_bytes - old_bytes);
        }
    }
    return result;
}

/* ---- whose ---- */

static attached *attached_of(const perilua_heap *heap, const perilua_vm *vm)
{
    for (int i = 0; i < VMS_MAX; i++) {
        if (heap->vms[i].vm == vm) {
            return (attached *)(uintptr_t)&heap->vms[i];
        }
    }
    return NULL;
}

bool perilua_heap_waits(const perilua_heap *heap, const perilua_vm *vm)
{
    const attached *a = attached_of(heap, vm);

    return a != NULL && a->waiting_count != 0;
}

void perilua_heap_settle(perilua_heap *heap, const perilua_vm *vm,
                         peri_slice key)
{
    attached *a = attached_of(heap, vm);

    for (int i = 0; a != NULL && i < a->waiting_count; i++) {
        block *b = &a->waiting[i];
        const uint64_t values[PERI_STACK_VALUES] = {b->objects, b->bytes};

        b->site = peri_stacks_add(heap->stacks, key, values);
        if (b->memory != NULL) {
            keep(heap, b);
        }
    }
    if (a != NULL) {
        a->waiting_count = 0;
    }
}

perilua_heap *perilua_heap_create(peri_stacks *stacks)
{
    perilua_heap *heap = peri_calloc(1, sizeof *heap);

    heap->stacks = stacks;
    heap->interval = INTERVAL_BYTES;
    heap->random = 1;
    return heap;
}

void perilua_heap_attach(perilua_heap *heap, perilua_vm *vm)
{
    attached *a = attached_of(heap, NULL);

    if (a != NULL) {
        a->heap = heap;
        a->vm = vm;
        a->since = 0;
        a->next = next_distance(heap);
        a->waiting_count = 0;
        a->allocate = lua_getallocf(vm->L, &a->data);
        lua_setallocf(vm->L, sampled_allocate, a);
    }
}

void perilua_heap_detach(perilua_heap *heap, const perilua_vm *vm)
{
    attached *a = attached_of(heap, vm);

    if (a != NULL) {
        lua_setallocf(vm->L, a->allocate, a->data);
        a->vm = NULL;
        a->waiting_count = 0;
    }
}

void perilua_heap_finish(perilua_heap *heap)
{
    if (heap == NULL) {
        return;
    }
    for (int i = 0; i < VMS_MAX; i++) {
        if (heap->vms[i].vm != NULL) {
            perilua_heap_detach(heap, heap->vms[i].vm);
        }
    }
    for (size_t i = 0; i < SLOTS; i++) {
        const block *b = &heap->blocks[i];

        if (b->memory != NULL) {
            peri_stack *stack = peri_stacks_get(heap->stacks, b->site);

            stack->values[2] += b->objects;
            stack->values[3] += b->bytes;
        }
    }
    free(heap);
}
