/* Access, inside: what its files share.
 *
 *   access.c         a format becomes parts, and parts a line
 *   access_values.c  what the variables stand for */
#ifndef PERI_HTTP_ACCESS_INTERNAL_H
#define PERI_HTTP_ACCESS_INTERNAL_H

#include <time.h>

#include "core/base/buf.h"
#include "core/http/access.h"

#define PERI_ACCESS_PARTS_MAX 64
#define PERI_ACCESS_STAMP_BYTES 40

typedef struct peri_access_part peri_access_part;

/* Appends what it stands for to the line. */
typedef void (*peri_access_put)(peri_access *access,
                                const peri_access_part *part, peri_exchange *ex,
                                uint64_t took_ns);

struct peri_access_part {
    peri_access_put put;
    char *text; /* as it is, or a header's name */
    size_t length;
};

struct peri_access {
    peri_access_part parts[PERI_ACCESS_PARTS_MAX];
    int count;
    const peri_logger *logger; /* during a write */
    peri_buf line;
    time_t second; /* that the stamps are of */
    char local[PERI_ACCESS_STAMP_BYTES];
    char iso[PERI_ACCESS_STAMP_BYTES];
};

/* The part's text as it is; the header that it names. */
void peri_access_put_literal(peri_access *access, const peri_access_part *part,
                             peri_exchange *ex, uint64_t took_ns);
void peri_access_put_header(peri_access *access, const peri_access_part *part,
                            peri_exchange *ex, uint64_t took_ns);

/* NULL: there is no variable of that name. */
peri_access_put peri_access_variable(const char *name, size_t length);

#endif
