/* Log sink: where log lines go: standard output, standard error or a file.
 *
 * Writes at once and completely: for the master and for commands that end. A
 * worker puts a ring between itself and the sink's descriptor. May be used
 * from several threads. */
#ifndef PERI_LOOP_LOG_SINK_H
#define PERI_LOOP_LOG_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/log.h"

typedef struct peri_log_sink peri_log_sink;

/* destination: "stdout", "stderr", or a file's path (relative to the working
 * directory), made if absent. pretty: lines for human eyes; in colour when it
 * is a terminal and NO_COLOR is not set. 0 or -errno. Caller owns. */
int peri_log_sink_open(const char *destination, bool pretty,
                       peri_log_sink **out);

/* Standard streams stay open. NULL is allowed. */
void peri_log_sink_close(peri_log_sink *sink);

/* As peri_log_write: data is the sink. What the destination will not take (a
 * full disk, a closed pipe) is counted and lost. */
void peri_log_sink_write(void *sink, peri_slice line);

/* Opens the file anew under the same descriptor (it was moved away); nothing
 * for standard streams. 0 or -errno: the old one stays. */
int peri_log_sink_reopen(peri_log_sink *sink);

/* Stays the same until close: for a ring's thread to write to. */
int peri_log_sink_fd(const peri_log_sink *sink);

uint64_t peri_log_sink_lost(const peri_log_sink *sink);

/* Makes lines pretty on their way to another write function; for whoever puts
 * a ring before the sink's descriptor. next and data are used from now on by
 * peri_log_sink_write. */
void peri_log_sink_redirect(peri_log_sink *sink, peri_log_write next,
                            void *data);

#endif
