/* Master, settings: those of the generation that serves, and what of a change
 * has to wait for another start. */
#include <string.h>
#include <unistd.h>

#include "core/base/bundle.h"
#include "core/cluster/certs.h"
#include "core/cluster/master_state.h"

uint64_t peri_master_setting(const peri_master *master, const char *key,
                             uint64_t fallback)
{
    int64_t value = peri_settings_int(master->settings, key, (int64_t)fallback);

    return value < 0 ? fallback : (uint64_t)value;
}

peri_settings *peri_master_settings_of(int bundle_fd)
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
void peri_master_say_notes(peri_master *master)
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
    peri_settings *fresh = peri_master_settings_of(bundle_fd);

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
        peri_master_say_notes(master);
        peri_identity_refresh(master);
        peri_statsd_refresh(master);
        peri_otlp_push_refresh(master);
        peri_rotate_refresh(master);
        peri_log_export_refresh(master);
    }
}
