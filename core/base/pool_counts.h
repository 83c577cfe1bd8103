/* Pool counts: what every pool of connections can say of itself. */
#ifndef PERI_BASE_POOL_COUNTS_H
#define PERI_BASE_POOL_COUNTS_H

#include <stdint.h>

typedef struct peri_pool_counts {
    uint32_t used;    /* connections that are open and in use */
    uint32_t idle;    /* open, and nobody's */
    uint32_t waiting; /* requests or commands that have yet to be served */
} peri_pool_counts;

#endif
