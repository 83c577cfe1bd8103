/* Pretty: a JSON log line as text for people, in the look of pino-pretty.
 *
 *     [17:35:28.992] INFO (42): listening
 *         port: 3000
 *
 * A line about a request is put in one line: its method, URL and status behind
 * the message. */
#ifndef PERI_BASE_PRETTY_H
#define PERI_BASE_PRETTY_H

#include <stdbool.h>

#include "core/base/buf.h"

/* Appends the text of one line (with or without its line feed), ended by a line
 * feed. What is no log line is appended as it is. 0 or PERI_ELIMIT. */
int peri_pretty_line(peri_buf *out, peri_slice line, bool colors);

#endif
