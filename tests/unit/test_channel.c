/* Channel: what becomes of a descriptor that cannot be kept. */
#include "core/cluster/channel.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/err.h"

#define FILLER 1
#define WITH_FD 2
#define LAST 3

typedef struct heard {
    int fillers;
    int with_fd;
    int without_fd; /* which should have had one */
    bool last;
} heard;

static void on_message(void *data, const peri_channel_message *message)
{
    heard *h = data;

    if (message == NULL) {
        return;
    }
    h->fillers += message->verb == FILLER;
    h->with_fd += message->verb == WITH_FD && message->fd >= 0;
    h->without_fd += message->verb == WITH_FD && message->fd < 0;
    h->last = h->last || message->verb == LAST;
    if (message->fd >= 0) {
        close(message->fd);
    }
}

/* Until messages have to wait. */
static int fill(peri_channel *channel)
{
    static char text[16384];
    peri_channel_message message = {
        .verb = FILLER, .text = {text, sizeof text}, .fd = -1};
    int count = 0;

    while (peri_channel_waiting(channel) == 0) {
        assert_int_equal(peri_channel_send(channel, &message), 0);
        count++;
    }
    return count;
}

/* No more descriptors for this process. */
static struct rlimit forbid(void)
{
    struct rlimit before;
    struct rlimit none;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){0, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    return before;
}

static void a_message_whose_descriptor_cannot_be_kept_is_not_sent(void **state)
{
    peri_channel_message with_fd = {.verb = WITH_FD, .fd = STDIN_FILENO};
    peri_channel_message last = {.verb = LAST, .fd = -1};
    peri_channel *a;
    peri_channel *b;
    heard h = {0};
    heard none = {0};
    struct rlimit before;
    uv_loop_t loop;
    int ends[2];
    int fillers;
    int rc;

    (void)state;
    uv_loop_init(&loop);
    assert_int_equal(peri_channel_pair(ends), 0);
    assert_int_equal(peri_channel_open(&loop, ends[0], on_message, &none, &a),
                     0);
    assert_int_equal(peri_channel_open(&loop, ends[1], on_message, &h, &b), 0);
    fillers = fill(a);
    before = forbid();
    rc = peri_channel_send(a, &with_fd);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_true(rc < 0 && rc != PERI_EGONE && rc != PERI_ELIMIT);
    assert_int_equal(peri_channel_send(a, &with_fd), 0); /* there is room now */
    assert_int_equal(peri_channel_send(a, &last), 0);
    while (!h.last) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    assert_int_equal(h.fillers, fillers);
    assert_int_equal(h.with_fd, 1);
    assert_int_equal(h.without_fd, 0);
    peri_channel_close(a);
    peri_channel_close(b);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_whose_descriptor_cannot_be_kept_is_not_sent),
    };

    return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
