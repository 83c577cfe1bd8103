/* Control: the client's side of the master's control socket. */
#ifndef PERI_CLUSTER_CONTROL_H
#define PERI_CLUSTER_CONTROL_H

#include <stdbool.h>

#include "core/base/buf.h"

/* Sends a verb (status, reload, rollback, stop, reopen, health) to the host
 * that runs in dir and waits for the outcome. Returns the exit code that the
 * host answered (A3) and its text in out; 1 and a sentence when no host runs
 * there or it does not answer in time. timeout_ms 0: the outcome may take as
 * long as it takes. */
int peri_control_call(const char *dir, const char *verb, int timeout_ms,
                      peri_buf *out);

/* Reads the log of the host that runs in dir: its latest lines, and with follow
 * all that come, until on_piece (given pieces of any length) returns false or
 * the host ends. timeout_ms: how long the host may take for a piece; with
 * follow, for the first one. An empty line is behind those of all processes up
 * to some moment. 0, or 1 and a sentence in why. */
int peri_control_logs(const char *dir, bool follow, int timeout_ms,
                      bool (*on_piece)(void *data, peri_slice piece),
                      void *data, peri_buf *why);

/* As peri_control_call(), for what can be brought to an end: when end_fd (a
 * signalfd; -1: none) has something to read, the host is told so, and the
 * outcome awaited as before; the second time it is not. */
int peri_control_call_until(const char *dir, const char *verb, int timeout_ms,
                            int end_fd, peri_buf *out);

#endif
