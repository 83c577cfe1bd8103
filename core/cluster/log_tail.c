/* Log tail: a position in each ring. */
#include "core/cluster/log_tail.h"

#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/shm/ring_tail.h"

#define LOOK_MS 100
#define PIECE_BYTES (PERI_RING_BYTES / 2)

struct peri_log_tail {
    uv_timer_t timer;
    peri_master *master;
    peri_log_tail_fn on_lines;
    peri_log_missed_fn on_missed;
    void *data;
    size_t max_bytes; /* of a ring, in the next look */
    bool begun;       /* the first look has been */
    bool owes_moment; /* lines were given, and nobody has been told that that
                         was all of them */
    uint64_t missed;  /* lines, not told yet */
    peri_buf buf;
    peri_ring_cursor at[PERI_SLOTS_MAX + 1];
};

/* True: lines were given. */
static bool read_ring(peri_log_tail *tail, int i)
{
    peri_ring_cursor at = tail->at[i];
    uint64_t missed;

    peri_buf_clear(&tail->buf);
    missed = peri_ring_read_along(&tail->master->segment->log[i], &at,
                                  tail->max_bytes, &tail->buf);
    if (tail->buf.length > 0 &&
        !tail->on_lines(tail->data, peri_buf_slice(&tail->buf))) {
        return false; /* from the same place the next time */
    }
    tail->at[i] = at;
    tail->missed += missed;
    return tail->buf.length > 0;
}

void peri_log_tail_read(peri_log_tail *tail)
{
    int high = tail->master->records_high;
    bool any = read_ring(tail, PERI_LOG_OF_MASTER);

    for (int i = 0; i < high; i++) {
        any |= read_ring(tail, i);
    }
    if (!tail->begun) {
        tail->missed = 0;
    } else if (tail->missed > 0 && tail->on_missed(tail->data, tail->missed)) {
        tail->missed = 0;
    }
    tail->begun = true;
    tail->max_bytes = PIECE_BYTES;
    tail->owes_moment = tail->owes_moment || any;
    if (tail->owes_moment && tail->on_lines(tail->data, PERI_SLICE(""))) {
        tail->owes_moment = false;
    }
}

static void on_look(uv_timer_t *timer)
{
    peri_log_tail_read(timer->data);
}

peri_log_tail *peri_log_tail_create(peri_master *master, size_t back_bytes,
                                    peri_log_tail_fn on_lines,
                                    peri_log_missed_fn on_missed, void *data)
{
    peri_log_tail *tail = peri_calloc(1, sizeof *tail);

    tail->master = master;
    tail->on_lines = on_lines;
    tail->on_missed = on_missed;
    tail->data = data;
    tail->max_bytes = back_bytes;
    peri_buf_init(&tail->buf, PIECE_BYTES);
    uv_timer_init(&master->loop, &tail->timer);
    tail->timer.data = tail;
    uv_timer_start(&tail->timer, on_look, LOOK_MS, LOOK_MS);
    uv_unref((uv_handle_t *)&tail->timer);
    return tail;
}

static void on_closed(uv_handle_t *handle)
{
    peri_log_tail *tail = handle->data;

    peri_buf_fini(&tail->buf);
    free(tail);
}

void peri_log_tail_destroy(peri_log_tail *tail)
{
    if (tail != NULL) {
        uv_close((uv_handle_t *)&tail->timer, on_closed);
    }
}
