/* Exponential: counting into buckets, and adding them up. */
#include "core/base/exponential.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define READS_MAX 100 /* of a table that changes meanwhile */
#define MANTISSA_BITS 52

/* Cells: which table counts (odd: the second), zeros, both tables. A table:
 * these, then its buckets; those of positive values from the left, those of
 * negative ones from the right. What is outside of both is 0. */
enum { SCALE, FIRST, COUNT, NEGATIVE_FIRST, NEGATIVE_COUNT, BUCKETS };

static int half(int index)
{
    return (index - (index < 0)) / 2; /* rounds down */
}

/* The bucket of a size, which is positive and finite. */
static int index_of(double size, int scale)
{
    uint64_t bits;
    uint64_t mantissa;
    int exponent;
    int index;

    memcpy(&bits, &size, sizeof bits);
    exponent = (int)(bits >> MANTISSA_BITS & 0x7FF) - 1023;
    mantissa = bits & (((uint64_t)1 << MANTISSA_BITS) - 1);
    if (scale > 0 && mantissa != 0) {
        int steps = 1 << scale;
        double fraction;
        int step;

        bits = (uint64_t)1023 << MANTISSA_BITS | mantissa;
        memcpy(&fraction, &bits, sizeof fraction);
        step = (int)ceil(log2(fraction) * steps) - 1;
        step = step < 0 ? 0 : step < steps ? step : steps - 1;
        return exponent * steps + step;
    }
    if (scale > 0) {
        return exponent * (1 << scale) - 1; /* a power of 2: the bound itself */
    }
    index = mantissa == 0 ? exponent - 1 : exponent;
    for (; scale < 0; scale++) {
        index = half(index);
    }
    return index;
}

/* ---- counting ---- */

typedef struct window {
    int first;
    int last; /* below first: empty */
} window;

static window window_of(const double *table, bool negative)
{
    int first = (int)table[negative ? NEGATIVE_FIRST : FIRST];
    int count = (int)table[negative ? NEGATIVE_COUNT : COUNT];

    return (window){first, first + count - 1};
}

static int width(window w)
{
    return w.last - w.first + 1;
}

static window with(window w, int index)
{
    if (width(w) == 0) {
        return (window){index, index};
    }
    return (window){index < w.first ? index : w.first,
                    index > w.last ? index : w.last};
}

static window halved(window w)
{
    return width(w) == 0 ? w : (window){half(w.first), half(w.last)};
}

static double *bucket_at(double *table, uint32_t buckets, bool negative, int at)
{
    return table + BUCKETS + (negative ? (int)buckets - 1 - at : at);
}

static void set_window(double *table, bool negative, window w)
{
    table[negative ? NEGATIVE_FIRST : FIRST] = w.first;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    table[negative ? NEGATIVE_COUNT : COUNT] = width(w);
}

static void copy_buckets(double *from, double *to, uint32_t buckets,
                         bool negative, window new, int steps)
{
    window old = window_of(from, negative);

    for (int i = old.first; i <= old.last; i++) {
        int index = i;

        for (int step = 0; step < steps; step++) {
            index = half(index);
        }
        *bucket_at(to, buckets, negative, index - new.first) +=
            *bucket_at(from, buckets, negative, i - old.first);
    }
    set_window(to, negative, new);
}

static double *table_of(double *cells, uint32_t buckets, double turn)
{
    bool second = ((uint64_t)turn & 1) != 0;

    return cells + 2 + (second ? BUCKETS + (size_t)buckets : 0);
}

/* Fills the other table, with room for that size too, and counts there from now
 * on. */
static double *move(double *cells, uint32_t buckets, bool negative, double size)
{
    double *from = table_of(cells, buckets, cells[0]);
    double *to = table_of(cells, buckets, cells[0] + 1);
    window both[2] = {window_of(from, false), window_of(from, true)};
    bool empty = width(both[0]) + width(both[1]) == 0;
    int old = empty ? PERI_EXPONENTIAL_SCALE_MAX : (int)from[SCALE];
    int scale = old;

    both[negative] = with(both[negative], index_of(size, scale));
    while (width(both[0]) + width(both[1]) > (int)buckets &&
           scale > PERI_EXPONENTIAL_SCALE_MIN) {
        scale--;
        both[0] = halved(both[0]);
        both[1] = halved(both[1]);
    }
    memset(to, 0, (BUCKETS + (size_t)buckets) * sizeof *to);
    to[SCALE] = scale;
    copy_buckets(from, to, buckets, false, both[0], old - scale);
    copy_buckets(from, to, buckets, true, both[1], old - scale);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    cells[0] += 1;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    return to;
}

void peri_exponential_observe(double *cells, uint32_t buckets, double value)
{
    bool negative = value < 0;
    double size = fabs(value) < DBL_MAX ? fabs(value) : DBL_MAX;
    double *table = table_of(cells, buckets, cells[0]);
    window own = window_of(table, negative);
    int index;

    if (size <= PERI_EXPONENTIAL_ZERO) {
        cells[1] += 1;
        return;
    }
    index = index_of(size, (int)table[SCALE]);
    if (width(own) > 0 && index > own.last &&
        index - own.first < (int)buckets - width(window_of(table, !negative))) {
        own.last = index; /* what lies there is 0 */
        set_window(table, negative, own);
    } else if (width(own) == 0 || index < own.first || index > own.last) {
        table = move(cells, buckets, negative, size);
        own = window_of(table, negative);
        index = index_of(size, (int)table[SCALE]);
    }
    *bucket_at(table, buckets, negative, index - own.first) += 1;
}

