/* Regions: named pieces of memory that processes share.
 *
 * An area of memory, zeroed at first, is divided on demand: whoever asks for a
 * name first decides on its size, whoever asks later gets the same piece. They
 * are never given back. Memory costs something only once it is touched, so an
 * area may be generous. Threads of a process may use one handle. */
#ifndef PERI_SHM_REGIONS_H
#define PERI_SHM_REGIONS_H

#include <stddef.h>
#include <stdint.h>

#define PERI_REGIONS_MAX 2048
#define PERI_REGION_NAME_MAX 95

/* Of the area in the shared segment, and of private ones. */
#define PERI_REGIONS_BYTES ((size_t)1 << 30)

typedef struct peri_regions peri_regions;

/* On memory that others may use already; borrowed. Caller owns the handle. */
peri_regions *peri_regions_attach(void *memory, size_t bytes);

/* On memory of its own, which children share if they are forked and attach to
 * peri_regions_memory(). NULL: the system has none. */
peri_regions *peri_regions_create(size_t bytes);

/* Ends the handle; the memory too, when it is its own. */
void peri_regions_destroy(peri_regions *regions);

void *peri_regions_memory(const peri_regions *regions);

/* This process's mark in locks (lock.h). */
uint64_t peri_regions_self(const peri_regions *regions);

/* The region of that name; made when there is none. init sees it zeroed, or
 * half filled in when a process died in it, and has it alone. *out_bytes is the
 * size that it has got when it was made. 0; PERI_ELIMIT: the area is full, or
 * the name too long. */
int peri_regions_get(peri_regions *regions, const char *name, size_t bytes,
                     void (*init)(void *memory, size_t bytes), void **out,
                     size_t *out_bytes);

/* Each region that has been made, whole. Takes no lock. */
void peri_regions_each(peri_regions *regions,
                       void (*fn)(void *data, const char *name, void *memory,
                                  size_t bytes),
                       void *data);

#endif
