/* Dict: rate limits. A limit's state is one entry, so idle keys make room for
 * others like any entry that is not read. */
#include <math.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/shm/dict_internal.h"

/* A window is remembered as what was taken in each of so many parts of it, each
 * at the time of the last one in there: so a limit is never exceeded in any
 * window, and what was taken comes back a part late at most. */
#define WINDOW_PARTS 32

typedef struct taken {
    double at_us;
    double count;
} taken;

typedef struct window {
    taken parts[WINDOW_PARTS + 2]; /* by time; one may be cut by either end */
    size_t used;
    double total;
} window;

static double now_us(const peri_dict *dict)
{
    if (dict->now_ms != NULL) {
        uint64_t now_ms = dict->now_ms(dict->now_data);

        if (now_ms != 0) {
            return (double)now_ms * 1e3;
        }
    }
    return floor((double)peri_clock_monotonic_ns() / 1e3);
}

static int64_t wait_ms(double us)
{
    double ms = ceil(us / 1e3);

    return ms < 1 ? 1 : (int64_t)ms;
}

/* The present state of at most *bytes, which becomes its size; PERI_DICT_NONE:
 * there is none; else its type. */
static int read_state(peri_dict *dict, const peri_lookup *l, peri_word **slot,
                      void *to, size_t *bytes)
{
    peri_item *item;
    uint64_t about;

    *slot = peri_shard_find_live(dict, l);
    if (*slot == NULL) {
        return PERI_DICT_NONE;
    }
    item = peri_item_at(l, peri_slot_unit(peri_word_get(*slot)));
    about = peri_word_get(&item->about);
    if (peri_about_value(about) > *bytes) {
        return PERI_ESTATE;
    }
    *bytes = peri_about_value(about);
    peri_words_read(to, peri_item_value(item), *bytes);
    return (int)peri_about_type(about);
}

/* The state is the time at which all that was taken is paid for (GCRA). */
static int64_t take_bucket(peri_dict *dict, const peri_lookup *l,
                           double interval_us, double burst, double count)
{
    double now = now_us(dict);
    double paid = now;
    peri_dict_value value = {.type = PERI_DICT_NUMBER};
    size_t bytes = sizeof paid;
    peri_word *slot;
    int type = read_state(dict, l, &slot, &paid, &bytes);

    if (type != PERI_DICT_NONE && type != PERI_DICT_NUMBER) {
        return PERI_ESTATE;
    }
    value.number = fmax(paid, now) + count * interval_us;
    if (value.number - now > burst * interval_us * (1 + 1e-9)) {
        return wait_ms(value.number - now - burst * interval_us);
    }
    return peri_shard_store(dict, l, slot, &value,
                            peri_dict_now_ms(dict) + 10 +
                                (uint64_t)wait_ms(value.number - now));
}

/* Forgets what is out of the window. */
static void slide(window *w, double since_us)
{
    size_t gone = 0;

    while (gone < w->used && w->parts[gone].at_us <= since_us) {
        gone++;
    }
    w->used -= gone;
    memmove(w->parts, w->parts + gone, w->used * sizeof w->parts[0]);
    w->total = 0;
    for (size_t i = 0; i < w->used; i++) {
        w->total += w->parts[i].count;
    }
}

/* When there is room for count again. */
static double free_at_us(const window *w, double allowed, double count,
                         double length_us)
{
    double total = w->total;

    for (size_t i = 0; i < w->used; i++) {
        total -= w->parts[i].count;
        if (total + count <= allowed) {
            return w->parts[i].at_us + length_us;
        }
    }
    return w->used > 0 ? w->parts[w->used - 1].at_us + length_us : length_us;
}

static void note(window *w, double now, double count, double part_us)
{
    taken *last = w->used > 0 ? &w->parts[w->used - 1] : NULL;

    if (last == NULL || floor(last->at_us / part_us) < floor(now / part_us)) {
        last = &w->parts[w->used++];
        last->count = 0;
    }
    last->at_us = now;
    last->count += count;
}

static int64_t take_window(peri_dict *dict, const peri_lookup *l, double limit,
                           uint64_t window_ms, double count)
{
    double length_us = (double)window_ms * 1e3;
    double allowed = limit * (1 + 1e-9);
    double now = now_us(dict);
    window w = {.used = 0};
    peri_word *slot;
    peri_dict_value value = {.type = PERI_DICT_STRING, .data = (char *)w.parts};
    size_t bytes = (WINDOW_PARTS + 1) * sizeof w.parts[0];
    int type = read_state(dict, l, &slot, w.parts, &bytes);

    if (type != PERI_DICT_NONE && type != PERI_DICT_STRING) {
        return PERI_ESTATE;
    }
    w.used = type == PERI_DICT_NONE ? 0 : bytes / sizeof w.parts[0];
    slide(&w, now - length_us);
    if (w.total + count > allowed) {
        return wait_ms(free_at_us(&w, allowed, count, length_us) - now);
    }
    note(&w, now, count, length_us / WINDOW_PARTS);
    value.length = w.used * sizeof w.parts[0];
    return peri_shard_store(dict, l, slot, &value,
                            peri_dict_now_ms(dict) + window_ms + 10);
}

int64_t peri_dict_take_bucket(peri_dict *dict, peri_slice key,
                              double interval_us, double burst, double count)
{
    peri_lookup l;
    int64_t rc;

    peri_dict_locate(dict, key, &l);
    peri_shard_lock(dict, &l);
    peri_shard_begin(l.shard);
    rc = take_bucket(dict, &l, interval_us, burst, count);
    peri_shard_end(l.shard);
    peri_lock_release(&l.shard->lock);
    return rc;
}

int64_t peri_dict_take_window(peri_dict *dict, peri_slice key, double limit,
                              uint64_t window_ms, double count)
{
    peri_lookup l;
    int64_t rc;

    peri_dict_locate(dict, key, &l);
    peri_shard_lock(dict, &l);
    peri_shard_begin(l.shard);
    rc = take_window(dict, &l, limit, window_ms, count);
    peri_shard_end(l.shard);
    peri_lock_release(&l.shard->lock);
    return rc;
}
