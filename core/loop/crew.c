/* Crew: the loop hands jobs out, one at a time to a member. */
#include "core/loop/crew.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/err.h"

typedef struct peri_crew_member {
    peri_crew *crew;
    uv_thread_t thread;
    uv_cond_t wake;
    /* under the lock */
    void *seat;
    void *old_seat;     /* to be closed by the member */
    peri_crew_job *job; /* until it has run */
    bool unseen;        /* ... and the loop has not looked at it yet */
    bool ended;         /* it takes no more: join it */
    /* the loop's */
    bool started; /* there is a thread */
    bool busy;    /* from handing out to done */
} peri_crew_member;

struct peri_crew {
    uv_async_t async;
    peri_crew_config config;
    uv_mutex_t lock;
    peri_list queue; /* the loop's */
    unsigned queued;
    int jobs;           /* queued, running or not seen yet */
    peri_list finished; /* under the lock */
    bool closing;       /* under the lock */
    peri_crew_member members[];
};

/* ---- members ---- */

/* The next job; NULL: the member is to end, and says so under the lock. */
static peri_crew_job *next_job(peri_crew_member *m)
{
    peri_crew *crew = m->crew;
    uint64_t idle_ns = (uint64_t)crew->config.idle_ms * 1000000u;
    peri_crew_job *job;
    int rc = 0;

    uv_mutex_lock(&crew->lock);
    while (m->job == NULL && !crew->closing && rc == 0 && m->old_seat == NULL) {
        rc = uv_cond_timedwait(&m->wake, &crew->lock, idle_ns);
    }
    job = m->job;
    m->ended = job == NULL && m->old_seat == NULL && !m->unseen;
    if (m->ended) {
        m->old_seat = m->seat;
        m->seat = NULL;
    }
    uv_mutex_unlock(&crew->lock);
    return job;
}

static void drop_old_seat(peri_crew_member *m)
{
    void *seat;

    uv_mutex_lock(&m->crew->lock);
    seat = m->old_seat;
    m->old_seat = NULL;
    uv_mutex_unlock(&m->crew->lock);
    if (seat != NULL) {
        m->crew->config.close(seat);
    }
}

static void member_main(void *data)
{
    peri_crew_member *m = data;
    peri_crew *crew = m->crew;
    bool ended = false;

    while (!ended) {
        peri_crew_job *job = next_job(m);

        drop_old_seat(m);
        if (job != NULL) {
            job->run(job, m->seat);
            uv_mutex_lock(&crew->lock);
            m->job = NULL;
            m->unseen = true;
            peri_list_append(&crew->finished, &job->link);
            uv_mutex_unlock(&crew->lock);
            uv_async_send(&crew->async);
        }
        uv_mutex_lock(&crew->lock);
        ended = m->ended;
        uv_mutex_unlock(&crew->lock);
    }
}

/* ---- the loop's side ---- */

static void join(peri_crew_member *m)
{
    uv_thread_join(&m->thread);
    m->started = false;
    m->ended = false;
}

