/* Lock: a spin lock between processes that outlives its holder.
 *
 * Taken for well below a microsecond, a few nanoseconds when nobody contends.
 * The word says who holds it: process id and the time it was started, so that a
 * holder that was killed is told from a new process with its id. Who waits for
 * long looks whether the holder is still alive, and takes the lock over when it
 * is not. Zeroed memory is a free lock. */
#ifndef PERI_SHM_LOCK_H
#define PERI_SHM_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct peri_lock {
    _Atomic uint64_t holder; /* 0: free */
} peri_lock;

/* What this process writes into the locks that it holds. Not for use after a
 * fork: a child asks anew. */
uint64_t peri_lock_self(void);

/* Whether a process that peri_lock_self() was asked in still lives. */
bool peri_lock_alive(uint64_t self);

/* Waits. True: the last holder died with it, what it guards may be half done.
 */
bool peri_lock_wait(peri_lock *lock, uint64_t self);

static inline bool peri_lock_take(peri_lock *lock, uint64_t self)
{
    uint64_t none = 0;

    if (atomic_compare_exchange_strong_explicit(&lock->holder, &none, self,
                                                memory_order_acquire,
                                                memory_order_relaxed)) {
        return false;
    }
    return peri_lock_wait(lock, self);
}

static inline void peri_lock_release(peri_lock *lock)
{
    atomic_store_explicit(&lock->holder, 0, memory_order_release);
}

#endif
