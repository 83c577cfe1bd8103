/* Flight: what is kept of slow requests in a recorder (core/shm/recorder.h),
 * for the dashboard.
 *
 * Of a trace the spans that have ended are noted at its root, some hundred
 * bytes each; when the root ends and was slow enough, they become JSON. Of a
 * request that is not traced it is the request alone. Loop thread. */
#ifndef PERI_HTTP_FLIGHT_H
#define PERI_HTTP_FLIGHT_H

#include "core/http/exchange.h"
#include "core/http/tracer.h"

#define PERI_FLIGHT_BYTES_MAX ((size_t)16 << 10) /* of a trace's notes */
#define PERI_FLIGHT_SPANS_MAX 64
#define PERI_FLIGHT_TEXT_MAX 120 /* of names and details; the rest is cut */

/* A span that records has ended; its tracer has a recorder. */
void peri_flight_note(peri_trace_span *span, uint64_t now_ns);

/* An exchange that is not traced, at on_done. */
void peri_flight_request(peri_recorder *recorder, peri_exchange *exchange,
                         uint64_t now_ns);

#endif