static int start(peri_crew_member *m)
{
    sigset_t all;
    sigset_t before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = uv_thread_create(&m->thread, member_main, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    m->started = rc == 0;
    return rc;
}

/* To a thread that waits on its seat, or on that one. */
static bool hand(peri_crew_member *m, peri_crew_job *job, void *seat)
{
    bool taken;

    uv_mutex_lock(&m->crew->lock);
    taken = !m->ended && (m->seat != NULL || seat != NULL);
    if (taken) {
        m->seat = seat != NULL ? seat : m->seat;
        m->job = job;
        uv_cond_signal(&m->wake);
    }
    uv_mutex_unlock(&m->crew->lock);
    return taken;
}

/* False when there is no thread to be had. */
static bool give(peri_crew_member *m, peri_crew_job *job)
{
    void *seat;

    job->member = m;
    m->busy = true;
    if (m->started && hand(m, job, NULL)) {
        return true;
    }
    seat = m->crew->config.open(m->crew->config.data);
    if (m->started && hand(m, job, seat)) {
        return true;
    }
    if (m->started) {
        join(m); /* it has ended, for want of work */
    }
    m->seat = seat;
    m->job = job;
    if (start(m) == 0) {
        return true;
    }
    m->crew->config.close(seat);
    m->seat = NULL;
    m->job = NULL;
    m->busy = false;
    job->member = NULL;
    return false;
}

/* An idle member, running ones first; NULL: none. */
static peri_crew_member *idle_member(peri_crew *crew)
{
    peri_crew_member *found = NULL;

    for (unsigned i = 0; i < crew->config.threads_max; i++) {
        peri_crew_member *m = &crew->members[i];

        if (!m->busy && m->started) {
            return m;
        }
        if (!m->busy && found == NULL) {
            found = m;
        }
    }
    return found;
}

/* Gives out what it can; a job that nobody can take stays queued. */
static void give_out(peri_crew *crew)
{
    peri_crew_member *m;

    while (crew->queued > 0 && (m = idle_member(crew)) != NULL) {
        peri_crew_job *job =
            PERI_CONTAINER(crew->queue.next, peri_crew_job, link);

        peri_list_remove(&job->link);
        crew->queued--;
        if (!give(m, job)) {
            peri_list_prepend(&crew->queue, &job->link);
            crew->queued++;
            return;
        }
    }
}

static peri_crew_job *take_finished(peri_crew *crew)
{
    peri_crew_job *job = NULL;

    uv_mutex_lock(&crew->lock);
    if (!peri_list_empty(&crew->finished)) {
        job = PERI_CONTAINER(crew->finished.next, peri_crew_job, link);
        peri_list_remove(&job->link);
    }
    uv_mutex_unlock(&crew->lock);
    return job;
}

static void seen(peri_crew_member *m, bool keeps_seat)
{
    uv_mutex_lock(&m->crew->lock);
    m->unseen = false;
    if (!keeps_seat) {
        m->old_seat = m->seat;
        m->seat = NULL;
        uv_cond_signal(&m->wake);
    }
    uv_mutex_unlock(&m->crew->lock);
    m->busy = false;
}

/* One job more or less keeps the loop alive. */
static void count(peri_crew *crew, int by)
{
    crew->jobs += by;
    if (crew->jobs > 0) {
        uv_ref((uv_handle_t *)&crew->async);
    } else {
        uv_unref((uv_handle_t *)&crew->async);
    }
}

static void on_finished(uv_async_t *async)
{
    peri_crew *crew = async->data;
    peri_crew_job *job;

    while ((job = take_finished(crew)) != NULL) {
        peri_crew_member *m = job->member;

        count(crew, -1);
        seen(m, job->done(job)); /* which may close the crew */
    }
    if (!crew->closing) {
        give_out(crew);
    }
}

int peri_crew_submit(peri_crew *crew, peri_crew_job *job)
{
    if (crew->queued >= crew->config.queue_max &&
        (crew->queued > 0 || idle_member(crew) == NULL)) {
        return PERI_ELIMIT;
    }
    job->member = NULL;
    peri_list_init(&job->link);
    peri_list_append(&crew->queue, &job->link);
    crew->queued++;
    count(crew, 1);
    give_out(crew);
    return 0;
}

bool peri_crew_withdraw(peri_crew *crew, peri_crew_job *job)
{
    if (job->member != NULL) {
        return false;
    }
    peri_list_remove(&job->link);
    crew->queued--;
    count(crew, -1);
    return true;
}

bool peri_crew_seat(const peri_crew_job *job, void **seat)
{
    if (job->member == NULL) {
        return false;
    }
    *seat = job->member->seat;
    return true;
}

/* ---- life ---- */

peri_crew *peri_crew_create(uv_loop_t *loop, const peri_crew_config *config)
{
    peri_crew *crew = peri_calloc(
        1, sizeof *crew + config->threads_max * sizeof(peri_crew_member));

    crew->config = *config;
    peri_list_init(&crew->queue);
    peri_list_init(&crew->finished);
    uv_mutex_init(&crew->lock);
    for (unsigned i = 0; i < config->threads_max; i++) {
        crew->members[i].crew = crew;
        uv_cond_init(&crew->members[i].wake);
    }
    uv_async_init(loop, &crew->async, on_finished);
    uv_unref((uv_handle_t *)&crew->async);
    crew->async.data = crew;
    return crew;
}

static void on_closed(uv_handle_t *handle)
{
    peri_crew *crew = handle->data;

    for (unsigned i = 0; i < crew->config.threads_max; i++) {
        uv_cond_destroy(&crew->members[i].wake);
    }
    uv_mutex_destroy(&crew->lock);
    free(crew);
}

void peri_crew_close(peri_crew *crew)
{
    assert(crew->jobs == 0);
    uv_mutex_lock(&crew->lock);
    crew->closing = true;
    for (unsigned i = 0; i < crew->config.threads_max; i++) {
        crew->members[i].unseen = false;
        uv_cond_signal(&crew->members[i].wake);
    }
    uv_mutex_unlock(&crew->lock);
    for (unsigned i = 0; i < crew->config.threads_max; i++) {
        if (crew->members[i].started) {
            join(&crew->members[i]);
        }
    }
    uv_close((uv_handle_t *)&crew->async, on_closed);
}
