/* Master: from its first worker that serves to what is left when it ends. */
#include "core/cluster/master.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/cluster/master_state.h"

#define LAST_LINES_MS 1000 /* for a slow log destination, in all */

static void tell_listening(peri_master *master)
{
    char url[128];
    peri_log_field fields[5];

    peri_address_url(&master->address,
                     master->identity != NULL ? "https" : "http", url,
                     sizeof url);
    fields[0] = PERI_FIELD_STR("address", master->address.host);
    fields[1] = PERI_FIELD_NUM("port", master->address.port);
    fields[2] = PERI_FIELD_STR("url", url);
    fields[3] = PERI_FIELD_NUM("workers", master->seat_count);
    fields[4] = PERI_FIELD_STR("env", master->options->env);
    peri_log_fields(&master->logger, PERI_LOG_INFO, "listening", fields, 5);
}

void peri_master_first_ready(peri_master *master)
{
    master->phase = PERI_MASTER_RUNNING;
    atomic_store(&master->segment->header.generation, master->generation);
    peri_seats_listen(master);
    for (int i = 0; i < master->seat_count; i++) {
        peri_seat *seat = master->seats[i];

        if (seat->proc != NULL && seat->proc->state == PERI_PROC_READY) {
            peri_seat_proc_ready(seat, seat->proc);
        }
    }
    tell_listening(master);
    peri_spare_update(master);
    peri_reload_kick(master);
}

void peri_master_boot_failed(peri_master *master, int code, const char *reason)
{
    fprintf(stderr, "%s\n", reason);
    peri_stop(master, code);
}

void peri_master_close(peri_master *master)
{
    if (master->closing) {
        return;
    }
    master->closing = true;
    peri_watch_destroy(master->watch);
    master->watch = NULL;
    peri_reload_close(master);
    peri_profile_close(master);
    peri_control_destroy(master);
    peri_dashboard_destroy(master);
    peri_ask_close(master);
    peri_admin_destroy(master);
    peri_statsd_destroy(master);
    peri_otlp_push_destroy(master);
    peri_compat_destroy(master);
    peri_rotate_destroy(master);
    peri_log_export_destroy(master);
    peri_seats_close(master);
    peri_spare_destroy(master);
    peri_identity_destroy(master);
    peri_signals_close(master);
    peri_children_close(&master->children);
    uv_close((uv_handle_t *)&master->stop_timer, NULL);
    uv_close((uv_handle_t *)&master->watchdog, NULL);
}

static void write_last_lines(peri_master *master)
{
    uint64_t end = peri_clock_monotonic_ns() + LAST_LINES_MS * 1000000u;

    peri_logs_stop(&master->logs, LAST_LINES_MS);
    for (int i = 0; i < master->records_high; i++) {
        uint64_t now = peri_clock_monotonic_ns();
        int left_ms = now < end ? (int)((end - now) / 1000000u) : 0;

        peri_logs_drain(&master->logs, &master->segment->log[i], left_ms);
        peri_logs_drain(&master->access, &master->segment->access[i], left_ms);
    }
    peri_logs_drain(&master->logs, &master->segment->log[PERI_LOG_OF_MASTER],
                    0);
}

static void release(peri_master *master)
{
    if (master->segment != NULL) {
        write_last_lines(master);
        peri_cells_close(master->cells);
        peri_regions_destroy(master->regions);
        peri_segment_close(master->segment);
        close(master->segment_fd);
    }
    peri_logs_close(&master->logs);
    peri_logs_close(&master->access);
    peri_settings_destroy(master->settings);
    peri_settings_destroy(master->logs_settings);
    free(master->logs_text);
    peri_lock_drop(&master->lock);
    close(master->bundle_fd);
    if (master->previous_fd >= 0) {
        close(master->previous_fd);
    }
    free(master);
}

static void init_loop(peri_master *master)
{
    uv_loop_init(&master->loop);
    uv_timer_init(&master->loop, &master->stop_timer);
    uv_timer_init(&master->loop, &master->watchdog);
    master->stop_timer.data = master->watchdog.data = master;
    peri_children_init(&master->children, &master->loop);
    peri_reload_init(master);
    peri_signals_start(master);
    peri_spare_create(master);
}

int peri_master_run(const peri_master_options *options)
{
    peri_master *master = peri_calloc(1, sizeof *master);
    int code;

    master->options = options;
    master->bundle_fd = options->bundle_fd;
    master->previous_fd = -1;
    master->lock.fd = -1;
    master->generation = 1;
    master->started_ns = peri_clock_monotonic_ns();
    master->started_ms = peri_clock_wall_ms();
    peri_list_init(&master->procs);
    peri_list_init(&master->stop_waiters);
    peri_list_init(&master->asks);
    init_loop(master);
    peri_handover_read(&master->handover); /* lets signals through again */
    code = peri_master_start(master);
    if (code != 0) {
        if (peri_list_empty(&master->procs)) {
            master->exit_code = code;
            peri_master_close(master);
        } else {
            peri_stop(master, code);
        }
    }
    uv_run(&master->loop, UV_RUN_DEFAULT);
    uv_loop_close(&master->loop);
    code = master->exit_code;
    release(master);
    return code;
}
