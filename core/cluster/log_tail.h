/* Log tail: reads along what the host logs, wherever its lines go.
 *
 * The master looks into the rings of all processes ten times a second; they
 * notice nothing of it, and their lines are there also when the destination is
 * slow or a socket. Who reads too slowly misses lines, and is told. */
#ifndef PERI_CLUSTER_LOG_TAIL_H
#define PERI_CLUSTER_LOG_TAIL_H

#include "core/cluster/master_state.h"

typedef struct peri_log_tail peri_log_tail;

/* Gives whole lines (JSON), borrowed during the call, in the order of each
 * process; no lines: that was what all processes have logged by now. False:
 * cannot take more now, and will be asked again. */
typedef bool (*peri_log_tail_fn)(void *data, peri_slice lines);

/* That many lines were passed over: they came faster than they are read. False:
 * as above. */
typedef bool (*peri_log_missed_fn)(void *data, uint64_t lines);

/* back_bytes: how much of each process's past the first look gives; what it
 * leaves out is not missed. */
peri_log_tail *peri_log_tail_create(peri_master *master, size_t back_bytes,
                                    peri_log_tail_fn on_lines,
                                    peri_log_missed_fn on_missed, void *data);

/* Gives what there is now; else it comes by itself. */
void peri_log_tail_read(peri_log_tail *tail);

/* NULL is allowed. */
void peri_log_tail_destroy(peri_log_tail *tail);

#endif
