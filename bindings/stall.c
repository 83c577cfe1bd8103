/* Stall: the timer, the stack, the line. */
#include "bindings/stall.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bindings/budget.h"
#include "bindings/frames.h"
#include "bindings/gen.h"
#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/base/stacks.h"

#define SIGNAL (SIGRTMIN + 2)
#define TICKS_BEFORE_ASKING 2 /* of half the limit each */
#define TICKS_AT_REST 3       /* then the timer is switched off */
#define LINE_EVERY_NS ((uint64_t)1000000000)
#define STACK_BYTES ((size_t)16 << 10)
#define ROUTE_BYTES 128
#define ID_BYTES 72

struct perilua_stalls {
    peri_host *host;
    perilua_sampler sampler;
    uv_prepare_t prepare;
    timer_t timer;
    uint32_t limit_ms;
    volatile sig_atomic_t armed;
    volatile sig_atomic_t ticks;   /* while a task ran, in this turn */
    volatile sig_atomic_t at_rest; /* ticks while none did, in a row */
    volatile sig_atomic_t asked;
    bool running;      /* a task has run in this turn */
    bool request;      /* the last one for a request */
    bool taken;        /* the stack, or what is known without one */
    uint64_t began_ns; /* the first task of this turn */
    uint64_t told_ns;
    uint32_t suppressed;
    peri_buf stack;
    char route[ROUTE_BYTES];
    char id[ID_BYTES];
};

/* ---- the timer ---- */

static void set_timer(perilua_stalls *stalls, uint32_t ms)
{
    struct timespec period = {.tv_sec = ms / 1000,
                              .tv_nsec = (long)(ms % 1000) * 1000000};
    struct itimerspec every = {period, period};

    stalls->armed = ms != 0;
    timer_settime(stalls->timer, 0, &every, NULL);
}

static perilua_vm *running_vm(const peri_host *host)
{
    const perilua_gen *gens[] = {host->live, host->staged};

    for (size_t i = 0; i < sizeof gens / sizeof gens[0]; i++) {
        if (gens[i] != NULL && gens[i]->vm->current != NULL) {
            return gens[i]->vm;
        }
    }
    return NULL;
}

/* In signal context. What a retired generation does is measured, but not asked
 * for its stack: the list of those may be changing just now. */
static void on_tick(int number, siginfo_t *info, void *context)
{
    perilua_stalls *stalls = info->si_value.sival_ptr;
    perilua_vm *vm = running_vm(stalls->host);

    (void)number;
    (void)context;
    if (vm == NULL) {
        if (++stalls->at_rest >= TICKS_AT_REST) {
            set_timer(stalls, 0);
        }
        return;
    }
    stalls->at_rest = 0;
    if (++stalls->ticks == TICKS_BEFORE_ASKING) {
        stalls->asked = 1;
        perilua_budget_ask(stalls->host->budget, vm);
    }
}

/* ---- what was seen ---- */

static void copy_text(char *out, size_t out_bytes, peri_slice text)
{
    size_t length = text.length < out_bytes ? text.length : out_bytes - 1;

    if (length != 0) {
        memcpy(out, text.data, length);
    }
    out[length] = '\0';
}

static void take_request(perilua_stalls *stalls, const perilua_task *task)
{
    peri_exchange *ex = task->context;

    stalls->asked = 0;
    stalls->taken = true;
    peri_buf_clear(&stalls->stack);
    stalls->route[0] = stalls->id[0] = '\0';
    if (ex != NULL) {
        copy_text(stalls->id, sizeof stalls->id, peri_exchange_id(ex));
        if (ex->route != NULL) {
            copy_text(stalls->route, sizeof stalls->route,
                      peri_slice_str(ex->route->pattern));
        }
    }
}

static void on_take(void *data, perilua_vm *vm, lua_State *L, char state)
{
    perilua_stalls *stalls = data;

    (void)state;
    if (stalls->asked && vm->current != NULL) {
        perilua_frames *frames = perilua_frames_create();

        take_request(stalls, vm->current);
        perilua_frames_append(frames, vm, L, &stalls->stack);
        perilua_frames_destroy(frames);
    }
}

static void on_left(void *data, const perilua_task *task)
{
    perilua_stalls *stalls = data;

    if (stalls->asked) {
        take_request(stalls, task);
    }
}

/* "services/orders.lua:cancel:42@47" becomes "services/orders.lua:47: in
 * cancel". */
static void append_place(peri_buf *out, peri_slice frame)
{
    uint32_t line = peri_stack_line(&frame);
    const char *colon = memchr(frame.data, ':', frame.length);
    const char *end = memrchr(frame.data, ':', frame.length);

    if (out->length != 0) {
        peri_buf_append_byte(out, '\n');
    }
    if (line == 0 || colon == NULL || end == colon) {
        peri_buf_append_slice(out, frame);
        return;
    }
    peri_buf_printf(out, "%.*s:%u: in %.*s", (int)(colon - frame.data),
                    frame.data, line, (int)(end - colon - 1), colon + 1);
}

/* The innermost first, as in a traceback. */
static void append_stack(peri_buf *out, peri_slice frames)
{
    while (frames.length > 0) {
        const char *start = memrchr(frames.data, ';', frames.length);
        size_t at = start != NULL ? (size_t)(start - frames.data) : 0;
        size_t skip = start != NULL ? at + 1 : 0;

        append_place(out,
                     (peri_slice){frames.data + skip, frames.length - skip});
        frames.length = at;
    }
}

