/* Ring tail: copied first, believed if the writer has stayed far enough. */
#include "core/shm/ring_tail.h"

#include <string.h>

#define READ_MAX (PERI_RING_BYTES / 2)
/* Beyond this distance the writer may be at what was copied. */
#define SAFE_MAX (PERI_RING_BYTES / 4 * 3)

static int copy(const peri_ring *ring, uint64_t from, size_t length,
                peri_buf *out)
{
    size_t at = (size_t)(from & (PERI_RING_BYTES - 1));
    size_t first = PERI_RING_BYTES - at;

    if (peri_buf_reserve(out, length) < 0) {
        return PERI_ELIMIT;
    }
    if (first > length) {
        first = length;
    }
    peri_buf_append(out, ring->data + at, first);
    peri_buf_append(out, ring->data, length - first);
    return 0;
}

/* The rest of a line whose beginning was passed over. */
static void drop_partial(peri_buf *out, size_t start)
{
    char *from = out->data + start;
    size_t length = out->length - start;
    char *end = memchr(from, '\n', length);
    size_t cut = end != NULL ? (size_t)(end + 1 - from) : length;

    memmove(from, from + cut, length - cut);
    out->length -= cut;
}

uint64_t peri_ring_read_along(const peri_ring *ring, uint64_t *cursor,
                              size_t max_bytes, peri_buf *out)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    uint64_t since = *cursor < head ? *cursor : head;
    size_t max = max_bytes < READ_MAX ? max_bytes : READ_MAX;
    size_t length = head - since < max ? (size_t)(head - since) : max;
    uint64_t from = head - length;
    size_t start = out->length;

    *cursor = head;
    if (length == 0) {
        return head - since;
    }
    if (copy(ring, from, length, out) < 0) {
        return head - since;
    }
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(&ring->head, memory_order_relaxed) - from >
        SAFE_MAX) {
        out->length = start;
        return head - since;
    }
    if (from > since) {
        drop_partial(out, start);
    }
    return from - since;
}
