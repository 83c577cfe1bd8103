/* JSON text: what C itself has to write as JSON (logs, problems, status). */
#ifndef PERI_BASE_JSON_TEXT_H
#define PERI_BASE_JSON_TEXT_H

#include "core/base/buf.h"

/* Appends a quoted, escaped JSON string. Bytes that are not valid UTF-8 become
 * U+FFFD. 0 or PERI_ELIMIT. */
int peri_json_append_string(peri_buf *buf, peri_slice text);

#endif
