/* Ring tail: reading a log ring along with its consumer, without taking.
 *
 * What a ring has given away stays in its memory until it is written over: that
 * is a history nobody pays for. A reader that is too slow loses lines, the ring
 * never waits for it. */
#ifndef PERI_SHM_RING_TAIL_H
#define PERI_SHM_RING_TAIL_H

#include "core/base/buf.h"
#include "core/shm/ring.h"

/* Appends the whole lines that came since *cursor (0: the ring's beginning),
 * the newest max_bytes of them, and moves the cursor behind them. Returns how
 * many bytes were passed over. */
uint64_t peri_ring_read_along(const peri_ring *ring, uint64_t *cursor,
                              size_t max_bytes, peri_buf *out);

#endif
