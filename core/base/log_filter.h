/* Log filter: which lines somebody wants to see. */
#ifndef PERI_BASE_LOG_FILTER_H
#define PERI_BASE_LOG_FILTER_H

#include <stdbool.h>

#include "core/base/slice.h"

typedef struct peri_log_filter {
    int level;            /* lines below it are left out; 0: none are */
    const char *route;    /* "/users/:id": its requests; NULL: all */
    const char *trace_id; /* or how it begins; NULL: all */
} peri_log_filter;

/* Whether a line, in JSON, passes. What is no JSON passes where nothing is
 * filtered. */
bool peri_log_filter_passes(const peri_log_filter *filter, peri_slice line);

/* Whether a path (without its query) is one of the route's. */
bool peri_route_covers(const char *route, peri_slice path);

#endif
