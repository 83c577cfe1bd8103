/* Dict: values, times to live, eviction, limits on size, mending. */
#include "core/shm/dict.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/err.h"
#include "core/shm/dict_internal.h"

#define AREA_BYTES ((size_t)64 << 20)

typedef struct world {
    peri_regions *regions;
    peri_dict *dict;
    uint64_t now_ms;
    char room[64 << 10];
} world;

static uint64_t world_now(void *data)
{
    return ((world *)data)->now_ms;
}

static int open_world(void **state)
{
    world *w = calloc(1, sizeof *w);

    w->regions = peri_regions_create(AREA_BYTES);
    assert_non_null(w->regions);
    assert_int_equal(peri_dict_open(w->regions, "d", 256 << 10, &w->dict), 0);
    w->now_ms = 1000;
    peri_dict_set_clock(w->dict, world_now, w);
    *state = w;
    return 0;
}

static int close_world(void **state)
{
    world *w = *state;
    const char *wrong = peri_dict_check(w->dict);

    if (wrong != NULL) {
        fail_msg("%s", wrong);
    }
    peri_dict_close(w->dict);
    peri_regions_destroy(w->regions);
    free(w);
    return 0;
}

static peri_slice text(const char *s)
{
    return peri_slice_of(s, strlen(s));
}

static peri_dict_value string(const char *s)
{
    return (peri_dict_value){
        .type = PERI_DICT_STRING, .data = (char *)s, .length = strlen(s)};
}

static peri_dict_value number(double n)
{
    return (peri_dict_value){.type = PERI_DICT_NUMBER, .number = n};
}

static int set(world *w, const char *key, const char *value, uint64_t ttl_ms)
{
    peri_dict_value v = string(value);

    return peri_dict_set(w->dict, text(key), &v, ttl_ms, PERI_DICT_SET);
}

static int get(world *w, const char *key, peri_dict_value *out)
{
    *out = (peri_dict_value){.data = w->room, .room_bytes = sizeof w->room};
    return peri_dict_get(w->dict, text(key), out);
}

static void assert_string(world *w, const char *key, const char *value)
{
    peri_dict_value v;

    assert_int_equal(get(w, key, &v), PERI_DICT_STRING);
    assert_int_equal(v.length, strlen(value));
    assert_memory_equal(v.data, value, v.length);
}

static void assert_absent(world *w, const char *key)
{
    peri_dict_value v;

    assert_int_equal(get(w, key, &v), PERI_DICT_NONE);
}

static void values_come_back_as_they_went_in(void **state)
{
    static const char longer[] =
        "a text that is longer than what is written in place: sixty bytes";
    static const char *const samples[] = {"",         "a",         "1234567",
                                          "12345678", "123456789", longer};
    world *w = *state;
    peri_dict_value v;

    for (size_t i = 0; i < 6; i++) {
        for (size_t j = 0; j < 6; j++) {
            assert_int_equal(set(w, samples[j], samples[i], 0), 0);
            assert_string(w, samples[j], samples[i]);
        }
    }
    v = number(-0.5);
    assert_int_equal(peri_dict_set(w->dict, text("n"), &v, 0, PERI_DICT_SET),
                     0);
    assert_int_equal(get(w, "n", &v), PERI_DICT_NUMBER);
    assert_true(v.number == -0.5);
    assert_int_equal(peri_dict_delete(w->dict, text("n")), 1);
    assert_int_equal(peri_dict_delete(w->dict, text("n")), 0);
    assert_absent(w, "n");
}

static void an_entry_ends_with_its_time(void **state)
{
    world *w = *state;
    peri_dict_stats stats;

    set(w, "k", "v", 100);
    w->now_ms += 99;
    assert_string(w, "k", "v");
    assert_int_equal(peri_dict_ttl(w->dict, text("k")), 1);
    w->now_ms += 1;
    assert_absent(w, "k");
    assert_int_equal(peri_dict_ttl(w->dict, text("k")), -2);
    assert_int_equal(peri_dict_delete(w->dict, text("k")), 0);
    peri_dict_stat(w->dict, &stats);
    assert_int_equal(stats.expired_total, 1);
    set(w, "k", "v", 100);
    set(w, "k", "v", 0);
    assert_int_equal(peri_dict_ttl(w->dict, text("k")), -1);
    w->now_ms += 1000;
    assert_string(w, "k", "v");
}

static void add_and_replace_look_first(void **state)
{
    world *w = *state;
    peri_dict_value v = string("v");

    assert_int_equal(
        peri_dict_set(w->dict, text("k"), &v, 0, PERI_DICT_REPLACE),
        PERI_ENOTFOUND);
    assert_int_equal(peri_dict_set(w->dict, text("k"), &v, 10, PERI_DICT_ADD),
                     0);
    assert_int_equal(peri_dict_set(w->dict, text("k"), &v, 0, PERI_DICT_ADD),
                     PERI_EEXISTS);
    w->now_ms += 10;
    assert_int_equal(peri_dict_set(w->dict, text("k"), &v, 0, PERI_DICT_ADD),
                     0);
}

