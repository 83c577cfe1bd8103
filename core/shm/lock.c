/* Lock: waiting, and telling the dead from the slow. */
#include "core/shm/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"

#define SPINS 200
#define NAP_NS 50000
#define SUSPECT_NS 2000000u /* held for so long: is the holder alive? */
#define START_FIELD 22      /* of /proc/PID/stat */

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* The state and the start time of a process. False: there is none, or /proc is
 * not to be had. */
static bool read_stat(uint32_t pid, char *state, uint32_t *start)
{
    char path[32];
    char text[1024];
    char *at;
    ssize_t n;
    int fd;

    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) {
        return false;
    }
    text[n] = '\0';
    at = strrchr(text, ')'); /* the name may hold anything */
    if (at == NULL || at[1] != ' ') {
        return false;
    }
    at += 2;
    *state = *at;
    for (int field = 3; field < START_FIELD && at != NULL; field++) {
        at = strchr(at, ' ');
        at = at != NULL ? at + 1 : NULL;
    }
    *start = at != NULL ? (uint32_t)strtoull(at, NULL, 10) : 0;
    return true;
}

uint64_t peri_lock_self(void)
{
    uint32_t pid = (uint32_t)getpid();
    uint32_t start = 0;
    char state;

    read_stat(pid, &state, &start);
    return (uint64_t)pid << 32 | start;
}

bool peri_lock_alive(uint64_t self)
{
    uint32_t pid = (uint32_t)(self >> 32);
    uint32_t start;
    char state;

    if (read_stat(pid, &state, &start)) {
        /* A zombie runs no more. */
        return state != 'Z' && state != 'X' && start == (uint32_t)self;
    }
    return kill((pid_t)pid, 0) == 0 || errno != ESRCH;
}

bool peri_lock_wait(peri_lock *lock, uint64_t self)
{
    const struct timespec nap = {0, NAP_NS};
    uint64_t since_ns = 0;
    uint64_t suspect = 0;

    for (uint64_t turn = 1;; turn++) {
        uint64_t holder =
            atomic_load_explicit(&lock->holder, memory_order_relaxed);

        if (holder == 0) {
            if (atomic_compare_exchange_weak_explicit(
                    &lock->holder, &holder, self, memory_order_acquire,
                    memory_order_relaxed)) {
                return false;
            }
        } else if (turn < SPINS) {
            relax();
        } else if (holder != suspect) {
            suspect = holder;
            since_ns = peri_clock_monotonic_ns();
            sched_yield();
        } else if (peri_clock_monotonic_ns() - since_ns < SUSPECT_NS) {
            nanosleep(&nap, NULL);
        } else if (peri_lock_alive(holder)) {
            since_ns = peri_clock_monotonic_ns();
        } else if (atomic_compare_exchange_strong_explicit(
                       &lock->holder, &holder, self, memory_order_acquire,
                       memory_order_relaxed)) {
            return true;
        }
    }
}
