/* Observe: what is noted of every request alike. */
#ifndef PERI_HTTP_OBSERVE_H
#define PERI_HTTP_OBSERVE_H

#include "core/base/log.h"
#include "core/http/exchange.h"

/* Longer URLs are cut, marked by "...". */
#define PERI_ACCESS_URL_MAX 4096

/* One pino-http line, "request completed", for an exchange at on_done; "request
 * aborted" when the client had gone. Level info; error, and with an err, for a
 * status of 500 and above. Allocates nothing. now_ns: monotonic, as
 * exchange->started_ns. */
void peri_access_log(const peri_logger *logger, peri_exchange *exchange,
                     uint64_t now_ns);

#endif
