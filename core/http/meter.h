/* Meter: http_server_request_duration_seconds, by method, route and status.
 *
 * Looks a request's cells up once and keeps where they are, by route and
 * status; from then on a request costs two additions. Belongs to the loop
 * thread. */
#ifndef PERI_HTTP_METER_H
#define PERI_HTTP_METER_H

#include "core/base/log.h"
#include "core/base/settings.h"
#include "core/http/exchange.h"
#include "core/shm/cells.h"

typedef struct peri_meter peri_meter;

/* Bounds in seconds as a JSON list of numbers, for peri_meter_create. How many;
 * 0: it is none, or they do not rise. out: PERI_CELLS_BOUNDS_MAX. */
size_t peri_meter_bounds(peri_slice json, double *out);

/* cells and logger are borrowed. NULL: there is no room for the metric. */
peri_meter *peri_meter_create(peri_cells *cells, const double *bounds,
                              size_t bound_count, uint32_t exponential,
                              uint64_t generation, const peri_logger *logger);
void peri_meter_destroy(peri_meter *meter);

/* Whether it notes exemplars of what is traced; it does unless told. */
void peri_meter_set_exemplars(peri_meter *meter, bool wanted);

/* At on_done. now_ns: monotonic, as exchange->started_ns. */
void peri_meter_observe(peri_meter *meter, const peri_exchange *exchange,
                        uint64_t now_ns);

/* A router has ended: addresses of its routes may come again. */
void peri_meter_forget(peri_meter *meter);

#endif
