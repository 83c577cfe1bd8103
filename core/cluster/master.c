/* Master: how it starts, and what is left when it ends. */
#include "core/cluster/master.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/bundle.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/cluster/certs.h"
#include "core/cluster/cpus.h"
#include "core/cluster/master_state.h"

#define EXIT_FAILURE_ 1
#define EXIT_INTERNAL 70
#define EXIT_OS 71
#define EXIT_CONFIG 78

#define WATCH_PAUSE_MS 30
#define WATCHDOG_DEFAULT_MS 30000
#define FREED_PORT_TRIES 100 /* of 20 ms: workers of a dead host let go */
#define LAST_LINES_MS 1000   /* for a slow log destination, in all */

uint64_t peri_master_setting(const peri_master *master, const char *key,
                             uint64_t fallback)
{
    int64_t value = peri_settings_int(master->settings, key, (int64_t)fallback);

    return value < 0 ? fallback : (uint64_t)value;
}

/* ---- generations ---- */

static peri_settings *settings_of(int bundle_fd)
{
    peri_bundle *bundle;
    peri_settings *settings;

    if (peri_bundle_open(bundle_fd, &bundle) < 0) {
        return NULL;
    }
    settings = peri_settings_create(peri_bundle_find(bundle, "@settings"));
    peri_bundle_close(bundle);
    return settings;
}

static void say_note(void *data, const char *key, const char *text)
{
    const peri_master *master = data;

    (void)key;
    peri_log(&master->logger, PERI_LOG_WARN, "configuration: %s", text);
}

/* What of the configuration was passed over. */
static void say_notes(peri_master *master)
{
    peri_settings_each(master->settings, "note.", say_note, master);
}

/* What only a new start can change. */
static void warn_fixed(const peri_master *master, const peri_settings *fresh)
{
    static const char *const keys[] = {"http.host",
                                       "http.port",
                                       "http.backlog",
                                       "http.header_max",
                                       "http.url_max",
                                       "http.header_count_max",
                                       "admin.host",
                                       "admin.port",
                                       "http.trust_proxies",
                                       "admin.socket",
                                       "log.format",
                                       "log.destination",
                                       "log.access.destination",
                                       "log.syslog.facility",
                                       "log.syslog.app_name",
                                       "cluster.workers",
                                       "cluster.roles.web",
                                       "cluster.roles.jobs",
                                       "cluster.watchdog"};

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *was = peri_settings_str(master->settings, keys[i], "");

        if (strcmp(was, peri_settings_str(fresh, keys[i], "")) != 0) {
            peri_log(&master->logger, PERI_LOG_WARN,
                     "%s has changed: it takes effect when the host is started "
                     "again",
                     keys[i]);
        }
    }
    if ((master->identity != NULL) != peri_certs_wanted(fresh)) {
        peri_log(&master->logger, PERI_LOG_WARN,
                 "http.tls was switched %s: it takes effect when the host is "
                 "started again",
                 master->identity != NULL ? "off" : "on");
    }
}

void peri_master_switch(peri_master *master, uint64_t generation, int bundle_fd)
{
    peri_settings *fresh = settings_of(bundle_fd);

    if (master->previous_fd >= 0) {
        close(master->previous_fd);
    }
    master->previous_fd = master->bundle_fd;
    master->bundle_fd = bundle_fd;
    master->generation = generation;
    atomic_store(&master->segment->header.generation, generation);
    if (fresh != NULL) {
        warn_fixed(master, fresh);
        peri_settings_destroy(master->settings);
        master->settings = fresh;
        master->logger.level = peri_logs_level(fresh);
        master->level_count = 0;
        say_notes(master);
        peri_identity_refresh(master);
        peri_statsd_refresh(master);
        peri_otlp_push_refresh(master);
        peri_rotate_refresh(master);
        peri_log_export_refresh(master);
    }
}

/* ---- the first workers ---- */

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

