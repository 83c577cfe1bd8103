/* Syslog: a log line as a message of RFC 5424. */
#ifndef PERI_BASE_SYSLOG_H
#define PERI_BASE_SYSLOG_H

#include "core/base/buf.h"

/* What fits into a datagram of UDP; the rest of a longer line is cut. */
#define PERI_SYSLOG_MESSAGE_MAX ((size_t)60 << 10)

typedef struct peri_syslog {
    int facility;      /* 0 to 23: peri_syslog_facility() */
    char app_name[49]; /* printable ASCII without blanks */
    char hostname[65];
    int pid; /* of lines that name none */
} peri_syslog;

/* "local0" to 16; what is no facility's name to -1. */
int peri_syslog_facility(const char *name);

/* Fills in facility, app_name (what may not be there becomes '-') and who we
 * are. */
void peri_syslog_init(peri_syslog *syslog, const char *facility,
                      const char *app_name);

/* Appends <PRI>1 TIME HOST APP PID - - LINE, where time, pid and the severity
 * come from a line that is pino's JSON: trace and debug are 7, info 6, warn 4,
 * error 3, fatal 2. Any other line is of severity 6, and of now. Without the
 * line feed. 0 or PERI_ELIMIT. */
int peri_syslog_format(const peri_syslog *syslog, peri_slice line,
                       peri_buf *out);

#endif
