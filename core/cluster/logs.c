/* Logs: see the header. */
#include "core/cluster/logs.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_MS 20 /* for a pipe that is being emptied */

int peri_logs_init(peri_logs *logs, const peri_settings *settings)
{
    const char *to = peri_settings_str(settings, "log.destination", "stdout");
    const char *format = peri_settings_str(settings, "log.format", "json");
    int rc;

    *logs = (peri_logs){.fd = STDOUT_FILENO};
    logs->pretty = strcmp(format, "pretty") == 0;
    rc = peri_log_sink_open(to, logs->pretty, &logs->sink);
    if (rc == 0) {
        logs->fd = peri_log_sink_fd(logs->sink);
    }
    return rc;
}

void peri_logs_fini(peri_logs *logs)
{
    peri_log_sink_close(logs->sink);
    *logs = (peri_logs){.fd = STDOUT_FILENO};
}

void peri_logs_attach(peri_logs *logs, peri_logger *logger,
                      peri_log_write write, void *data)
{
    peri_log_sink_redirect(logs->sink, write, data);
    if (logs->pretty) {
        logger->write = peri_log_sink_write;
        logger->data = logs->sink;
    } else {
        logger->write = write; /* nothing to change on the way */
        logger->data = data;
    }
}

int peri_logs_level(const peri_settings *settings)
{
    static const struct {
        const char *name;
        int level;
    } levels[] = {{"trace", PERI_LOG_TRACE},  {"debug", PERI_LOG_DEBUG},
                  {"info", PERI_LOG_INFO},    {"warn", PERI_LOG_WARN},
                  {"error", PERI_LOG_ERROR},  {"fatal", PERI_LOG_FATAL},
                  {"silent", PERI_LOG_SILENT}};
    const char *name = peri_settings_str(settings, "log.level", "info");

    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (strcmp(levels[i].name, name) == 0) {
            return levels[i].level;
        }
    }
    return PERI_LOG_INFO;
}

void peri_logs_write(void *data, peri_slice line)
{
    const peri_logs *logs = data;

    while (line.length > 0) {
        struct pollfd wanted = {.fd = logs->fd, .events = POLLOUT};
        ssize_t n;

        if (poll(&wanted, 1, PATIENCE_MS) == 0) {
            return;
        }
        n = write(logs->fd, line.data, line.length);
        if (n < 0 && errno != EINTR && errno != EAGAIN) {
            return;
        }
        if (n > 0) {
            line.data += n;
            line.length -= (size_t)n;
        }
    }
}
