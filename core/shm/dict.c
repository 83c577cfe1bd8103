/* Dict: opening, and what is done to a key. */
#include "core/shm/dict.h"

#include <stdlib.h>
#include <sys/random.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/shm/dict_internal.h"

#define READ_ATTEMPTS 32
#define SLOT_SHARE 6u /* an index word for so many words of log */

/* ---- opening ---- */

static uint64_t shards_for(size_t bytes)
{
    static const size_t mb = (size_t)1 << 20;

    if (bytes < mb) {
        return 1;
    }
    if (bytes < 32 * mb) {
        return 4;
    }
    return bytes < 256 * mb ? 8 : 16;
}

/* Deterministic but for the seed, so that it may be done twice. */
static void init_header(void *memory, size_t bytes)
{
    peri_dict_header *header = memory;
    uint64_t words;

    header->shards = shards_for(bytes);
    header->shard_bytes =
        (bytes - PERI_DICT_HEADER_BYTES) / header->shards / 64 * 64;
    words = (header->shard_bytes - sizeof(peri_shard)) / sizeof(uint64_t);
    header->buckets = words / (SLOT_SHARE + 1) / PERI_BUCKET_SLOTS;
    header->units = words - header->buckets * PERI_BUCKET_SLOTS;
    if (getrandom(&header->seed, sizeof header->seed, GRND_NONBLOCK) < 0) {
        header->seed = peri_clock_monotonic_ns();
    }
}

int peri_dict_open(peri_regions *regions, const char *name, size_t bytes,
                   peri_dict **out)
{
    peri_dict *dict;
    size_t size;
    void *memory;
    int rc;

    if (bytes < PERI_DICT_MIN_BYTES) {
        bytes = PERI_DICT_MIN_BYTES;
    }
    rc = peri_regions_get(regions, name, bytes, init_header, &memory, &size);
    if (rc < 0) {
        return rc;
    }
    dict = peri_calloc(1, sizeof *dict);
    dict->header = memory;
    dict->shards = (char *)memory + PERI_DICT_HEADER_BYTES;
    dict->self = peri_regions_self(regions);
    dict->seed = dict->header->seed;
    dict->shard_bytes = dict->header->shard_bytes;
    dict->buckets = dict->header->buckets;
    dict->units = dict->header->units;
    dict->size_bytes = size;
    while ((1u << dict->shard_shift) < dict->header->shards) {
        dict->shard_shift++;
    }
    *out = dict;
    return 0;
}

void peri_dict_close(peri_dict *dict)
{
    free(dict);
}

void peri_dict_set_clock(peri_dict *dict, uint64_t (*now_ms)(void *data),
                         void *data)
{
    dict->now_ms = now_ms;
    dict->now_data = data;
}

/* ---- reading ---- */

static int copy_value(peri_item *item, uint64_t about, peri_dict_value *out)
{
    const peri_word *from = item->words + peri_units_of(peri_about_key(about));
    uint64_t word;

    out->type = peri_about_type(about);
    out->length = peri_about_value(about);
    if (out->type <= PERI_DICT_NUMBER) {
        word = peri_word_get(from);
        memcpy(&out->number, &word, sizeof out->number);
        return (int)out->type;
    }
    if (peri_units_of(out->length) * PERI_UNIT_BYTES > out->room_bytes) {
        return PERI_ELIMIT;
    }
    peri_words_read(out->data, from, out->length);
    return (int)out->type;
}

/* Reads what may change meanwhile; whoever calls looks at seq. */
static int read_entry(const peri_dict *dict, const peri_lookup *l,
                      peri_dict_value *out, peri_word **out_slot,
                      uint64_t *out_seen)
{
    peri_word *slot = peri_shard_find(l);
    uint64_t seen = slot != NULL ? peri_word_get(slot) : 0;
    uint64_t unit = peri_slot_unit(seen);
    peri_item *item;
    uint64_t expires;
    uint64_t about;

    *out_slot = NULL;
    if (seen == 0 || unit + PERI_ITEM_UNITS > l->units) {
        return PERI_DICT_NONE;
    }
    item = peri_item_at(l, unit);
    expires = peri_word_get(&item->expires);
    if (expires != 0 && expires <= peri_dict_now_ms(dict)) {
        return PERI_DICT_NONE;
    }
    about = peri_word_get(&item->about);
    if (unit + PERI_ITEM_UNITS + peri_units_of(peri_about_key(about)) +
            peri_units_of(peri_about_value(about)) >
        l->units) {
        return PERI_DICT_NONE; /* torn: seq has changed */
    }
    *out_slot = slot;
    *out_seen = seen;
    return copy_value(item, about, out);
}

