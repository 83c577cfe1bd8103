/* Logs: how a process of the host uses its log sink.
 *
 * A worker puts a ring before the sink's descriptor (core/shm/ring_writer.h).
 * The master writes at once, but never waits: a full pipe must not hang it. */
#ifndef PERI_CLUSTER_LOGS_H
#define PERI_CLUSTER_LOGS_H

#include "core/base/log.h"
#include "core/base/settings.h"
#include "core/loop/log_sink.h"

typedef struct peri_logs {
    peri_log_sink *sink;
    int fd; /* the sink's; stays the same when it is reopened */
    bool pretty;
} peri_logs;

/* log.destination and log.format. 0 or -errno. */
int peri_logs_init(peri_logs *logs, const peri_settings *settings);
void peri_logs_fini(peri_logs *logs);

/* Makes logger write through the sink's form (pretty or JSON) to write. */
void peri_logs_attach(peri_logs *logs, peri_logger *logger,
                      peri_log_write write, void *data);

/* log.level as a number. */
int peri_logs_level(const peri_settings *settings);

/* A peri_log_write for the master, data is the peri_logs. A line that the
 * destination would not take within some milliseconds is dropped. */
void peri_logs_write(void *logs, peri_slice line);

#endif
