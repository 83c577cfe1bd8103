/* Dict: what is done to all of it. */
#include "core/shm/dict_internal.h"

static bool is_over(const peri_dict *dict, const peri_item *item)
{
    uint64_t expires = peri_word_get(&item->expires);

    return expires != 0 && expires <= peri_dict_now_ms(dict);
}

void peri_dict_flush(peri_dict *dict)
{
    for (uint64_t n = 0; n < dict->header->shards; n++) {
        peri_lookup l;

        peri_shard_parts(dict, n, &l);
        peri_shard_lock(dict, &l);
        peri_shard_begin(l.shard);
        for (uint64_t i = 0; i < dict->buckets * PERI_BUCKET_SLOTS; i++) {
            if (peri_word_get(&l.slots[i]) != 0) {
                peri_word_publish(&l.slots[i], 0);
            }
        }
        l.shard->live_units = 0;
        l.shard->items = 0;
        peri_word_publish(&l.shard->tail, peri_word_get(&l.shard->head));
        peri_shard_end(l.shard);
        peri_lock_release(&l.shard->lock);
    }
}

/* Appends the keys of one shard from a slot on; returns the slot to go on
 * with. */
static uint64_t shard_keys(const peri_dict *dict, const peri_lookup *l,
                           uint64_t slot, char *room, size_t room_bytes,
                           size_t *used)
{
    uint64_t slots = dict->buckets * PERI_BUCKET_SLOTS;

    for (; slot < slots; slot++) {
        uint64_t word = peri_word_get(&l->slots[slot]);
        peri_item *item;
        uint32_t length;

        if (word == 0) {
            continue;
        }
        item = peri_item_at(l, peri_slot_unit(word));
        if (is_over(dict, item)) {
            continue;
        }
        length = peri_about_key(peri_word_get(&item->about));
        /* Whole words are copied: room for the last one. */
        if (room_bytes - *used < sizeof length + length + 8) {
            return slot;
        }
        memcpy(room + *used, &length, sizeof length);
        peri_words_read(room + *used + sizeof length, item->words, length);
        *used += sizeof length + length;
    }
    return slots;
}

size_t peri_dict_keys(peri_dict *dict, uint64_t *cursor, char *room,
                      size_t room_bytes)
{
    uint64_t slots = dict->buckets * PERI_BUCKET_SLOTS;
    size_t used = 0;

    while (used == 0) {
        uint64_t number = *cursor >> 32;
        peri_lookup l;
        uint64_t next;

        if (number >= dict->header->shards) {
            return 0;
        }
        peri_shard_parts(dict, number, &l);
        peri_shard_lock(dict, &l);
        next = shard_keys(dict, &l, *cursor & 0xffffffffu, room, room_bytes,
                          &used);
        peri_lock_release(&l.shard->lock);
        *cursor = next < slots ? number << 32 | next : (number + 1) << 32;
    }
    return used;
}

void peri_dict_stat(peri_dict *dict, peri_dict_stats *out)
{
    *out = (peri_dict_stats){
        .size_bytes = dict->size_bytes,
        .room_bytes = dict->header->shards * dict->units * PERI_UNIT_BYTES,
        .item_max_bytes = (peri_item_units_max(dict->units) - PERI_ITEM_UNITS) *
                          PERI_UNIT_BYTES,
    };
    for (uint64_t n = 0; n < dict->header->shards; n++) {
        peri_lookup l;

        peri_shard_parts(dict, n, &l);
        peri_shard_lock(dict, &l);
        out->used_bytes += l.shard->live_units * PERI_UNIT_BYTES;
        out->items += l.shard->items;
        out->evicted_total += l.shard->evicted_total;
        out->expired_total += l.shard->expired_total;
        out->repaired_total += l.shard->repaired_total;
        peri_lock_release(&l.shard->lock);
    }
}

const char *peri_dict_check(peri_dict *dict)
{
    const char *wrong = NULL;

    for (uint64_t n = 0; n < dict->header->shards && wrong == NULL; n++) {
        peri_lookup l;

        peri_shard_parts(dict, n, &l);
        peri_shard_lock(dict, &l);
        wrong = peri_shard_check(dict, &l);
        peri_lock_release(&l.shard->lock);
    }
    return wrong;
}