/* Nobody was asked: the last request that ran is the best guess. */
static void guess_request(perilua_stalls *stalls)
{
    const peri_host *host = stalls->host;

    peri_buf_clear(&stalls->stack);
    copy_text(stalls->route, sizeof stalls->route,
              peri_slice_str(stalls->request ? host->doing_route : ""));
    copy_text(stalls->id, sizeof stalls->id,
              peri_slice_str(stalls->request ? host->doing_request : ""));
}

static void tell(perilua_stalls *stalls, uint64_t took_ns)
{
    peri_log_field fields[5];
    peri_buf stack;
    int count = 0;

    if (!stalls->taken) {
        guess_request(stalls);
    }
    peri_buf_init(&stack, 2 * STACK_BYTES);
    fields[count++] = PERI_FIELD_NUM("stall_ms", took_ns / 1000000u);
    if (stalls->route[0] != '\0') {
        fields[count++] = PERI_FIELD_STR("route", stalls->route);
    }
    if (stalls->id[0] != '\0') {
        fields[count++] = PERI_FIELD_STR("reqId", stalls->id);
    }
    if (stalls->stack.length != 0) {
        append_stack(&stack, peri_buf_slice(&stalls->stack));
        fields[count] = PERI_FIELD_STR("stack", "");
        fields[count++].text = peri_buf_slice(&stack);
    }
    if (stalls->suppressed != 0) {
        fields[count++] = PERI_FIELD_NUM("suppressed", stalls->suppressed);
    }
    peri_log_fields(stalls->host->env.logger, PERI_LOG_WARN,
                    "event loop stalled", fields, count);
    peri_buf_fini(&stack);
}

/* The loop is about to wait: the turn is over. */
static void on_prepare(uv_prepare_t *prepare)
{
    perilua_stalls *stalls = prepare->data;
    uint64_t now_ns;
    uint64_t took_ns;

    if (!stalls->running) {
        return;
    }
    stalls->running = false;
    stalls->ticks = 0;
    stalls->asked = 0;
    now_ns = peri_clock_monotonic_ns();
    took_ns = now_ns - stalls->began_ns;
    if (took_ns < (uint64_t)stalls->limit_ms * 1000000u) {
        stalls->taken = false;
        return;
    }
    if (stalls->told_ns != 0 && now_ns - stalls->told_ns < LINE_EVERY_NS) {
        stalls->suppressed++;
    } else {
        tell(stalls, took_ns);
        stalls->told_ns = now_ns;
        stalls->suppressed = 0;
    }
    stalls->taken = false;
}

void perilua_stalls_note(perilua_stalls *stalls, bool request)
{
    if (stalls == NULL || stalls->limit_ms == 0) {
        return;
    }
    stalls->request = request;
    stalls->at_rest = 0;
    if (!stalls->running) {
        stalls->running = true;
        stalls->began_ns = peri_clock_monotonic_ns();
        if (!stalls->armed) {
            set_timer(stalls, (stalls->limit_ms + 1) / 2);
        }
    }
}

/* ---- life ---- */

void perilua_stalls_set_limit(perilua_stalls *stalls, uint32_t limit_ms)
{
    if (stalls == NULL || stalls->limit_ms == limit_ms) {
        return;
    }
    stalls->limit_ms = limit_ms;
    stalls->running = false;
    set_timer(stalls, 0);
    if (limit_ms != 0) {
        uv_prepare_start(&stalls->prepare, on_prepare);
    } else {
        uv_prepare_stop(&stalls->prepare);
    }
}

perilua_stalls *perilua_stalls_create(peri_host *host)
{
    perilua_stalls *stalls = peri_calloc(1, sizeof *stalls);
    struct sigaction action = {.sa_sigaction = on_tick,
                               .sa_flags = SA_SIGINFO | SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID,
                             .sigev_signo = SIGNAL,
                             .sigev_value = {.sival_ptr = stalls}};

    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    sigemptyset(&action.sa_mask);
    if (perilua_host_budget(host) == NULL ||
        timer_create(CLOCK_MONOTONIC, &event, &stalls->timer) < 0) {
        free(stalls);
        return NULL;
    }
    sigaction(SIGNAL, &action, NULL);
    stalls->host = host;
    peri_buf_init(&stalls->stack, STACK_BYTES);
    uv_prepare_init(host->env.loop, &stalls->prepare);
    uv_unref((uv_handle_t *)&stalls->prepare);
    stalls->prepare.data = stalls;
    stalls->sampler =
        (perilua_sampler){.take = on_take, .left = on_left, .data = stalls};
    perilua_budget_sample(host->budget, PERILUA_SAMPLER_STALLS,
                          &stalls->sampler);
    return stalls;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void perilua_stalls_destroy(perilua_stalls *stalls)
{
    if (stalls == NULL) {
        return;
    }
    perilua_budget_sample(stalls->host->budget, PERILUA_SAMPLER_STALLS, NULL);
    timer_delete(stalls->timer);
    signal(SIGNAL, SIG_IGN); /* one tick may still be on its way */
    peri_buf_fini(&stalls->stack);
    uv_close((uv_handle_t *)&stalls->prepare, on_closed);
}
