/* JSON write: strings of Lua's, quoted and escaped, strict and fast.
 *
 * For the encoder. Logs and problems, which have to write something whatever
 * the bytes are, use json_text.h. */
#ifndef PERI_BASE_JSON_WRITE_H
#define PERI_BASE_JSON_WRITE_H

#include "core/base/buf.h"

#define PERI_JSON_TAIL 2 /* bytes that may follow without a check: ": " */

/* Appends mark (unless it is 0) and the text in quotes, with room for
 * PERI_JSON_TAIL bytes behind. 0, PERI_ELIMIT, or PERI_EFORMAT when it is not
 * UTF-8; what was appended before a failure is left for the caller to drop.
 *
 * Reads up to 15 bytes beyond the text, within its page. */
int peri_json_write_string(peri_buf *out, char mark, peri_slice text);

#endif
