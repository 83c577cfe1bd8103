/* Access: one line for each request, in the form that was asked for.
 *
 * A format is text with variables, named as nginx names its own:
 *
 *     $remote_addr - $remote_user [$time_local] "$request" $status
 *
 * What a client has sent cannot break out of it: quotes, backslashes and bytes
 * that are not printable ASCII become \xHH. What is absent is "-". */
#ifndef PERI_HTTP_ACCESS_H
#define PERI_HTTP_ACCESS_H

#include "core/base/log.h"
#include "core/http/exchange.h"

#define PERI_ACCESS_COMMON                                                     \
    "$remote_addr - $remote_user [$time_local] \"$request\" $status "          \
    "$body_bytes_sent"
#define PERI_ACCESS_COMBINED                                                   \
    PERI_ACCESS_COMMON " \"$http_referer\" \"$http_user_agent\""

typedef struct peri_access peri_access;

/* format: "common", "combined", or one with variables. PERI_EFORMAT and why:
 * names the variable that there is none of. Caller owns. */
int peri_access_create(const char *format, peri_access **out, char *why,
                       size_t why_bytes);

/* NULL is allowed. */
void peri_access_destroy(peri_access *access);

/* Writes the line for an exchange at on_done. now_ns as its started_ns. */
void peri_access_write(peri_access *access, const peri_logger *logger,
                       peri_exchange *exchange, uint64_t now_ns);

#endif
