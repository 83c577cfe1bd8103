/* Logs: a stream of lines of one process of the host: a ring with a thread that
 * writes it out (core/shm/ring_writer.h) to a sink. There are two: the log, and
 * the access log where it has a destination of its own. */
#ifndef PERI_CLUSTER_LOGS_H
#define PERI_CLUSTER_LOGS_H

#include "core/base/log.h"
#include "core/base/settings.h"
#include "core/loop/log_sink.h"
#include "core/shm/ring_writer.h"

typedef struct peri_logs {
    peri_log_sink *sink; /* NULL: there is no such stream */
    peri_ring_out out;   /* into the sink */
    peri_ring *ring;
    peri_ring_writer *writer;
} peri_logs;

/* Opens the destination of section, "log" or "log.access" (which has none
 * unless told), and starts the thread. logger writes into the stream from then
 * on, and teller is told of lost lines; logger NULL: without a thread, for
 * peri_logs_drain() alone. 0 or -errno. */
int peri_logs_open(peri_logs *logs, const peri_settings *settings,
                   const char *section, peri_ring *ring, peri_logger *logger,
                   const peri_logger *teller);

/* Of settings, those that peri_logs_open() reads: they hold from the start of
 * the host to its end. As peri_settings_text(). */
char *peri_logs_settings(const peri_settings *settings);

/* What a dead process has left in its ring, as peri_ring_drain(). */
void peri_logs_drain(const peri_logs *logs, peri_ring *ring, int max_wait_ms);

/* Waits until all that was put before is written, or for so long. */
void peri_logs_flush(const peri_logs *logs, int timeout_ms);

/* 0 or -errno. */
int peri_logs_reopen(const peri_logs *logs);

/* Flushes and ends the thread; the sink stays. */
void peri_logs_stop(peri_logs *logs, int timeout_ms);
void peri_logs_close(peri_logs *logs);

/* log.level as a number. */
int peri_logs_level(const peri_settings *settings);

#endif
