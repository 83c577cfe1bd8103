/* Status: what `perigee status` shows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/json_text.h"
#include "core/cluster/master_state.h"
#include "core/cluster/proc_info.h"

const char *peri_proc_state_name(const peri_proc *proc)
{
    switch (proc->state) {
    case PERI_PROC_STARTING:
        return "starting";
    case PERI_PROC_READY:
        return "ready";
    case PERI_PROC_SERVING:
        return atomic_load(&peri_proc_slot(proc)->state) == PERI_SLOT_DRAINING
                   ? "draining"
                   : "serving";
    case PERI_PROC_DRAINING:
    default:
        return "draining";
    }
}

static const char *host_state(const peri_master *master)
{
    switch (master->phase) {
    case PERI_MASTER_STARTING:
        return "starting";
    case PERI_MASTER_RUNNING:
        return peri_seats_serving(master) > 0 ? "running" : "failing";
    default:
        return "stopping";
    }
}

static void string_field(peri_buf *out, const char *key, const char *value)
{
    peri_buf_printf(out, "\"%s\":", key);
    peri_json_append_string(out, peri_slice_str(value));
}

static void worker_json(const peri_proc *proc, peri_buf *out)
{
    peri_slot *slot = peri_proc_slot(proc);
    peri_process_info info;

    peri_process_info_read(proc->pid, &info);
    peri_buf_printf(
        out,
        "{\"slot\":%d,\"record\":%d,\"pid\":%d,\"state\":\"%s\",\"generation\":"
        "%llu,"
        "\"requests\":%llu,\"active\":%u,\"connections\":%u,\"restarts\":%llu,"
        "\"rss\":%llu,\"started\":%llu}",
        proc->number, proc->record, proc->pid, peri_proc_state_name(proc),
        (unsigned long long)proc->generation,
        (unsigned long long)atomic_load(&slot->requests_total),
        atomic_load(&slot->requests_active),
        atomic_load(&slot->connections_open),
        (unsigned long long)atomic_load(&slot->restarts_total),
        (unsigned long long)info.rss_bytes,
        (unsigned long long)atomic_load(&slot->started_ms));
}

static void workers_json(const peri_master *master, peri_buf *out)
{
    const char *comma = "";

    peri_buf_append_str(out, "\"workers\":[");
    for (const peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        peri_buf_append_str(out, comma);
        worker_json(PERI_CONTAINER(link, peri_proc, link), out);
        comma = ",";
    }
    peri_buf_append_str(out, "]");
}

static void reload_json(const peri_reload *reload, peri_buf *out)
{
    peri_buf_append_str(out, "\"last_reload\":");
    if (!reload->happened) {
        peri_buf_append_str(out, "null");
        return;
    }
    peri_buf_printf(
        out, "{\"result\":\"%s\",\"reason\":", reload->ok ? "ok" : "refused");
    if (reload->reason != NULL) {
        peri_json_append_string(out, peri_slice_str(reload->reason));
    } else {
        peri_buf_append_str(out, "null");
    }
    peri_buf_printf(out, ",\"cause\":\"%s\",\"at\":%llu,\"duration_ms\":%llu}",
                    reload->cause, (unsigned long long)reload->at_ms,
                    (unsigned long long)reload->elapsed_ms);
}

void peri_status_json(const peri_master *master, peri_buf *out)
{
    uint64_t up_ns = peri_clock_monotonic_ns() - master->started_ns;
    int admin_port = peri_admin_port(master);
    char url[128];

    peri_buf_printf(out, "{\"pid\":%d,", (int)getpid());
    string_field(out, "version", PERI_VERSION);
    peri_buf_append_str(out, ",");
    string_field(out, "state", host_state(master));
    peri_buf_append_str(out, ",");
    string_field(out, "dir", master->options->dir);
    peri_buf_append_str(out, ",");
    string_field(out, "env", master->options->env);
    peri_buf_printf(out, ",\"generation\":%llu,\"uptime\":%llu.%03llu,",
                    (unsigned long long)master->generation,
                    (unsigned long long)(up_ns / 1000000000u),
                    (unsigned long long)(up_ns / 1000000u % 1000u));
    peri_address_url(&master->address,
                     master->identity != NULL ? "https" : "http", url,
                     sizeof url);
    peri_buf_append_str(out, "\"http\":[{");
    string_field(out, "address", master->address.host);
    peri_buf_printf(out, ",\"port\":%d,\"url\":\"%s\"}],\"admin\":",
                    master->address.port, url);
    if (admin_port != 0) {
        peri_buf_append_str(out, "{");
        string_field(
            out, "address",
            peri_settings_str(master->settings, "admin.host", "127.0.0.1"));
        peri_buf_printf(out, ",\"port\":%d},", admin_port);
    } else {
        peri_buf_append_str(out, "null,");
    }
    workers_json(master, out);
    peri_buf_append_str(out, ",");
    peri_resources_json(master, out);
    reload_json(&master->reload, out);
    peri_buf_append_str(out, "}\n");
}
