/* Dict, a key: its hash, and where it belongs. */
#include <time.h>

#include "core/shm/dict_internal.h"

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