static void incr_counts_and_keeps_the_time(void **state)
{
    world *w = *state;
    double n;

    assert_int_equal(peri_dict_incr(w->dict, text("n"), 2, 10, 50, &n), 0);
    assert_true(n == 12);
    assert_int_equal(peri_dict_incr(w->dict, text("n"), -3, 10, 500, &n), 0);
    assert_true(n == 9);
    assert_int_equal(peri_dict_ttl(w->dict, text("n")), 50);
    w->now_ms += 50;
    assert_int_equal(peri_dict_incr(w->dict, text("n"), 1, 0, 0, &n), 0);
    assert_true(n == 1);
    set(w, "s", "text", 0);
    assert_int_equal(peri_dict_incr(w->dict, text("s"), 1, 0, 0, &n),
                     PERI_ESTATE);
}

static void cas_changes_only_what_was_seen(void **state)
{
    world *w = *state;
    peri_dict_value none = {.type = PERI_DICT_NONE};
    peri_dict_value a = string("a");
    peri_dict_value b = string("b");
    peri_slice k = text("k");

    assert_int_equal(peri_dict_cas(w->dict, k, &a, &b, 0), PERI_EEXISTS);
    assert_int_equal(peri_dict_cas(w->dict, k, &none, &a, 70), 0);
    assert_int_equal(peri_dict_cas(w->dict, k, &none, &b, 0), PERI_EEXISTS);
    assert_int_equal(peri_dict_cas(w->dict, k, &a, &b, PERI_DICT_KEEP_TTL), 0);
    assert_string(w, "k", "b");
    assert_int_equal(peri_dict_ttl(w->dict, k), 70);
    assert_int_equal(peri_dict_cas(w->dict, k, &b, &none, 0), 0);
    assert_absent(w, "k");
}

static void what_is_too_big_is_refused_and_changes_nothing(void **state)
{
    world *w = *state;
    peri_dict_stats stats;
    char *big = calloc(1, 1 << 20);
    peri_dict_value v = {.type = PERI_DICT_STRING, .data = big};
    size_t most;

    set(w, "k", "v", 0);
    peri_dict_stat(w->dict, &stats);
    most = stats.item_max_bytes - 8; /* the key takes a word */
    v.length = most + 1;
    assert_int_equal(peri_dict_set(w->dict, text("k"), &v, 0, PERI_DICT_SET),
                     PERI_ELIMIT);
    assert_string(w, "k", "v");
    v.length = most;
    assert_int_equal(peri_dict_set(w->dict, text("k"), &v, 0, PERI_DICT_SET),
                     0);
    v = string("v");
    assert_int_equal(peri_dict_set(w->dict,
                                   peri_slice_of(big, PERI_DICT_KEY_MAX + 1),
                                   &v, 0, PERI_DICT_SET),
                     PERI_ELIMIT);
    assert_int_equal(peri_dict_set(w->dict,
                                   peri_slice_of(big, PERI_DICT_KEY_MAX), &v, 0,
                                   PERI_DICT_SET),
                     0);
    free(big);
}

static void a_read_into_too_little_room_tells_how_much_it_needs(void **state)
{
    world *w = *state;
    peri_dict_value v = {.data = w->room, .room_bytes = 8};

    set(w, "k", "123456789", 0);
    assert_int_equal(peri_dict_get(w->dict, text("k"), &v), PERI_ELIMIT);
    assert_int_equal(v.length, 9);
    v.room_bytes = 16;
    assert_int_equal(peri_dict_get(w->dict, text("k"), &v), PERI_DICT_STRING);
}

static void a_full_dict_evicts_what_was_not_read(void **state)
{
    world *w = *state;
    char key[32];
    peri_dict_value v;
    peri_dict_stats stats;
    int hot = 0;
    int cold = 0;

    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        assert_int_equal(
            set(w, key, "some value of forty bytes, about so long", 0), 0);
        snprintf(key, sizeof key, "key-%d", i % 100); /* read all the time */
        get(w, key, &v);
    }
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        hot += get(w, key, &v) != PERI_DICT_NONE;
        snprintf(key, sizeof key, "key-%d", 1000 + i);
        cold += get(w, key, &v) != PERI_DICT_NONE;
    }
    assert_in_range(hot, 95, 100);
    assert_int_equal(cold, 0);
    peri_dict_stat(w->dict, &stats);
    assert_in_range(stats.used_bytes, stats.room_bytes / 2, stats.room_bytes);
    assert_true(stats.evicted_total > 10000);
}

