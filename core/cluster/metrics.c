/* Metrics: what the master itself knows, and what workers count in cells.
 *
 * One function a family. A worker's counters lie in its record of the segment
 * and go on after its death. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/cluster/master_state.h"
#include "core/cluster/proc_info.h"

#define PROCESSES_MAX (PERI_SLOTS_MAX + 1)

typedef struct process_sample {
    char labels[64];
    peri_process_info info; /* CPU time with that of its predecessors */
} process_sample;

static void sample(peri_expo *out, const char *labels, double value)
{
    peri_expo_sample(out, peri_slice_str(labels), value, 0);
}

/* ---- processes ---- */

static size_t sample_processes(peri_master *master, process_sample *out)
{
    size_t count = 1;

    snprintf(out[0].labels, sizeof out[0].labels, "role=\"master\"");
    peri_process_info_read_all((int)getpid(), &out[0].info);
    for (peri_list *link = master->procs.next;
         link != &master->procs && count < PROCESSES_MAX; link = link->next) {
        const peri_proc *proc = PERI_CONTAINER(link, peri_proc, link);
        process_sample *p = &out[count++];

        /* By record: two of one seat may live for a while. */
        snprintf(p->labels, sizeof p->labels, "role=\"worker\",worker=\"%d\"",
                 proc->record);
        peri_process_info_read_all(proc->pid, &p->info);
        p->info.user_us += atomic_load(&peri_proc_slot(proc)->user_past_us);
        p->info.system_us += atomic_load(&peri_proc_slot(proc)->system_past_us);
    }
    return count;
}

typedef struct process_family {
    const char *name;
    const char *help;
    size_t offset; /* of a uint64_t in peri_process_info */
} process_family;

static uint64_t value_of(const process_sample *p, size_t offset)
{
    return *(const uint64_t *)(const void *)((const char *)&p->info + offset);
}

static void write_cpu(const process_sample *samples, size_t count,
                      const char *name, const char *help, bool user,
                      bool system, peri_expo *out)
{
    peri_expo_head(out, name, PERI_EXPO_COUNTER, help);
    for (size_t i = 0; i < count; i++) {
        uint64_t us = (user ? samples[i].info.user_us : 0) +
                      (system ? samples[i].info.system_us : 0);

        sample(out, samples[i].labels, (double)us / 1e6);
    }
}

static void write_processes(peri_master *master, bool compat, peri_expo *out)
{
    static const process_family gauges[] = {
        {"process_heap_bytes", "Process heap size in bytes.", /* compat only */
         offsetof(peri_process_info, data_bytes)},
        {"process_resident_memory_bytes", "Resident memory size in bytes.",
         offsetof(peri_process_info, rss_bytes)},
        {"process_virtual_memory_bytes", "Virtual memory size in bytes.",
         offsetof(peri_process_info, virtual_bytes)},
        {"process_open_fds", "Number of open file descriptors.",
         offsetof(peri_process_info, open_fds)},
        {"process_max_fds", "Maximum number of open file descriptors.",
         offsetof(peri_process_info, max_fds)},
        {"process_start_time_seconds",
         "Start time of the process since unix epoch in seconds.",
         offsetof(peri_process_info, started_unix)},
    };
    process_sample *samples = peri_calloc(PROCESSES_MAX, sizeof *samples);
    size_t count = sample_processes(master, samples);

    write_cpu(samples, count, "process_cpu_seconds_total",
              "Total user and system CPU time spent in seconds.", true, true,
              out);
    if (compat) {
        write_cpu(samples, count, "process_cpu_user_seconds_total",
                  "Total user CPU time spent in seconds.", true, false, out);
        write_cpu(samples, count, "process_cpu_system_seconds_total",
                  "Total system CPU time spent in seconds.", false, true, out);
    }
    for (size_t g = compat ? 0 : 1; g < sizeof gauges / sizeof gauges[0]; g++) {
        peri_expo_head(out, gauges[g].name, PERI_EXPO_GAUGE, gauges[g].help);
        for (size_t i = 0; i < count; i++) {
            sample(out, samples[i].labels,
                   (double)value_of(&samples[i], gauges[g].offset));
        }
    }
    free(samples);
}

