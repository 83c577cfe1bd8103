/* Metrics: what the master itself knows, as Prometheus text 0.0.4.
 *
 * One function a family: HELP and TYPE once, then its samples. A worker's
 * counters lie in its record of the segment and go on after its death. */
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
    peri_process_info info;
    uint64_t cpu_us; /* with what its predecessors used */
} process_sample;

static void head(peri_buf *out, const char *name, const char *type,
                 const char *help)
{
    peri_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name,
                    type);
}

static void sample(peri_buf *out, const char *name, const char *labels,
                   uint64_t value)
{
    peri_buf_printf(out, "%s%s %llu\n", name, labels,
                    (unsigned long long)value);
}

static void sample_seconds(peri_buf *out, const char *name, const char *labels,
                           uint64_t us)
{
    peri_buf_printf(out, "%s%s %llu.%06llu\n", name, labels,
                    (unsigned long long)(us / 1000000u),
                    (unsigned long long)(us % 1000000u));
}

/* ---- processes ---- */

static size_t sample_processes(peri_master *master, process_sample *out)
{
    size_t count = 1;

    snprintf(out[0].labels, sizeof out[0].labels, "{role=\"master\"}");
    peri_process_info_read_all((int)getpid(), &out[0].info);
    out[0].cpu_us = out[0].info.cpu_us;
    for (peri_list *link = master->procs.next;
         link != &master->procs && count < PROCESSES_MAX; link = link->next) {
        const peri_proc *proc = PERI_CONTAINER(link, peri_proc, link);
        process_sample *p = &out[count++];

        /* By record: two of one seat may live for a while. */
        snprintf(p->labels, sizeof p->labels, "{role=\"worker\",worker=\"%d\"}",
                 proc->record);
        peri_process_info_read_all(proc->pid, &p->info);
        p->cpu_us =
            p->info.cpu_us + atomic_load(&peri_proc_slot(proc)->cpu_past_us);
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

static void write_processes(peri_master *master, peri_buf *out)
{
    static const process_family gauges[] = {
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

    head(out, "process_cpu_seconds_total", "counter",
         "Total user and system CPU time spent in seconds.");
    for (size_t i = 0; i < count; i++) {
        sample_seconds(out, "process_cpu_seconds_total", samples[i].labels,
                       samples[i].cpu_us);
    }
    for (size_t g = 0; g < sizeof gauges / sizeof gauges[0]; g++) {
        head(out, gauges[g].name, "gauge", gauges[g].help);
        for (size_t i = 0; i < count; i++) {
            sample(out, gauges[g].name, samples[i].labels,
                   value_of(&samples[i], gauges[g].offset));
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
        sums.lines_lost += atomic_load(&segment->log[i].lost_total);
    }
    return sums;
}

static void write_workers(peri_master *master, peri_buf *out)
{
    slot_sums sums = sum_slots(master);

    head(out, "http_server_active_requests", "gauge",
         "Requests that are being answered.");
    sample(out, "http_server_active_requests", "", sums.active);
    head(out, "perigee_http_requests_total", "counter",
         "Requests whose head was read.");
    sample(out, "perigee_http_requests_total", "", sums.requests_total);
    head(out, "perigee_http_connections", "gauge", "Open connections.");
    sample(out, "perigee_http_connections", "", sums.connections_open);
    head(out, "perigee_http_connections_total", "counter",
         "Connections accepted.");
    sample(out, "perigee_http_connections_total", "", sums.connections_total);
    head(out, "perigee_log_lines_lost_total", "counter",
         "Log lines dropped because their destination was too slow.");
    sample(out, "perigee_log_lines_lost_total", "", sums.lines_lost);
}

static void write_worker_states(peri_master *master, peri_buf *out)
{
    static const char *const names[] = {"starting", "ready", "serving",
                                        "draining"};
    uint64_t counts[4] = {0};
    char labels[48];

    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        counts[PERI_CONTAINER(link, peri_proc, link)->state]++;
    }
    head(out, "perigee_workers", "gauge", "Worker processes by state.");
    for (size_t i = 0; i < 4; i++) {
        snprintf(labels, sizeof labels, "{state=\"%s\"}", names[i]);
        sample(out, "perigee_workers", labels, counts[i]);
    }
    head(out, "perigee_workers_wanted", "gauge", "Worker slots.");
    sample(out, "perigee_workers_wanted", "", (uint64_t)master->seat_count);
}

static void write_restarts(const peri_master *master, peri_buf *out)
{
    static const char *const names[PERI_END_REASONS] = {
        [PERI_END_EXIT] = "exit",         [PERI_END_SIGNAL] = "signal",
        [PERI_END_WATCHDOG] = "watchdog", [PERI_END_START] = "start",
        [PERI_END_RECYCLE] = "recycle",
    };
    char labels[48];

    head(out, "perigee_worker_restarts_total", "counter",
         "Workers that ended and were replaced.");
    for (size_t i = 0; i < PERI_END_REASONS; i++) {
        snprintf(labels, sizeof labels, "{reason=\"%s\"}", names[i]);
        sample(out, "perigee_worker_restarts_total", labels,
               master->ends_total[i]);
    }
}

/* ---- generations ---- */

static void write_generations(const peri_master *master, peri_buf *out)
{
    head(out, "perigee_generation", "gauge",
         "The generation of the code that serves.");
    sample(out, "perigee_generation", "", master->generation);
    head(out, "perigee_reload_total", "counter", "Reloads by result.");
    sample(out, "perigee_reload_total", "{result=\"ok\"}",
           master->reload.ok_total);
    sample(out, "perigee_reload_total", "{result=\"refused\"}",
           master->reload.failed_total);
    head(out, "perigee_build_info", "gauge", "Always 1.");
    sample(out, "perigee_build_info", "{version=\"" PERI_VERSION "\"}", 1);
}

void peri_metrics_write(peri_master *master, peri_buf *out)
{
    write_workers(master, out);
    write_worker_states(master, out);
    write_restarts(master, out);
    write_generations(master, out);
    write_processes(master, out);
}
