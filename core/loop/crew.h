/* Crew: a bounded number of threads for work that computes.
 *
 * Members are started when there is work for them and end after a while
 * without any. Each has a seat: what the owner needs to work (a Lua state),
 * opened on the loop thread before a member's first job, used by its thread
 * alone while it runs one, closed by its thread. Members block all signals.
 *
 * Loop thread, but for what is said to be the member's. */
#ifndef PERI_LOOP_CREW_H
#define PERI_LOOP_CREW_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/base/list.h"

typedef struct peri_crew peri_crew;

typedef struct peri_crew_config {
    unsigned threads_max;
    unsigned queue_max; /* jobs that wait */
    uint32_t idle_ms;   /* then a member ends */
    void *(*open)(void *data);
    void (*close)(void *seat); /* the member's; or the loop's, at the end */
    void *data;
} peri_crew_config;

/* Owned by who submits it, embedded in something of theirs; zero-filled. */
typedef struct peri_crew_job {
    void (*run)(struct peri_crew_job *job, void *seat); /* the member's */
    /* May free it. Whether the seat can be used again: else it is closed. */
    bool (*done)(struct peri_crew_job *job);
    /* private */
    peri_list link;
    struct peri_crew_member *member;
} peri_crew_job;

peri_crew *peri_crew_create(uv_loop_t *loop, const peri_crew_config *config);

/* No job may be left. Waits for idle members to end; frees from the loop. */
void peri_crew_close(peri_crew *crew);

/* done comes from the loop, never from inside. PERI_ELIMIT: too many wait;
 * nothing was taken then. */
int peri_crew_submit(peri_crew *crew, peri_crew_job *job);

/* Takes back what has not begun: true, and done will not come. */
bool peri_crew_withdraw(peri_crew *crew, peri_crew_job *job);

/* The seat on which it runs, or has run: the seat is there until done returns.
 * False: it waits. */
bool peri_crew_seat(const peri_crew_job *job, void **seat);

#endif
