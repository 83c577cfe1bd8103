/* Observe: what is noted of every request alike. */
#ifndef PERI_HTTP_OBSERVE_H
#define PERI_HTTP_OBSERVE_H

#include "core/base/log.h"
#include "core/http/exchange.h"

/* Longer URLs are cut, marked by "...". */
#define PERI_ACCESS_URL_MAX 4096

/* What is "[Redacted]" in such a line. */
typedef enum peri_access_hides {
    PERI_ACCESS_HIDES_REQ = 1 << 0,
    PERI_ACCESS_HIDES_ID = 1 << 1,
    PERI_ACCESS_HIDES_METHOD = 1 << 2,
    PERI_ACCESS_HIDES_URL = 1 << 3,
    PERI_ACCESS_HIDES_REMOTE = 1 << 4,
    PERI_ACCESS_HIDES_RES = 1 << 5,
    PERI_ACCESS_HIDES_STATUS = 1 << 6,
    PERI_ACCESS_HIDES_TIME = 1 << 7
} peri_access_hides;

/* One pino-http line, "request completed", for an exchange at on_done; "request
 * aborted" when the client had gone or the answer was cut off. Level info;
 * error, and with an err, for the latter and a status of 500 and above.
 * Allocates nothing. hidden: of the above. now_ns: monotonic, as
 * exchange->started_ns. */
void peri_access_log(const peri_logger *logger, peri_exchange *exchange,
                     unsigned hidden, uint64_t now_ns);

#endif
