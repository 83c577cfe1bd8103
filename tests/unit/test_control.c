/* Control: the client's side, against a host that does not answer. */
#include "core/cluster/control.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 50
#define WAITING_MAX 8

/* A control socket that somebody listens to and nobody accepts from, as of a
 * stopped process. */
typedef struct mute_host {
    char dir[64];
    struct sockaddr_un address;
    int fd;
} mute_host;

static void mute_open(mute_host *host, int backlog)
{
    char path[96];

    memset(host, 0, sizeof *host);
    snprintf(host->dir, sizeof host->dir, "/tmp/perigee-control-XXXXXX");
    assert_non_null(mkdtemp(host->dir));
    snprintf(path, sizeof path, "%s/var", host->dir);
    assert_int_equal(mkdir(path, 0755), 0);
    host->address.sun_family = AF_UNIX;
    snprintf(host->address.sun_path, sizeof host->address.sun_path,
             "%s/var/perigee.sock", host->dir);
    host->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(host->fd, (const struct sockaddr *)&host->address,
                          sizeof host->address),
                     0);
    assert_int_equal(listen(host->fd, backlog), 0);
}

static void mute_close(mute_host *host)
{
    char path[96];

    close(host->fd);
    unlink(host->address.sun_path);
    snprintf(path, sizeof path, "%s/var", host->dir);
    rmdir(path);
    rmdir(host->dir);
}

static bool take_none(void *data, peri_slice piece)
{
    (void)data;
    (void)piece;
    fail_msg("nobody has said anything");
    return false;
}

static void assert_silent(const mute_host *host, bool follow)
{
    peri_buf why;

    peri_buf_init(&why, 4096);
    assert_int_equal(peri_control_logs(host->dir, follow, PATIENCE_MS,
                                       take_none, NULL, &why),
                     1);
    peri_buf_append_byte(&why, '\0');
    assert_string_equal(why.data, "the host does not answer in time");
    peri_buf_fini(&why);
}

static void logs_wait_no_longer_than_they_may(void **state)
{
    mute_host host;

    (void)state;
    mute_open(&host, 16);
    assert_silent(&host, false);
    assert_silent(&host, true);
    mute_close(&host);
}

static void a_full_queue_of_connections_is_waited_for_as_long(void **state)
{
    mute_host host;
    int waiting[WAITING_MAX];
    peri_buf out;

    (void)state;
    mute_open(&host, 0);
    for (int i = 0; i < WAITING_MAX; i++) {
        waiting[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(waiting[i], (const struct sockaddr *)&host.address,
                      sizeof host.address);
    }
    peri_buf_init(&out, 4096);
    assert_int_equal(peri_control_call(host.dir, "status", PATIENCE_MS, &out),
                     1);
    peri_buf_append_byte(&out, '\0');
    assert_string_equal(out.data, "the host does not answer in time");
    peri_buf_fini(&out);
    for (int i = 0; i < WAITING_MAX; i++) {
        close(waiting[i]);
    }
    mute_close(&host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logs_wait_no_longer_than_they_may),
        cmocka_unit_test(a_full_queue_of_connections_is_waited_for_as_long),
    };

    return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
