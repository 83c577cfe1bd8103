/* Flame: a flame graph as one SVG file that loads nothing.
 *
 * It works without scripts (titles, colours); with them a click zooms, Escape
 * zooms out, and a field searches with a regular expression. */
#ifndef PERI_BASE_FLAME_H
#define PERI_BASE_FLAME_H

#include "core/base/stacks.h"

typedef enum peri_flame_unit {
    PERI_FLAME_NS,
    PERI_FLAME_BYTES,
    PERI_FLAME_COUNT
} peri_flame_unit;

typedef struct peri_flame_options {
    const char *title;
    const char *subtitle; /* NULL: none */
    const char *second;   /* a line below it; NULL: none */
    int value;            /* which of the stacks' */
    peri_flame_unit unit;
} peri_flame_options;

/* 0 or PERI_ELIMIT. */
int peri_flame_write(peri_stacks *stacks, const peri_flame_options *options,
                     peri_buf *out);

#endif
