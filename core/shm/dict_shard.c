/* Dict, a shard: finding, making room, storing. */
#include "core/base/err.h"
#include "core/shm/dict_internal.h"

/* Entries may fill so much of the log; the rest is what moving them needs. */
#define LIVE_PERCENT 80u

/* Entries in use that are carried on for one write before some of them are
 * given up: bounds what a single write may take. */
#define CARRY_UNITS 4096u

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

void peri_shard_remove(const peri_lookup *l, peri_word *slot)
{
    uint64_t units = peri_item_units(l, peri_slot_unit(peri_word_get(slot)));

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
        shard->live_units -= peri_item_units(l, peri_slot_unit(old));
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
