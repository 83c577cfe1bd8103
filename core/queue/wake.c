/* Wake: inotify, by libuv. */
#include "core/queue/wake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/alloc.h"

struct peri_wake {
    uv_fs_event_t event;
    int fd;
    void (*rung)(void *data);
    void *data;
};

static void on_event(uv_fs_event_t *handle, const char *name, int events,
                     int status)
{
    peri_wake *wake = handle->data;

    (void)name;
    (void)events;
    (void)status;
    if (wake->rung != NULL) {
        wake->rung(wake->data);
    }
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

int peri_wake_open(uv_loop_t *loop, const char *path, void (*rung)(void *data),
                   void *data, peri_wake **out)
{
    peri_wake *wake;
    int rc = 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0) {
        return -errno;
    }
    wake = peri_calloc(1, sizeof *wake);
    wake->fd = fd;
    wake->rung = rung;
    wake->data = data;
    uv_fs_event_init(loop, &wake->event);
    wake->event.data = wake;
    if (rung != NULL) {
        rc = uv_fs_event_start(&wake->event, on_event, path, 0);
    }
    uv_unref((uv_handle_t *)&wake->event);
    if (rc < 0) {
        peri_wake_close(wake);
        return rc;
    }
    *out = wake;
    return 0;
}

void peri_wake_ring(peri_wake *wake)
{
    ssize_t written = pwrite(wake->fd, "!", 1, 0);

    (void)written; /* a full disk: they look again of themselves, later */
}

void peri_wake_close(peri_wake *wake)
{
    wake->rung = NULL;
    close(wake->fd);
    uv_close((uv_handle_t *)&wake->event, on_closed);
}
