/* Ring writer: a process's end of a log ring, with the thread that empties it.
 *
 * put() may be called from any thread and never blocks on the destination. A
 * thousand lines in a burst are a few writes: the thread rests for some
 * milliseconds after each. */
#ifndef PERI_SHM_RING_WRITER_H
#define PERI_SHM_RING_WRITER_H

#include "core/base/log.h"
#include "core/shm/ring.h"

typedef struct peri_ring_writer peri_ring_writer;

/* ring: borrowed; NULL: one of its own, in ordinary memory. out: copied. teller
 * (borrowed; it may write into this very writer) is told of lost lines, as of
 * `what`. 0 or -errno. */
int peri_ring_writer_create(peri_ring *ring, const peri_ring_out *out,
                            const peri_logger *teller, const char *what,
                            peri_ring_writer **result);

/* As peri_log_write: data is the writer. */
void peri_ring_writer_put(void *writer, peri_slice line);

/* Waits until all that was put before is written: 0 or PERI_ETIMEOUT. */
int peri_ring_writer_flush(peri_ring_writer *writer, int timeout_ms);

/* Flushes as above, ends the thread, frees. What a blocked destination would
 * not take stays in the ring. */
void peri_ring_writer_destroy(peri_ring_writer *writer, int timeout_ms);

#endif
