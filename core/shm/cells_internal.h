/* Cells, inside: what lies in the shared memory.
 *
 * Offsets count bytes from the directory's start, indices are one up, so that 0
 * is none. All but a series' chunks and the cells is written under the lock;
 * whatever is published by its last store is complete then. */
#ifndef PERI_SHM_CELLS_INTERNAL_H
#define PERI_SHM_CELLS_INTERNAL_H

#include <stdatomic.h>

#include "core/shm/cells.h"
#include "core/shm/lock.h"
#include "core/shm/segment.h"

#define TABLE_SLOTS (2 * PERI_CELLS_SERIES_MAX) /* a power of two */
#define PAGE_BYTES 4096u

typedef struct family_record {
    _Atomic uint64_t generation; /* the newest that declared it */
    _Atomic uint64_t declared;   /* counts declarations: which is the latest */
    uint32_t type;
    uint32_t merge;
    uint32_t label_count;
    uint32_t bound_count;
    uint32_t exponential;
    uint32_t labels;        /* offset: names, each ended by NUL */
    uint32_t bounds;        /* offset */
    uint32_t help;          /* offset */
    _Atomic uint32_t first; /* series */
    uint32_t last;
    uint32_t series_count;
    _Atomic uint32_t overflow; /* its overflow series */
    _Atomic uint32_t told;     /* somebody has logged the overflow */
    char name[PERI_CELLS_NAME_MAX + 1];
} family_record;

typedef struct series_record {
    _Atomic uint32_t chunk; /* offset of the newest */
    _Atomic uint32_t next;  /* of the family */
    uint32_t family;
    uint32_t ordinal; /* its place in the family, from 1 */
    uint32_t hash;
    uint32_t labels; /* offset: as it is in the text form */
    uint32_t labels_length;
    uint64_t created_ms;
} series_record;

/* The cells of one record. */
typedef struct chunk {
    uint32_t next;
    uint32_t record;
    _Atomic uint32_t epoch; /* of the record when the cells were begun */
    uint32_t unused;
    double cells[];
} chunk;

typedef struct directory {
    peri_lock lock;
    _Atomic uint32_t families;
    uint32_t series_used;
    uint32_t pending;           /* a series that is being published */
    _Atomic uint32_t heap_used; /* past the directory */
    uint64_t declarations;
    _Atomic uint32_t epoch[PERI_SLOTS_MAX]; /* processes that had a record */
    struct page { /* what is left of a record's own page */
        uint32_t at;
        uint32_t end;
    } pages[PERI_SLOTS_MAX];
    family_record family[PERI_CELLS_FAMILIES_MAX];
    series_record series[PERI_CELLS_SERIES_MAX];
    _Atomic uint32_t table[TABLE_SLOTS];
} directory;

struct peri_cells {
    directory *dir;
    size_t bytes;
    uint64_t self;
    int record;
    uint32_t series_max;
    double *sink; /* for what there is no room for */
};

static inline void *peri_cells_at(directory *dir, uint32_t offset)
{
    return (char *)dir + offset;
}

/* ---- cells.c ---- */

/* Completes what whoever died under the lock had begun to publish. */
void peri_cells_lock(peri_cells *cells);
void peri_cells_unlock(peri_cells *cells);

/* The rest under the lock. The offset of so much memory; 0: there is no more.
 * What is carved and never published is lost. */
uint32_t peri_cells_carve(peri_cells *cells, size_t bytes);

/* Publishes a series that is complete. Each step may be done a second time:
 * whoever finds it pending after its maker has died does all of them again. */
void peri_cells_publish(directory *dir, uint32_t index);

#endif
