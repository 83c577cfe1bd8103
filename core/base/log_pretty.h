/* Log pretty: a log line for human eyes.
 *
 * Reads our own lines and any other pino-shaped ones; what is no JSON object
 * passes unchanged. Knows nothing of sinks or of Lua. */
#ifndef PERI_BASE_LOG_PRETTY_H
#define PERI_BASE_LOG_PRETTY_H

#include <stdbool.h>

#include "core/base/buf.h"

/* Appends the line, with a line feed, in the form
 *     [12:34:56.789] INFO: order placed id=7 customer="A B"
 * An `err` follows on lines of its own with its stack; a completed request is
 * summed up in one. Times are local. line: with or without its line feed. 0 or
 * PERI_ELIMIT. */
int peri_log_pretty(peri_buf *out, peri_slice line, bool colour);

#endif
