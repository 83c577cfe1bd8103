/* Dict, a shard: finding, making room, storing, mending. */
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/shm/dict_internal.h"

/* Entries may fill so much of the log; the rest is what moving them needs. */
#define LIVE_PERCENT 80u

/* Entries in use that are carried on for one write before some of them are
 * given up: bounds what a single write may take. */
#define CARRY_UNITS 4096u

/* ---- where a key belongs ---- */

__extension__ typedef unsigned __int128 wide;

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    wide product = (wide)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t load64(const char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof word);
    return word;
}

static inline uint64_t load32(const char *at)
{
    uint32_t word;

    memcpy(&word, at, sizeof word);
    return word;
}

/* In the manner of wyhash: multiply and fold. The seed is random, so that
 * nobody can choose keys that meet. */
static uint64_t hash(uint64_t seed, const char *at, size_t bytes)
{
    static const uint64_t p0 = 0xa0761d6478bd642fu;
    static const uint64_t p1 = 0xe7037ed1a0b428dbu;
    uint64_t state = seed ^ p0;
    size_t left = bytes;
    uint64_t a;
    uint64_t b;

    for (; left > 16; left -= 16, at += 16) {
        state = mix(load64(at) ^ p1, load64(at + 8) ^ state);
    }
    if (left >= 8) {
        a = load64(at);
        b = load64(at + left - 8);
    } else if (left >= 4) {
        a = load32(at);
        b = load32(at + left - 4);
    } else {
        a = left == 0 ? 0
                      : (uint64_t)(unsigned char)at[0] << 16 |
                            (uint64_t)(unsigned char)at[left >> 1] << 8 |
                            (unsigned char)at[left - 1];
        b = 0;
    }
    return mix(p1 ^ bytes, mix(a ^ p1, b ^ state));
}

void peri_shard_parts(const peri_dict *dict, uint64_t number, peri_lookup *out)
{
    char *base = dict->shards + number * dict->shard_bytes;

    out->shard = (peri_shard *)(void *)base;
    out->slots = (peri_word *)(void *)(base + sizeof(peri_shard));
    out->log = out->slots + dict->buckets * PERI_BUCKET_SLOTS;
    out->units = dict->units;
}

void peri_dict_locate(const peri_dict *dict, peri_slice key, peri_lookup *out)
{
    uint64_t h = hash(dict->seed, key.data, key.length);
    uint64_t second = h * 0x9e3779b97f4a7c15u;

    peri_shard_parts(dict, (h >> 48) & ((1u << dict->shard_shift) - 1), out);
    out->tag = (uint32_t)(second >> 33);
    out->bucket[0] = (uint32_t)(((h & 0xffffffffu) * dict->buckets) >> 32);
    out->bucket[1] = (uint32_t)(((second & 0xffffffffu) * dict->buckets) >> 32);
    out->key = key;
}

uint64_t peri_dict_hash(const peri_dict *dict, peri_slice key)
{
    return hash(dict->seed, key.data, key.length);
}

