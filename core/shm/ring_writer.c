/* Ring writer: when the thread sleeps, and what wakes it.
 *
 * A futex word counts calls. The thread is awake, resting (it has just written;
 * only a filling ring wakes it) or asleep (the first line wakes it). So a lone
 * line goes out at once, and a stream of lines costs its producer no system
 * calls. */
#include "core/shm/ring_writer.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/err.h"

#define REST_NS ((long)10 * 1000 * 1000)
#define WAKE_FILL_BYTES ((size_t)64 << 10)
#define SLOW_WAIT_MS 1000               /* then looks whether it should end */
#define STACK_BYTES ((size_t)256 << 10) /* a name may have to be resolved */

enum { AWAKE, RESTING, ASLEEP };

struct peri_ring_writer {
    peri_ring *ring;
    peri_ring *own_ring; /* to be freed, or NULL */
    peri_ring_out out;
    const peri_logger *teller;
    const char *what;
    pthread_mutex_t lock; /* of the producers */
    pthread_t thread;
    _Atomic uint32_t calls;
    _Atomic uint32_t mood;
    _Atomic bool ending;
    uint64_t yielded_at; /* the tail then */
};

static void futex_wait(_Atomic uint32_t *word, uint32_t seen, long timeout_ns)
{
    struct timespec t = {timeout_ns / 1000000000, timeout_ns % 1000000000};

    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen,
            timeout_ns > 0 ? &t : NULL, NULL, 0);
}

static void call_thread(peri_ring_writer *writer)
{
    atomic_fetch_add(&writer->calls, 1);
    syscall(SYS_futex, &writer->calls, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Where both share a CPU, the thread may not have its turn for longer than it
 * takes to fill the ring: it is given one, as long as that gets lines out. */
static bool should_yield(peri_ring_writer *writer)
{
    uint64_t tail =
        atomic_load_explicit(&writer->ring->tail, memory_order_relaxed);

    if (peri_ring_used(writer->ring) < PERI_RING_BYTES / 2 ||
        writer->yielded_at == tail) {
        return false;
    }
    writer->yielded_at = tail;
    return true;
}

/* Says how many lines were dropped since the last time, once there is room. */
static void tell_lost(peri_ring_writer *writer)
{
    peri_ring *ring = writer->ring;
    uint64_t lost = atomic_load(&ring->lost_total);
    uint64_t told = atomic_load(&ring->lost_told);
    peri_log_field field = PERI_FIELD_NUM("lost", lost - told);

    if (lost == told || peri_ring_used(ring) > PERI_RING_BYTES / 2) {
        return;
    }
    atomic_store(&ring->lost_told, lost);
    peri_log_fields(writer->teller, PERI_LOG_WARN, writer->what, &field, 1);
}

/* Waits for lines; first lightly, so that a stream of them is one write. */
static void rest(peri_ring_writer *writer)
{
    uint32_t seen = atomic_load(&writer->calls);

    atomic_store(&writer->mood, RESTING);
    if (!atomic_load(&writer->ending) &&
        peri_ring_used(writer->ring) < WAKE_FILL_BYTES) {
        futex_wait(&writer->calls, seen, REST_NS);
    }
    seen = atomic_load(&writer->calls);
    atomic_store(&writer->mood, ASLEEP);
    /* Looked at after the mood was set: whoever adds a line later sees it. */
    if (peri_ring_used(writer->ring) == 0 && !atomic_load(&writer->ending)) {
        futex_wait(&writer->calls, seen, 0);
    }
    atomic_store(&writer->mood, AWAKE);
}

static void *thread_main(void *data)
{
    peri_ring_writer *writer = data;

    prctl(PR_SET_NAME, "perigee-log");
    for (;;) {
        int rc = peri_ring_drain(writer->ring, &writer->out, SLOW_WAIT_MS);

        if (rc == 0) {
            tell_lost(writer);
        }
        if (atomic_load(&writer->ending) &&
            (rc < 0 || peri_ring_used(writer->ring) == 0)) {
            return NULL;
        }
        if (rc < 0 && rc != PERI_ETIMEOUT) {
            /* A full disk, a closed pipe: later may be better. */
            struct timespec pause = {0, REST_NS * 10};

            nanosleep(&pause, NULL);
        } else if (rc == 0) {
            rest(writer);
        }
    }
}

static int start_thread(peri_ring_writer *writer)
{
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;
    int rc;

    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&writer->thread, &attributes, thread_main, writer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -rc;
}

int peri_ring_writer_create(peri_ring *ring, const peri_ring_out *out,
                            const peri_logger *teller, const char *what,
                            peri_ring_writer **result)
{
    peri_ring_writer *writer = peri_calloc(1, sizeof *writer);
    int rc;

    if (ring == NULL) {
        writer->own_ring = aligned_alloc(64, sizeof(peri_ring));
        if (writer->own_ring == NULL) {
            abort();
        }
        memset(writer->own_ring, 0, offsetof(peri_ring, data));
        ring = writer->own_ring;
    }
    writer->ring = ring;
    writer->out = *out;
    writer->teller = teller;
    writer->what = what;
    pthread_mutex_init(&writer->lock, NULL);
    rc = start_thread(writer);
    if (rc < 0) {
        pthread_mutex_destroy(&writer->lock);
        free(writer->own_ring);
        free(writer);
        return rc;
    }
    *result = writer;
    return 0;
}

void peri_ring_writer_put(void *data, peri_slice line)
{
    peri_ring_writer *writer = data;
    uint32_t mood;
    bool call;
    bool yield;

    pthread_mutex_lock(&writer->lock);
    peri_ring_put(writer->ring, line);
    /* Orders the line before the look at the mood, as rest() does. */
    atomic_thread_fence(memory_order_seq_cst);
    mood = atomic_load_explicit(&writer->mood, memory_order_relaxed);
    call = mood == ASLEEP ||
           (mood == RESTING && peri_ring_used(writer->ring) > WAKE_FILL_BYTES);
    if (call) {
        atomic_store(&writer->mood, AWAKE); /* one call is enough */
    }
    yield = should_yield(writer);
    pthread_mutex_unlock(&writer->lock);
    if (call) {
        call_thread(writer);
    }
    if (yield) {
        sched_yield();
    }
}

int peri_ring_writer_flush(peri_ring_writer *writer, int timeout_ms)
{
    uint64_t head = atomic_load(&writer->ring->head);
    uint64_t end = peri_clock_monotonic_ns() + (uint64_t)timeout_ms * 1000000u;
    struct timespec pause = {0, 500000};

    while (atomic_load(&writer->ring->tail) < head) {
        if (peri_clock_monotonic_ns() > end) {
            return PERI_ETIMEOUT;
        }
        call_thread(writer);
        nanosleep(&pause, NULL);
    }
    return 0;
}

void peri_ring_writer_destroy(peri_ring_writer *writer, int timeout_ms)
{
    struct timespec end;

    if (writer == NULL) {
        return;
    }
    peri_ring_writer_flush(writer, timeout_ms);
    atomic_store(&writer->ending, true);
    call_thread(writer);
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 2 * SLOW_WAIT_MS / 1000;
    if (pthread_timedjoin_np(writer->thread, NULL, &end) != 0) {
        return; /* stuck in a write; left behind, the process is to end */
    }
    pthread_mutex_destroy(&writer->lock);
    free(writer->own_ring);
    free(writer);
}