/* ---- reading ---- */

static double load(const double *cell)
{
    double value;

    __atomic_load(cell, &value, __ATOMIC_RELAXED);
    return value;
}

void peri_exponential_init(peri_exponential *out)
{
    out->scale = PERI_EXPONENTIAL_SCALE_MAX;
    out->zero = 0;
    out->positive.first = 0;
    out->positive.count = 0;
    out->negative.first = 0;
    out->negative.count = 0;
}

static void read_range(const double *table, uint32_t buckets, bool negative,
                       peri_exponential_range *out)
{
    double count = load(&table[negative ? NEGATIVE_COUNT : COUNT]);

    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    out->first = (int)load(&table[negative ? NEGATIVE_FIRST : FIRST]);
    out->count = count < buckets ? (uint32_t)count : buckets;
    for (uint32_t i = 0; i < out->count; i++) {
        out->counts[i] =
            load(&table[BUCKETS + (negative ? buckets - 1 - i : i)]);
    }
}

void peri_exponential_read(const double *cells, uint32_t buckets,
                           peri_exponential *out)
{
    double turn = load(&cells[0]);
    double after;

    for (int i = 0; i < READS_MAX; i++) {
        const double *table =
            table_of((double *)(uintptr_t)cells, buckets, turn);

        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        out->scale = (int)load(&table[SCALE]);
        read_range(table, buckets, false, &out->positive);
        read_range(table, buckets, true, &out->negative);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        after = load(&cells[0]);
        if (after == turn) {
            break;
        }
        turn = after;
    }
    if (out->positive.count + out->negative.count == 0) {
        out->scale = PERI_EXPONENTIAL_SCALE_MAX;
    }
    out->zero = load(&cells[1]);
}

double peri_exponential_total(const peri_exponential *e)
{
    double total = e->zero;

    for (uint32_t i = 0; i < e->positive.count; i++) {
        total += e->positive.counts[i];
    }
    for (uint32_t i = 0; i < e->negative.count; i++) {
        total += e->negative.counts[i];
    }
    return total;
}

/* ---- adding up ---- */

static void halve(peri_exponential_range *range)
{
    int first = half(range->first);
    uint32_t count = 0;

    for (uint32_t i = 0; i < range->count; i++) {
        uint32_t at = (uint32_t)(half(range->first + (int)i) - first);
        double value = range->counts[i];

        range->counts[at] = at < count ? range->counts[at] + value : value;
        count = at + 1;
    }
    range->first = first;
    range->count = count;
}

void peri_exponential_coarsen(peri_exponential *e, int scale)
{
    for (; e->scale > scale; e->scale--) {
        halve(&e->positive);
        halve(&e->negative);
    }
}

static window span_of(const peri_exponential_range *a,
                      const peri_exponential_range *b)
{
    window w = {a->first, a->first + (int)a->count - 1};

    if (b->count > 0) {
        w = with(w, b->first);
        w = with(w, b->first + (int)b->count - 1);
    }
    return w;
}

static void add_range(peri_exponential_range *sum,
                      const peri_exponential_range *what)
{
    window w = span_of(sum, what);
    uint32_t shift = sum->count > 0 ? (uint32_t)(sum->first - w.first) : 0;
    uint32_t count = (uint32_t)width(w);

    if (what->count == 0) {
        return;
    }
    if (shift > 0) {
        memmove(sum->counts + shift, sum->counts,
                sum->count * sizeof *sum->counts);
        memset(sum->counts, 0, shift * sizeof *sum->counts);
    }
    for (uint32_t i = shift + sum->count; i < count; i++) {
        sum->counts[i] = 0;
    }
    for (uint32_t i = 0; i < what->count; i++) {
        sum->counts[what->first - w.first + (int)i] += what->counts[i];
    }
    sum->first = w.first;
    sum->count = count;
}

void peri_exponential_add(peri_exponential *sum, const peri_exponential *what,
                          uint32_t buckets)
{
    peri_exponential other = *what;

    peri_exponential_coarsen(sum, other.scale);
    peri_exponential_coarsen(&other, sum->scale);
    while (width(span_of(&sum->positive, &other.positive)) +
                   width(span_of(&sum->negative, &other.negative)) >
               (int)buckets &&
           sum->scale > PERI_EXPONENTIAL_SCALE_MIN) {
        peri_exponential_coarsen(sum, sum->scale - 1);
        peri_exponential_coarsen(&other, sum->scale);
    }
    add_range(&sum->positive, &other.positive);
    add_range(&sum->negative, &other.negative);
    sum->zero += other.zero;
}

static bool take_away(peri_exponential_range *now,
                      const peri_exponential_range *before)
{
    for (uint32_t i = 0; i < before->count; i++) {
        int at = before->first + (int)i - now->first;

        if (before->counts[i] == 0) {
            continue;
        }
        if (at < 0 || at >= (int)now->count ||
            now->counts[at] < before->counts[i]) {
            return false;
        }
        now->counts[at] -= before->counts[i];
    }
    return true;
}

bool peri_exponential_subtract(peri_exponential *now,
                               const peri_exponential *before)
{
    peri_exponential left = *now;
    peri_exponential old = *before;

    peri_exponential_coarsen(&old, left.scale);
    if (old.scale != left.scale || old.zero > left.zero ||
        !take_away(&left.positive, &old.positive) ||
        !take_away(&left.negative, &old.negative)) {
        return false;
    }
    left.zero -= old.zero;
    *now = left;
    return true;
}