uint64_t peri_dict_now_ms(const peri_dict *dict)
{
    struct timespec t;

    if (dict->now_ms != NULL) {
        uint64_t now_ms = dict->now_ms(dict->now_data);

        if (now_ms != 0) {
            return now_ms;
        }
    }
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

uint64_t peri_dict_now(const peri_dict *dict)
{
    return peri_dict_now_ms(dict);
}

/* ---- finding ---- */

/* Whether the entry lies within the log. Without the lock it may be anything.
 */
static bool holds_key(const peri_lookup *l, uint64_t unit)
{
    peri_item *item = peri_item_at(l, unit);
    uint64_t about;

    if (unit + PERI_ITEM_UNITS > l->units) {
        return false;
    }
    about = peri_word_get(&item->about);
    return peri_about_key(about) == l->key.length &&
           unit + PERI_ITEM_UNITS + peri_units_of(l->key.length) <= l->units &&
           peri_words_equal(item->words, l->key.data, l->key.length);
}

peri_word *peri_shard_find(const peri_lookup *l)
{
    for (unsigned b = 0; b < 2; b++) {
        peri_word *slots = l->slots + (size_t)l->bucket[b] * PERI_BUCKET_SLOTS;

        for (unsigned i = 0; i < PERI_BUCKET_SLOTS; i++) {
            uint64_t slot =
                atomic_load_explicit(&slots[i], memory_order_acquire);

            if (slot != 0 && peri_slot_tag(slot) == l->tag &&
                holds_key(l, peri_slot_unit(slot))) {
                return &slots[i];
            }
        }
    }
    return NULL;
}

static uint64_t units_at(const peri_lookup *l, uint64_t unit)
{
    return peri_word_get(&peri_item_at(l, unit)->place) & 0xffffffffu;
}

void peri_shard_remove(const peri_lookup *l, peri_word *slot)
{
    uint64_t units = units_at(l, peri_slot_unit(peri_word_get(slot)));

    peri_word_publish(slot, 0);
    l->shard->live_units -= units;
    l->shard->items--;
}

static bool is_over(const peri_dict *dict, const peri_item *item)
{
    uint64_t expires = peri_word_get(&item->expires);

    return expires != 0 && expires <= peri_dict_now_ms(dict);
}

peri_word *peri_shard_find_live(const peri_dict *dict, const peri_lookup *l)
{
    peri_word *slot = peri_shard_find(l);

    if (slot != NULL &&
        is_over(dict, peri_item_at(l, peri_slot_unit(peri_word_get(slot))))) {
        peri_shard_remove(l, slot);
        l->shard->expired_total++;
        return NULL;
    }
    return slot;
}

/* ---- room ---- */

static uint64_t free_units(const peri_lookup *l)
{
    return l->units -
           (peri_word_get(&l->shard->head) - peri_word_get(&l->shard->tail));
}

/* The place at the head for an entry, after a filler when it would not fit in
 * front of the log's end. UINT64_MAX: there is no room. */
static uint64_t claim(const peri_lookup *l, uint64_t units)
{
    uint64_t head = peri_word_get(&l->shard->head);
    uint64_t at = head % l->units;
    uint64_t to_end = l->units - at;
    uint64_t filler = to_end < units ? to_end : 0;

    if (free_units(l) < units + filler) {
        return UINT64_MAX;
    }
    if (filler > 0) {
        peri_word_set(&peri_item_at(l, at)->place,
                      (uint64_t)PERI_NO_SLOT << 32 | filler);
        peri_word_publish(&l->shard->head, head + filler);
        at = 0;
    }
    return at;
}

/* Copies the entry at the tail to the head. */
static bool carry(const peri_lookup *l, peri_word *slot, uint64_t from,
                  uint64_t units)
{
    uint64_t to = claim(l, units);

    if (to == UINT64_MAX) {
        return false;
    }
    for (uint64_t i = 0; i < units; i++) {
        peri_word_set(&l->log[to + i], peri_word_get(&l->log[from + i]));
    }
    peri_word_publish(&l->shard->head, peri_word_get(&l->shard->head) + units);
    peri_word_publish(slot,
                      peri_slot_make(to, peri_slot_tag(peri_word_get(slot))));
    return true;
}

/* Passes over the entry at the tail. */
static void reclaim(const peri_dict *dict, const peri_lookup *l, uint64_t limit,
                    uint64_t *carried)
{
    peri_shard *shard = l->shard;
    uint64_t tail = peri_word_get(&shard->tail);
    uint64_t at = tail % l->units;
    uint64_t place = peri_word_get(&peri_item_at(l, at)->place);
    uint64_t units = place & 0xffffffffu;
    uint32_t number = (uint32_t)(place >> 32);
    peri_word *slot = number != PERI_NO_SLOT ? l->slots + number : NULL;
    uint64_t seen = slot != NULL ? peri_word_get(slot) : 0;

    if (seen != 0 && peri_slot_unit(seen) == at) {
        bool fits = shard->live_units <= limit;
        bool wanted = fits || ((seen & 1) != 0 && *carried < CARRY_UNITS);

        if (is_over(dict, peri_item_at(l, at))) {
            peri_shard_remove(l, slot);
            shard->expired_total++;
        } else if (wanted && carry(l, slot, at, units)) {
            *carried += units;
        } else {
            peri_shard_remove(l, slot);
            shard->evicted_total++;
        }
    }
    peri_word_publish(&shard->tail, tail + units);
}

/* Enough free units for the entry, a filler, and for carrying on others. */
static void make_room(const peri_dict *dict, const peri_lookup *l,
                      uint64_t units)
{
    peri_shard *shard = l->shard;
    uint64_t carried = 0;
    uint64_t limit;
    uint64_t need;

    if (units > shard->largest_units) {
        shard->largest_units = units;
    }
    need = 2 * units + 2 * shard->largest_units;
    /* With less than that alive, and less than need free, some are dead: so
     * this ends although it carries on all others. */
    limit = (l->units - need) * LIVE_PERCENT / 100;
    while (free_units(l) < need) {
        reclaim(dict, l, limit, &carried);
    }
}

/* A slot in one of the key's buckets; the emptier one, or that of an entry
 * that is evicted. */
static peri_word *free_slot(const peri_lookup *l)
{
    peri_word *victim = NULL;
    peri_word *best = NULL;
    unsigned best_free = 0;

    for (unsigned b = 0; b < 2; b++) {
        peri_word *slots = l->slots + (size_t)l->bucket[b] * PERI_BUCKET_SLOTS;
        peri_word *first = NULL;
        unsigned count = 0;

        for (unsigned i = 0; i < PERI_BUCKET_SLOTS; i++) {
            uint64_t slot = peri_word_get(&slots[i]);

            if (slot == 0) {
                first = first == NULL ? &slots[i] : first;
                count++;
            } else if (victim == NULL || (slot & 1) == 0) {
                victim = &slots[i];
            }
        }
        if (count > best_free) {
            best_free = count;
            best = first;
        }
    }
    if (best == NULL) {
        peri_shard_remove(l, victim);
        l->shard->evicted_total++;
        best = victim;
    }
    return best;
}

/* ---- storing ---- */

static void write_value(peri_word *to, const peri_dict_value *value)
{
    if (value->type <= PERI_DICT_NUMBER) {
        peri_words_write(to, (const char *)&value->number,
                         sizeof value->number);
    } else {
        peri_words_write(to, value->data, value->length);
    }
}

static size_t value_bytes(const peri_dict_value *value)
{
    return value->type <= PERI_DICT_NUMBER ? sizeof value->number
                                           : value->length;
}

/* Over the value that is there; saved first, for who mends after our death. */
static void overwrite(const peri_lookup *l, peri_item *item,
                      const peri_dict_value *value, uint64_t about,
                      uint64_t expires_ms)
{
    peri_undo *undo = &l->shard->undo;
    peri_word *to = peri_item_value(item);
    uint64_t units = peri_units_of(value_bytes(value));

    undo->expires = peri_word_get(&item->expires);
    undo->about = peri_word_get(&item->about);
    for (uint64_t i = 0; i < units; i++) {
        undo->words[i] = peri_word_get(to + i);
    }
    peri_word_publish(&undo->armed, (uint64_t)((peri_word *)item - l->log) + 1);
    atomic_signal_fence(memory_order_seq_cst);
    peri_word_set(&item->expires, expires_ms);
    peri_word_set(&item->about, about);
    write_value(to, value);
    peri_word_publish(&undo->armed, 0);
}

static void append(const peri_dict *dict, const peri_lookup *l, uint64_t about,
                   const peri_dict_value *value, uint64_t expires_ms)
{
    peri_shard *shard = l->shard;
    uint64_t key_units = peri_units_of(l->key.length);
    uint64_t units =
        PERI_ITEM_UNITS + key_units + peri_units_of(value_bytes(value));
    peri_word *slot;
    peri_item *item;
    uint64_t at;
    uint64_t old;

    make_room(dict, l, units);
    at = claim(l, units);
    slot = peri_shard_find(l); /* making room may have moved or evicted it */
    if (slot == NULL) {
        slot = free_slot(l);
    }
    item = peri_item_at(l, at);
    peri_word_set(&item->place, (uint64_t)(slot - l->slots) << 32 | units);
    peri_word_set(&item->expires, expires_ms);
    peri_word_set(&item->about, about);
    peri_words_write(item->words, l->key.data, l->key.length);
    write_value(item->words + key_units, value);
    peri_word_publish(&shard->head, peri_word_get(&shard->head) + units);
    old = peri_word_get(slot);
    if (old != 0) {
        shard->live_units -= units_at(l, peri_slot_unit(old));
        shard->items--;
    }
    peri_word_publish(slot, peri_slot_make(at, l->tag));
    shard->live_units += units;
    shard->items++;
}

int peri_shard_store(const peri_dict *dict, const peri_lookup *l,
                     peri_word *slot, const peri_dict_value *value,
                     uint64_t expires_ms)
{
    size_t bytes = value_bytes(value);
    uint64_t units = peri_units_of(bytes);
    uint64_t about = peri_about_make(value->type, l->key.length, bytes);

    if (l->key.length > PERI_DICT_KEY_MAX ||
        PERI_ITEM_UNITS + peri_units_of(l->key.length) + units >
            peri_item_units_max(l->units)) {
        return PERI_ELIMIT;
    }
    if (slot != NULL && units <= PERI_UNDO_WORDS) {
        peri_item *item = peri_item_at(l, peri_slot_unit(peri_word_get(slot)));
        uint32_t old = peri_about_value(peri_word_get(&item->about));

        if (peri_units_of(old) == units) {
            overwrite(l, item, value, about, expires_ms);
            return 0;
        }
    }
    append(dict, l, about, value, expires_ms);
    return 0;
}

/* ---- mending ---- */

static void undo_write(const peri_lookup *l)
{
    peri_undo *undo = &l->shard->undo;
    uint64_t armed = peri_word_get(&undo->armed);
    peri_item *item;
    peri_word *to;
    uint64_t units;

    if (armed == 0 || armed > l->units) {
        return;
    }
    item = peri_item_at(l, armed - 1);
    peri_word_set(&item->expires, undo->expires);
    peri_word_set(&item->about, undo->about);
    to = peri_item_value(item);
    units = peri_units_of(peri_about_value(undo->about));
    for (uint64_t i = 0; i < units; i++) {
        peri_word_set(to + i, undo->words[i]);
    }
    peri_word_publish(&undo->armed, 0);
}

/* The last holder was killed: the index is true, the counters may not be. */
static void repair(const peri_dict *dict, const peri_lookup *l)
{
    peri_shard *shard = l->shard;
    uint64_t live_units = 0;
    uint64_t items = 0;

    if ((peri_word_get(&shard->seq) & 1) == 0) {
        peri_shard_begin(shard);
    }
    undo_write(l);
    for (uint64_t i = 0; i < dict->buckets * PERI_BUCKET_SLOTS; i++) {
        uint64_t slot = peri_word_get(&l->slots[i]);

        if (slot != 0) {
            live_units += units_at(l, peri_slot_unit(slot));
            items++;
        }
    }
    shard->live_units = live_units;
    shard->items = items;
    shard->repaired_total++;
    peri_shard_end(shard);
}

void peri_shard_lock(const peri_dict *dict, const peri_lookup *l)
{
    if (peri_lock_take(&l->shard->lock, dict->self)) {
        repair(dict, l);
    }
}

/* ---- checking ---- */

static const char *check_slot(const peri_lookup *l, uint64_t number,
                              uint64_t *units)
{
    uint64_t slot = peri_word_get(&l->slots[number]);
    uint64_t unit = peri_slot_unit(slot);
    uint64_t tail = peri_word_get(&l->shard->tail);
    uint64_t length = peri_word_get(&l->shard->head) - tail;
    uint64_t behind;
    peri_item *item;
    uint64_t about;

    if (unit + PERI_ITEM_UNITS > l->units) {
        return "a slot points past the log";
    }
    item = peri_item_at(l, unit);
    *units = units_at(l, unit);
    behind = (unit + l->units - tail % l->units) % l->units;
    if (behind + *units > length) {
        return "a slot points at what is free";
    }
    about = peri_word_get(&item->about);
    if (peri_word_get(&item->place) >> 32 != number) {
        return "an entry belongs to another slot";
    }
    if (*units != PERI_ITEM_UNITS + peri_units_of(peri_about_key(about)) +
                      peri_units_of(peri_about_value(about))) {
        return "an entry's length is not that of its parts";
    }
    return NULL;
}

static const char *check_log(const peri_lookup *l)
{
    uint64_t head = peri_word_get(&l->shard->head);
    uint64_t at = peri_word_get(&l->shard->tail);

    if (head - at > l->units) {
        return "the log is longer than its room";
    }
    while (at < head) {
        uint64_t units = units_at(l, at % l->units);

        if (units == 0 || at % l->units + units > l->units) {
            return "the log is broken";
        }
        at += units;
    }
    return at == head ? NULL : "the log ends inside of an entry";
}

const char *peri_shard_check(const peri_dict *dict, const peri_lookup *l)
{
    uint64_t live_units = 0;
    uint64_t items = 0;
    uint64_t units = 0;

    for (uint64_t i = 0; i < dict->buckets * PERI_BUCKET_SLOTS; i++) {
        if (peri_word_get(&l->slots[i]) != 0) {
            const char *wrong = check_slot(l, i, &units);

            if (wrong != NULL) {
                return wrong;
            }
            live_units += units;
            items++;
        }
    }
    if (live_units != l->shard->live_units || items != l->shard->items) {
        return "the counters are off";
    }
    if (peri_word_get(&l->shard->undo.armed) != 0 ||
        (peri_word_get(&l->shard->seq) & 1) != 0) {
        return "a write was left open";
    }
    return check_log(l);
}
