/* Ring: counters that only grow, bytes at counter modulo size. */
#include "core/shm/ring.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/err.h"

#define PIECE_BYTES ((size_t)256 << 10)

_Static_assert((PERI_RING_BYTES & (PERI_RING_BYTES - 1)) == 0,
               "the ring's size is a power of two");

size_t peri_ring_used(const peri_ring *ring)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);

    return (size_t)(head - tail);
}

bool peri_ring_put(peri_ring *ring, peri_slice line)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    size_t at = (size_t)(head & (PERI_RING_BYTES - 1));
    size_t first = PERI_RING_BYTES - at;

    if (line.length > PERI_RING_BYTES - (size_t)(head - tail)) {
        atomic_fetch_add_explicit(&ring->lost_total, 1, memory_order_relaxed);
        return false;
    }
    if (first > line.length) {
        first = line.length;
    }
    memcpy(ring->data + at, line.data, first);
    memcpy(ring->data, line.data + first, line.length - first);
    atomic_store_explicit(&ring->head, head + line.length,
                          memory_order_release);
    atomic_fetch_add_explicit(&ring->lines_total, 1, memory_order_release);
    return true;
}

/* ---- writing out ---- */

/* The next lines to be written, in one piece: where they lie, or in room. */
static peri_slice next_piece(const peri_ring *ring, uint64_t tail, size_t used,
                             peri_buf *room)
{
    size_t at = (size_t)(tail & (PERI_RING_BYTES - 1));
    size_t straight = PERI_RING_BYTES - at;
    size_t length = used < PIECE_BYTES ? used : PIECE_BYTES;
    const char *end;
    size_t rest;

    if (length > straight) {
        length = straight;
    }
    end = memrchr(ring->data + at, '\n', length);
    if (end == NULL && used <= straight) {
        end = memchr(ring->data + at, '\n', used);
        length = used;
    }
    if (end != NULL) {
        length = (size_t)(end - (ring->data + at)) + 1;
    }
    if (end != NULL || used <= straight) {
        return peri_slice_of(ring->data + at, length);
    }
    /* A line that goes round the corner. */
    rest = used - straight;
    end = memchr(ring->data, '\n', rest);
    rest = end != NULL ? (size_t)(end - ring->data) + 1 : rest;
    peri_buf_clear(room);
    peri_buf_append(room, ring->data + at, straight);
    peri_buf_append(room, ring->data, rest);
    return peri_buf_slice(room);
}

/* 0: it may take more; PERI_ETIMEOUT; or -errno. deadline 0: looks once. */
static int wait_for(const peri_ring_out *out, uint64_t deadline_ns)
{
    uint64_t now = deadline_ns != 0 ? peri_clock_monotonic_ns() : 0;

    if (now >= deadline_ns) {
        return PERI_ETIMEOUT;
    }
    return out->wait(out->data, (int)((deadline_ns - now) / 1000000u) + 1);
}

static int drain(peri_ring *ring, const peri_ring_out *out,
                 uint64_t deadline_ns, peri_buf *room)
{
    for (;;) {
        uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
        size_t used = peri_ring_used(ring);
        ssize_t n;
        int rc = 0;

        if (used == 0) {
            return 0;
        }
        n = out->send(out->data, next_piece(ring, tail, used, room));
        if (n > 0) {
            atomic_store_explicit(&ring->tail, tail + (uint64_t)n,
                                  memory_order_release);
        } else {
            rc = n < 0 ? (int)n : wait_for(out, deadline_ns);
        }
        if (rc < 0) {
            return rc;
        }
    }
}

int peri_ring_drain(peri_ring *ring, const peri_ring_out *out, int max_wait_ms)
{
    uint64_t deadline_ns =
        max_wait_ms > 0
            ? peri_clock_monotonic_ns() + (uint64_t)max_wait_ms * 1000000u
            : 0;
    peri_buf room;
    int rc;

    peri_buf_init(&room, PERI_RING_BYTES);
    rc = drain(ring, out, deadline_ns, &room);
    peri_buf_fini(&room);
    return rc;
}