/* ---- watchdog ---- */

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
        peri_master_setting(master, "cluster.watchdog", WATCHDOG_DEFAULT_MS);

    uv_update_time(&master->loop);
    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        if (limit_ms > 0) {
            check_worker(master, PERI_CONTAINER(link, peri_proc, link),
                         limit_ms);
        }
    }
}

static void start_watchdog(peri_master *master)
{
    uint64_t limit_ms =
        peri_master_setting(master, "cluster.watchdog", WATCHDOG_DEFAULT_MS);
    uint64_t every_ms = limit_ms / 4 < 100 ? 100 : limit_ms / 4;

    if (limit_ms > 0) {
        uv_timer_start(&master->watchdog, on_watchdog, every_ms, every_ms);
        uv_unref((uv_handle_t *)&master->watchdog);
    }
}

/* ---- watching the files ---- */

static void on_files_changed(void *data, const char *path)
{
    peri_master *master = data;

    peri_log(&master->logger, PERI_LOG_DEBUG, "changed: %s", path);
    peri_reload_ask(master, "watch", NULL);
}

static void start_watch(peri_master *master)
{
    bool wanted = peri_settings_bool(master->settings, "reload.watch", false);
    const char *env = master->options->env;
    int rc;

    if (!wanted && !master->options->dev) {
        return;
    }
    master->watched[0] = "scripts";
    master->watched[1] = "config";
    if (strcmp(env, "production") != 0) { /* which reads none of these */
        snprintf(master->dotenv, sizeof master->dotenv, ".env.%s", env);
        master->watched[2] = ".env";
        master->watched[3] = master->dotenv;
    }
    rc = peri_watch_create(&master->loop, master->options->dir, master->watched,
                           peri_bundle_skips, WATCH_PAUSE_MS, on_files_changed,
                           master, &master->watch);
    if (rc < 0) {
        peri_log(&master->logger, PERI_LOG_WARN,
                 "files are not watched: %s (fs.inotify.max_user_watches?)",
                 peri_err_text(rc));
    }
}

/* ---- the beginning ---- */

static int fail(int code, const char *why)
{
    fprintf(stderr, "perigee: %s\n", why);
    return code;
}

static int worker_count(const peri_master *master)
{
    const char *text =
        peri_settings_str(master->settings, "cluster.workers", "auto");
    bool told =
        peri_settings_bool(master->settings, "explicit.cluster.workers", false);
    int count = strcmp(text, "auto") != 0       ? atoi(text)
                : master->options->dev && !told ? 1
                                                : peri_cpus_allowed();
    int64_t web = peri_settings_int(master->settings, "cluster.roles.web", 0);
    int64_t jobs = peri_settings_int(master->settings, "cluster.roles.jobs", 0);

    if (web + jobs > 0) {
        count = (int)(web + jobs);
    }
    count = count < 1 ? 1 : count;
    return count > PERI_SEATS_MAX ? PERI_SEATS_MAX : count;
}

static int open_logs(peri_master *master, char *why, size_t why_bytes)
{
    const char *section = "log";
    char key[32];
    int rc;

    peri_logger_init(&master->logger, peri_logs_level(master->settings), NULL,
                     NULL);
    master->logs_text = peri_logs_settings(master->settings);
    master->logs_settings =
        peri_settings_create(peri_slice_str(master->logs_text));
    rc = peri_logs_open(&master->logs, master->settings, section,
                        &master->segment->log[PERI_LOG_OF_MASTER],
                        &master->logger, &master->logger);
    if (rc == 0) {
        section = "log.access";
        rc = peri_logs_open(&master->access, master->settings, section,
                            &master->segment->log[PERI_LOG_OF_MASTER], NULL,
                            NULL);
    }
    if (rc < 0) {
        snprintf(key, sizeof key, "%s.destination", section);
        snprintf(why, why_bytes, "%s %s: %s", key,
                 peri_settings_str(master->settings, key, ""),
                 peri_err_text(rc));
    }
    return rc;
}