/* ---- workers ---- */

typedef struct slot_sums {
    uint64_t active;
    uint64_t connections_open;
    uint64_t requests_total;
    uint64_t connections_total;
    uint64_t lines_lost;
} slot_sums;

/* Over all records that were ever used: the counters of the dead count. */
static slot_sums sum_slots(const peri_master *master)
{
    const peri_segment *segment = master->segment;
    slot_sums sums = {0};

    for (int i = 0; i < master->records_high; i++) {
        const peri_slot *slot = &segment->slot[i];

        sums.active += atomic_load(&slot->requests_active);
        sums.connections_open += atomic_load(&slot->connections_open);
        sums.requests_total += atomic_load(&slot->requests_total);
        sums.connections_total += atomic_load(&slot->connections_total);
        sums.lines_lost += atomic_load(&segment->log[i].lost_total) +
                           atomic_load(&segment->access[i].lost_total);
    }
    sums.lines_lost +=
        atomic_load(&segment->log[PERI_LOG_OF_MASTER].lost_total);
    return sums;
}

static void write_workers(peri_master *master, peri_expo *out)
{
    slot_sums sums = sum_slots(master);

    peri_expo_head(out, "http_server_active_requests", PERI_EXPO_GAUGE,
                   "Requests that are being answered.");
    sample(out, "", (double)sums.active);
    peri_expo_head(out, "perigee_http_requests_total", PERI_EXPO_COUNTER,
                   "Requests whose head was read.");
    sample(out, "", (double)sums.requests_total);
    peri_expo_head(out, "perigee_http_connections_open", PERI_EXPO_GAUGE,
                   "Open connections.");
    sample(out, "", (double)sums.connections_open);
    peri_expo_head(out, "perigee_http_connections_total", PERI_EXPO_COUNTER,
                   "Connections accepted.");
    sample(out, "", (double)sums.connections_total);
    peri_expo_head(out, "perigee_log_lines_lost_total", PERI_EXPO_COUNTER,
                   "Log lines dropped because their destination was too slow.");
    sample(out, "", (double)sums.lines_lost);
}

static void write_log_missed(const peri_master *master, peri_expo *out)
{
    peri_expo_head(out, "perigee_log_lines_missed_total", PERI_EXPO_COUNTER,
                   "Log lines that came faster than they could be shown.");
    sample(out, "reader=\"logs\"", master->log_missed_by_logs);
    sample(out, "reader=\"dashboard\"", master->log_missed_by_dashboard);
}

static void write_log_records(const peri_master *master, peri_expo *out)
{
    static const char *const labels[PERI_RECORDS] = {
        [PERI_RECORDS_EXPORTED] = "result=\"exported\"",
        [PERI_RECORDS_DROPPED] = "result=\"dropped\"",
        [PERI_RECORDS_FAILED] = "result=\"failed\"",
        [PERI_RECORDS_MISSED] = "result=\"missed\"",
    };

    if (master->log_export == NULL) {
        return;
    }
    peri_expo_head(out, "perigee_log_records_total", PERI_EXPO_COUNTER,
                   "Log lines for the collector, by what became of them.");
    for (int i = 0; i < PERI_RECORDS; i++) {
        sample(out, labels[i], master->log_records[i]);
    }
}

