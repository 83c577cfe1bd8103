/* Dict: a bounded dictionary that all processes of a host share.
 *
 * Divided into shards, each with a lock, an index and a log of entries. Reads
 * take no lock. When a shard is full, what was not read for long makes room, so
 * a write is never refused but for its size. A process killed at any
 * instruction neither blocks the others nor leaves anything half written: what
 * it was about to write is there or is not. One handle serves one thread. */
#ifndef PERI_SHM_DICT_H
#define PERI_SHM_DICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/slice.h"
#include "core/shm/regions.h"

#define PERI_DICT_KEY_MAX ((size_t)4096)
#define PERI_DICT_MIN_BYTES ((size_t)64 << 10)
#define PERI_DICT_KEEP_TTL UINT64_MAX

typedef struct peri_dict peri_dict;

typedef enum peri_dict_type {
    PERI_DICT_NONE, /* there is no such key */
    PERI_DICT_BOOLEAN,
    PERI_DICT_NUMBER,
    PERI_DICT_STRING,
    PERI_DICT_TABLE /* bytes that only the room above can read */
} peri_dict_type;

typedef struct peri_dict_value {
    double number; /* also of a boolean: 0 or 1 */
    char *data;    /* of strings and tables; to read into: the caller's room */
    size_t length;
    size_t room_bytes; /* of data when read; a multiple of 8 */
    uint32_t type;
} peri_dict_value;

typedef enum peri_dict_mode {
    PERI_DICT_SET,
    PERI_DICT_ADD,    /* only when absent: else PERI_EEXISTS */
    PERI_DICT_REPLACE /* only when there: else PERI_ENOTFOUND */
} peri_dict_mode;

typedef struct peri_dict_stats {
    uint64_t size_bytes; /* of all: entries, index, bookkeeping */
    uint64_t room_bytes; /* for entries */
    uint64_t used_bytes; /* by entries that are there */
    uint64_t items;
    uint64_t evicted_total;
    uint64_t expired_total; /* those that were met; others are not counted */
    uint64_t repaired_total;
    uint64_t item_max_bytes; /* key and value */
} peri_dict_stats;

/* Opens, or makes with that size; the first decides on the size. Caller owns
 * the handle; regions are borrowed. 0 or PERI_ELIMIT: the area is full. */
int peri_dict_open(peri_regions *regions, const char *name, size_t bytes,
                   peri_dict **out);
void peri_dict_close(peri_dict *dict);

/* A clock other than the system's monotonic one, in ms; for tests. */
void peri_dict_set_clock(peri_dict *dict, uint64_t (*now_ms)(void *data),
                         void *data);

/* The type, PERI_DICT_NONE included; PERI_ELIMIT: out->length bytes do not fit
 * into the room. */
int peri_dict_get(peri_dict *dict, peri_slice key, peri_dict_value *out);

/* ttl_ms 0: for good. PERI_ELIMIT: too big; or as the mode says. */
int peri_dict_set(peri_dict *dict, peri_slice key, const peri_dict_value *value,
                  uint64_t ttl_ms, peri_dict_mode mode);

/* Adds to a number; absent: starts from init, and ttl_ms holds. *out is the
 * new number. PERI_ESTATE: the value is none. */
int peri_dict_incr(peri_dict *dict, peri_slice key, double by, double init,
                   uint64_t ttl_ms, double *out);

/* Sets value (type none: deletes) when the present value is old (type none:
 * absent), byte for byte. ttl_ms may be PERI_DICT_KEEP_TTL. 0; PERI_EEXISTS: it
 * is another; PERI_ELIMIT. */
int peri_dict_cas(peri_dict *dict, peri_slice key, const peri_dict_value *old,
                  const peri_dict_value *value, uint64_t ttl_ms);

/* 1: it was there; 0. */
int peri_dict_delete(peri_dict *dict, peri_slice key);

/* Empties. */
void peri_dict_flush(peri_dict *dict);

/* Milliseconds left; -1: there for good; -2: absent. */
int64_t peri_dict_ttl(peri_dict *dict, peri_slice key);

/* Copies keys from *cursor (0 at first) on, each as a uint32_t length and its
 * bytes, as many as fit into the room (at least PERI_DICT_KEY_MAX + 4). Returns
 * the bytes written, and 0 when there are no more. A key that moves meanwhile
 * may be missed or come twice. */
size_t peri_dict_keys(peri_dict *dict, uint64_t *cursor, char *room,
                      size_t room_bytes);

void peri_dict_stat(peri_dict *dict, peri_dict_stats *out);

/* Rate limits, decided and noted in one step. Both return 0 when it is allowed,
 * else the ms to wait until it may be (at least 1), or PERI_ESTATE: the key
 * holds something else.
 *
 * bucket: one each interval_us on average, and burst at once. */
int64_t peri_dict_take_bucket(peri_dict *dict, peri_slice key,
                              double interval_us, double burst, double count);

/* window: at most limit in any window_ms; what was taken comes back after that
 * and a 32nd of it at most. */
int64_t peri_dict_take_window(peri_dict *dict, peri_slice key, double limit,
                              uint64_t window_ms, double count);

/* The clock that it goes by, in ms. */
uint64_t peri_dict_now(const peri_dict *dict);

/* A hash of the key, the same in all processes. */
uint64_t peri_dict_hash(const peri_dict *dict, peri_slice key);

/* For tests: checks every shard's invariants, under its lock. NULL, or what is
 * wrong (static text). */
const char *peri_dict_check(peri_dict *dict);

#endif