static int open_files(peri_master *master)
{
    char why[512];
    int holder = 0;
    int rc;

    master->settings = settings_of(master->bundle_fd);
    if (master->settings == NULL) {
        return fail(EXIT_INTERNAL, "the bundle is unreadable");
    }
    if (master->handover.lock_fd >= 0) {
        peri_lock_adopt(&master->lock, master->handover.lock_fd);
    } else if (peri_lock_take(&master->lock, master->options->dir, &holder, why,
                              sizeof why) < 0) {
        return fail(EXIT_OS, why);
    }
    rc = peri_segment_create(&master->segment, &master->segment_fd);
    if (rc < 0) {
        snprintf(why, sizeof why, "shared memory: %s", peri_err_text(rc));
        return fail(EXIT_OS, why);
    }
    if (open_logs(master, why, sizeof why) < 0) {
        return fail(EXIT_OS, why);
    }
    say_notes(master);
    master->regions = peri_regions_attach(peri_segment_area(master->segment),
                                          PERI_REGIONS_BYTES);
    master->cells = peri_cells_open(master->regions, -1);
    return 0;
}

/* When the host before this one died, its workers may still be letting go. */
static int probe_port(peri_master *master, char *why, size_t why_bytes)
{
    int tries = master->lock.dead_pid != 0 ? FREED_PORT_TRIES : 1;
    int rc;

    do {
        rc = peri_listen_probe(&master->address, why, why_bytes);
        tries--;
        if (rc < 0 && tries > 0) {
            usleep(20000);
        }
    } while (rc < 0 && tries > 0);
    return rc;
}

/* Whether the listeners that an earlier program left us are at our address. */
static bool inherits_address(peri_master *master)
{
    const peri_handover *handover = &master->handover;

    return handover->count > 0 && handover->listeners[0] >= 0 &&
           peri_listen_is_bound_to(handover->listeners[0], &master->address);
}

static int open_listeners(peri_master *master)
{
    const char *host =
        peri_settings_str(master->settings, "http.host", "127.0.0.1");
    int port = (int)peri_settings_int(master->settings, "http.port", 3000);
    int count = worker_count(master);
    bool roles =
        peri_settings_str(master->settings, "cluster.roles.jobs", NULL) != NULL;
    char why[512];
    int rc =
        peri_address_resolve(host, port, &master->address, why, sizeof why);

    if (rc == 0 && !inherits_address(master)) {
        peri_handover_close(&master->handover);
        rc = probe_port(master, why, sizeof why);
    }
    master->web_workers =
        roles ? (int)peri_master_setting(master, "cluster.roles.web", 0) : 0;
    for (int i = 0; rc == 0 && i < count; i++) {
        rc = peri_seat_add(master, why, sizeof why);
    }
    peri_handover_close(&master->handover); /* fewer workers than before */
    return rc < 0 ? fail(EXIT_OS, why) : 0;
}

static int open_doors(peri_master *master)
{
    char why[512];
    int rc = peri_control_create(master, why, sizeof why);

    if (rc == 0) {
        peri_dashboard_create(master);
        rc = peri_admin_create(master, why, sizeof why);
    }
    return rc < 0 ? fail(EXIT_OS, why) : 0;
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

/* 0, or the exit code. */
static int start(peri_master *master)
{
    int code = open_files(master);
    char why[512];

    if (code == 0) {
        peri_log_export_refresh(master);
    }
    if (code == 0 && peri_identity_create(master, why, sizeof why) < 0) {
        code = fail(EXIT_CONFIG, why);
    }
    if (code == 0) {
        code = open_listeners(master);
    }
    for (int i = 0; code == 0 && i < master->seat_count; i++) {
        peri_seat_start(master->seats[i]);
    }
    /* While the workers load the application. */
    if (code == 0) {
        code = open_doors(master);
    }
    if (code == 0) {
        start_watch(master);
        start_watchdog(master);
        peri_statsd_refresh(master);
        peri_otlp_push_refresh(master);
        peri_rotate_refresh(master);
    }
    return code;
}

/* ---- the end ---- */

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
    code = start(master);
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
