/* Dict: rate limits. A limit's state is one entry, so idle keys make room for
 * others like any entry that is not read. */
#include <math.h>

#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/shm/dict_internal.h"

typedef struct window {
    double number; /* of the window, since the clock's start */
    double current;
    double previous;
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

/* The present state; PERI_DICT_NONE: there is none; else its type. */
static int read_state(peri_dict *dict, const peri_lookup *l, peri_word **slot,
                      char *to, size_t bytes)
{
    peri_item *item;
    uint64_t about;

    *slot = peri_shard_find_live(dict, l);
    if (*slot == NULL) {
        return PERI_DICT_NONE;
    }
    item = peri_item_at(l, peri_slot_unit(peri_word_get(*slot)));
    about = peri_word_get(&item->about);
    if (peri_about_value(about) != bytes) {
        return PERI_ESTATE;
    }
    peri_words_read(to, peri_item_value(item), bytes);
    return (int)peri_about_type(about);
}

/* The state is the time at which all that was taken is paid for (GCRA). */
static int64_t take_bucket(peri_dict *dict, const peri_lookup *l,
                           double interval_us, double burst, double count)
{
    double now = now_us(dict);
    double paid = now;
    peri_dict_value value = {.type = PERI_DICT_NUMBER};
    peri_word *slot;
    int type = read_state(dict, l, &slot, (char *)&paid, sizeof paid);

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

static void move_on(window *state, double number)
{
    if (number - state->number > 1.5) {
        state->previous = 0;
    } else if (number - state->number > 0.5) {
        state->previous = state->current;
    } else {
        return;
    }
    state->current = 0;
    state->number = number;
}

/* Part of a window to wait for; `gone` of it is over. */
static double part_to_wait(const window *state, double limit, double count,
                           double gone)
{
    double room = limit - state->current - count;
    double then;

    if (room >= 0 && state->previous > 0) {
        return fmax(1 - room / state->previous - gone, 0);
    }
    then = state->current > 0 ? 1 - (limit - count) / state->current : 0;
    return 1 - gone + fmax(then, 0);
}

static int64_t take_window(peri_dict *dict, const peri_lookup *l, double limit,
                           uint64_t window_ms, double count)
{
    double length_us = (double)window_ms * 1e3;
    double now = now_us(dict);
    window state = {floor(now / length_us), 0, 0};
    double gone = now / length_us - state.number;
    window found;
    peri_word *slot;
    peri_dict_value value = {.type = PERI_DICT_STRING,
                             .data = (char *)&found,
                             .length = sizeof found};
    int type = read_state(dict, l, &slot, (char *)&found, sizeof found);

    if (type != PERI_DICT_NONE && type != PERI_DICT_STRING) {
        return PERI_ESTATE;
    }
    if (type == PERI_DICT_NONE) {
        found = state;
    }
    move_on(&found, state.number);
    if (found.previous * (1 - gone) + found.current + count >
        limit * (1 + 1e-9)) {
        return wait_ms(part_to_wait(&found, limit, count, gone) * length_us);
    }
    found.current += count;
    return peri_shard_store(dict, l, slot, &value,
                            peri_dict_now_ms(dict) + 2 * window_ms);
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
