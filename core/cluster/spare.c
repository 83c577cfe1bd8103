/* Spare: the master as a doorman, where no worker is in charge.
 *
 * Connections that reach a listener without a worker are handed to one that
 * lives; when none does and none is about to, they are told 503 and closed
 * within SETTLE_MS + LINGER_MS. While a worker is about to serve they wait in
 * the kernel. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/alloc.h"
#include "core/base/list.h"
#include "core/cluster/master_state.h"

#define ACCEPTS_A_TURN 64
#define WAITING_MAX 1024
#define REFUSALS_MAX 256 /* at a time; beyond: closed without a word */
#define SETTLE_MS 40     /* for the request to arrive */
#define LINGER_MS 40     /* for the answer to be taken */

typedef struct peri_spare {
    int refusals;
    peri_list waiting; /* connections for the next worker that serves */
    int waiting_count;
} peri_spare;

/* An accepted connection that is nobody's for now. */
typedef struct spare_connection {
    peri_list link; /* of proc.handed, or of spare.waiting */
    int fd;
} spare_connection;

typedef struct refusal {
    uv_tcp_t tcp;
    uv_timer_t timer;
    uv_write_t write;
    uv_shutdown_t shutdown;
    peri_master *master;
    bool answered;
    bool closing;
    int open_handles;
    char room[2048]; /* the request: read so that closing is no reset */
} refusal;

static const char refusal_text[] =
    "HTTP/1.1 503 Service Unavailable\r\n"
    "Content-Type: application/problem+json\r\n"
    "Content-Length: 121\r\n"
    "Retry-After: 1\r\n"
    "Connection: close\r\n"
    "\r\n"
    "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\","
    "\"status\":503,\"detail\":\"no worker is running; it is being restarted\"}"
    "\n";

/* ---- 503 ---- */

static void on_refusal_closed(uv_handle_t *handle)
{
    refusal *r = handle->data;

    r->open_handles--;
    if (r->open_handles == 0) {
        if (r->master->spare != NULL) {
            r->master->spare->refusals--;
        }
        free(r);
    }
}

static void close_refusal(refusal *r)
{
    if (!r->closing) {
        r->closing = true;
        uv_close((uv_handle_t *)&r->tcp, on_refusal_closed);
        uv_close((uv_handle_t *)&r->timer, on_refusal_closed);
    }
}

static void on_linger_over(uv_timer_t *timer)
{
    close_refusal(timer->data);
}

static void answer(refusal *r)
{
    uv_buf_t text =
        uv_buf_init((char *)(uintptr_t)refusal_text, sizeof refusal_text - 1);

    r->answered = true;
    uv_write(&r->write, (uv_stream_t *)&r->tcp, &text, 1, NULL);
    uv_shutdown(&r->shutdown, (uv_stream_t *)&r->tcp, NULL);
    uv_timer_start(&r->timer, on_linger_over, LINGER_MS, 0);
}

static void on_settled(uv_timer_t *timer)
{
    answer(timer->data);
}

static void give_room(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    refusal *r = handle->data;

    (void)suggested;
    *out = uv_buf_init(r->room, sizeof r->room);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    refusal *r = stream->data;

    (void)buf;
    if (n < 0) {
        close_refusal(r);
    } else if (n > 0 && !r->answered) {
        answer(r);
    }
}

static void refuse(peri_master *master, int fd)
{
    refusal *r;

    /* With TLS nobody is here who could say it in words. */
    if (master->spare == NULL || master->identity != NULL ||
        master->spare->refusals >= REFUSALS_MAX) {
        close(fd);
        return;
    }
    r = peri_calloc(1, sizeof *r);
    r->master = master;
    r->open_handles = 2;
    uv_tcp_init(&master->loop, &r->tcp);
    uv_timer_init(&master->loop, &r->timer);
    r->tcp.data = r->timer.data = r;
    master->spare->refusals++;
    if (uv_tcp_open(&r->tcp, fd) < 0) {
        close(fd);
        close_refusal(r);
        return;
    }
    uv_timer_start(&r->timer, on_settled, SETTLE_MS, 0);
    uv_read_start((uv_stream_t *)&r->tcp, give_room, on_read);
}

/* ---- handing on ---- */

/* A worker that starts, and is not known to fail. */
static bool is_expected(const peri_master *master)
{
    for (int i = 0; i < master->seat_count; i++) {
        const peri_seat *seat = master->seats[i];

        if (seat->proc != NULL && seat->failed_starts == 0) {
            return true;
        }
    }
    return false;
}

