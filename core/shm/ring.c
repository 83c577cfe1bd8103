/* Ring: counters that only grow, bytes at counter modulo size. */
#include "core/shm/ring.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/err.h"

#define FILE_WRITE_BYTES ((size_t)64 << 10)

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
    atomic_fetch_add_explicit(&ring->lines_total, 1, memory_order_relaxed);
    return true;
}

/* The byte at a counter. */
static char ring_byte(const peri_ring *ring, uint64_t at)
{
    return ring->data[at & (PERI_RING_BYTES - 1)];
}

/* How many of the waiting bytes go out in one write: whole lines of at most
 * max_bytes, or one line that is longer. */
static size_t piece_length(const peri_ring *ring, uint64_t tail, size_t used,
                           size_t max_bytes)
{
    size_t length = used < max_bytes ? used : max_bytes;

    while (length > 0 && ring_byte(ring, tail + length - 1) != '\n') {
        length--;
    }
    if (length > 0) {
        return length;
    }
    length = used < max_bytes ? used : max_bytes;
    while (length < used && ring_byte(ring, tail + length - 1) != '\n') {
        length++;
    }
    return length;
}

static ssize_t write_piece(const peri_ring *ring, int fd, uint64_t tail,
                           size_t length)
{
    size_t at = (size_t)(tail & (PERI_RING_BYTES - 1));
    size_t first = PERI_RING_BYTES - at;
    struct iovec parts[2];

    if (first > length) {
        first = length;
    }
    parts[0] = (struct iovec){(void *)(uintptr_t)(ring->data + at), first};
    parts[1] = (struct iovec){(void *)(uintptr_t)ring->data, length - first};
    return writev(fd, parts, length > first ? 2 : 1);
}

/* 0 when fd takes bytes, PERI_ETIMEOUT, or -errno. deadline 0: does not wait.
 */
static int wait_writable(int fd, uint64_t deadline_ns)
{
    struct pollfd wanted = {.fd = fd, .events = POLLOUT};
    uint64_t now = deadline_ns != 0 ? peri_clock_monotonic_ns() : 0;
    int wait_ms =
        now < deadline_ns ? (int)((deadline_ns - now) / 1000000u) + 1 : 0;
    int n = poll(&wanted, 1, wait_ms);

    if (n < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    return n == 0 ? PERI_ETIMEOUT : 0;
}

int peri_ring_drain(peri_ring *ring, int fd, int max_wait_ms)
{
    struct stat info;
    bool is_file = fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    size_t max_bytes = is_file ? FILE_WRITE_BYTES : PIPE_BUF;
    uint64_t deadline_ns =
        max_wait_ms > 0
            ? peri_clock_monotonic_ns() + (uint64_t)max_wait_ms * 1000000u
            : 0;

    for (;;) {
        uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
        size_t used = peri_ring_used(ring);
        int rc = used != 0 ? wait_writable(fd, deadline_ns) : 0;
        ssize_t n;

        if (used == 0 || rc < 0) {
            return rc;
        }
        n = write_piece(ring, fd, tail,
                        piece_length(ring, tail, used, max_bytes));
        if (n < 0 && errno != EINTR && errno != EAGAIN) {
            return -errno;
        }
        if (n > 0) {
            atomic_store_explicit(&ring->tail, tail + (uint64_t)n,
                                  memory_order_release);
        }
    }
}
