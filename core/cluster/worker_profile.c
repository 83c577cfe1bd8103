/* Worker: a profile of itself, for the master. */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/err.h"
#include "core/base/fd.h"
#include "core/cluster/worker_state.h"

static void refuse(peri_worker *w, uint64_t profile, int rc)
{
    peri_worker_tell(w, PERI_CHANNEL_PROFILED, 0, profile, peri_err_text(rc));
}

static void on_profiled(void *data, peri_slice stacks)
{
    peri_worker *w = data;
    peri_channel_message message = {.verb = PERI_CHANNEL_PROFILED,
                                    .generation = w->profile};
    int fd = memfd_create("perigee-profile", MFD_CLOEXEC);
    int rc = fd < 0 ? -errno : peri_fd_write(fd, stacks);

    if (rc == 0 && w->channel != NULL) {
        message.fd = fd;
        rc = peri_channel_send(w->channel, &message);
    }
    if (rc < 0) {
        refuse(w, w->profile, rc);
    }
    if (fd >= 0) {
        close(fd);
    }
}

void peri_worker_on_profile(peri_worker *w, const peri_channel_message *message)
{
    bool heap = peri_slice_equal(message->text, PERI_SLICE("heap"));
    peri_profile_ask ask = {.kind = heap ? PERI_PROFILE_HEAP : PERI_PROFILE_CPU,
                            .duration_ms = message->number};
    uint64_t before = w->profile;
    int rc = -ENOTSUP;

    if (w->host != NULL && w->app->profile != NULL) {
        w->profile = message->generation;
        rc = w->app->profile(w->host, &ask, on_profiled, w);
    }
    if (rc < 0) {
        w->profile = before; /* of the one that goes on */
        refuse(w, message->generation, rc);
    }
}
