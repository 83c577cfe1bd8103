/* Route pattern: "/orders/:id" as the router takes it. */
#ifndef PERI_HTTP_ROUTE_PATTERN_H
#define PERI_HTTP_ROUTE_PATTERN_H

#include "core/base/arena.h"
#include "core/http/router.h"

typedef struct peri_route_pattern {
    char *text; /* the arena's; escaped as in a request */
    size_t segment_count;
    peri_slice names[PERI_ROUTE_PARAMS_MAX]; /* into text */
    uint16_t param_count;
} peri_route_pattern;

/* NULL, or what is wrong with it. */
const char *peri_route_pattern_parse(peri_arena *arena, const char *text,
                                     peri_route_pattern *out);

#endif
