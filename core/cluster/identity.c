/* Identity: the certificates that all workers serve with, and the keys of their
 * session tickets. Private to the master.
 *
 * The files are looked at every second; what has changed and then stayed the
 * same for a second is read, tried, and given to the workers. What cannot be
 * used changes nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/cluster/certs.h"
#include "core/cluster/master_state.h"

#define LOOK_MS 1000
#define WHY_BYTES 512

struct peri_identity {
    peri_master *master;
    int fd; /* of peri_certs_read() */
    uv_timer_t look_timer;
    uv_timer_t rotate_timer;
    uint64_t read_look; /* what the files were like when they were read */
    uint64_t last_look;
    int64_t expires_s;
    int open_handles;
};

_Static_assert(sizeof(peri_tls_tickets) <=
                   sizeof((peri_segment_header *)0)->ticket_keys,
               "the segment has no room for the keys of tickets");

static peri_tls_tickets *tickets_of(peri_master *master)
{
    return (void *)master->segment->header.ticket_keys;
}

static void give(peri_proc *proc, int fd)
{
    int rc = peri_proc_tell(proc, PERI_CHANNEL_CERTS, 0, 0, NULL, fd);

    if (rc < 0 && rc != PERI_EGONE) {
        peri_log(&proc->master->logger, PERI_LOG_ERROR,
                 "worker %d cannot be given the certificates: %s", proc->number,
                 peri_err_text(rc));
    }
}

void peri_identity_give(peri_proc *proc)
{
    const peri_identity *identity = proc->master->identity;

    if (identity != NULL) {
        give(proc, identity->fd);
    }
}

void peri_identity_refresh(peri_master *master)
{
    peri_identity *identity = master->identity;
    char why[WHY_BYTES];
    int64_t expires_s;
    int fd;

    if (identity == NULL || !peri_certs_wanted(master->settings)) {
        return; /* switched on or off: by a new start only */
    }
    identity->read_look =
        peri_certs_look(master->settings, master->options->dir);
    identity->last_look = identity->read_look;
    if (peri_certs_read(master->settings, master->options->dir, &fd, &expires_s,
                        why, sizeof why) < 0) {
        if (fd >= 0) {
            close(fd);
        }
        peri_log(&master->logger, PERI_LOG_ERROR,
                 "the certificate in use stays: %s", why);
        return;
    }
    if (peri_certs_equal(fd, identity->fd)) {
        close(fd);
        return;
    }
    close(identity->fd);
    identity->fd = fd;
    identity->expires_s = expires_s;
    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        peri_proc *proc = PERI_CONTAINER(link, peri_proc, link);

        if (proc->state == PERI_PROC_SERVING) {
            give(proc, fd);
        }
    }
    peri_log(&master->logger, PERI_LOG_INFO, "certificates replaced");
}

static void on_look(uv_timer_t *timer)
{
    peri_identity *identity = timer->data;
    const peri_master *master = identity->master;
    uint64_t look = peri_certs_look(master->settings, master->options->dir);
    bool still = look == identity->last_look;

    identity->last_look = look;
    if (still && look != identity->read_look) {
        peri_identity_refresh(identity->master);
    }
}

static void on_rotate(uv_timer_t *timer)
{
    peri_identity *identity = timer->data;

    peri_tls_tickets_rotate(tickets_of(identity->master));
}

int peri_identity_create(peri_master *master, char *why, size_t why_bytes)
{
    peri_identity *identity;
    int64_t expires_s;
    int fd;
    int rc;

    if (!peri_certs_wanted(master->settings)) {
        return 0;
    }
    rc = peri_tls_tickets_rotate(tickets_of(master));
    if (rc < 0) {
        snprintf(why, why_bytes, "http.tls: no random bytes");
        return rc;
    }
    rc = peri_certs_read(master->settings, master->options->dir, &fd,
                         &expires_s, why, why_bytes);
    if (rc < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return rc;
    }
    identity = peri_calloc(1, sizeof *identity);
    identity->master = master;
    identity->fd = fd;
    identity->expires_s = expires_s;
    identity->read_look =
        peri_certs_look(master->settings, master->options->dir);
    identity->last_look = identity->read_look;
    identity->open_handles = 2;
    uv_timer_init(&master->loop, &identity->look_timer);
    uv_timer_init(&master->loop, &identity->rotate_timer);
    identity->look_timer.data = identity->rotate_timer.data = identity;
    uv_timer_start(&identity->look_timer, on_look, LOOK_MS, LOOK_MS);
    uv_timer_start(&identity->rotate_timer, on_rotate, PERI_TLS_ROTATE_MS,
                   PERI_TLS_ROTATE_MS);
    uv_unref((uv_handle_t *)&identity->look_timer);
    uv_unref((uv_handle_t *)&identity->rotate_timer);
    master->identity = identity;
    return 0;
}

int64_t peri_identity_expires_s(const peri_master *master)
{
    return master->identity != NULL ? master->identity->expires_s : 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    peri_identity *identity = handle->data;

    if (--identity->open_handles == 0) {
        free(identity);
    }
}

void peri_identity_destroy(peri_master *master)
{
    peri_identity *identity = master->identity;

    if (identity == NULL) {
        return;
    }
    master->identity = NULL;
    close(identity->fd);
    uv_close((uv_handle_t *)&identity->look_timer, on_timer_closed);
    uv_close((uv_handle_t *)&identity->rotate_timer, on_timer_closed);
}
