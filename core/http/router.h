/* Router: from a method and a raw path to a route.
 *
 * A radix tree a generation, immutable once built. A static segment wins over
 * `:name`, that over `*rest`; where a static branch leads nowhere the match
 * backs up and tries the next. Belongs to whoever created it; routes and
 * names live as long as the router. */
#ifndef PERI_HTTP_ROUTER_H
#define PERI_HTTP_ROUTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/slice.h"
#include "core/http/method.h"

#define PERI_ROUTE_PARAMS_MAX 16
#define PERI_ROUTER_SEGMENTS_MAX 64 /* of a pattern */

#define PERI_ROUTE_TIMEOUT_UNSET UINT32_MAX

typedef struct peri_route {
    uint32_t id;             /* the caller's: an index of its handlers */
    uint32_t timeout_ms;     /* 0: none; UNSET: the server's request_timeout */
    uint64_t body_max_bytes; /* UINT64_MAX: the server's body_max */
    const char *pattern;     /* "/orders/:id", set by add */
    uint16_t param_count;    /* set by add */
    const peri_slice *param_names;
} peri_route;

typedef struct peri_route_match {
    const peri_route *route; /* NULL unless found */
    uint32_t allowed;        /* bits 1 << peri_method of this path, HEAD and
                                OPTIONS included; 0: no such path */
    uint16_t param_count;
    peri_slice params[PERI_ROUTE_PARAMS_MAX]; /* raw, into the path */
} peri_route_match;

typedef struct peri_router peri_router;

/* A raw path as it is matched: escapes of characters that need none (RFC 3986
 * section 2.3) are those characters, the others have capital digits. out has
 * room for raw.length bytes; returns how many it took. */
size_t peri_path_normalize(peri_slice raw, char *out);

peri_router *peri_router_create(void);
void peri_router_destroy(peri_router *router);

/* Copies route and pattern. methods: bits 1 << peri_method. 0; PERI_EEXISTS
 * when a method of it has this pattern already (parameters' names aside);
 * PERI_EFORMAT for a bad pattern: no leading slash, empty or repeated name,
 * `*` before the end, too many parameters. why gets a sentence. */
int peri_router_add(peri_router *router, uint32_t methods, const char *pattern,
                    const peri_route *route, char *why, size_t why_bytes);

/* True when found. HEAD falls back to GET's route. path: raw, from '/', without
 * the query. Allocates nothing. */
bool peri_router_match(const peri_router *router, peri_method method,
                       peri_slice path, peri_route_match *out);

#endif