static void dead_room_is_used_before_anything_is_evicted(void **state)
{
    world *w = *state;
    char key[32];
    char value[200];
    peri_dict_stats stats;

    memset(value, 'x', sizeof value);
    for (int i = 0; i < 500; i++) { /* a third of the room, never read */
        snprintf(key, sizeof key, "still-%d", i);
        set(w, key, "a value that nobody asks for again, for now at least", 0);
    }
    for (int i = 0; i < 100000; i++) { /* one key that changes its size */
        value[70 + i % 100] = '\0';
        set(w, "moving", value, 0);
        value[70 + i % 100] = 'x';
    }
    peri_dict_stat(w->dict, &stats);
    assert_int_equal(stats.evicted_total, 0);
    assert_int_equal(stats.items, 501);
}

static void random_work_matches_a_plain_table(void **state)
{
    world *w = *state;
    enum { KEYS = 300 };
    static char model[KEYS][300];
    static int there[KEYS];
    char key[16];
    unsigned seed = 7;

    for (int i = 0; i < 200000; i++) {
        int k = rand_r(&seed) % KEYS;
        peri_dict_value v;

        snprintf(key, sizeof key, "%d", k);
        switch (rand_r(&seed) % 4) {
        case 0:
            memset(model[k], 'a' + rand_r(&seed) % 26, sizeof model[k]);
            model[k][rand_r(&seed) % 299] = '\0';
            there[k] = 1;
            assert_int_equal(set(w, key, model[k], 0), 0);
            break;
        case 1:
            assert_int_equal(peri_dict_delete(w->dict, text(key)), there[k]);
            there[k] = 0;
            break;
        default:
            if (there[k]) {
                assert_string(w, key, model[k]);
            } else {
                assert_int_equal(get(w, key, &v), PERI_DICT_NONE);
            }
        }
    }
    assert_null(peri_dict_check(w->dict));
}

static void keys_are_listed_in_pieces(void **state)
{
    world *w = *state;
    char key[32];
    char room[PERI_DICT_KEY_MAX + 16];
    bool seen[1000] = {false};
    uint64_t cursor = 0;
    size_t n;
    int count = 0;

    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        set(w, key, "v", i == 5 ? 1 : 0);
    }
    w->now_ms++;
    while ((n = peri_dict_keys(w->dict, &cursor, room, sizeof room)) > 0) {
        for (size_t at = 0; at < n;) {
            uint32_t length;

            memcpy(&length, room + at, sizeof length);
            snprintf(key, sizeof key, "%.*s", (int)length, room + at + 4);
            seen[atoi(key + 4)] = true;
            at += 4 + length;
            count++;
        }
    }
    assert_int_equal(count, 999);
    assert_false(seen[5]);
    peri_dict_flush(w->dict);
    cursor = 0;
    assert_int_equal(peri_dict_keys(w->dict, &cursor, room, sizeof room), 0);
}

static void a_bucket_lets_through_its_burst_then_its_rate(void **state)
{
    world *w = *state;
    peri_slice k = text("k");

    for (int i = 0; i < 3; i++) {
        assert_int_equal(peri_dict_take_bucket(w->dict, k, 10000, 3, 1), 0);
    }
    assert_int_equal(peri_dict_take_bucket(w->dict, k, 10000, 3, 1), 10);
    w->now_ms += 9;
    assert_int_equal(peri_dict_take_bucket(w->dict, k, 10000, 3, 1), 1);
    w->now_ms += 1;
    assert_int_equal(peri_dict_take_bucket(w->dict, k, 10000, 3, 1), 0);
    assert_int_equal(peri_dict_take_bucket(w->dict, k, 10000, 3, 1), 10);
    w->now_ms += 1000;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(peri_dict_take_bucket(w->dict, k, 10000, 3, 1), 0);
    }
    assert_int_equal(peri_dict_take_bucket(w->dict, k, 10000, 3, 1), 10);
}

static void a_window_slides(void **state)
{
    world *w = *state;
    peri_slice k = text("k");

    w->now_ms = 10900;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(peri_dict_take_window(w->dict, k, 10, 1000, 1), 0);
    }
    assert_int_equal(peri_dict_take_window(w->dict, k, 10, 1000, 1), 1000);
    w->now_ms += 999;
    assert_int_equal(peri_dict_take_window(w->dict, k, 10, 1000, 1), 1);
    w->now_ms += 1;
    assert_int_equal(peri_dict_take_window(w->dict, k, 10, 1000, 10), 0);
}

/* Whatever comes when: never more than the limit in any window, and no less
 * than it, but for what a part of the window may be late. */