static bool must_refuse(const peri_master *master)
{
    bool open = master->phase == PERI_MASTER_RUNNING ||
                master->phase == PERI_MASTER_LEAVING;

    return !open || (peri_seats_serving(master) == 0 && !is_expected(master));
}

/* Until the worker confirms, the master keeps the descriptor: what lies in the
 * channel of a worker that dies is lost. */
static bool hand_on(peri_master *master, int fd)
{
    for (int tries = 0; tries < master->seat_count; tries++) {
        int i = master->next_adopter++ % master->seat_count;
        peri_proc *proc = master->seats[i]->proc;
        spare_connection *connection;

        if (proc == NULL || proc->state != PERI_PROC_SERVING ||
            peri_channel_waiting(proc->channel) > 0 || /* it hears nothing */
            peri_proc_tell(proc, PERI_CHANNEL_ADOPT, 0, 0, NULL, fd) < 0) {
            continue;
        }
        connection = peri_calloc(1, sizeof *connection);
        connection->fd = fd;
        peri_list_append(&proc->handed, &connection->link);
        return true;
    }
    return false;
}

static void drop_connection(spare_connection *connection)
{
    peri_list_remove(&connection->link);
    free(connection);
}

static void keep_waiting(peri_spare *spare, int fd)
{
    spare_connection *connection;

    if (spare == NULL || spare->waiting_count >= WAITING_MAX) {
        close(fd);
        return;
    }
    connection = peri_calloc(1, sizeof *connection);
    connection->fd = fd;
    peri_list_append(&spare->waiting, &connection->link);
    spare->waiting_count++;
}

void peri_spare_adopted(peri_proc *proc)
{
    if (!peri_list_empty(&proc->handed)) {
        spare_connection *oldest =
            PERI_CONTAINER(proc->handed.next, spare_connection, link);

        close(oldest->fd);
        drop_connection(oldest);
    }
}

void peri_spare_take_back(peri_proc *proc)
{
    peri_spare *spare = proc->master->spare;

    while (!peri_list_empty(&proc->handed)) {
        spare_connection *oldest =
            PERI_CONTAINER(proc->handed.next, spare_connection, link);

        keep_waiting(spare, oldest->fd);
        drop_connection(oldest);
    }
}

static void place_waiting(peri_master *master)
{
    peri_spare *spare = master->spare;

    while (spare != NULL && !peri_list_empty(&spare->waiting)) {
        spare_connection *oldest =
            PERI_CONTAINER(spare->waiting.next, spare_connection, link);

        if (!hand_on(master, oldest->fd)) {
            if (!must_refuse(master)) {
                return;
            }
            refuse(master, oldest->fd);
        }
        drop_connection(oldest);
        spare->waiting_count--;
    }
}

void peri_spare_accept(peri_seat *seat)
{
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(seat->listener_fd, NULL, NULL,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED) {
                continue;
            }
            return;
        }
        if (hand_on(seat->master, fd)) {
            continue;
        }
        if (must_refuse(seat->master)) {
            refuse(seat->master, fd);
        } else {
            /* The worker that seemed to serve has died just now. */
            keep_waiting(seat->master->spare, fd);
        }
    }
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)events;
    if (status == 0) {
        peri_spare_accept(poll->data);
    }
}

void peri_spare_watch(peri_seat *seat, bool accept)
{
    if (accept == seat->polling || seat->listener_fd < 0) {
        return;
    }
    seat->polling = accept;
    if (accept) {
        uv_poll_start(&seat->poll, UV_READABLE, on_readable);
    } else {
        uv_poll_stop(&seat->poll);
    }
}

void peri_spare_update(peri_master *master)
{
    bool open = master->phase == PERI_MASTER_RUNNING ||
                master->phase == PERI_MASTER_LEAVING;
    bool accept =
        open && (peri_seats_serving(master) > 0 || must_refuse(master));

    place_waiting(master);
    for (int i = 0; i < master->seat_count; i++) {
        peri_seat *seat = master->seats[i];
        bool served =
            seat->proc != NULL && seat->proc->state == PERI_PROC_SERVING;

        peri_spare_watch(seat, accept && !served);
    }
}

void peri_spare_create(peri_master *master)
{
    master->spare = peri_calloc(1, sizeof *master->spare);
    peri_list_init(&master->spare->waiting);
}

void peri_spare_destroy(peri_master *master)
{
    peri_spare *spare = master->spare;

    /* Refusals under way end by their timers, and no longer count. */
    master->spare = NULL;
    while (!peri_list_empty(&spare->waiting)) {
        spare_connection *oldest =
            PERI_CONTAINER(spare->waiting.next, spare_connection, link);

        close(oldest->fd);
        drop_connection(oldest);
    }
    free(spare);
}
