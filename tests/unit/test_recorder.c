/* Recorder and ring tail: what is read beside those who write. */
#include "core/shm/recorder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/shm/ring_tail.h"

#define TEST(name) static void name(void **state)

static peri_recorder *make_recorder(void)
{
    peri_recorder *recorder = aligned_alloc(64, sizeof *recorder);

    memset(recorder, 0, sizeof *recorder);
    return recorder;
}

static void put(peri_recorder *recorder, uint64_t took_ns, uint64_t now_ns)
{
    char text[32];
    int length =
        snprintf(text, sizeof text, "%llu", (unsigned long long)took_ns);

    if (peri_recorder_wants(recorder, took_ns, now_ns)) {
        peri_recorder_put(recorder, took_ns, now_ns,
                          peri_slice_of(text, (size_t)length));
    }
}

static int count(const peri_recorder *recorder, uint64_t now_ns,
                 uint64_t *fastest)
{
    peri_recorder_entry *entry = peri_calloc(1, sizeof *entry);
    int found = 0;

    *fastest = UINT64_MAX;
    for (int i = 0; i < PERI_RECORDER_ENTRIES; i++) {
        if (peri_recorder_read(recorder, i, now_ns, entry)) {
            found++;
            *fastest = entry->took_ns < *fastest ? entry->took_ns : *fastest;
            assert_true(entry->length < sizeof entry->text);
            entry->text[entry->length] = '\0';
            assert_int_equal(strtoull(entry->text, NULL, 10), entry->took_ns);
        }
    }
    free(entry);
    return found;
}

TEST(the_slowest_are_kept)
{
    peri_recorder *recorder = make_recorder();
    uint64_t fastest;

    (void)state;
    for (uint64_t i = 1; i <= 100; i++) {
        put(recorder, i * 37 % 101, 1000 + i);
    }
    assert_int_equal(count(recorder, 2000, &fastest), PERI_RECORDER_ENTRIES);
    assert_int_equal(fastest, 101 - PERI_RECORDER_ENTRIES);
    assert_false(peri_recorder_wants(recorder, fastest, 2000));
    assert_true(peri_recorder_wants(recorder, fastest + 1, 2000));
    free(recorder);
}

TEST(what_is_old_makes_room)
{
    peri_recorder *recorder = make_recorder();
    uint64_t later = 1001 + PERI_RECORDER_KEEP_NS;
    uint64_t fastest;

    (void)state;
    for (int i = 0; i < PERI_RECORDER_ENTRIES; i++) {
        put(recorder, 1000000, 1000);
    }
    assert_int_equal(count(recorder, later - 1, &fastest),
                     PERI_RECORDER_ENTRIES);
    put(recorder, 5, later);
    assert_int_equal(count(recorder, later, &fastest), 1);
    assert_int_equal(fastest, 5);
    free(recorder);
}

TEST(what_was_being_written_is_not_read)
{
    peri_recorder *recorder = make_recorder();
    uint64_t fastest;

    (void)state;
    put(recorder, 7, 1000);
    atomic_fetch_add(&recorder->entry[0].version, 1);
    assert_int_equal(count(recorder, 1000, &fastest), 0);
    free(recorder);
}

TEST(a_text_that_is_too_long_is_not_kept)
{
    peri_recorder *recorder = make_recorder();
    char *text = peri_calloc(1, PERI_RECORDER_BYTES + 1);
    peri_recorder_entry *entry = peri_calloc(1, sizeof *entry);

    (void)state;
    memset(text, 'x', PERI_RECORDER_BYTES + 1);
    peri_recorder_put(recorder, 1, 1,
                      peri_slice_of(text, PERI_RECORDER_BYTES + 1));
    assert_false(peri_recorder_read(recorder, 0, 1, entry));
    peri_recorder_put(recorder, 1, 1, peri_slice_of(text, PERI_RECORDER_BYTES));
    assert_true(peri_recorder_read(recorder, 0, 1, entry));
    free(entry);
    free(text);
    free(recorder);
}

/* ---- ring tail ---- */

static peri_ring *make_ring(void)
{
    peri_ring *ring = aligned_alloc(64, sizeof *ring);

    memset(ring, 0, sizeof *ring);
    return ring;
}

