/* Dict, inside: the layout of a shard, and what its parts share.
 *
 * A shard is an index and a log. The index has buckets of 8 words; a key
 * belongs in one of two of them. A word is an entry's place in the log, 31 bits
 * of its hash, and a bit that readers set; storing one word makes an entry
 * appear, move or go. The log is a ring: entries are added at its head, and
 * at its tail the dead are passed over, those in use are copied to the head,
 * the others evicted. So free room is always in one piece.
 *
 * Readers copy without a lock and look at `seq` before and after. Every step of
 * a writer leaves the index true; what is written in place is saved in `undo`
 * first. Counters can be off after a kill: peri_shard_lock() counts anew. */
#ifndef PERI_SHM_DICT_INTERNAL_H
#define PERI_SHM_DICT_INTERNAL_H

#include <stdatomic.h>
#include <string.h>

#include "core/shm/dict.h"
#include "core/shm/lock.h"

#define PERI_BUCKET_SLOTS 8u
#define PERI_NO_SLOT UINT32_MAX
#define PERI_UNIT_BYTES 8u
#define PERI_UNDO_WORDS 8u

typedef _Atomic uint64_t peri_word;

/* Header of an entry; the key and the value follow, each padded to words. */
typedef struct peri_item {
    peri_word place;   /* slot << 32 | units of the whole entry */
    peri_word expires; /* monotonic ms; 0: never */
    peri_word about;   /* type << 48 | key bytes << 32 | value bytes */
    peri_word words[];
} peri_item;

#define PERI_ITEM_UNITS 3u

typedef struct peri_undo {
    peri_word armed; /* place of the entry + 1; 0: nothing to undo */
    uint64_t expires;
    uint64_t about;
    uint64_t words[PERI_UNDO_WORDS];
} peri_undo;

typedef struct peri_shard {
    _Alignas(64) peri_lock lock;
    peri_word seq;  /* odd while it is written */
    peri_word head; /* units ever added, and passed over at the tail */
    peri_word tail;
    uint64_t live_units;
    uint64_t largest_units; /* of entries so far: what is kept free */
    uint64_t items;
    uint64_t evicted_total;
    uint64_t expired_total;
    uint64_t repaired_total;
    peri_undo undo;
} peri_shard;

typedef struct peri_dict_header {
    uint64_t seed;
    uint64_t shards; /* a power of two */
    uint64_t shard_bytes;
    uint64_t buckets; /* of a shard */
    uint64_t units;   /* of a shard's log */
} peri_dict_header;

#define PERI_DICT_HEADER_BYTES 64u

struct peri_dict {
    peri_dict_header *header;
    char *shards;
    uint64_t self;
    uint64_t seed; /* copies of the header's */
    uint64_t shard_bytes;
    uint64_t buckets;
    uint64_t units;
    uint64_t size_bytes;
    uint32_t shard_shift;
    uint64_t (*now_ms)(void *data); /* NULL: the system's */
    void *now_data;
};

/* One key, on its way through a call. */
typedef struct peri_lookup {
    peri_shard *shard;
    peri_word *slots;
    peri_word *log;
    uint64_t units; /* of the log */
    uint32_t tag;
    uint32_t bucket[2];
    peri_slice key;
} peri_lookup;

