/* Ring tail: copied first, believed if the writer has stayed far enough. */
#include "core/shm/ring_tail.h"

#include <stdbool.h>
#include <string.h>

#define READ_MAX (PERI_RING_BYTES / 2)
/* Beyond this distance the writer may be at what was copied. */
#define SAFE_MAX (PERI_RING_BYTES / 4 * 3)
#define LOOKS_MAX 100

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

/* The ring's end, and how many lines lie before it. They are written one after
 * the other: a writer at work may come between. */
static uint64_t find_end(const peri_ring *ring, uint64_t *lines)
{
    for (int i = 0;; i++) {
        uint64_t before =
            atomic_load_explicit(&ring->lines_total, memory_order_acquire);
        uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);

        *lines = atomic_load_explicit(&ring->lines_total, memory_order_acquire);
        if (*lines == before || i == LOOKS_MAX) {
            return head;
        }
    }
}

static uint64_t count_lines(const char *from, size_t length)
{
    const char *end = from + length;
    uint64_t count = 0;

    while (from < end && (from = memchr(from, '\n', (size_t)(end - from)))) {
        from++;
        count++;
    }
    return count;
}

/* Appends what lies between from and the head; false: it may have been written
 * over meanwhile. */
static bool read_from(const peri_ring *ring, uint64_t from, size_t length,
                      peri_buf *out)
{
    size_t start = out->length;

    if (copy(ring, from, length, out) < 0) {
        return false;
    }
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(&ring->head, memory_order_relaxed) - from >
        SAFE_MAX) {
        out->length = start;
        return false;
    }
    return true;
}

uint64_t peri_ring_read_along(const peri_ring *ring, peri_ring_cursor *cursor,
                              size_t max_bytes, peri_buf *out)
{
    uint64_t lines;
    uint64_t head = find_end(ring, &lines);
    uint64_t since = cursor->at < head ? cursor->at : head;
    size_t max = max_bytes < READ_MAX ? max_bytes : READ_MAX;
    size_t length = head - since < max ? (size_t)(head - since) : max;
    uint64_t from = head - length;
    size_t start = out->length;
    uint64_t known = cursor->lines;
    bool got = length > 0 && read_from(ring, from, length, out);

    if (got && from > since) {
        drop_partial(out, start);
    }
    if (got) {
        known += count_lines(out->data + start, out->length - start);
    }
    cursor->at = head;
    if (got && from == since) {
        cursor->lines = known; /* exact, which lines may not be */
        return 0;
    }
    cursor->lines = lines;
    return lines > known ? lines - known : 0;
}
