/* Dict, a shard after its holder was killed: mended, and looked over. */
#include "core/shm/dict_internal.h"

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
            live_units += peri_item_units(l, peri_slot_unit(slot));
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
    *units = peri_item_units(l, unit);
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
        uint64_t units = peri_item_units(l, at % l->units);

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