static inline uint64_t peri_word_get(const peri_word *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static inline void peri_word_set(peri_word *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

/* After all that was stored before, also for who dies right behind it. */
static inline void peri_word_publish(peri_word *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_release);
}

/* ---- slots ---- */

static inline uint64_t peri_slot_make(uint64_t unit, uint32_t tag)
{
    return (unit + 1) << 32 | (uint64_t)tag << 1;
}

static inline uint64_t peri_slot_unit(uint64_t slot)
{
    return (slot >> 32) - 1;
}

static inline uint32_t peri_slot_tag(uint64_t slot)
{
    return (uint32_t)slot >> 1;
}

/* ---- entries ---- */

static inline uint64_t peri_units_of(uint64_t bytes)
{
    return (bytes + PERI_UNIT_BYTES - 1) / PERI_UNIT_BYTES;
}

static inline uint32_t peri_about_value(uint64_t about)
{
    return (uint32_t)about;
}

static inline uint32_t peri_about_key(uint64_t about)
{
    return (uint32_t)(about >> 32) & 0xffff;
}

static inline uint32_t peri_about_type(uint64_t about)
{
    return (uint32_t)(about >> 48);
}

static inline uint64_t peri_about_make(uint32_t type, size_t key, size_t value)
{
    return (uint64_t)type << 48 | (uint64_t)key << 32 | (uint64_t)value;
}

static inline peri_item *peri_item_at(const peri_lookup *l, uint64_t unit)
{
    return (peri_item *)(l->log + unit);
}

static inline peri_word *peri_item_value(peri_item *item)
{
    return item->words +
           peri_units_of(peri_about_key(peri_word_get(&item->about)));
}

/* Of the whole entry. */
static inline uint64_t peri_item_units(const peri_lookup *l, uint64_t unit)
{
    return peri_word_get(&peri_item_at(l, unit)->place) & 0xffffffffu;
}

/* ---- dict_key.c ---- */

/* Fills in where a key belongs. */
void peri_dict_locate(const peri_dict *dict, peri_slice key, peri_lookup *out);

/* Where a shard's parts lie, without a key. */
void peri_shard_parts(const peri_dict *dict, uint64_t number, peri_lookup *out);

uint64_t peri_dict_now_ms(const peri_dict *dict);

/* ---- dict_mend.c ---- */

/* Takes the lock and mends what a dead holder left. */
void peri_shard_lock(const peri_dict *dict, const peri_lookup *l);

/* What is wrong with it, or NULL. */
const char *peri_shard_check(const peri_dict *dict, const peri_lookup *l);

/* ---- dict_shard.c: a shard, with its lock held ---- */

/* Around all that readers must not see half done. */
static inline void peri_shard_begin(peri_shard *shard)
{
    peri_word_set(&shard->seq, peri_word_get(&shard->seq) + 1);
    atomic_thread_fence(memory_order_release);
}

static inline void peri_shard_end(peri_shard *shard)
{
    peri_word_publish(&shard->seq, peri_word_get(&shard->seq) + 1);
}

/* The slot of the key, NULL when it is absent; may be called without the lock
 * by who looks at seq afterwards. */
peri_word *peri_shard_find(const peri_lookup *l);

/* As find; an entry whose time has passed is removed. Inside begin and end. */
peri_word *peri_shard_find_live(const peri_dict *dict, const peri_lookup *l);

/* Removes the entry of a slot. Inside begin and end. */
void peri_shard_remove(const peri_lookup *l, peri_word *slot);

/* Stores the key with that value; slot is its present one, or NULL. Inside
 * begin and end. 0 or PERI_ELIMIT. */
int peri_shard_store(const peri_dict *dict, const peri_lookup *l,
                     peri_word *slot, const peri_dict_value *value,
                     uint64_t expires_ms);

/* Units that one entry may have. */
static inline uint64_t peri_item_units_max(uint64_t log_units)
{
    return log_units / 8;
}

/* ---- words and bytes ---- */

static inline uint64_t peri_last_word(const char *data, size_t bytes)
{
    uint64_t word = 0;

    memcpy(&word, data, bytes);
    return word;
}

static inline void peri_words_write(peri_word *to, const char *from,
                                    size_t bytes)
{
    uint64_t word;

    for (; bytes >= sizeof word; bytes -= sizeof word, from += sizeof word) {
        memcpy(&word, from, sizeof word);
        peri_word_set(to++, word);
    }
    if (bytes > 0) {
        peri_word_set(to, peri_last_word(from, bytes));
    }
}

static inline void peri_words_read(char *to, const peri_word *from,
                                   size_t bytes)
{
    size_t count = peri_units_of(bytes);

    for (size_t i = 0; i < count; i++) {
        uint64_t word = peri_word_get(from + i);

        memcpy(to + i * sizeof word, &word, sizeof word);
    }
}

static inline bool peri_words_equal(const peri_word *words, const char *data,
                                    size_t bytes)
{
    uint64_t word;

    for (; bytes >= sizeof word; bytes -= sizeof word, data += sizeof word) {
        memcpy(&word, data, sizeof word);
        if (peri_word_get(words++) != word) {
            return false;
        }
    }
    return bytes == 0 || peri_word_get(words) == peri_last_word(data, bytes);
}

#endif