static void mark_used(peri_word *slot, uint64_t seen)
{
    if (slot != NULL && (seen & 1) == 0) {
        /* Fails when it is another entry by now. */
        atomic_compare_exchange_strong_explicit(
            slot, &seen, seen | 1, memory_order_relaxed, memory_order_relaxed);
    }
}

static int get_locked(peri_dict *dict, const peri_lookup *l,
                      peri_dict_value *out)
{
    peri_word *slot;
    uint64_t seen = 0;
    int type;

    peri_shard_lock(dict, l);
    type = read_entry(dict, l, out, &slot, &seen);
    mark_used(slot, seen);
    peri_lock_release(&l->shard->lock);
    return type;
}

int peri_dict_get(peri_dict *dict, peri_slice key, peri_dict_value *out)
{
    peri_lookup l;

    peri_dict_locate(dict, key, &l);
    for (int i = 0; i < READ_ATTEMPTS; i++) {
        peri_word *slot;
        uint64_t seen = 0;
        uint64_t seq =
            atomic_load_explicit(&l.shard->seq, memory_order_acquire);
        int type;

        if ((seq & 1) != 0) {
            continue;
        }
        type = read_entry(dict, &l, out, &slot, &seen);
        atomic_thread_fence(memory_order_acquire);
        if (peri_word_get(&l.shard->seq) == seq) {
            mark_used(slot, seen);
            return type;
        }
    }
    return get_locked(dict, &l, out);
}

int64_t peri_dict_ttl(peri_dict *dict, peri_slice key)
{
    peri_lookup l;
    peri_word *slot;
    int64_t left_ms = -2;

    peri_dict_locate(dict, key, &l);
    peri_shard_lock(dict, &l);
    slot = peri_shard_find(&l);
    if (slot != NULL) {
        peri_item *item = peri_item_at(&l, peri_slot_unit(*slot));
        uint64_t expires = peri_word_get(&item->expires);
        uint64_t now_ms = peri_dict_now_ms(dict);

        if (expires == 0) {
            left_ms = -1;
        } else if (expires > now_ms) {
            left_ms = (int64_t)(expires - now_ms);
        }
    }
    peri_lock_release(&l.shard->lock);
    return left_ms;
}

/* ---- writing ---- */

static uint64_t expiry(const peri_dict *dict, uint64_t ttl_ms)
{
    return ttl_ms == 0 ? 0 : peri_dict_now_ms(dict) + ttl_ms;
}

static peri_item *item_of(const peri_lookup *l, const peri_word *slot)
{
    return peri_item_at(l, peri_slot_unit(peri_word_get(slot)));
}

int peri_dict_set(peri_dict *dict, peri_slice key, const peri_dict_value *value,
                  uint64_t ttl_ms, peri_dict_mode mode)
{
    uint64_t expires = expiry(dict, ttl_ms);
    peri_lookup l;
    peri_word *slot;
    int rc;

    peri_dict_locate(dict, key, &l);
    peri_shard_lock(dict, &l);
    peri_shard_begin(l.shard);
    slot = mode == PERI_DICT_SET ? peri_shard_find(&l)
                                 : peri_shard_find_live(dict, &l);
    if (mode == PERI_DICT_ADD && slot != NULL) {
        rc = PERI_EEXISTS;
    } else if (mode == PERI_DICT_REPLACE && slot == NULL) {
        rc = PERI_ENOTFOUND;
    } else {
        rc = peri_shard_store(dict, &l, slot, value, expires);
    }
    peri_shard_end(l.shard);
    peri_lock_release(&l.shard->lock);
    return rc;
}

