/* Regions: a directory at the start of the area, pieces behind it. */
#include "core/shm/regions.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/shm/lock.h"

#define ALIGN_BYTES 64u

typedef struct entry {
    char name[PERI_REGION_NAME_MAX + 1];
    uint64_t offset;
    uint64_t bytes;
    bool ready; /* init has run */
} entry;

typedef struct directory {
    peri_lock lock;
    _Atomic uint64_t used_bytes; /* past the directory */
    _Atomic uint32_t count;
    entry entries[PERI_REGIONS_MAX];
} directory;

struct peri_regions {
    directory *directory;
    size_t bytes;
    uint64_t self;
    bool owned;
};

static uint64_t align_up(uint64_t bytes)
{
    return (bytes + ALIGN_BYTES - 1) & ~(uint64_t)(ALIGN_BYTES - 1);
}

peri_regions *peri_regions_attach(void *memory, size_t bytes)
{
    peri_regions *regions = peri_calloc(1, sizeof *regions);

    regions->directory = memory;
    regions->bytes = bytes;
    regions->self = peri_lock_self();
    return regions;
}

peri_regions *peri_regions_create(size_t bytes)
{
    peri_regions *regions;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED) {
        return NULL;
    }
    regions = peri_regions_attach(memory, bytes);
    regions->owned = true;
    return regions;
}

void peri_regions_destroy(peri_regions *regions)
{
    if (regions == NULL) {
        return;
    }
    if (regions->owned) {
        munmap(regions->directory, regions->bytes);
    }
    free(regions);
}

void *peri_regions_memory(const peri_regions *regions)
{
    return regions->directory;
}

uint64_t peri_regions_self(const peri_regions *regions)
{
    return regions->self;
}

static entry *find(directory *dir, const char *name)
{
    uint32_t count = atomic_load(&dir->count);

    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(dir->entries[i].name, name) == 0) {
            return &dir->entries[i];
        }
    }
    return NULL;
}

/* In an order in which it can be broken off anywhere: at worst some bytes are
 * not used by anyone. */
static entry *carve(peri_regions *regions, const char *name, size_t bytes)
{
    directory *dir = regions->directory;
    uint32_t count = atomic_load(&dir->count);
    uint64_t start = align_up(sizeof *dir) + atomic_load(&dir->used_bytes);
    entry *made;

    if (count == PERI_REGIONS_MAX || start > regions->bytes ||
        align_up(bytes) > regions->bytes - start) {
        return NULL;
    }
    atomic_fetch_add(&dir->used_bytes, align_up(bytes));
    made = &dir->entries[count];
    memset(made, 0, sizeof *made);
    memcpy(made->name, name, strlen(name) + 1); /* its length was looked at */
    made->offset = start;
    made->bytes = bytes;
    atomic_store(&dir->count, count + 1);
    return made;
}

int peri_regions_get(peri_regions *regions, const char *name, size_t bytes,
                     void (*init)(void *memory, size_t bytes), void **out,
                     size_t *out_bytes)
{
    directory *dir = regions->directory;
    entry *found;

    if (strlen(name) > PERI_REGION_NAME_MAX || bytes > regions->bytes) {
        return PERI_ELIMIT;
    }
    peri_lock_take(&dir->lock, regions->self);
    found = find(dir, name);
    if (found == NULL) {
        found = carve(regions, name, bytes);
    }
    if (found != NULL) {
        *out = (char *)dir + found->offset;
        *out_bytes = found->bytes;
        if (!found->ready && init != NULL) {
            init(*out, found->bytes);
        }
        atomic_signal_fence(memory_order_seq_cst);
        found->ready = true;
    }
    peri_lock_release(&dir->lock);
    return found != NULL ? 0 : PERI_ELIMIT;
}

void peri_regions_each(peri_regions *regions,
                       void (*fn)(void *data, const char *name, void *memory,
                                  size_t bytes),
                       void *data)
{
    directory *dir = regions->directory;
    uint32_t count = atomic_load(&dir->count);

    for (uint32_t i = 0; i < count; i++) {
        entry *at = &dir->entries[i];

        if (at->ready) {
            fn(data, at->name, (char *)dir + at->offset, at->bytes);
        }
    }
}
