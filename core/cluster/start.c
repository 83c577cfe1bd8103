/* Start: from a bundle to workers that load it, and doors to knock at. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bundle.h"
#include "core/base/err.h"
#include "core/cluster/cpus.h"
#include "core/cluster/master_state.h"

#define EXIT_INTERNAL 70
#define EXIT_OS 71
#define EXIT_CONFIG 78

#define WATCH_PAUSE_MS 30
#define FREED_PORT_TRIES 100 /* of 20 ms: workers of a dead host let go */

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

    master->settings = peri_master_settings_of(master->bundle_fd);
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
    peri_master_say_notes(master);
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

int peri_master_start(peri_master *master)
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
        peri_watchdog_start(master);
        peri_statsd_refresh(master);
        peri_otlp_push_refresh(master);
        peri_rotate_refresh(master);
    }
    return code;
}
