/* Worker: draining, and the end. See worker_state.h for the map. */
#include <unistd.h>

#include "core/cluster/worker_state.h"

#define SHUTDOWN_DEFAULT_MS 25000
/* For answering what is cut off, closing, and on_stop, however short
 * shutdown.timeout is; below the master's KILL_SLACK_MS. */
#define END_MIN_MS 500

static void end_loop(peri_worker *w)
{
    uv_close((uv_handle_t *)&w->prepare, NULL);
    uv_close((uv_handle_t *)&w->beat, NULL);
    uv_close((uv_handle_t *)&w->term, NULL);
    peri_pulse_stop(w->pulse);
    w->pulse = NULL;
    /* The deadline stays, unreferenced: should the application have left
     * something open, the process still ends. */
    peri_channel_close(w->channel);
    w->channel = NULL;
}

static void on_destroyed(void *data)
{
    peri_worker *w = data;

    w->host = NULL;
    end_loop(w);
}

static void on_server_closed(void *data)
{
    peri_worker *w = data;

    w->server = NULL;
    if (w->host != NULL) {
        w->app->destroy(w->host, on_destroyed, w);
    } else {
        end_loop(w);
    }
}

void peri_worker_end(peri_worker *w)
{
    if (w->phase == PERI_WORKER_ENDING) {
        return;
    }
    w->phase = PERI_WORKER_ENDING;
    if (w->server != NULL) {
        peri_worker_count(w);
        peri_http_server_close(w->server, on_server_closed, w);
    } else {
        on_server_closed(w);
    }
}

static void end_when_idle(peri_worker *w)
{
    if (--w->busy == 0) {
        peri_worker_end(w);
    }
}

static void on_drained(void *data)
{
    end_when_idle(data);
}

static void on_jobs_ended(void *data)
{
    end_when_idle(data);
}

/* Not even cutting requests off has ended it. */
static void on_hard_deadline(uv_timer_t *timer)
{
    peri_worker *w = timer->data;

    peri_log(&w->logger, PERI_LOG_ERROR,
             "worker does not end; leaving without on_stop");
    peri_logs_flush(&w->logs, PERI_WORKER_FLUSH_MS);
    peri_logs_flush(&w->access, PERI_WORKER_FLUSH_MS / 2);
    _exit(1);
}

/* Cancelled requests have had the time to be answered. */
static void on_cut_deadline(uv_timer_t *timer)
{
    peri_worker *w = timer->data;

    uv_timer_start(timer, on_hard_deadline, w->hard_ms, 0);
    peri_worker_end(w);
}

static void on_soft_deadline(uv_timer_t *timer)
{
    peri_worker *w = timer->data;
    peri_http_server_stats stats = {0};

    if (w->phase == PERI_WORKER_DRAINING && w->server != NULL) {
        peri_http_server_get_stats(w->server, &stats);
    }
    if (stats.requests_active > 0) {
        w->cut = true;
        peri_log(&w->logger, PERI_LOG_WARN,
                 "shutdown.timeout: cutting off %u requests",
                 stats.requests_active);
        if (w->app->cut != NULL) {
            w->app->cut(w->host);
            w->hard_ms /= 2;
            uv_timer_start(timer, on_cut_deadline, w->hard_ms, 0);
            return;
        }
    }
    on_cut_deadline(timer);
}

void peri_worker_drain(peri_worker *w, uint64_t limit_ms)
{
    uint64_t reserve = limit_ms / 5 < 1000 ? limit_ms / 5 : 1000;

    if (w->phase >= PERI_WORKER_DRAINING) {
        return;
    }
    atomic_store(&w->slot->state, PERI_SLOT_DRAINING);
    w->hard_ms = reserve < END_MIN_MS ? END_MIN_MS : (uint32_t)reserve;
    uv_timer_start(&w->deadline, on_soft_deadline, limit_ms - reserve, 0);
    if (w->server == NULL || w->phase != PERI_WORKER_SERVING) {
        w->phase = PERI_WORKER_DRAINING;
        peri_worker_end(w);
        return;
    }
    w->phase = PERI_WORKER_DRAINING;
    w->busy = 1;
    if (w->app->stop_jobs != NULL &&
        w->app->stop_jobs(w->host, on_jobs_ended, w)) {
        w->busy++;
    }
    peri_http_server_drain(w->server, on_drained, w);
}

void peri_worker_drain_itself(peri_worker *w)
{
    int64_t limit_ms =
        peri_settings_int(w->settings, "shutdown.timeout", SHUTDOWN_DEFAULT_MS);

    peri_worker_drain(w, (uint64_t)limit_ms);
}
