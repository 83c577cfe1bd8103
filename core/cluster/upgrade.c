/* Upgrade: see the header. */
#include "core/cluster/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/cluster/master_state.h"

#define VARIABLE "PERIGEE_UPGRADE" /* "pid:lock:listener,listener,..." */
#define VARIABLE_BYTES 4096

/* ---- the old program ---- */

static void keep_open(int fd)
{
    fcntl(fd, F_SETFD, 0);
}

static int describe(const peri_master *master, char *out, size_t out_bytes)
{
    int length =
        snprintf(out, out_bytes, "%d:%d:", (int)getpid(), master->lock.fd);

    for (int i = 0; i < master->seat_count; i++) {
        length += snprintf(out + length, out_bytes - (size_t)length, "%s%d",
                           i > 0 ? "," : "", master->seats[i]->listener_fd);
        if ((size_t)length >= out_bytes - 16) {
            return PERI_ELIMIT;
        }
    }
    return 0;
}

/* Returns only when it fails. */
static int become(peri_master *master)
{
    char variable[VARIABLE_BYTES];
    char *const *argv = (char *const *)(uintptr_t)master->options->run_argv;
    sigset_t all;
    sigset_t before;
    int rc = describe(master, variable, sizeof variable);

    if (rc < 0) {
        return rc;
    }
    for (int i = 0; i < master->seat_count; i++) {
        keep_open(master->seats[i]->listener_fd);
    }
    keep_open(master->lock.fd);
    setenv(VARIABLE, variable, 1);
    /* Until the new program has its handlers, signals wait. */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    execv(master->options->program, argv);
    rc = -errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    unsetenv(VARIABLE);
    return rc;
}

static void refuse(const peri_master *master, const char *reason)
{
    peri_log_field field = PERI_FIELD_STR("reason", reason);

    peri_log_fields(&master->logger, PERI_LOG_ERROR,
                    "USR2: the new program is not taken over", &field, 1);
}

void peri_upgrade_checked(peri_master *master, const char *fault)
{
    int rc;

    if (fault != NULL) {
        refuse(master, fault);
        return;
    }
    peri_log(&master->logger, PERI_LOG_INFO,
             "USR2: becoming the program that is on disk");
    rc = become(master);
    refuse(master, peri_err_text(rc));
}

void peri_upgrade(peri_master *master)
{
    if (master->options->run_argv == NULL) {
        refuse(master, "not possible for this host");
    } else if (master->phase != PERI_MASTER_RUNNING ||
               master->reload.phase != PERI_RELOAD_IDLE) {
        refuse(master, "starting, reloading or stopping");
    } else {
        peri_reload_try_program(master);
    }
}

/* ---- the new one ---- */

static int take_fd(const char *text)
{
    int fd = atoi(text);

    return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -1 : fd;
}

void peri_handover_read(peri_handover *handover)
{
    const char *variable = getenv(VARIABLE);
    sigset_t none;
    char *text;
    char *rest = NULL;
    char *part;

    *handover = (peri_handover){.lock_fd = -1};
    if (variable == NULL) {
        return;
    }
    text = peri_strdup(variable);
    unsetenv(VARIABLE);
    part = strtok_r(text, ":", &rest);
    if (part != NULL && atoi(part) == (int)getpid()) {
        part = strtok_r(NULL, ":", &rest);
        handover->lock_fd = part != NULL ? take_fd(part) : -1;
        while (handover->count < PERI_HANDOVER_MAX &&
               (part = strtok_r(NULL, ",", &rest)) != NULL) {
            handover->listeners[handover->count++] = take_fd(part);
        }
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
    }
    free(text);
}

int peri_handover_take(peri_handover *handover, peri_address *address)
{
    int fd;

    if (handover->next >= handover->count) {
        return -1;
    }
    fd = handover->listeners[handover->next];
    if (fd < 0 || !peri_listen_is_bound_to(fd, address)) {
        return -1;
    }
    handover->next++;
    return fd;
}

void peri_handover_close(peri_handover *handover)
{
    while (handover->next < handover->count) {
        int fd = handover->listeners[handover->next++];

        if (fd >= 0) {
            close(fd);
        }
    }
}
