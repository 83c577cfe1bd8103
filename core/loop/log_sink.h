/* Log sink: where log lines go: a standard stream, a file, a Unix socket,
 * syslog.
 *
 *     stdout  stderr  var/app.log
 *     unix:PATH          a stream, lines end in a line feed
 *     unix-dgram:PATH    a line a datagram
 *     syslog             RFC 5424, a message a datagram, to /dev/log
 *     syslog:PATH        to another socket
 *     syslog://HOST:PORT by UDP; 514 unless told
 *
 * Never waits but for a regular file's disk: a ring lies in front of it, whose
 * thread waits. A socket is connected when it is written to; while its other
 * side is away it is tried again, at first after 100 ms, later every 5 s. What
 * fails is said on standard error, once a minute at most. May be used from
 * several threads. */
#ifndef PERI_LOOP_LOG_SINK_H
#define PERI_LOOP_LOG_SINK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/base/log.h"

typedef struct peri_log_sink peri_log_sink;

typedef struct peri_log_options {
    const char *destination;
    /* Lines for human eyes, in colour on a terminal where NO_COLOR is not set;
     * not for syslog. */
    bool pretty;
    const char *facility;   /* for syslog; NULL: "daemon" */
    const char *app_name;   /* for syslog; NULL: "perigee" */
    _Atomic uint64_t *lost; /* counts lines it took and could not hand on */
} peri_log_options;

/* Files are made if absent; paths are relative to the working directory. 0 or
 * -errno. Caller owns. */
int peri_log_sink_open(const peri_log_options *options, peri_log_sink **out);

/* Standard streams stay open. NULL is allowed. */
void peri_log_sink_close(peri_log_sink *sink);

/* Writes whole lines, each with its line feed. How many bytes it took, whole
 * lines from their beginning; 0: none now; -errno: the destination is broken,
 * and may take them later. Half of the next line may be out: it is to be given
 * again. A line that no destination of its kind could take is counted as lost
 * and taken. */
ssize_t peri_log_sink_send(void *sink, peri_slice lines);

/* Until it may take more; timeout_ms 0: looks. 0, PERI_ETIMEOUT or -errno. */
int peri_log_sink_wait(void *sink, int timeout_ms);

/* Opens the file anew under the same descriptor (it was moved away); nothing
 * for others. 0 or -errno: the old one stays. */
int peri_log_sink_reopen(peri_log_sink *sink);

/* The path of the file that a destination means; NULL: it means none. */
const char *peri_log_sink_file(const char *destination);

#endif
