/* Cells: the memory, its lock, and declaring families. */
#include "core/shm/cells.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/shm/cells_internal.h"

#define REGION "perigee.metrics"
#define SERIES_MAX_DEFAULT 2000
#define SINK_CELLS                                                             \
    (PERI_CELLS_BOUNDS_MAX + 2 + PERI_CELLS_EXEMPLAR +                         \
     PERI_EXPONENTIAL_CELLS(PERI_EXPONENTIAL_BUCKETS_MAX))

peri_cells *peri_cells_open(peri_regions *regions, int record)
{
    peri_cells *cells;
    void *memory;
    size_t bytes;

    assert(record < PERI_SLOTS_MAX);
    if (peri_regions_get(regions, REGION, PERI_CELLS_BYTES, NULL, &memory,
                         &bytes) < 0) {
        return NULL;
    }
    cells = peri_calloc(1, sizeof *cells);
    cells->dir = memory;
    cells->bytes = bytes;
    cells->self = peri_regions_self(regions);
    cells->record = record;
    cells->series_max = SERIES_MAX_DEFAULT;
    cells->sink = peri_calloc(SINK_CELLS, sizeof *cells->sink);
    if (record >= 0) {
        atomic_fetch_add(&cells->dir->epoch[record], 1);
    }
    return cells;
}

void peri_cells_close(peri_cells *cells)
{
    if (cells != NULL) {
        free(cells->sink);
        free(cells);
    }
}

void peri_cells_set_series_max(peri_cells *cells, uint32_t max)
{
    cells->series_max = max;
}

uint32_t peri_cells_carve(peri_cells *cells, size_t bytes)
{
    directory *dir = cells->dir;
    size_t start = sizeof *dir + atomic_load(&dir->heap_used);

    bytes = (bytes + 15) / 16 * 16;
    start = (start + 15) / 16 * 16;
    if (start + bytes > cells->bytes) {
        return 0;
    }
    atomic_store(&dir->heap_used, (uint32_t)(start + bytes - sizeof *dir));
    return (uint32_t)start;
}

static void enter(directory *dir, uint32_t index)
{
    uint32_t at = dir->series[index - 1].hash;

    for (;; at++) {
        _Atomic uint32_t *slot = &dir->table[at % TABLE_SLOTS];
        uint32_t there = atomic_load(slot);

        if (there == index) {
            return;
        }
        if (there == 0) {
            atomic_store_explicit(slot, index, memory_order_release);
            return;
        }
    }
}

void peri_cells_publish(directory *dir, uint32_t index)
{
    series_record *series = &dir->series[index - 1];
    family_record *family = &dir->family[series->family];

    if (family->last == 0) {
        atomic_store(&family->first, index);
    } else if (family->last != index) {
        atomic_store(&dir->series[family->last - 1].next, index);
    }
    atomic_signal_fence(memory_order_seq_cst);
    family->last = index;
    family->series_count = series->ordinal;
    dir->series_used = index;
    enter(dir, index);
    atomic_signal_fence(memory_order_seq_cst);
    dir->pending = 0;
}

void peri_cells_lock(peri_cells *cells)
{
    peri_lock_take(&cells->dir->lock, cells->self);
    if (cells->dir->pending != 0) {
        peri_cells_publish(cells->dir, cells->dir->pending);
    }
}

void peri_cells_unlock(peri_cells *cells)
{
    atomic_signal_fence(memory_order_seq_cst);
    peri_lock_release(&cells->dir->lock);
}

static bool same(directory *dir, const family_record *record,
                 const peri_cells_family *family)
{
    const char *label = peri_cells_at(dir, record->labels);

    if (strcmp(record->name, family->name) != 0 ||
        record->type != (uint32_t)family->type ||
        record->merge != (uint32_t)family->merge ||
        record->label_count != family->label_count ||
        record->bound_count != family->bound_count ||
        record->exponential != family->exponential ||
        strcmp(peri_cells_at(dir, record->help), family->help) != 0) {
        return false;
    }
    for (size_t i = 0; i < family->label_count; i++) {
        if (strcmp(label, family->labels[i]) != 0) {
            return false;
        }
        label += strlen(label) + 1;
    }
    return family->bound_count == 0 ||
           memcmp(peri_cells_at(dir, record->bounds), family->bounds,
                  family->bound_count * sizeof(double)) == 0;
}

