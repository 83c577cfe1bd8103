/* Log tail: a position in each ring. */
#include "core/cluster/log_tail.h"

#include <stdlib.h>

#include "core/base/alloc.h"

#define LOOK_MS 100
#define PIECE_BYTES ((size_t)128 << 10)

struct peri_log_tail {
    uv_timer_t timer;
    peri_master *master;
    peri_log_tail_fn on_lines;
    void *data;
    peri_buf buf;
    uint64_t at[PERI_SLOTS_MAX + 1];
};

/* True: there may be more at once. */
static bool read_ring(peri_log_tail *tail, int i)
{
    uint64_t at = tail->at[i];

    peri_buf_clear(&tail->buf);
    if (peri_ring_read(&tail->master->segment->log[i], &at, PIECE_BYTES,
                       &tail->buf) == 0) {
        tail->at[i] = at;
        return false;
    }
    if (!tail->on_lines(tail->data, peri_buf_slice(&tail->buf))) {
        return false;
    }
    tail->at[i] = at;
    return true;
}

void peri_log_tail_read(peri_log_tail *tail)
{
    int high = tail->master->records_high;
    bool any = false;

    for (int i = 0; i <= high; i++) {
        while (read_ring(tail, i < high ? i : PERI_LOG_OF_MASTER)) {
            any = true;
        }
    }
    if (any) {
        tail->on_lines(tail->data, PERI_SLICE(""));
    }
}

static void on_look(uv_timer_t *timer)
{
    peri_log_tail_read(timer->data);
}

peri_log_tail *peri_log_tail_create(peri_master *master, size_t back_bytes,
                                    peri_log_tail_fn on_lines, void *data)
{
    peri_log_tail *tail = peri_calloc(1, sizeof *tail);
    const peri_segment *segment = master->segment;

    tail->master = master;
    tail->on_lines = on_lines;
    tail->data = data;
    peri_buf_init(&tail->buf, 2 * PIECE_BYTES);
    for (int i = 0; i < master->records_high; i++) {
        tail->at[i] = peri_ring_back(&segment->log[i], back_bytes);
    }
    tail->at[PERI_LOG_OF_MASTER] =
        peri_ring_back(&segment->log[PERI_LOG_OF_MASTER], back_bytes);
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
