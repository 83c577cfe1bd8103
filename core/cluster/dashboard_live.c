/* Dashboard live: server-sent events for those who look.
 *
 * While somebody does, a timer makes each event once and gives it to all. A
 * viewer that takes it too slowly loses events, and is told how many. Nobody
 * looks: nothing happens. */
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/json_text.h"
#include "core/cluster/dashboard.h"
#include "core/shm/ring_tail.h"

#define VIEWERS_MAX 16
#define TICK_MS 250
#define STATE_TICKS 4
#define SLOW_TICKS 8
#define LOG_BYTES_MAX ((size_t)64 << 10)     /* of each ring, in a tick */
#define HISTORY_BYTES_MAX ((size_t)16 << 10) /* of each ring, at the start */
#define LINE_SHOWN_MAX ((size_t)16 << 10)
#define EVENTS_MAX ((size_t)16 << 20)

typedef struct viewer {
    peri_dashboard_user user;
    peri_list link;
    peri_dashboard *dashboard;
    peri_exchange *exchange;
    bool slow;
    unsigned missed;
} viewer;

/* ---- viewers ---- */

static void drop(viewer *v)
{
    peri_dashboard *dashboard = v->dashboard;

    peri_list_remove(&v->link);
    dashboard->viewer_count--;
    if (dashboard->viewer_count == 0) {
        uv_timer_stop(&dashboard->timer);
    }
    v->exchange->user = NULL;
    peri_exchange_drain_cancel(v->exchange);
    peri_exchange_unref(v->exchange);
    free(v);
}

static void on_gone(peri_dashboard_user *user)
{
    drop(PERI_CONTAINER(user, viewer, user));
}

static void give(viewer *v, peri_slice events);

static void on_drain(void *data, int rc)
{
    viewer *v = data;
    peri_exchange *ex = v->exchange;
    char text[64];
    int length;

    if (rc < 0) {
        peri_exchange_ref(ex);
        drop(v);
        peri_exchange_abort(ex);
        peri_exchange_unref(ex);
        return;
    }
    v->slow = false;
    length = snprintf(text, sizeof text,
                      "event: missed\ndata: {\"events\":%u}\n\n", v->missed);
    if (v->missed > 0) {
        v->missed = 0;
        give(v, peri_slice_of(text, (size_t)length));
    }
}

static void give(viewer *v, peri_slice events)
{
    if (v->slow) {
        v->missed++;
    } else if (peri_exchange_write(v->exchange, events) == PERI_EAGAIN) {
        v->slow = true;
        peri_exchange_on_drain(v->exchange, on_drain, v);
    }
}

static void give_all(peri_dashboard *dashboard, const peri_buf *events)
{
    peri_list *next;

    if (events->length == 0) {
        return;
    }
    for (peri_list *link = dashboard->viewers.next; link != &dashboard->viewers;
         link = next) {
        next = link->next;
        give(PERI_CONTAINER(link, viewer, link), peri_buf_slice(events));
    }
}

/* ---- events ---- */

static void add_state(peri_master *master, peri_buf *out)
{
    peri_buf_append_str(out, "event: state\ndata: ");
    peri_dashboard_state(master, out);
    peri_buf_append_str(out, "\n\n");
}

static void add_slow(peri_master *master, peri_buf *out)
{
    peri_buf_append_str(out, "event: slow\ndata: ");
    peri_dashboard_slow(master, out);
    peri_buf_append_str(out, "\n\n");
}

/* Each line as a text: what is cut is no JSON. */
static void add_lines(const peri_buf *lines, uint64_t skipped, peri_buf *out)
{
    peri_slice rest = peri_buf_slice(lines);
    const char *comma = "";

    if (rest.length == 0 && skipped == 0) {
        return;
    }
    peri_buf_printf(out, "event: log\ndata: {\"skipped\":%llu,\"lines\":[",
                    (unsigned long long)skipped);
    while (rest.length > 0) {
        const char *end = memchr(rest.data, '\n', rest.length);
        size_t length = end != NULL ? (size_t)(end - rest.data) : rest.length;
        size_t taken = end != NULL ? length + 1 : length;
        size_t shown = length < LINE_SHOWN_MAX ? length : LINE_SHOWN_MAX;

        peri_buf_append_str(out, comma);
        peri_json_append_string(out, peri_slice_of(rest.data, shown));
        comma = ",";
        rest.data += taken;
        rest.length -= taken;
    }
    peri_buf_append_str(out, "]}\n\n");
}

