/* Regex: ECMA-262 regular expressions with the flag u, in linear time.
 *
 * All states are followed at once (Thompson, Pike), so no pattern runs away:
 * the work is at most the length of the program times that of the text, and
 * bounded besides. What cannot be done that way is refused when compiled:
 * back-references and look-behind. Look-ahead is there. Properties are the
 * general categories. Answers only whether there is a match.
 *
 * An expression has its own working memory: one thread at a time. */
#ifndef PERI_BASE_REGEX_H
#define PERI_BASE_REGEX_H

#include <stddef.h>

#include "core/base/err.h"
#include "core/base/slice.h"

#define PERI_REGEX_FAULT_BYTES 128

typedef struct peri_regex peri_regex;

/* Caller owns. NULL when the pattern is malformed or too large; fault then
 * says why and at which byte. */
peri_regex *peri_regex_create(peri_slice pattern,
                              char fault[PERI_REGEX_FAULT_BYTES]);
void peri_regex_destroy(peri_regex *regex);

/* 1 when the pattern matches somewhere in text, else 0; PERI_ELIMIT when that
 * would take too much work to tell. Bytes that are not UTF-8 count as U+FFFD.
 */
int peri_regex_search(peri_regex *regex, const char *text, size_t length);

#endif
