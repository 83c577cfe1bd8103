/* Syslog: see the header. */
#include "core/base/syslog.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/log_member.h"

int peri_syslog_facility(const char *name)
{
    static const char *const names[] = {
        "kern",   "user",   "mail",   "daemon", "auth",     "syslog",
        "lpr",    "news",   "uucp",   "cron",   "authpriv", "ftp",
        "ntp",    "audit",  "alert",  "clock",  "local0",   "local1",
        "local2", "local3", "local4", "local5", "local6",   "local7"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i], name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* Every byte printable and no blank; never empty. */
static void copy_name(char *to, size_t bytes, const char *from)
{
    size_t length = 0;

    for (; from[length] != '\0' && length + 1 < bytes; length++) {
        to[length] =
            from[length] > ' ' && from[length] < 127 ? from[length] : '-';
    }
    if (length == 0) {
        to[length++] = '-';
    }
    to[length] = '\0';
}

void peri_syslog_init(peri_syslog *syslog, const char *facility,
                      const char *app_name)
{
    char hostname[65] = {0};
    int number = peri_syslog_facility(facility);

    if (gethostname(hostname, sizeof hostname - 1) < 0) {
        hostname[0] = '\0';
    }
    *syslog = (peri_syslog){.facility = number >= 0 ? number : 3,
                            .pid = (int)getpid()};
    copy_name(syslog->app_name, sizeof syslog->app_name, app_name);
    copy_name(syslog->hostname, sizeof syslog->hostname, hostname);
}

static int severity_of(long level)
{
    return level >= PERI_LOG_FATAL   ? 2
           : level >= PERI_LOG_ERROR ? 3
           : level >= PERI_LOG_WARN  ? 4
           : level >= PERI_LOG_INFO  ? 6
           : level > 0               ? 7
                                     : 6;
}

/* A member that is a number below 10^18, else fallback. */
static uint64_t number_of(peri_slice line, const char *key, uint64_t fallback)
{
    peri_slice value = peri_log_member(line, key);
    uint64_t number = 0;

    if (value.length == 0 || value.length > 18) {
        return fallback;
    }
    for (size_t i = 0; i < value.length; i++) {
        if (value.data[i] < '0' || value.data[i] > '9') {
            return fallback;
        }
        number = number * 10 + (uint64_t)(value.data[i] - '0');
    }
    return number;
}

int peri_syslog_format(const peri_syslog *syslog, peri_slice line,
                       peri_buf *out)
{
    uint64_t ms;
    time_t seconds;
    struct tm utc;
    char stamp[32];

    while (line.length > 0 && line.data[line.length - 1] == '\n') {
        line.length--;
    }
    ms = number_of(line, "time", 0);
    seconds = (time_t)(ms / 1000);
    if (ms == 0 || ms > (uint64_t)253402300799999 ||
        gmtime_r(&seconds, &utc) == NULL) {
        ms = peri_clock_wall_ms();
        seconds = (time_t)(ms / 1000);
        gmtime_r(&seconds, &utc);
    }
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    if (line.length > PERI_SYSLOG_MESSAGE_MAX) {
        line.length = PERI_SYSLOG_MESSAGE_MAX;
    }
    if (peri_buf_printf(
            out, "<%d>1 %s.%03dZ %s %s %llu - - ",
            syslog->facility * 8 +
                severity_of((long)number_of(line, "level", 0)),
            stamp, (int)(ms % 1000), syslog->hostname, syslog->app_name,
            (unsigned long long)number_of(line, "pid", (uint64_t)syslog->pid)) <
        0) {
        return PERI_ELIMIT;
    }
    return peri_buf_append_slice(out, line);
}