static double number_in(peri_item *item)
{
    uint64_t word = peri_word_get(peri_item_value(item));
    double number;

    memcpy(&number, &word, sizeof number);
    return number;
}

static int start_number(peri_dict *dict, const peri_lookup *l, double number,
                        uint64_t ttl_ms)
{
    peri_dict_value value = {.type = PERI_DICT_NUMBER, .number = number};
    int rc;

    peri_shard_begin(l->shard);
    rc = peri_shard_store(dict, l, peri_shard_find_live(dict, l), &value,
                          expiry(dict, ttl_ms));
    peri_shard_end(l->shard);
    return rc;
}

int peri_dict_incr(peri_dict *dict, peri_slice key, double by, double init,
                   uint64_t ttl_ms, double *out)
{
    peri_lookup l;
    peri_word *slot;
    peri_item *item;
    uint64_t expires;
    int rc = 0;

    peri_dict_locate(dict, key, &l);
    peri_shard_lock(dict, &l);
    slot = peri_shard_find(&l);
    item = slot != NULL ? item_of(&l, slot) : NULL;
    expires = item != NULL ? peri_word_get(&item->expires) : 0;
    if (item == NULL || (expires != 0 && expires <= peri_dict_now_ms(dict))) {
        *out = init + by;
        rc = start_number(dict, &l, *out, ttl_ms);
    } else if (peri_about_type(peri_word_get(&item->about)) !=
               PERI_DICT_NUMBER) {
        rc = PERI_ESTATE;
    } else {
        /* One word: readers see the old or the new number. */
        *out = number_in(item) + by;
        peri_words_write(peri_item_value(item), (const char *)out, sizeof *out);
    }
    peri_lock_release(&l.shard->lock);
    return rc;
}

static bool holds(peri_item *item, const peri_dict_value *value)
{
    uint64_t about = peri_word_get(&item->about);

    if (peri_about_type(about) != value->type) {
        return false;
    }
    if (value->type <= PERI_DICT_NUMBER) {
        double number = number_in(item);

        return number >= value->number && number <= value->number;
    }
    return peri_about_value(about) == value->length &&
           peri_words_equal(peri_item_value(item), value->data, value->length);
}

static int exchange(peri_dict *dict, const peri_lookup *l,
                    const peri_dict_value *old, const peri_dict_value *value,
                    uint64_t ttl_ms)
{
    peri_word *slot = peri_shard_find_live(dict, l);
    uint64_t expires = 0;

    if ((slot == NULL) != (old->type == PERI_DICT_NONE) ||
        (slot != NULL && !holds(item_of(l, slot), old))) {
        return PERI_EEXISTS;
    }
    if (value->type == PERI_DICT_NONE) {
        if (slot != NULL) {
            peri_shard_remove(l, slot);
        }
        return 0;
    }
    if (ttl_ms != PERI_DICT_KEEP_TTL) {
        expires = expiry(dict, ttl_ms);
    } else if (slot != NULL) {
        expires = peri_word_get(&item_of(l, slot)->expires);
    }
    return peri_shard_store(dict, l, slot, value, expires);
}

int peri_dict_cas(peri_dict *dict, peri_slice key, const peri_dict_value *old,
                  const peri_dict_value *value, uint64_t ttl_ms)
{
    peri_lookup l;
    int rc;

    peri_dict_locate(dict, key, &l);
    peri_shard_lock(dict, &l);
    peri_shard_begin(l.shard);
    rc = exchange(dict, &l, old, value, ttl_ms);
    peri_shard_end(l.shard);
    peri_lock_release(&l.shard->lock);
    return rc;
}

int peri_dict_delete(peri_dict *dict, peri_slice key)
{
    peri_lookup l;
    peri_word *slot;

    peri_dict_locate(dict, key, &l);
    peri_shard_lock(dict, &l);
    peri_shard_begin(l.shard);
    slot = peri_shard_find_live(dict, &l);
    if (slot != NULL) {
        peri_shard_remove(&l, slot);
    }
    peri_shard_end(l.shard);
    peri_lock_release(&l.shard->lock);
    return slot != NULL;
}
