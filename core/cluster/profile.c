/* Profile: asked of each worker, taken from each, told once. */
#include "core/cluster/profile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/cluster/master_state.h"

#define GRACE_MS 15000 /* for workers whose loop is late */
#define PART_MAX_BYTES ((off_t)2 * (off_t)PERI_STACKS_TEXT_MAX)

struct peri_profile {
    peri_master *master;
    peri_profile_options options;
    uv_timer_t timer;
    uint64_t number;
    uint64_t started_ns;
    uint64_t started_unix_ms;
    peri_stacks *stacks;
    peri_stacks *types;
    uint64_t heap_bytes;
    uint64_t longest_us;
    int workers;
    int missing;
    int waiting;
    char fault[256]; /* what the last one said that refused */
    void (*done)(void *data, const peri_profile_result *result);
    void *data;
};

static void on_closed(uv_handle_t *handle)
{
    peri_profile *p = handle->data;

    peri_stacks_destroy(p->stacks);
    peri_stacks_destroy(p->types);
    free(p);
}

static void finish(peri_profile *p)
{
    peri_master *master = p->master;
    peri_profile_result result = {
        .kind = p->options.kind,
        .stacks = p->stacks,
        .types = p->types,
        .heap_bytes = p->heap_bytes,
        .longest_us = p->longest_us,
        .workers = p->workers,
        .missing = p->missing,
        .started_unix_ms = p->started_unix_ms,
        .took_ms = (peri_clock_monotonic_ns() - p->started_ns) / 1000000u};

    master->profile = NULL;
    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        PERI_CONTAINER(link, peri_proc, link)->profiled = false;
    }
    if (p->workers == 0) {
        result.fault = p->fault[0] != '\0'
                           ? p->fault
                           : "no worker has answered with a profile";
    }
    if (p->done != NULL) {
        p->done(p->data, &result);
    }
    uv_close((uv_handle_t *)&p->timer, on_closed);
}

static void on_late(uv_timer_t *timer)
{
    peri_profile *p = timer->data;

    p->missing += p->waiting;
    finish(p);
}

static void one_less(peri_profile *p, peri_proc *proc)
{
    proc->profiled = false;
    if (--p->waiting == 0) {
        finish(p);
    }
}

void peri_profile_proc_ended(peri_proc *proc)
{
    peri_profile *p = proc->master->profile;

    if (p != NULL && proc->profiled) {
        p->missing++;
        one_less(p, proc);
    }
}

/* Stacks, types and what the worker says of itself come as one. */
static void add_part(peri_profile *p, peri_slice text)
{
    peri_stacks *part = peri_stacks_create();

    peri_stacks_read(part, text);
    for (size_t i = 0; i < peri_stacks_count(part); i++) {
        const peri_stack *stack = peri_stacks_get(part, i);

        if (peri_slice_equal(stack->key, PERI_SLICE("M;heap_bytes"))) {
            p->heap_bytes += stack->values[0];
        } else if (stack->key.data[0] == 'M') {
            p->longest_us = stack->values[0] > p->longest_us ? stack->values[0]
                                                             : p->longest_us;
        } else {
            peri_stacks_add(stack->key.data[0] == 'T' ? p->types : p->stacks,
                            stack->key, stack->values);
        }
    }
    peri_stacks_destroy(part);
}

static int read_part(peri_profile *p, int fd)
{
    struct stat info;
    void *map;

    if (fstat(fd, &info) < 0 || info.st_size > PART_MAX_BYTES) {
        return PERI_ELIMIT;
    }
    if (info.st_size == 0) {
        return 0;
    }
    map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        return -errno;
    }
    add_part(p, peri_slice_of(map, (size_t)info.st_size));
    munmap(map, (size_t)info.st_size);
    return 0;
}