static size_t labels_bytes(const peri_cells_family *family)
{
    size_t bytes = 1;

    for (size_t i = 0; i < family->label_count; i++) {
        bytes += strlen(family->labels[i]) + 1;
    }
    return bytes;
}

static int fill_family(peri_cells *cells, family_record *record,
                       const peri_cells_family *family)
{
    size_t name_bytes = labels_bytes(family);
    size_t help_bytes = strlen(family->help) + 1;
    size_t bounds_bytes = family->bound_count * sizeof(double);
    uint32_t text =
        peri_cells_carve(cells, name_bytes + help_bytes + bounds_bytes + 8);
    char *at;

    if (text == 0) {
        return PERI_ELIMIT;
    }
    memset(record, 0, sizeof *record);
    record->type = (uint32_t)family->type;
    record->merge = (uint32_t)family->merge;
    record->label_count = (uint32_t)family->label_count;
    record->bound_count = (uint32_t)family->bound_count;
    record->exponential = family->exponential;
    record->bounds = text;
    record->help = text + (uint32_t)bounds_bytes;
    record->labels = record->help + (uint32_t)help_bytes;
    if (bounds_bytes > 0) {
        memcpy(peri_cells_at(cells->dir, text), family->bounds, bounds_bytes);
    }
    memcpy(peri_cells_at(cells->dir, record->help), family->help, help_bytes);
    at = peri_cells_at(cells->dir, record->labels);
    for (size_t i = 0; i < family->label_count; i++) {
        size_t length = strlen(family->labels[i]) + 1;

        memcpy(at, family->labels[i], length);
        at += length;
    }
    memcpy(record->name, family->name, strlen(family->name) + 1);
    return 0;
}

static int find_or_add(peri_cells *cells, const peri_cells_family *family,
                       uint64_t generation)
{
    directory *dir = cells->dir;
    uint32_t count = atomic_load(&dir->families);
    uint32_t at = 0;
    family_record *record;

    while (at < count && !same(dir, &dir->family[at], family)) {
        at++;
    }
    if (at == PERI_CELLS_FAMILIES_MAX) {
        return PERI_ELIMIT;
    }
    record = &dir->family[at];
    if (at == count && fill_family(cells, record, family) < 0) {
        return PERI_ELIMIT;
    }
    if (generation > atomic_load(&record->generation)) {
        atomic_store(&record->generation, generation);
    }
    atomic_store(&record->declared, ++dir->declarations);
    if (at == count) {
        atomic_store(&dir->families, count + 1);
    }
    return (int)at;
}

static bool fits(const peri_cells_family *family)
{
    if (strlen(family->name) > PERI_CELLS_NAME_MAX ||
        strlen(family->help) > PERI_CELLS_HELP_MAX ||
        family->label_count > PERI_CELLS_LABELS_MAX ||
        family->bound_count > PERI_CELLS_BOUNDS_MAX ||
        family->exponential > PERI_EXPONENTIAL_BUCKETS_MAX ||
        (family->exponential != 0 &&
         family->exponential < PERI_EXPONENTIAL_BUCKETS_MIN)) {
        return false;
    }
    for (size_t i = 0; i < family->label_count; i++) {
        if (strlen(family->labels[i]) > PERI_CELLS_NAME_MAX) {
            return false;
        }
    }
    return true;
}

int peri_cells_declare(peri_cells *cells, const peri_cells_family *family,
                       uint64_t generation)
{
    int number;

    if (!fits(family)) {
        return PERI_EFORMAT;
    }
    peri_cells_lock(cells);
    number = find_or_add(cells, family, generation);
    peri_cells_unlock(cells);
    return number;
}
