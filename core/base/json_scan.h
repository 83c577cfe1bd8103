/* JSON scan: how far a string's plain characters reach.
 *
 * Plain is what stands for itself in a JSON string and is ASCII: neither a
 * control character, nor a quote, nor a backslash, nor a byte over 0x7f. */
#ifndef PERI_BASE_JSON_SCAN_H
#define PERI_BASE_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

static inline bool peri_json_is_plain(char c)
{
    unsigned char byte = (unsigned char)c;

    return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

#ifdef __SSE2__
#define PERI_JSON_BLOCK 16

/* Index of the first byte of a block that is not plain; 16 when all are. */
static inline unsigned peri_json_block_plain(const char *at)
{
    __m128i block = _mm_loadu_si128((const __m128i *)(const void *)at);
    /* As signed bytes those over 0x7f are below 0x20 too. */
    __m128i odd = _mm_cmplt_epi8(block, _mm_set1_epi8(0x20));
    unsigned mask;

    odd = _mm_or_si128(odd, _mm_cmpeq_epi8(block, _mm_set1_epi8('"')));
    odd = _mm_or_si128(odd, _mm_cmpeq_epi8(block, _mm_set1_epi8('\\')));
    mask = (unsigned)_mm_movemask_epi8(odd);
    return mask == 0 ? 16 : (unsigned)__builtin_ctz(mask);
}

/* The same for what ends a string or needs a second look when bytes over 0x7f
 * are taken as they are: quotes, backslashes, control characters. */
static inline unsigned peri_json_block_quoted(const char *at)
{
    __m128i block = _mm_loadu_si128((const __m128i *)(const void *)at);
    __m128i odd =
        _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(0x1f)), block);
    unsigned mask;

    odd = _mm_or_si128(odd, _mm_cmpeq_epi8(block, _mm_set1_epi8('"')));
    odd = _mm_or_si128(odd, _mm_cmpeq_epi8(block, _mm_set1_epi8('\\')));
    mask = (unsigned)_mm_movemask_epi8(odd);
    return mask == 0 ? 16 : (unsigned)__builtin_ctz(mask);
}
#else
#define PERI_JSON_BLOCK 8

/* The high bits of the bytes that are control characters, quotes or
 * backslashes; those above the lowest may be wrong. */
static inline uint64_t peri_json_odd_bytes(uint64_t word)
{
    const uint64_t ones = 0x0101010101010101u;
    uint64_t quote = word ^ (ones * '"');
    uint64_t slash = word ^ (ones * '\\');

    return (((word - ones * 0x20) & ~word) | ((quote - ones) & ~quote) |
            ((slash - ones) & ~slash)) &
           (ones * 0x80);
}

static inline uint64_t peri_json_load(const char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

static inline unsigned peri_json_block_plain(const char *at)
{
    uint64_t word = peri_json_load(at);
    uint64_t odd = peri_json_odd_bytes(word) | (word & 0x8080808080808080u);

    return odd == 0 ? 8 : (unsigned)__builtin_ctzll(odd) / 8;
}

static inline unsigned peri_json_block_quoted(const char *at)
{
    uint64_t odd = peri_json_odd_bytes(peri_json_load(at));

    return odd == 0 ? 8 : (unsigned)__builtin_ctzll(odd) / 8;
}
#endif

/* The first byte in [at, end) that is not plain, or end. Reads nothing at or
 * behind end. */
static inline const char *peri_json_skip_plain(const char *at, const char *end)
{
    while (end - at >= PERI_JSON_BLOCK) {
        unsigned plain = peri_json_block_plain(at);

        at += plain;
        if (plain != PERI_JSON_BLOCK) {
            return at;
        }
    }
    while (at < end && peri_json_is_plain(*at)) {
        at++;
    }
    return at;
}

/* The first quote, backslash or control character in [at, end), or end. */
static inline const char *peri_json_skip_quoted(const char *at, const char *end)
{
    while (end - at >= PERI_JSON_BLOCK) {
        unsigned taken = peri_json_block_quoted(at);

        at += taken;
        if (taken != PERI_JSON_BLOCK) {
            return at;
        }
    }
    while (at < end &&
           ((unsigned char)*at >= 0x80 || peri_json_is_plain(*at))) {
        at++;
    }
    return at;
}

#endif
