/* Cells: declaring, making series, and who counts where. */
#include "core/shm/cells.h"

#include <assert.h>
#include <math.h>
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
#define SHARES_PAGE_BYTES 1024 /* what is larger lies by itself */
#define LABEL_NAME_MAX PERI_CELLS_NAME_MAX
/* ,name="value" with every byte of the value at its longest */
#define LABEL_BYTES (LABEL_NAME_MAX + 4 + 3 * PERI_CELLS_VALUE_MAX + 2)
#define LABELS_BYTES (PERI_CELLS_LABELS_MAX * LABEL_BYTES)

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

/* ---- under the lock ---- */

/* 0: there is no more. What is carved and never published is lost. */
static uint32_t carve(peri_cells *cells, size_t bytes)
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

/* Publishes a series that is complete. Each step may be done a second time:
 * whoever finds it pending after its maker has died does all of them again. */
static void publish(directory *dir, uint32_t index)
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

static void lock(peri_cells *cells)
{
    peri_lock_take(&cells->dir->lock, cells->self);
    if (cells->dir->pending != 0) {
        publish(cells->dir, cells->dir->pending);
    }
}

static void unlock(peri_cells *cells)
{
    atomic_signal_fence(memory_order_seq_cst);
    peri_lock_release(&cells->dir->lock);
}

/* ---- families ---- */

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
    uint32_t text = carve(cells, name_bytes + help_bytes + bounds_bytes + 8);
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
        if (strlen(family->labels[i]) > LABEL_NAME_MAX) {
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
    lock(cells);
    number = find_or_add(cells, family, generation);
    unlock(cells);
    return number;
}

/* ---- series ---- */

static uint32_t hash_of(uint32_t family, peri_slice labels)
{
    return peri_slice_hash(labels, family * 2654435761u);
}

/* The text of the labels. out: LABELS_BYTES. */
static peri_slice labels_text(directory *dir, const family_record *family,
                              const peri_slice *values, char *out)
{
    const char *label = peri_cells_at(dir, family->labels);
    size_t at = 0;

    for (uint32_t i = 0; i < family->label_count; i++) {
        size_t length = strlen(label);

        if (i > 0) {
            out[at++] = ',';
        }
        memcpy(out + at, label, length);
        at += length;
        out[at++] = '=';
        out[at++] = '"';
        at += peri_expo_escape(values[i], PERI_CELLS_VALUE_MAX, out + at);
        out[at++] = '"';
        label += length + 1;
    }
    return peri_slice_of(out, at);
}

static uint32_t find_series(directory *dir, uint32_t family, peri_slice labels,
                            uint32_t hash)
{
    for (uint32_t at = hash;; at++) {
        uint32_t index = atomic_load_explicit(&dir->table[at % TABLE_SLOTS],
                                              memory_order_acquire);
        const series_record *series = &dir->series[index - (index > 0)];

        if (index == 0) {
            return 0;
        }
        if (series->hash == hash && series->family == family &&
            series->labels_length == labels.length &&
            memcmp(peri_cells_at(dir, series->labels), labels.data,
                   labels.length) == 0) {
            return index;
        }
    }
}

/* Under the lock. 0: no room. */
static uint32_t add_series(peri_cells *cells, uint32_t family,
                           peri_slice labels, uint32_t hash)
{
    directory *dir = cells->dir;
    uint32_t index = dir->series_used + 1;
    uint32_t text = carve(cells, labels.length + 1);
    series_record *series;

    if (text == 0 || index > PERI_CELLS_SERIES_MAX) {
        return 0;
    }
    memcpy(peri_cells_at(dir, text), labels.data, labels.length);
    series = &dir->series[index - 1];
    memset(series, 0, sizeof *series);
    series->family = family;
    series->ordinal = dir->family[family].series_count + 1;
    series->hash = hash;
    series->labels = text;
    series->labels_length = (uint32_t)labels.length;
    series->created_ms = peri_clock_wall_ms();
    atomic_signal_fence(memory_order_seq_cst);
    dir->pending = index;
    atomic_signal_fence(memory_order_seq_cst);
    publish(dir, index);
    return index;
}

static bool is_full(const peri_cells *cells, uint32_t family)
{
    const directory *dir = cells->dir;

    /* Each family may still need one for its overflow. */
    return dir->family[family].series_count >= cells->series_max ||
           dir->series_used + PERI_CELLS_FAMILIES_MAX >= PERI_CELLS_SERIES_MAX;
}

static uint32_t overflow_series(peri_cells *cells, uint32_t family)
{
    static const peri_slice labels = {"overflow=\"true\"", 15};
    uint32_t hash = hash_of(family, labels);
    uint32_t index = find_series(cells->dir, family, labels, hash);

    if (index == 0) {
        index = add_series(cells, family, labels, hash);
        atomic_store(&cells->dir->family[family].overflow, index);
    }
    return index;
}

