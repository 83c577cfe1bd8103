/* Health: what workers have to say about what the host depends on.
 *
 * One table for a host, by name; who writes last is right. A word of it holds
 * for a while and is forgotten then: what nobody looks after any more says
 * nothing. Readers take no lock. Circuit breakers that have opened lately are
 * listed with it, from their own regions. */
#ifndef PERI_SHM_HEALTH_H
#define PERI_SHM_HEALTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/shm/regions.h"

#define PERI_HEALTH_MAX 64 /* names in the table */
#define PERI_HEALTH_NAME_BYTES 96
#define PERI_HEALTH_DETAIL_BYTES 160

typedef struct peri_health peri_health;

typedef enum peri_health_status {
    PERI_HEALTH_PASS = 1,
    PERI_HEALTH_WARN, /* degraded: serves all the same */
    PERI_HEALTH_FAIL  /* not ready */
} peri_health_status;

typedef struct peri_health_check {
    peri_health_status status;
    char name[PERI_HEALTH_NAME_BYTES];
    char detail[PERI_HEALTH_DETAIL_BYTES];
    bool internal; /* detail tells of code or other servers: the operator's */
} peri_health_check;

/* Caller owns; the regions are borrowed. NULL: there is no room. */
peri_health *peri_health_open(peri_regions *regions);
void peri_health_close(peri_health *health);

/* What is too long is cut. false: the table is full. */
bool peri_health_set(peri_health *health, const peri_health_check *check,
                     uint64_t ttl_ms);

/* Whether all that is required has been there once; the first call with true
 * says so for good. */
bool peri_health_seen_ready(peri_health *health, bool now);

/* At most max of them; the count. */
size_t peri_health_read(peri_health *health, peri_health_check *out,
                        size_t max);

/* The worst; PASS when there is none. */
peri_health_status peri_health_worst(const peri_health_check *checks,
                                     size_t count);

/* Whether a query asks for the long form: verbose, also with a value that is
 * neither false nor 0, anywhere in it. */
bool peri_health_is_verbose(peri_slice query);

/* The long form: "[+] name: detail" for each, "[!]" for degraded, "[-]" for
 * failed ones, then what became of all of them, as what was asked for. */
void peri_health_write(const peri_health_check *checks, size_t count,
                       const char *asked, peri_buf *out);

#endif