static void add_ring(peri_master *master, int number, peri_ring_cursor *at,
                     size_t max_bytes, peri_buf *out)
{
    peri_buf lines;
    uint64_t skipped;

    peri_buf_init(&lines, max_bytes);
    skipped = peri_ring_read_along(&master->segment->log[number], at, max_bytes,
                                   &lines);
    if (max_bytes == HISTORY_BYTES_MAX) {
        skipped = 0; /* what came before is no loss */
    }
    master->log_missed_by_dashboard += (double)skipped;
    add_lines(&lines, skipped, out);
    peri_buf_fini(&lines);
}

/* The log rings that were ever used, the master's first. */
static void add_rings(peri_dashboard *dashboard, peri_ring_cursor *at,
                      size_t max_bytes, peri_buf *out)
{
    peri_master *master = dashboard->master;

    add_ring(master, PERI_LOG_OF_MASTER, &at[PERI_LOG_OF_MASTER], max_bytes,
             out);
    for (int i = 0; i < master->records_high; i++) {
        add_ring(master, i, &at[i], max_bytes, out);
    }
}

/* What a viewer finds. The first one's cursors go on from there, those of the
 * others stay where they are. */
static void add_history(peri_dashboard *dashboard, peri_buf *out)
{
    bool first = dashboard->viewer_count == 0;
    peri_ring_cursor *at =
        first ? dashboard->log_at : peri_calloc(PERI_SLOTS_MAX + 1, sizeof *at);

    if (first) {
        memset(at, 0, sizeof dashboard->log_at);
    }
    add_rings(dashboard, at, HISTORY_BYTES_MAX, out);
    if (!first) {
        free(at);
    }
}

static void on_tick(uv_timer_t *timer)
{
    peri_dashboard *dashboard = timer->data;
    uint32_t changes = peri_dashboard_slow_changes(dashboard->master);
    peri_buf events;

    dashboard->ticks++;
    peri_buf_init(&events, EVENTS_MAX);
    add_rings(dashboard, dashboard->log_at, LOG_BYTES_MAX, &events);
    if (dashboard->ticks % STATE_TICKS == 0) {
        add_state(dashboard->master, &events);
    }
    if (dashboard->ticks % SLOW_TICKS == 0 && changes != dashboard->slow_seen) {
        dashboard->slow_seen = changes;
        add_slow(dashboard->master, &events);
    }
    give_all(dashboard, &events);
    peri_buf_fini(&events);
}

/* ---- coming and going ---- */

static void begin(peri_exchange *ex)
{
    static const peri_field fields[] = {
        {PERI_SLICE_INIT("content-type"), PERI_SLICE_INIT("text/event-stream")},
        {PERI_SLICE_INIT("cache-control"), PERI_SLICE_INIT("no-store")},
        {PERI_SLICE_INIT("cross-origin-resource-policy"),
         PERI_SLICE_INIT("same-origin")},
        {PERI_SLICE_INIT("x-content-type-options"), PERI_SLICE_INIT("nosniff")},
    };

    peri_exchange_begin(ex, 200, fields, sizeof fields / sizeof fields[0], -1);
}

void peri_dashboard_join(peri_master *master, peri_exchange *ex)
{
    peri_dashboard *dashboard = master->dashboard;
    viewer *v;
    peri_buf events;

    if (dashboard->viewer_count >= VIEWERS_MAX) {
        peri_dashboard_refuse(ex, 503, "too many look at the dashboard");
        return;
    }
    peri_exchange_keep(ex);
    begin(ex);
    if (ex->method == PERI_METHOD_HEAD) {
        peri_exchange_end(ex);
        return;
    }
    v = peri_calloc(1, sizeof *v);
    v->user.gone = on_gone;
    v->dashboard = dashboard;
    v->exchange = ex;
    peri_buf_init(&events, EVENTS_MAX);
    peri_buf_append_str(&events, "retry: 2000\n\n");
    add_state(master, &events);
    add_history(dashboard, &events);
    add_slow(master, &events);
    peri_exchange_ref(ex);
    ex->user = &v->user;
    peri_list_append(&dashboard->viewers, &v->link);
    if (dashboard->viewer_count++ == 0) {
        uv_timer_start(&dashboard->timer, on_tick, TICK_MS, TICK_MS);
    }
    give(v, peri_buf_slice(&events));
    peri_buf_fini(&events);
}

void peri_dashboard_end_viewers(peri_dashboard *dashboard)
{
    while (!peri_list_empty(&dashboard->viewers)) {
        viewer *v = PERI_CONTAINER(dashboard->viewers.next, viewer, link);
        peri_exchange *ex = v->exchange;

        peri_exchange_ref(ex);
        drop(v);
        peri_exchange_end(ex);
        peri_exchange_unref(ex);
    }
}
