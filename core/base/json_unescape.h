/* JSON unescape: what the inside of a JSON string says. */
#ifndef PERI_BASE_JSON_UNESCAPE_H
#define PERI_BASE_JSON_UNESCAPE_H

/* Writes [at, end), the inside of a string or the rest of one, behind *to with
 * its escapes resolved, and moves *to; there must be room for end - at bytes.
 * Returns end, or where it is wrong; why then says what (static storage). */
const char *peri_json_unescape(const char *at, const char *end, char **to,
                               const char **why);

#endif
