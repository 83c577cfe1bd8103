/* Ring: lines on their way out, and what becomes of them when the way is
 * blocked or the writer dies. */
#include "core/shm/ring.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/loop/log_sink.h"
#include "core/shm/ring_tail.h"
#include "core/shm/ring_writer.h"
#include "core/shm/segment.h"

static peri_ring *make_ring(void)
{
    peri_ring *ring = mmap(NULL, sizeof(peri_ring), PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(ring != MAP_FAILED);
    return ring;
}

static void drop_ring(peri_ring *ring)
{
    munmap(ring, sizeof(peri_ring));
}

static int make_file(void)
{
    int fd = memfd_create("out", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

/* The way into a descriptor: a sink of its own. */
static peri_ring_out into(int fd, peri_log_sink **sink)
{
    static _Atomic uint64_t lost;
    peri_log_options options = {.lost = &lost};
    char path[32];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    options.destination = path;
    assert_int_equal(peri_log_sink_open(&options, sink), 0);
    return (peri_ring_out){peri_log_sink_send, peri_log_sink_wait, *sink};
}

static int drain(peri_ring *ring, int fd, int max_wait_ms)
{
    peri_log_sink *sink;
    peri_ring_out out = into(fd, &sink);
    int rc = peri_ring_drain(ring, &out, max_wait_ms);

    peri_log_sink_close(sink);
    return rc;
}

/* A logger that writes into the writer, as those of workers do. */
typedef struct written {
    peri_ring_writer *writer;
    peri_logger logger;
    peri_log_sink *sink;
} written;

static void open_writer(written *w, int fd)
{
    peri_ring_out out = into(fd, &w->sink);

    peri_logger_init(&w->logger, 0, NULL, NULL);
    assert_int_equal(peri_ring_writer_create(NULL, &out, &w->logger,
                                             "log lines lost", &w->writer),
                     0);
    w->logger.write = peri_ring_writer_put;
    w->logger.data = w->writer;
}

static void close_writer(written *w)
{
    peri_ring_writer_destroy(w->writer, 1000);
    peri_log_sink_close(w->sink);
}

/* The whole file as text; the caller frees. */
static char *read_back(int fd)
{
    off_t size = lseek(fd, 0, SEEK_END);
    char *text = malloc((size_t)size + 1);

    assert_non_null(text);
    assert_int_equal(pread(fd, text, (size_t)size, 0), size);
    text[size] = '\0';
    return text;
}

/* The next of its lines, ended in place; NULL: it has no more. The sanitizer
 * looks at all of a string that it is asked about, so they are to be short. */
static char *next_line(char **at)
{
    char *line = *at;
    char *end = line;

    if (*line == '\0') {
        return NULL;
    }
    while (*end != '\n') {
        assert_true(*end != '\0');
        end++;
    }
    *end = '\0';
    *at = end + 1;
    return line;
}

static peri_slice numbered(char *room, size_t room_bytes, int number, int pad)
{
    int n = snprintf(room, room_bytes, "%d %.*s\n", number, pad,
                     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");

    return peri_slice_of(room, (size_t)n);
}

static void lines_come_out_in_order_across_the_end(void **state)
{
    peri_ring *ring = make_ring();
    int fd = make_file();
    char room[256];
    char *text;
    char *at;
    char *line;
    int next = 0;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        assert_true(
            peri_ring_put(ring, numbered(room, sizeof room, i, i % 99)));
        if (i % 1000 == 999) {
            assert_int_equal(drain(ring, fd, 0), 0);
        }
    }
    at = text = read_back(fd);
    while ((line = next_line(&at)) != NULL) {
        assert_int_equal(atoi(line), next++);
    }
    assert_int_equal(next, 20000);
    free(text);
    close(fd);
    drop_ring(ring);
}

static void a_full_ring_drops_and_counts(void **state)
{
    peri_ring *ring = make_ring();
    char *big = calloc(1, PERI_RING_BYTES);

    (void)state;
    assert_true(peri_ring_put(ring, peri_slice_of(big, PERI_RING_BYTES)));
    assert_false(peri_ring_put(ring, PERI_SLICE("\n")));
    assert_false(peri_ring_put(ring, PERI_SLICE("\n")));
    assert_int_equal(atomic_load(&ring->lost_total), 2);
    assert_int_equal(peri_ring_used(ring), PERI_RING_BYTES);
    free(big);
    drop_ring(ring);
}

static void a_blocked_pipe_is_left_in_time(void **state)
{
    peri_ring *ring = make_ring();
    int ends[2];
    char room[256];
    uint64_t start;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    for (int i = 0; i < 2000; i++) {
        assert_true(peri_ring_put(ring, numbered(room, sizeof room, i, 99)));
    }
    assert_int_equal(drain(ring, ends[1], 0), PERI_ETIMEOUT);
    start = peri_clock_monotonic_ns();
    assert_int_equal(drain(ring, ends[1], 20), PERI_ETIMEOUT);
    assert_true(peri_clock_monotonic_ns() - start < 1000000000u);
    assert_true(peri_ring_used(ring) > 0);
    close(ends[0]);
    close(ends[1]);
    drop_ring(ring);
}

static void lines_are_read_along_as_they_come(void **state)
{
    peri_ring *ring = make_ring();
    peri_ring_cursor at = {0};
    peri_ring_cursor late = {0};
    peri_buf got;
    char room[256];
    int next = 0;
    int fd = make_file();

    (void)state;
    peri_buf_init(&got, PERI_RING_BYTES);
    for (int i = 0; i < 50000; i++) {
        assert_true(
            peri_ring_put(ring, numbered(room, sizeof room, i, i % 99)));
        if (i % 500 == 499) {
            peri_buf_clear(&got);
            assert_int_equal(
                peri_ring_read_along(ring, &at, PERI_RING_BYTES, &got), 0);
            assert_int_equal(drain(ring, fd, 0), 0);
            for (size_t k = 0; k < got.length;) {
                const char *end = memchr(got.data + k, '\n', got.length - k);

                assert_int_equal(atoi(got.data + k), next++);
                assert_non_null(end);
                k = (size_t)(end - got.data) + 1;
            }
        }
    }
    assert_int_equal(next, 50000);

    /* Who begins late has the newest lines, the first of them a whole one. */
    peri_buf_clear(&got);
    next = (int)peri_ring_read_along(ring, &late, 500, &got);
    assert_in_range(got.length, 300, 500);
    assert_in_range(next, 49900, 49999);
    assert_int_equal(atoi(got.data), next); /* as many went before it */
    assert_int_equal(late.at, at.at);
    assert_int_equal(late.lines, 50000);
    assert_int_equal(at.lines, 50000);
    peri_buf_fini(&got);
    close(fd);
    drop_ring(ring);
}

static void what_a_killed_writer_left_is_there(void **state)
{
    peri_ring *ring = make_ring();
    int fd = make_file();
    char *text;
    char *at;
    char *line;
    int next = 0;
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        char room[256];

        for (int i = 0;; i++) {
            if (i == 1500) {
                raise(SIGKILL);
            }
            peri_ring_put(ring, numbered(room, sizeof room, i, 60));
        }
    }
    waitpid(pid, NULL, 0);
    assert_int_equal(drain(ring, fd, 0), 0);
    at = text = read_back(fd);
    while ((line = next_line(&at)) != NULL) {
        assert_int_equal(atoi(line), next++);
    }
    assert_int_equal(next, 1500);
    free(text);
    close(fd);
    drop_ring(ring);
}

/* ---- the writer ---- */

typedef struct producer {
    peri_ring_writer *writer;
    int id;
} producer;

#define PRODUCERS 4
#define LINES_EACH 20000

static void *produce(void *data)
{
    producer *self = data;
    char room[64];

    for (int i = 0; i < LINES_EACH; i++) {
        int n = snprintf(room, sizeof room, "%d %d\n", self->id, i);

        peri_ring_writer_put(self->writer, peri_slice_of(room, (size_t)n));
        if (i % 500 == 499) {
            peri_ring_writer_flush(self->writer, 1000);
        }
    }
    return NULL;
}

static void threads_lines_are_whole_and_in_their_order(void **state)
{
    producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    int next[PRODUCERS] = {0};
    written w;
    int fd = make_file();
    char *text;
    char *at;
    char *line;

    (void)state;
    open_writer(&w, fd);
    for (int i = 0; i < PRODUCERS; i++) {
        producers[i] = (producer){w.writer, i};
        pthread_create(&threads[i], NULL, produce, &producers[i]);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        pthread_join(threads[i], NULL);
    }
    close_writer(&w);
    at = text = read_back(fd);
    while ((line = next_line(&at)) != NULL) {
        int id;
        int number;

        assert_int_equal(sscanf(line, "%d %d", &id, &number), 2);
        assert_int_equal(number, next[id]++);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        assert_int_equal(next[i], LINES_EACH);
    }
    free(text);
    close(fd);
}

static void a_blocked_destination_blocks_nobody_and_is_told_later(void **state)
{
    written w;
    char room[65536];
    char text[2 * 65536 + 1];
    size_t kept = 0; /* the end of the last read: the line may lie across */
    bool told = false;
    int ends[2];
    uint64_t start = peri_clock_monotonic_ns();

    (void)state;
    assert_int_equal(pipe(ends), 0);
    open_writer(&w, ends[1]);
    for (int i = 0; i < (int)(3 * PERI_RING_BYTES / 100); i++) {
        peri_ring_writer_put(w.writer, numbered(room, sizeof room, i, 99));
    }
    assert_true(peri_clock_monotonic_ns() - start < 1000000000u);
    assert_int_equal(peri_ring_writer_flush(w.writer, 10), PERI_ETIMEOUT);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    start = peri_clock_monotonic_ns();
    while (!told && peri_clock_monotonic_ns() - start < 5000000000u) {
        ssize_t n = read(ends[0], text + kept, 65536);

        if (n > 0) {
            size_t length = kept + (size_t)n;

            text[length] = '\0';
            told = strstr(text, "\"msg\":\"log lines lost\"") != NULL;
            kept = length < 1024 ? length : 1024;
            memmove(text, text + length - kept, kept);
        }
    }
    assert_true(told);
    close_writer(&w);
    close(ends[0]);
    close(ends[1]);
}

static void a_lone_line_goes_out_at_once(void **state)
{
    written w;
    char text[16];
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    open_writer(&w, ends[1]);
    for (int i = 0; i < 50; i++) {
        peri_ring_writer_put(w.writer, PERI_SLICE("line\n"));
        assert_int_equal(read(ends[0], text, sizeof text), 5);
        if (i % 5 == 0) {
            usleep(15000); /* asleep, not only resting */
        }
    }
    close_writer(&w);
    close(ends[0]);
    close(ends[1]);
}

/* ---- the segment ---- */

static void a_segment_is_the_same_memory_for_all(void **state)
{
    peri_segment *first;
    peri_segment *second;
    int fd;

    (void)state;
    assert_int_equal(peri_segment_create(&first, &fd), 0);
    assert_int_equal(peri_segment_open(fd, &second), 0);
    assert_ptr_not_equal(first, second);
    atomic_store(&first->header.generation, 7);
    assert_int_equal(atomic_load(&second->header.generation), 7);
    assert_true(peri_ring_put(&first->log[3], PERI_SLICE("x\n")));
    assert_int_equal(peri_ring_used(&second->log[3]), 2);
    assert_true(ftruncate(fd, 0) < 0);
    peri_segment_close(first);
    peri_segment_close(second);
    close(fd);
}

static void another_layout_is_refused(void **state)
{
    peri_segment *segment = NULL;
    peri_segment *made;
    int fd = memfd_create("x", MFD_CLOEXEC);

    (void)state;
    assert_int_equal(peri_segment_open(fd, &segment), PERI_EFORMAT);
    assert_int_equal(ftruncate(fd, sizeof(peri_segment)), 0);
    assert_int_equal(peri_segment_open(fd, &segment), PERI_EFORMAT);
    close(fd);
    assert_int_equal(peri_segment_create(&made, &fd), 0);
    made->header.layout_bytes--;
    assert_int_equal(peri_segment_open(fd, &segment), PERI_EFORMAT);
    assert_null(segment);
    peri_segment_close(made);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_out_in_order_across_the_end),
        cmocka_unit_test(a_full_ring_drops_and_counts),
        cmocka_unit_test(a_blocked_pipe_is_left_in_time),
        cmocka_unit_test(lines_are_read_along_as_they_come),
        cmocka_unit_test(what_a_killed_writer_left_is_there),
        cmocka_unit_test(threads_lines_are_whole_and_in_their_order),
        cmocka_unit_test(a_blocked_destination_blocks_nobody_and_is_told_later),
        cmocka_unit_test(a_lone_line_goes_out_at_once),
        cmocka_unit_test(a_segment_is_the_same_memory_for_all),
        cmocka_unit_test(another_layout_is_refused),
    };

    return cmocka_run_group_tests_name("ring and segment", tests, NULL, NULL);
}
