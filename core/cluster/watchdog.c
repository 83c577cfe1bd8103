/* Watchdog: a worker whose heartbeat stops is killed. */
#include <string.h>

#include "core/cluster/master_state.h"

#define LIMIT_DEFAULT_MS 30000

static void kill_stuck(peri_master *master, peri_proc *proc, uint64_t stuck_ms)
{
    peri_slot *slot = peri_proc_slot(proc);
    char route[sizeof slot->doing_route + 1] = {0};
    char request[sizeof slot->doing_request + 1] = {0};
    peri_log_field fields[5];

    memcpy(route, slot->doing_route, sizeof slot->doing_route);
    memcpy(request, slot->doing_request, sizeof slot->doing_request);
    fields[0] = PERI_FIELD_NUM("worker", proc->number);
    fields[1] = PERI_FIELD_NUM("workerPid", proc->pid);
    fields[2] = PERI_FIELD_NUM("stuckMs", stuck_ms);
    fields[3] = PERI_FIELD_STR("route", route);
    fields[4] = PERI_FIELD_STR("request", request);
    peri_log_fields(&master->logger, PERI_LOG_ERROR,
                    "watchdog: a worker is stuck and is killed", fields, 5);
    proc->reason = PERI_END_WATCHDOG;
    peri_proc_kill(proc);
}

static void check_worker(peri_master *master, peri_proc *proc,
                         uint64_t limit_ms)
{
    uint64_t beat = atomic_load(&peri_proc_slot(proc)->heartbeat_ms);
    uint64_t now = uv_now(&master->loop);

    if (proc->state == PERI_PROC_STARTING || beat == 0 || now < beat ||
        now - beat <= limit_ms) {
        return;
    }
    /* Seen twice: all of us may have been stopped and continued. */
    if (proc->stale_beat_ms == beat) {
        kill_stuck(master, proc, now - beat);
    }
    proc->stale_beat_ms = beat;
}

static void on_watchdog(uv_timer_t *timer)
{
    peri_master *master = timer->data;
    uint64_t limit_ms =
        peri_master_setting(master, "cluster.watchdog", LIMIT_DEFAULT_MS);

    uv_update_time(&master->loop);
    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        if (limit_ms > 0) {
            check_worker(master, PERI_CONTAINER(link, peri_proc, link),
                         limit_ms);
        }
    }
}

void peri_watchdog_start(peri_master *master)
{
    uint64_t limit_ms =
        peri_master_setting(master, "cluster.watchdog", LIMIT_DEFAULT_MS);
    uint64_t every_ms = limit_ms / 4 < 100 ? 100 : limit_ms / 4;

    if (limit_ms > 0) {
        uv_timer_start(&master->watchdog, on_watchdog, every_ms, every_ms);
        uv_unref((uv_handle_t *)&master->watchdog);
    }
}
