/* Segment: the memory that master and workers share.
 *
 * One memfd, mapped by all of them: a header, a record for each worker slot,
 * a log ring and a recorder of slow requests for each. The master makes it and
 * never moves it; a worker finds its slot by number. Plain atomics only, no
 * locks: a process killed at any instruction leaves it usable. Behind it lies
 * an area for what processes share by name (regions.h). Untouched slots and
 * regions cost no memory. */
#ifndef PERI_SHM_SEGMENT_H
#define PERI_SHM_SEGMENT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "core/shm/recorder.h"
#include "core/shm/regions.h"
#include "core/shm/ring.h"

#define PERI_SLOTS_MAX 320 /* 256 workers, and some that overlap */
#define PERI_LOG_OF_MASTER PERI_SLOTS_MAX /* its ring */

typedef enum peri_slot_state {
    PERI_SLOT_EMPTY,    /* no process */
    PERI_SLOT_STARTING, /* a process that loads the application */
    PERI_SLOT_SERVING,
    PERI_SLOT_DRAINING /* finishes what it has, then ends */
} peri_slot_state;

typedef enum peri_slot_handshakes {
    PERI_SLOT_SHAKEN, /* in full */
    PERI_SLOT_RESUMED,
    PERI_SLOT_UNSHAKEN /* failed */
} peri_slot_handshakes;

/* Written by the slot's worker unless said otherwise. What ends in _total never
 * goes back: a worker adds to what its predecessor left. */
typedef struct peri_slot {
    _Alignas(64) _Atomic int32_t pid; /* the master's to write; 0: none */
    _Atomic uint32_t state;           /* peri_slot_state; both write */
    _Atomic uint64_t started_ms;      /* Unix time; the master's */
    _Atomic uint64_t restarts_total;  /* the master's */
    _Atomic uint64_t user_past_us;    /* CPU time of dead workers; the */
    _Atomic uint64_t system_past_us;  /* master's, both */

    /* When the loop last went round (monotonic ms); old means stuck. */
    _Alignas(64) _Atomic uint64_t heartbeat_ms;
    _Atomic uint64_t generation; /* of the code that serves new requests */
    _Atomic uint32_t requests_active;
    _Atomic uint32_t connections_open;
    _Atomic uint64_t requests_total;
    _Atomic uint64_t connections_total;
    _Atomic uint64_t handshakes_total[3]; /* of TLS: peri_slot_handshakes */

    /* What runs now, for the watchdog's report: filled by whoever dispatches
     * requests; ended by NUL, may be torn. */
    _Alignas(64) char doing_route[128];
    char doing_request[72];
} peri_slot;

typedef struct peri_segment_header {
    char magic[8];
    uint64_t layout_bytes; /* another build of the program is another layout */
    uint32_t slots;        /* PERI_SLOTS_MAX */
    uint32_t master_pid;
    /* The generation that new requests are served by; the master's store is
     * what switches all workers at once. */
    _Alignas(64) _Atomic uint64_t generation;
    _Atomic uint32_t stopping; /* 1: readiness fails, the host is to end */
    _Atomic uint32_t workers;  /* slots in use */
    /* Of TLS: a peri_tls_tickets. The master writes. */
    _Alignas(64) unsigned char ticket_keys[384];
} peri_segment_header;

typedef struct peri_segment {
    peri_segment_header header;
    peri_slot slot[PERI_SLOTS_MAX];
    peri_ring log[PERI_SLOTS_MAX + 1];
    peri_ring access[PERI_SLOTS_MAX]; /* where it has a destination */
    peri_recorder slow[PERI_SLOTS_MAX];
} peri_segment;

/* Makes and maps one; the caller owns *out_fd. 0 or -errno. */
int peri_segment_create(peri_segment **out, int *out_fd);

/* Maps an existing one; does not take fd. PERI_EFORMAT: not one of ours. */
int peri_segment_open(int fd, peri_segment **out);

void peri_segment_close(peri_segment *segment);

/* PERI_REGIONS_BYTES, zeroed at first, for peri_regions_attach(). */
void *peri_segment_area(peri_segment *segment);

#endif
