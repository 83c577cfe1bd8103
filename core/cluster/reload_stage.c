/* Reload: the process that compiles, and what it says. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/bundle.h"
#include "core/base/err.h"
#include "core/cluster/master_state.h"

#define TIMEOUT_MS 60000

static void read_faults(peri_reload *reload)
{
    char piece[4096];
    ssize_t n;

    while ((n = read(reload->pipe_fd, piece, sizeof piece)) > 0) {
        if (peri_buf_append(&reload->faults, piece, (size_t)n) < 0) {
            continue; /* more than anybody reads; but let it write */
        }
    }
}

static void on_faults(uv_poll_t *poll, int status, int events)
{
    peri_reload *reload = poll->data;

    (void)events;
    read_faults(reload);
    if (status < 0) {
        uv_poll_stop(poll);
    }
}

static void on_poll_closed(uv_handle_t *handle)
{
    free(handle);
}

void peri_reload_stage_close(peri_reload *reload)
{
    if (reload->poll != NULL) {
        uv_close((uv_handle_t *)reload->poll, on_poll_closed);
        reload->poll = NULL;
    }
    if (reload->pipe_fd >= 0) {
        close(reload->pipe_fd);
        reload->pipe_fd = -1;
    }
}

static char *fault_text(peri_reload *reload, int status)
{
    peri_buf *faults = &reload->faults;
    char text[128];

    while (faults->length > 0 && faults->data[faults->length - 1] == '\n') {
        faults->length--;
    }
    if (faults->length > 0) {
        return peri_strndup(faults->data, faults->length);
    }
    if (WIFSIGNALED(status)) {
        snprintf(text, sizeof text, "the process that compiles was killed: %s",
                 sigabbrev_np(WTERMSIG(status)));
    } else {
        snprintf(text, sizeof text, "the process that compiles ended with %d",
                 WEXITSTATUS(status));
    }
    return peri_strdup(text);
}

/* NULL: it is sealed, and sound. */
static char *bundle_fault(int fd)
{
    peri_bundle *bundle;
    char text[128];
    int rc = peri_bundle_seal(fd);

    if (rc == 0) {
        rc = peri_bundle_open(fd, &bundle);
    }
    if (rc == 0) {
        peri_bundle_close(bundle);
        return NULL;
    }
    snprintf(text, sizeof text, "the new generation is unreadable: %s",
             peri_err_text(rc));
    return peri_strdup(text);
}

static void on_ended(peri_child *child, int status, const struct rusage *usage)
{
    peri_reload *reload = PERI_CONTAINER(child, peri_reload, child);
    char *fault = NULL;

    (void)usage;
    if (reload->pipe_fd >= 0) {
        read_faults(reload);
        peri_reload_stage_close(reload);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fault = fault_text(reload, status);
    } else if (reload->phase == PERI_RELOAD_STAGING) {
        fault = bundle_fault(reload->bundle_fd);
    }
    peri_reload_staged(PERI_CONTAINER(reload, peri_master, reload), fault);
    free(fault);
}

static void on_timeout(uv_timer_t *timer)
{
    peri_reload *reload = timer->data;

    peri_buf_append_str(&reload->faults, "compiling took longer than 60 s\n");
    if (reload->child.pid != 0) {
        kill(reload->child.pid, SIGKILL);
    }
}

int peri_reload_stage(peri_master *master)
{
    peri_reload *reload = &master->reload;
    int ends[2];
    int rc;

    reload->bundle_fd =
        memfd_create("perigee-bundle", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (reload->bundle_fd < 0 || pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    reload->child.on_exit = on_ended;
    rc = peri_child_start(&master->children, &reload->child,
                          &(peri_spawn){.program = master->options->program,
                                        .argv = master->options->stage_argv,
                                        .environment = environ,
                                        .fds = {reload->bundle_fd, ends[1], -1},
                                        .fresh = reload->trial,
                                        .quiet = true});
    close(ends[1]);
    reload->pipe_fd = ends[0];
    if (rc < 0) {
        peri_reload_stage_close(reload);
        return rc;
    }
    reload->poll = peri_calloc(1, sizeof *reload->poll);
    uv_poll_init(&master->loop, reload->poll, reload->pipe_fd);
    reload->poll->data = reload;
    uv_poll_start(reload->poll, UV_READABLE, on_faults);
    uv_timer_start(&reload->timer, on_timeout, TIMEOUT_MS, 0);
    return 0;
}
