/* Ring: log lines on their way out, in memory that outlives its writer.
 *
 * Lies in the shared segment, one a worker slot. One process produces (its
 * threads take turns, see ring_writer.h), one consumes: a thread of the same
 * process, or the master once that process is dead. A line is there whole or
 * not at all, at whatever instruction its writer was killed; what the dead
 * left is written out by the master or by the slot's next worker.
 * Nobody ever waits for the consumer: a line that finds no room is dropped and
 * counted. */
#ifndef PERI_SHM_RING_H
#define PERI_SHM_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/base/slice.h"

/* Room for what a loop that logs without a pause writes before the thread has
 * its turn. Only touched pages cost memory. */
#define PERI_RING_BYTES ((size_t)1 << 20)

typedef struct peri_ring {
    /* Bytes ever written and ever taken; their difference waits. */
    _Alignas(64) _Atomic uint64_t head;
    _Alignas(64) _Atomic uint64_t tail;
    _Alignas(64) _Atomic uint64_t lines_total; /* after head */
    _Atomic uint64_t lost_total; /* lines dropped; never goes back */
    _Atomic uint64_t lost_told;  /* of them, announced in a line of its own */
    _Alignas(64) char data[PERI_RING_BYTES];
} peri_ring;

/* Appends a line (with its line feed). False: no room, counted as lost. Not for
 * several threads at once. */
bool peri_ring_put(peri_ring *ring, peri_slice line);

/* Bytes that wait. */
size_t peri_ring_used(const peri_ring *ring);

/* Where a ring's lines go; core/loop/log_sink.h is one. */
typedef struct peri_ring_out {
    /* Takes whole lines, from the first on. How many bytes of them, 0: none
     * now, or -errno. */
    ssize_t (*send)(void *data, peri_slice lines);
    /* Until it may take more. 0, PERI_ETIMEOUT or -errno. */
    int (*wait)(void *data, int timeout_ms);
    void *data;
} peri_ring_out;

/* Writes out what waits. Only while nobody else consumes. max_wait_ms: how long
 * a slow destination is waited for in all; 0: never. Returns 0 when all is out,
 * PERI_ETIMEOUT, or -errno. */
int peri_ring_drain(peri_ring *ring, const peri_ring_out *out, int max_wait_ms);

#endif