static void a_window_is_never_exceeded(void **state)
{
    enum { STEPS = 3000, LIMIT = 40, WINDOW = 1000 };
    world *w = *state;
    peri_slice k = text("k");
    static int taken[STEPS];
    int all = 0;

    w->now_ms = 10007;
    for (int i = 0; i < STEPS; i++, w->now_ms += 7) {
        int recent = 0;

        taken[i] = 0;
        for (int n = 0; n < i % 5; n++) {
            taken[i] +=
                peri_dict_take_window(w->dict, k, LIMIT, WINDOW, 1) == 0;
        }
        for (int j = i; j >= 0 && (i - j) * 7 < WINDOW; j--) {
            recent += taken[j];
        }
        assert_in_range(recent, 0, LIMIT);
        all += taken[i];
    }
    assert_in_range(all, LIMIT * (STEPS * 7 / WINDOW) * 96 / 100,
                    LIMIT * (STEPS * 7 / WINDOW + 1));
}

static void the_first_decides_on_the_size(void **state)
{
    world *w = *state;
    peri_dict *other;
    peri_dict_stats stats;

    set(w, "k", "v", 0);
    assert_int_equal(peri_dict_open(w->regions, "d", 1 << 20, &other), 0);
    peri_dict_stat(other, &stats);
    assert_int_equal(stats.size_bytes, 256 << 10);
    assert_int_equal(stats.items, 1);
    peri_dict_close(other);
    assert_int_equal(peri_dict_open(w->regions, "e", AREA_BYTES, &other),
                     PERI_ELIMIT);
}

/* A child that takes a shard's lock and dies with it, half way through. */
static void the_lock_of_the_dead_is_taken_over(void **state)
{
    world *w = *state;
    peri_dict_stats stats;
    pid_t pid;
    double n;
    int status;

    set(w, "k", "before", 0);
    pid = fork();
    if (pid == 0) {
        peri_regions *regions =
            peri_regions_attach(peri_regions_memory(w->regions), AREA_BYTES);
        peri_dict *dict;
        peri_lookup l;

        peri_dict_open(regions, "d", 1, &dict);
        peri_dict_locate(dict, text("k"), &l);
        peri_shard_lock(dict, &l);
        peri_shard_begin(l.shard);
        l.shard->live_units += 99;
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_string(w, "k", "before");
    assert_int_equal(peri_dict_incr(w->dict, text("n"), 1, 0, 0, &n), 0);
    peri_dict_stat(w->dict, &stats);
    assert_int_equal(stats.repaired_total, 1);
}

enum { THREADS = 3, TURNS = 30000 };

static void *count_up(void *data)
{
    world *w = data;
    peri_dict *dict;
    char room[128];
    char long_value[100];
    double n;

    peri_dict_open(w->regions, "d", 1, &dict);
    for (int i = 0; i < TURNS; i++) {
        peri_dict_value v = {.data = room, .room_bytes = sizeof room};
        peri_dict_value out = {.type = PERI_DICT_STRING, .data = long_value};

        peri_dict_incr(dict, text("n"), 1, 0, 0, &n);
        out.length = (size_t)(20 + i % 80);
        memset(long_value, 'a' + i % 26, out.length);
        peri_dict_set(dict, text("v"), &out, 0, PERI_DICT_SET);
        if (peri_dict_get(dict, text("v"), &v) != PERI_DICT_STRING) {
            return "absent";
        }
        for (size_t at = 1; at < v.length; at++) {
            if (room[at] != room[0]) {
                return "torn";
            }
        }
    }
    peri_dict_close(dict);
    return NULL;
}

static void writers_and_readers_at_once_see_whole_values(void **state)
{
    world *w = *state;
    pthread_t threads[THREADS];
    peri_dict_value v;

    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, count_up, w);
    }
    for (int i = 0; i < THREADS; i++) {
        void *wrong;

        pthread_join(threads[i], &wrong);
        if (wrong != NULL) {
            fail_msg("%s", (char *)wrong);
        }
    }
    assert_int_equal(get(w, "n", &v), PERI_DICT_NUMBER);
    assert_true(v.number == THREADS * TURNS);
}

#define CASE(name)                                                             \
    cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(values_come_back_as_they_went_in),
        CASE(an_entry_ends_with_its_time),
        CASE(add_and_replace_look_first),
        CASE(incr_counts_and_keeps_the_time),
        CASE(cas_changes_only_what_was_seen),
        CASE(what_is_too_big_is_refused_and_changes_nothing),
        CASE(a_read_into_too_little_room_tells_how_much_it_needs),
        CASE(a_full_dict_evicts_what_was_not_read),
        CASE(dead_room_is_used_before_anything_is_evicted),
        CASE(random_work_matches_a_plain_table),
        CASE(keys_are_listed_in_pieces),
        CASE(a_bucket_lets_through_its_burst_then_its_rate),
        CASE(a_window_slides),
        CASE(a_window_is_never_exceeded),
        CASE(the_first_decides_on_the_size),
        CASE(the_lock_of_the_dead_is_taken_over),
        CASE(writers_and_readers_at_once_see_whole_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