/* As its consumer does at once. */
static void say(peri_ring *ring, const char *line)
{
    assert_true(peri_ring_put(ring, peri_slice_str(line)));
    atomic_store(&ring->tail, atomic_load(&ring->head));
}

TEST(lines_are_read_once_also_after_they_were_taken)
{
    peri_ring *ring = make_ring();
    peri_ring_cursor at = {0};
    peri_buf out;

    (void)state;
    peri_buf_init(&out, 1000);
    say(ring, "one\n");
    say(ring, "two\n");
    assert_int_equal(peri_ring_read_along(ring, &at, 1000, &out), 0);
    say(ring, "three\n");
    assert_int_equal(peri_ring_read_along(ring, &at, 1000, &out), 0);
    assert_int_equal(peri_ring_read_along(ring, &at, 1000, &out), 0);
    assert_int_equal(out.length, 14);
    assert_memory_equal(out.data, "one\ntwo\nthree\n", 14);
    peri_buf_fini(&out);
    free(ring);
}

TEST(the_newest_whole_lines_are_read_where_there_are_too_many)
{
    peri_ring *ring = make_ring();
    peri_ring_cursor at = {0};
    peri_buf out;

    (void)state;
    peri_buf_init(&out, 1000);
    say(ring, "first\n");
    say(ring, "second\n");
    say(ring, "third\n");
    assert_int_equal(peri_ring_read_along(ring, &at, 8, &out), 2);
    assert_int_equal(out.length, 6);
    assert_memory_equal(out.data, "third\n", 6);
    peri_buf_fini(&out);
    free(ring);
}

/* A writer between its two stores: the bytes are there, not yet counted. */
TEST(a_line_that_was_just_being_written_is_told_later)
{
    peri_ring *ring = make_ring();
    peri_ring_cursor at = {0};
    peri_buf out;

    (void)state;
    peri_buf_init(&out, 1000);
    say(ring, "first\n");
    say(ring, "second\n");
    say(ring, "third\n");
    atomic_fetch_sub(&ring->lines_total, 1);
    assert_int_equal(peri_ring_read_along(ring, &at, 8, &out), 1);
    atomic_fetch_add(&ring->lines_total, 1);
    assert_int_equal(peri_ring_read_along(ring, &at, 8, &out), 1);
    assert_int_equal(peri_ring_read_along(ring, &at, 8, &out), 0);
    say(ring, "fourth\n");
    assert_int_equal(peri_ring_read_along(ring, &at, 8, &out), 0);
    assert_memory_equal(out.data, "third\nfourth\n", out.length);
    peri_buf_fini(&out);
    free(ring);
}

TEST(lines_that_were_written_over_are_passed_over)
{
    peri_ring *ring = make_ring();
    char line[1001];
    peri_ring_cursor at = {0};
    uint64_t missed;
    peri_buf out;

    (void)state;
    memset(line, 'x', 1000);
    line[999] = '\n';
    line[1000] = '\0';
    for (size_t i = 0; i < 3 * PERI_RING_BYTES / 1000; i++) {
        say(ring, line);
    }
    peri_buf_init(&out, PERI_RING_BYTES);
    missed = peri_ring_read_along(ring, &at, SIZE_MAX, &out);
    assert_true(missed > 2 * PERI_RING_BYTES / 1000);
    assert_int_equal(missed + out.length / 1000, 3 * PERI_RING_BYTES / 1000);
    assert_int_equal(out.length % 1000, 0);
    for (size_t i = 0; i < out.length; i += 1000) {
        assert_memory_equal(out.data + i, line, 1000);
    }
    assert_int_equal(at.at, atomic_load(&ring->head));
    peri_buf_fini(&out);
    free(ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_slowest_are_kept),
        cmocka_unit_test(what_is_old_makes_room),
        cmocka_unit_test(what_was_being_written_is_not_read),
        cmocka_unit_test(a_text_that_is_too_long_is_not_kept),
        cmocka_unit_test(lines_are_read_once_also_after_they_were_taken),
        cmocka_unit_test(
            the_newest_whole_lines_are_read_where_there_are_too_many),
        cmocka_unit_test(a_line_that_was_just_being_written_is_told_later),
        cmocka_unit_test(lines_that_were_written_over_are_passed_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