static uint32_t get_series(peri_cells *cells, uint32_t family,
                           peri_slice labels, int *status)
{
    directory *dir = cells->dir;
    uint32_t hash = hash_of(family, labels);
    uint32_t index = find_series(dir, family, labels, hash);

    if (index != 0) {
        return index;
    }
    index = atomic_load(&dir->family[family].overflow);
    if (index == 0) {
        lock(cells);
        index = find_series(dir, family, labels, hash);
        if (index == 0 && !is_full(cells, family)) {
            index = add_series(cells, family, labels, hash);
        } else if (index == 0) {
            index = overflow_series(cells, family);
            *status = PERI_CELLS_OVERFLOW;
        }
        unlock(cells);
    } else {
        *status = PERI_CELLS_OVERFLOW;
    }
    return index;
}

/* ---- cells ---- */

static size_t cell_count(const family_record *family)
{
    switch ((peri_cells_type)family->type) {
    case PERI_CELLS_HISTOGRAM:
        return family->bound_count + 2 + PERI_CELLS_EXEMPLAR +
               (family->exponential != 0
                    ? PERI_EXPONENTIAL_CELLS(family->exponential)
                    : 0);
    case PERI_CELLS_GAUGE:
        return 2;
    default:
        return 1;
    }
}

/* Memory that only this record writes to: workers share no cache line. */
static uint32_t carve_own(peri_cells *cells, uint32_t bytes)
{
    struct page *page = &cells->dir->pages[cells->record];
    uint32_t at;

    if (bytes > SHARES_PAGE_BYTES) {
        at = carve(cells, (size_t)bytes + 128);
        return at != 0 ? (at + 63) / 64 * 64 : 0;
    }
    if (page->at + bytes > page->end) {
        uint32_t fresh = carve(cells, PAGE_BYTES + 64);

        if (fresh == 0) {
            return 0;
        }
        /* In this order: the old end lies below, so the page is full until
         * both are written. */
        page->at = (fresh + 63) / 64 * 64;
        atomic_signal_fence(memory_order_seq_cst);
        page->end = page->at + PAGE_BYTES;
    }
    at = page->at;
    page->at = at + bytes;
    return at;
}

/* A gauge that its worker has not set says nothing; a sum starts from 0. */
static double first_value(const family_record *family)
{
    return family->type == PERI_CELLS_GAUGE && family->merge != PERI_CELLS_SUM
               ? (double)NAN
               : 0;
}

static chunk *add_chunk(peri_cells *cells, series_record *series)
{
    directory *dir = cells->dir;
    const family_record *family = &dir->family[series->family];
    size_t count = cell_count(family);
    uint32_t offset =
        carve_own(cells, (uint32_t)(sizeof(chunk) + count * sizeof(double)));
    chunk *made;

    if (offset == 0) {
        return NULL;
    }
    made = peri_cells_at(dir, offset);
    memset(made, 0, sizeof *made + count * sizeof(double));
    made->cells[0] = first_value(family);
    made->record = (uint32_t)cells->record;
    made->epoch = atomic_load(&dir->epoch[cells->record]);
    made->next = atomic_load(&series->chunk);
    atomic_store_explicit(&series->chunk, offset, memory_order_release);
    return made;
}

static chunk *own_chunk(peri_cells *cells, const series_record *series)
{
    uint32_t offset =
        atomic_load_explicit(&series->chunk, memory_order_acquire);

    while (offset != 0) {
        chunk *at = peri_cells_at(cells->dir, offset);

        if (at->record == (uint32_t)cells->record) {
            return at;
        }
        offset = at->next;
    }
    return NULL;
}

/* A gauge's cells of a process that is dead begin anew. */
static void begin(peri_cells *cells, const family_record *family, chunk *own)
{
    uint32_t epoch = atomic_load(&cells->dir->epoch[cells->record]);

    if (atomic_load(&own->epoch) == epoch) {
        return;
    }
    if (family->type == PERI_CELLS_GAUGE && family->merge != PERI_CELLS_LAST) {
        own->cells[0] = first_value(family);
    }
    atomic_store(&own->epoch, epoch);
}

int peri_cells_series(peri_cells *cells, int family, const peri_slice *values,
                      double **out)
{
    char text[LABELS_BYTES];
    family_record *record = &cells->dir->family[family];
    int status = 0;
    uint32_t index =
        get_series(cells, (uint32_t)family,
                   labels_text(cells->dir, record, values, text), &status);
    chunk *own = NULL;

    if (index != 0 && cells->record >= 0) {
        series_record *series = &cells->dir->series[index - 1];

        own = own_chunk(cells, series);
        if (own == NULL) {
            lock(cells);
            own = add_chunk(cells, series);
            unlock(cells);
        }
    }
    if (own != NULL) {
        begin(cells, record, own);
    }
    *out = own != NULL ? own->cells : cells->sink;
    if (own == NULL) {
        status = PERI_CELLS_OVERFLOW;
    }
    if (status != 0 && atomic_exchange(&record->told, 1) == 0) {
        status = PERI_CELLS_OVERFLOW_FIRST;
    }
    return status;
}
