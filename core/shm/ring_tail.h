/* Ring tail: reading a log ring along with its consumer, without taking.
 *
 * What a ring has given away stays in its memory until it is written over: that
 * is a history nobody pays for. A reader that is too slow misses lines, the
 * ring never waits for it. */
#ifndef PERI_SHM_RING_TAIL_H
#define PERI_SHM_RING_TAIL_H

#include "core/base/buf.h"
#include "core/shm/ring.h"

/* How far a reader has come. All 0: the ring's beginning. */
typedef struct peri_ring_cursor {
    uint64_t at;    /* bytes of the ring's head */
    uint64_t lines; /* lines before it, as far as they are known */
} peri_ring_cursor;

/* Appends the whole lines that came since the cursor, the newest max_bytes of
 * them, and moves the cursor behind them. Returns how many lines were passed
 * over; one that was just being written may be told by a later call, once the
 * writer rests. */
uint64_t peri_ring_read_along(const peri_ring *ring, peri_ring_cursor *cursor,
                              size_t max_bytes, peri_buf *out);

#endif
