/* Control, the master's side: its socket. What is said there is in
 * control_verbs.c. */
#include "core/cluster/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/cluster/control_state.h"

#define SOCKET_DEFAULT "var/perigee.sock"

static void on_control_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static bool is_default(const char *path)
{
    return strcmp(path, SOCKET_DEFAULT) == 0;
}

/* Commands look in one place: a socket elsewhere is linked from there. */
static void link_default(const char *path)
{
    char *whole = is_default(path) ? NULL : realpath(path, NULL);

    if (whole != NULL) {
        unlink(SOCKET_DEFAULT);
        if (symlink(whole, SOCKET_DEFAULT) < 0) {
            /* The socket itself serves those who know where it is. */
        }
        free(whole);
    }
}

static void remove_names(const struct peri_control *control)
{
    unlink(control->path);
    if (!is_default(control->path)) {
        unlink(SOCKET_DEFAULT);
    }
}

void peri_control_unlink(const peri_master *master)
{
    remove_names(master->control);
}

/* Bound by us: libuv would cut a path that is too long. */
static int bind_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t before;
    int rc = 0;
    int fd;

    if (strlen(path) >= sizeof address.sun_path) {
        return -ENAMETOOLONG;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    unlink(path); /* of a dead host: the lock is ours */
    before = umask(0177);
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        rc = -errno;
    }
    umask(before);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

int peri_control_create(peri_master *master, char *why, size_t why_bytes)
{
    const char *path =
        peri_settings_str(master->settings, "admin.socket", SOCKET_DEFAULT);
    struct peri_control *control;
    int fd = bind_socket(path);
    int rc;

    if (fd < 0) {
        snprintf(why, why_bytes, "control socket %s: %s", path,
                 peri_err_text(fd));
        return fd;
    }
    link_default(path);
    control = peri_calloc(1, sizeof *control);
    control->master = master;
    snprintf(control->path, sizeof control->path, "%s", path);
    peri_list_init(&control->clients);
    uv_pipe_init(&master->loop, &control->pipe, 0);
    control->pipe.data = control;
    uv_pipe_open(&control->pipe, fd);
    master->control = control;
    rc = uv_listen((uv_stream_t *)&control->pipe, 16,
                   peri_control_on_connection);
    if (rc < 0) {
        snprintf(why, why_bytes, "control socket %s: %s", path,
                 peri_err_text(rc));
    }
    return rc;
}

/* The last answers are written at once: the process is about to end. */
static void answer_at_end(peri_master *master)
{
    while (!peri_list_empty(&master->stop_waiters)) {
        peri_waiter *waiter =
            PERI_CONTAINER(master->stop_waiters.next, peri_waiter, link);

        peri_list_remove(&waiter->link);
        waiter->fn(waiter, master->exit_code,
                   master->exit_code == 0
                       ? "stopped"
                       : "stopped; some requests had to be cut off");
    }
}

void peri_control_destroy(peri_master *master)
{
    struct peri_control *control = master->control;

    if (control == NULL) {
        return;
    }
    remove_names(control);
    answer_at_end(master);
    peri_control_close_clients(control);
    master->control = NULL;
    uv_close((uv_handle_t *)&control->pipe, on_control_closed);
}