static void write_tls(const peri_master *master, peri_expo *out)
{
    static const char *const labels[3] = {
        [PERI_SLOT_SHAKEN] = "result=\"full\"",
        [PERI_SLOT_RESUMED] = "result=\"resumed\"",
        [PERI_SLOT_UNSHAKEN] = "result=\"failed\"",
    };

    if (master->identity == NULL) {
        return;
    }
    peri_expo_head(out, "perigee_tls_handshakes_total", PERI_EXPO_COUNTER,
                   "TLS handshakes of the server.");
    for (size_t i = 0; i < 3; i++) {
        uint64_t sum = 0;

        for (int slot = 0; slot < master->records_high; slot++) {
            sum +=
                atomic_load(&master->segment->slot[slot].handshakes_total[i]);
        }
        sample(out, labels[i], (double)sum);
    }
    peri_expo_head(out, "perigee_tls_certificate_expiry_time_seconds",
                   PERI_EXPO_GAUGE,
                   "Unix time at which the first certificate expires.");
    sample(out, "", (double)peri_identity_expires_s(master));
}

static void write_worker_states(peri_master *master, peri_expo *out)
{
    static const char *const names[] = {"starting", "ready", "serving",
                                        "draining"};
    uint64_t counts[4] = {0};
    char labels[48];

    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        counts[PERI_CONTAINER(link, peri_proc, link)->state]++;
    }
    peri_expo_head(out, "perigee_workers", PERI_EXPO_GAUGE,
                   "Worker processes by state.");
    for (size_t i = 0; i < 4; i++) {
        snprintf(labels, sizeof labels, "state=\"%s\"", names[i]);
        sample(out, labels, (double)counts[i]);
    }
    peri_expo_head(out, "perigee_workers_wanted", PERI_EXPO_GAUGE,
                   "Worker slots.");
    sample(out, "", (double)(uint64_t)master->seat_count);
}

static void write_restarts(const peri_master *master, peri_expo *out)
{
    static const char *const names[PERI_END_REASONS] = {
        [PERI_END_EXIT] = "exit",         [PERI_END_SIGNAL] = "signal",
        [PERI_END_WATCHDOG] = "watchdog", [PERI_END_START] = "start",
        [PERI_END_RECYCLE] = "recycle",
    };
    char labels[48];

    peri_expo_head(out, "perigee_worker_restarts_total", PERI_EXPO_COUNTER,
                   "Workers that ended and were replaced.");
    for (size_t i = 0; i < PERI_END_REASONS; i++) {
        snprintf(labels, sizeof labels, "reason=\"%s\"", names[i]);
        sample(out, labels, (double)master->ends_total[i]);
    }
}

/* ---- generations ---- */

static void write_generations(const peri_master *master, peri_expo *out)
{
    peri_expo_head(out, "perigee_generation", PERI_EXPO_GAUGE,
                   "The generation of the code that serves.");
    sample(out, "", (double)master->generation);
    peri_expo_head(out, "perigee_reload_total", PERI_EXPO_COUNTER,
                   "Reloads by result.");
    sample(out, "result=\"ok\"", (double)master->reload.ok_total);
    sample(out, "result=\"refused\"", (double)master->reload.failed_total);
    peri_expo_head(out, "perigee_build_info", PERI_EXPO_INFO, "Always 1.");
    sample(out, "version=\"" PERI_VERSION "\"", (double)1);
}

bool peri_metrics_is_alive(const void *data, int record)
{
    const peri_master *master = data;

    return master->record_used[record];
}

void peri_metrics_write(peri_master *master, peri_expo *out)
{
    const peri_cells_view view = {master->generation, peri_metrics_is_alive,
                                  master};
    bool compat = peri_compat_is_wanted(master);

    write_workers(master, out);
    write_tls(master, out);
    write_log_missed(master, out);
    write_log_records(master, out);
    write_worker_states(master, out);
    write_restarts(master, out);
    write_generations(master, out);
    write_processes(master, compat, out);
    peri_resources_metrics(master, out);
    peri_otlp_push_metrics(master, out);
    if (master->cells != NULL) {
        peri_cells_write(master->cells, &view, out);
    }
    if (compat) {
        peri_compat_write(master, out);
    }
    peri_expo_end(out);
}
