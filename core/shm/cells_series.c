/* Cells: finding and making series, and the cells in which a worker counts. */
#include <math.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/expo.h"
#include "core/shm/cells_internal.h"

#define SHARES_PAGE_BYTES 1024 /* what is larger lies by itself */
/* ,name="value" with every byte of the value at its longest */
#define LABEL_BYTES (PERI_CELLS_NAME_MAX + 4 + 3 * PERI_CELLS_VALUE_MAX + 2)
#define LABELS_BYTES (PERI_CELLS_LABELS_MAX * LABEL_BYTES)

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
    uint32_t text = peri_cells_carve(cells, labels.length + 1);
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
    peri_cells_publish(dir, index);
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
        peri_cells_lock(cells);
        index = find_series(dir, family, labels, hash);
        if (index == 0 && !is_full(cells, family)) {
            index = add_series(cells, family, labels, hash);
        } else if (index == 0) {
            index = overflow_series(cells, family);
            *status = PERI_CELLS_OVERFLOW;
        }
        peri_cells_unlock(cells);
    } else {
        *status = PERI_CELLS_OVERFLOW;
    }
    return index;
}

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
        at = peri_cells_carve(cells, (size_t)bytes + 128);
        return at != 0 ? (at + 63) / 64 * 64 : 0;
    }
    if (page->at + bytes > page->end) {
        uint32_t fresh = peri_cells_carve(cells, PAGE_BYTES + 64);

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
            peri_cells_lock(cells);
            own = add_chunk(cells, series);
            peri_cells_unlock(cells);
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
