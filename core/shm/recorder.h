/* Recorder: the slowest things that a worker did lately, as JSON, in memory
 * that outlives it.
 *
 * One a worker slot, written by its worker, read by the master. A handful of
 * places: what is slower than the fastest of them takes its place, or that of
 * one that has become old. To find that something is not slow enough is one
 * comparison. A reader sees an entry whole or not at all; one whose writer was
 * killed meanwhile is left out until its place is used again. */
#ifndef PERI_SHM_RECORDER_H
#define PERI_SHM_RECORDER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/slice.h"

#define PERI_RECORDER_ENTRIES 16
#define PERI_RECORDER_BYTES 8160 /* of an entry's text */
#define PERI_RECORDER_KEEP_NS ((uint64_t)600 * 1000000000u)

typedef struct peri_recorder_entry {
    _Atomic uint32_t version; /* odd: being written; 0: never was */
    uint32_t length;
    uint64_t took_ns;
    uint64_t ended_ns; /* monotonic */
    char text[PERI_RECORDER_BYTES];
} peri_recorder_entry;

typedef struct peri_recorder {
    _Alignas(64) _Atomic uint32_t changes;
    /* The writer's: what is faster is not kept, until the oldest is old. */
    uint64_t floor_ns;
    uint64_t floor_until_ns;
    peri_recorder_entry entry[PERI_RECORDER_ENTRIES];
} peri_recorder;

/* Whether something that took so long would be kept. */
static inline bool peri_recorder_wants(const peri_recorder *recorder,
                                       uint64_t took_ns, uint64_t now_ns)
{
    return took_ns > recorder->floor_ns || now_ns > recorder->floor_until_ns;
}

/* text longer than PERI_RECORDER_BYTES is not kept. */
void peri_recorder_put(peri_recorder *recorder, uint64_t took_ns,
                       uint64_t now_ns, peri_slice text);

/* Copies entry index: false when there is none, or it is older than
 * PERI_RECORDER_KEEP_NS. Of out, version is of no meaning. */
bool peri_recorder_read(const peri_recorder *recorder, int index,
                        uint64_t now_ns, peri_recorder_entry *out);

#endif
