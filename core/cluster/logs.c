/* Logs: see the header. */
#include "core/cluster/logs.h"

#include <stdio.h>
#include <string.h>

#define KEY_BYTES 64

int peri_logs_open(peri_logs *logs, const peri_settings *settings,
                   const char *section, peri_ring *ring, peri_logger *logger,
                   const peri_logger *teller)
{
    bool main = strcmp(section, "log") == 0;
    const char *format = peri_settings_str(settings, "log.format", "json");
    peri_log_options options = {
        .pretty = main && strcmp(format, "pretty") == 0,
        .lost = &ring->lost_total,
        .facility = peri_settings_str(settings, "log.syslog.facility", NULL),
        .app_name = peri_settings_str(settings, "log.syslog.app_name", NULL),
    };
    char key[KEY_BYTES];
    int rc;

    *logs = (peri_logs){.ring = ring};
    snprintf(key, sizeof key, "%s.destination", section);
    options.destination =
        peri_settings_str(settings, key, main ? "stdout" : "");
    if (options.destination[0] == '\0') {
        return 0;
    }
    rc = peri_log_sink_open(&options, &logs->sink);
    if (rc < 0) {
        return rc;
    }
    logs->out =
        (peri_ring_out){peri_log_sink_send, peri_log_sink_wait, logs->sink};
    if (logger == NULL) {
        return 0;
    }
    rc = peri_ring_writer_create(
        ring, &logs->out, teller,
        main ? "log lines lost" : "access log lines lost", &logs->writer);
    if (rc < 0) {
        peri_logs_close(logs);
        return rc;
    }
    logger->write = peri_ring_writer_put;
    logger->data = logs->writer;
    return 0;
}

char *peri_logs_settings(const peri_settings *settings)
{
    static const char *const decisive[] = {"log.destination",
                                           "log.access.destination",
                                           "log.format", "log.syslog.", NULL};

    return peri_settings_text(settings, decisive);
}

void peri_logs_drain(const peri_logs *logs, peri_ring *ring, int max_wait_ms)
{
    if (logs->sink != NULL && peri_ring_used(ring) > 0) {
        peri_ring_drain(ring, &logs->out, max_wait_ms);
    }
}

void peri_logs_flush(const peri_logs *logs, int timeout_ms)
{
    if (logs->writer != NULL) {
        peri_ring_writer_flush(logs->writer, timeout_ms);
    }
}

int peri_logs_reopen(const peri_logs *logs)
{
    return logs->sink != NULL ? peri_log_sink_reopen(logs->sink) : 0;
}

void peri_logs_stop(peri_logs *logs, int timeout_ms)
{
    peri_ring_writer_destroy(logs->writer, timeout_ms);
    logs->writer = NULL;
}

void peri_logs_close(peri_logs *logs)
{
    peri_log_sink_close(logs->sink);
    logs->sink = NULL;
}

int peri_logs_level(const peri_settings *settings)
{
    return peri_log_level_parse(
        peri_settings_str(settings, "log.level", "info"));
}