void peri_profile_take(peri_proc *proc, const peri_channel_message *message)
{
    peri_profile *p = proc->master->profile;
    bool ours = p != NULL && proc->profiled && message->generation == p->number;

    if (ours && message->fd >= 0 && read_part(p, message->fd) == 0) {
        p->workers++;
    } else if (ours) {
        p->missing++;
        snprintf(p->fault, sizeof p->fault, "worker %d: %.*s", proc->number,
                 (int)(message->text.length < 200 ? message->text.length : 200),
                 message->text.length != 0 ? message->text.data : "");
    }
    if (message->fd >= 0) {
        close(message->fd);
    }
    if (ours) {
        one_less(p, proc);
    }
}

/* ---- beginning and end ---- */

static void ask_workers(peri_profile *p)
{
    peri_master *master = p->master;
    const char *kind = p->options.kind == PERI_PROFILE_HEAP ? "heap" : "cpu";

    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        peri_proc *proc = PERI_CONTAINER(link, peri_proc, link);
        bool wanted =
            p->options.worker < 0 || p->options.worker == proc->number;

        if (wanted && proc->state == PERI_PROC_SERVING &&
            peri_proc_tell(proc, PERI_CHANNEL_PROFILE, p->options.duration_ms,
                           p->number, kind, -1) == 0) {
            proc->profiled = true;
            p->waiting++;
        }
    }
}

int peri_profile_start(peri_master *master, const peri_profile_options *options,
                       void (*done)(void *data,
                                    const peri_profile_result *result),
                       void *data, char *why, size_t why_bytes)
{
    peri_profile *p;

    if (master->profile != NULL) {
        snprintf(why, why_bytes,
                 "a profile is being taken already: try again when it has "
                 "ended");
        return -EBUSY;
    }
    if (options->duration_ms < 1 ||
        options->duration_ms > PERI_PROFILE_MAX_MS) {
        snprintf(why, why_bytes, "a profile takes 1 ms to %u s",
                 PERI_PROFILE_MAX_MS / 1000);
        return -EINVAL;
    }
    p = peri_calloc(1, sizeof *p);
    p->master = master;
    p->options = *options;
    p->number = ++master->profile_count;
    ask_workers(p);
    if (p->waiting == 0) {
        free(p);
        if (options->worker >= 0) {
            snprintf(why, why_bytes, "there is no worker %d that serves",
                     options->worker);
        } else {
            snprintf(why, why_bytes, "no worker serves");
        }
        return -ESRCH;
    }
    p->done = done;
    p->data = data;
    p->stacks = peri_stacks_create();
    p->types = peri_stacks_create();
    p->started_ns = peri_clock_monotonic_ns();
    p->started_unix_ms = peri_clock_wall_ms();
    uv_timer_init(&master->loop, &p->timer);
    p->timer.data = p;
    uv_timer_start(&p->timer, on_late, options->duration_ms + GRACE_MS, 0);
    master->profile = p;
    return 0;
}

void peri_profile_end(peri_master *master, const void *data)
{
    const peri_profile *p = master->profile;

    if (p == NULL || p->data != data) {
        return;
    }
    for (peri_list *link = master->procs.next; link != &master->procs;
         link = link->next) {
        peri_proc *proc = PERI_CONTAINER(link, peri_proc, link);

        if (proc->profiled) {
            peri_proc_tell(proc, PERI_CHANNEL_PROFILE_END, 0, p->number, NULL,
                           -1);
        }
    }
}

/* Until the workers have ended it, no other one begins. */
void peri_profile_forget(peri_master *master, const void *data)
{
    peri_profile *p = master->profile;

    if (p != NULL && p->data == data) {
        peri_profile_end(master, data);
        p->done = NULL;
        p->data = NULL;
    }
}

void peri_profile_close(peri_master *master)
{
    if (master->profile != NULL) {
        master->profile->missing += master->profile->waiting;
        snprintf(master->profile->fault, sizeof master->profile->fault,
                 "the host is stopping");
        finish(master->profile);
    }
}
