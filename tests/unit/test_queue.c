/* core/queue: who owns jobs, and the bell. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "core/queue/owner.h"
#include "core/queue/wake.h"

static char dir[] = "/tmp/perigee-queue-XXXXXX";

static const char *file(char *out, size_t bytes, const char *name)
{
    snprintf(out, bytes, "%s/%s", dir, name);
    return out;
}

static void an_owner_is_alive_until_its_process_dies(void **state)
{
    char path[128];
    int pipe_fds[2];
    int status;
    char byte;
    pid_t child;
    int fd = peri_owner_open(file(path, sizeof path, "owners"));

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(pipe(pipe_fds), 0);
    child = fork();
    if (child == 0) {
        int own = peri_owner_open(path);

        if (own < 0 || peri_owner_take(own, 7) != 0 ||
            write(pipe_fds[1], "x", 1) != 1) {
            _exit(1);
        }
        pause();
    }
    assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
    assert_true(peri_owner_alive(fd, 7));
    assert_false(peri_owner_alive(fd, 8));
    assert_int_equal(peri_owner_take(fd, 7), -EAGAIN);
    assert_int_equal(peri_owner_take(fd, 8), 0);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    assert_false(peri_owner_alive(fd, 7));
    assert_int_equal(peri_owner_take(fd, 7), 0);
    close(fd);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void on_rung(void *data)
{
    ++*(int *)data;
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void a_bell_is_heard_by_all_who_listen(void **state)
{
    char path[128];
    uv_loop_t loop;
    uv_timer_t timer; /* bells alone do not keep a loop running */
    peri_wake *first;
    peri_wake *second;
    peri_wake *ringer;
    int heard[2] = {0, 0};

    (void)state;
    file(path, sizeof path, "bell");
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(peri_wake_open(&loop, path, on_rung, &heard[0], &first),
                     0);
    assert_int_equal(peri_wake_open(&loop, path, on_rung, &heard[1], &second),
                     0);
    assert_int_equal(peri_wake_open(&loop, path, NULL, NULL, &ringer), 0);
    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, on_tick, 5, 5);
    peri_wake_ring(ringer);
    for (int i = 0; i < 2000 && (heard[0] == 0 || heard[1] == 0); i++) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    assert_true(heard[0] > 0);
    assert_true(heard[1] > 0);
    uv_close((uv_handle_t *)&timer, NULL);
    peri_wake_close(first);
    peri_wake_close(second);
    peri_wake_close(ringer);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_true(peri_wake_open(&loop, "/nowhere/at/all", NULL, NULL, &first) <
                0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_owner_is_alive_until_its_process_dies),
        cmocka_unit_test(a_bell_is_heard_by_all_who_listen),
    };
    char path[128];
    int rc;

    if (mkdtemp(dir) == NULL) {
        return 1;
    }
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(file(path, sizeof path, "owners"));
    unlink(file(path, sizeof path, "bell"));
    rmdir(dir);
    return rc;
}
