/* Conn: commands out, replies in. */
#include <assert.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/redis/conn_internal.h"

#define KEEP_BYTES ((size_t)1 << 20)

/* ---- the end ---- */

void peri_redis_conn_closed(uv_handle_t *handle)
{
    peri_redis_conn *conn = handle->data;
    peri_redis_client *client = conn->client;

    if (--conn->handles > 0) {
        return;
    }
    peri_buf_fini(&conn->out);
    peri_buf_fini(&conn->sending);
    peri_buf_fini(&conn->sealed);
    peri_tls_destroy(conn->tls);
    peri_redis_reply_fini(&conn->reply);
    uv_freeaddrinfo(conn->addresses);
    free(conn->ring);
    free(conn);
    peri_redis_client_conn_closed(client);
}

static void on_socket_closed(uv_handle_t *handle)
{
    redis_socket *socket = PERI_CONTAINER(handle, redis_socket, as.handle);
    uv_handle_t last = {.data = socket->conn};

    free(socket);
    peri_redis_conn_closed(&last);
}

static void close_handles(peri_redis_conn *conn)
{
    if (conn->tls != NULL) {
        peri_redis_conn_tls_finish(conn);
    }
    conn->closing = true;
    conn->up = false;
    peri_list_remove(&conn->link);
    if (!peri_list_empty(&conn->idle)) {
        peri_list_remove(&conn->idle);
        conn->client->idle_count--;
    }
    if (conn->resolve.loop != NULL) {
        uv_cancel((uv_req_t *)&conn->resolve);
    }
    if (conn->socket != NULL) {
        uv_close(&conn->socket->as.handle, on_socket_closed);
        conn->socket = NULL;
    }
    uv_close((uv_handle_t *)&conn->timer, peri_redis_conn_closed);
    uv_close((uv_handle_t *)&conn->prepare, peri_redis_conn_closed);
}

redis_entry *peri_redis_conn_entry(peri_redis_conn *conn, uint64_t sequence)
{
    return &conn->ring[sequence & (conn->ring_size - 1)];
}

/* Tells the one that waits, and forgets it. */
static void finish(redis_entry *entry, const peri_redis_fault *fault,
                   const peri_redis_reply *reply)
{
    peri_redis_op *op = entry->op;

    entry->op = NULL;
    if (op != NULL) {
        op->conn = NULL;
        op->done(op, fault, reply);
    }
}

static void fail_all(peri_redis_conn *conn)
{
    for (; conn->head != conn->tail; conn->head++) {
        finish(peri_redis_conn_entry(conn, conn->head), &conn->fault, NULL);
        if (conn->fault.rc == PERI_ELIMIT) { /* not the others' fault */
            conn->fault.rc = UV_ECONNRESET;
        }
    }
}

void peri_redis_conn_fail(peri_redis_conn *conn, const peri_redis_fault *fault)
{
    bool was_up = conn->up;

    if (conn->closing) {
        return;
    }
    conn->fault = *fault;
    close_handles(conn); /* its memory stays until a later turn */
    if (!was_up) {
        conn->client->cause = *fault;
    }
    peri_redis_client_conn_down(conn->client, conn, was_up);
    if (conn->holder.down != NULL) {
        conn->holder.down(conn->holder.data, fault, was_up);
    }
    fail_all(conn);
}

void peri_redis_conn_fail_rc(peri_redis_conn *conn, int rc, const char *what)
{
    peri_redis_fault fault;

    peri_redis_fault_set(conn->client, &fault, rc, "%s: %s", what,
                         rc < PERI_ELIMIT + 1 ? peri_err_text(rc)
                                              : uv_strerror(rc));
    peri_redis_conn_fail(conn, &fault);
}

void peri_redis_conn_drop(peri_redis_conn *conn)
{
    if (conn->closing) {
        return;
    }
    memset(&conn->holder, 0, sizeof conn->holder);
    peri_redis_fault_set(conn->client, &conn->fault, UV_ECANCELED,
                         "the connection was closed");
    close_handles(conn);
    peri_redis_client_conn_down(conn->client, conn, true);
    fail_all(conn);
}

/* ---- time ---- */

uint64_t peri_redis_conn_expire(peri_redis_conn *conn, uint64_t now_ms)
{
    uint64_t next_ms = 0;
    peri_redis_fault fault;

    peri_redis_fault_set(conn->client, &fault,
                         conn->up ? PERI_ETIMEOUT : UV_ETIMEDOUT,
                         conn->up ? "no reply within the time-out"
                                  : "no connection within the time-out");
    for (uint64_t at = conn->head; at != conn->tail && !conn->closing; at++) {
        redis_entry *entry = peri_redis_conn_entry(conn, at);

        if (at < conn->head || entry->op == NULL || entry->due_ms == 0) {
            continue;
        }
        if (entry->due_ms > now_ms) {
            if (next_ms == 0 || entry->due_ms < next_ms) {
                next_ms = entry->due_ms;
            }
            if (conn->shared) {
                break; /* those behind it are due later */
            }
            continue;
        }
        conn->owed++;
        conn->client->stats.timeouts++;
        finish(entry, &fault, NULL);
    }
    return next_ms;
}

static void on_timer(uv_timer_t *timer)
{
    peri_redis_conn *conn = timer->data;
    uint64_t now_ms = uv_now(timer->loop);
    uint64_t patience_ms = conn->client->config.timeout_ms;
    uint64_t oldest_due_ms;
    uint64_t next_ms;

    conn->timer_due_ms = 0;
    if (!conn->up) {
        peri_redis_conn_wait(conn, now_ms);
        return;
    }
    next_ms = peri_redis_conn_expire(conn, now_ms);
    if (conn->closing || conn->head == conn->tail) {
        return;
    }
    /* A reply that is that late will not come: begin anew. */
    oldest_due_ms = peri_redis_conn_entry(conn, conn->head)->due_ms;
    if (oldest_due_ms != 0 &&
        (oldest_due_ms + patience_ms <= now_ms ||
         conn->owed > conn->client->config.queue_max / 2)) {
        peri_redis_conn_fail_rc(conn, UV_ETIMEDOUT,
                                "too many replies are late");
        return;
    }
    if (next_ms == 0 && oldest_due_ms != 0) {
        next_ms = oldest_due_ms + patience_ms;
    }
    if (next_ms != 0) {
        peri_redis_conn_arm(conn, next_ms);
    }
}

void peri_redis_conn_arm(peri_redis_conn *conn, uint64_t due_ms)
{
    uint64_t now_ms = uv_now(conn->client->loop);

    if (conn->timer_due_ms != 0 && conn->timer_due_ms <= due_ms) {
        return; /* looks again then */
    }
    conn->timer_due_ms = due_ms;
    uv_timer_start(&conn->timer, on_timer,
                   due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

/* ---- out ---- */

static void on_written(uv_write_t *write, int status)
{
    peri_redis_conn *conn = write->data;

    conn->is_sending = false;
    if (conn->closing) {
        return;
    }
    if (status < 0) {
        peri_redis_conn_fail_rc(conn, status, "sending");
        return;
    }
    peri_buf_clear(&conn->sending);
    if (conn->sending.capacity > KEEP_BYTES) {
        peri_buf_fini(&conn->sending);
    }
    peri_redis_conn_flush(conn);
}

void peri_redis_conn_flush_raw(peri_redis_conn *conn)
{
    peri_buf *out = conn->tls == NULL ? &conn->out : &conn->sealed;
    uv_buf_t buf;
    peri_buf rest;
    int n;

    if (conn->is_sending || out->length == 0) {
        return;
    }
    buf = uv_buf_init(out->data, (unsigned)out->length);
    conn->client->stats.writes++;
    n = uv_try_write(&conn->socket->as.stream, &buf, 1);
    if (n < 0 && n != UV_EAGAIN) {
        peri_redis_conn_fail_rc(conn, n, "sending");
        return;
    }
    if (n > 0) {
        peri_buf_consume(out, (size_t)n);
    }
    if (out->length == 0) {
        if (out->capacity > KEEP_BYTES) {
            peri_buf_fini(out);
        }
        return;
    }
    rest = conn->sending;
    conn->sending = *out;
    *out = rest;
    buf = uv_buf_init(conn->sending.data, (unsigned)conn->sending.length);
    conn->write.data = conn;
    conn->is_sending = true;
    n = uv_write(&conn->write, &conn->socket->as.stream, &buf, 1, on_written);
    if (n < 0) {
        conn->is_sending = false;
        peri_redis_conn_fail_rc(conn, n, "sending");
    }
}

void peri_redis_conn_flush(peri_redis_conn *conn)
{
    if (conn->tls != NULL && peri_redis_conn_tls_seal(conn) < 0) {
        peri_redis_conn_fail_rc(conn, PERI_ETLS, "sending");
        return;
    }
    peri_redis_conn_flush_raw(conn);
}

/* Just before the loop waits: all that this turn has submitted. */
static void on_prepare(uv_prepare_t *prepare)
{
    peri_redis_conn *conn = prepare->data;

    uv_prepare_stop(prepare);
    if (conn->up) {
        peri_redis_conn_flush(conn);
    }
}

static void grow_ring(peri_redis_conn *conn)
{
    uint32_t size = conn->ring_size == 0 ? 16 : conn->ring_size * 2;
    redis_entry *ring = peri_calloc(size, sizeof *ring);

    for (uint64_t at = conn->head; at != conn->tail; at++) {
        ring[at & (size - 1)] = *peri_redis_conn_entry(conn, at);
    }
    free(conn->ring);
    conn->ring = ring;
    conn->ring_size = size;
}

static int refuse(peri_redis_conn *conn, peri_redis_fault *fault)
{
    peri_redis_fault_set(conn->client, fault, PERI_ELIMIT,
                         "too many commands wait already (queue_max)");
    fault->rc = UV_ENOBUFS;
    memcpy(fault->code, "queue_full", sizeof "queue_full");
    return UV_ENOBUFS;
}

int peri_redis_conn_submit(peri_redis_conn *conn, peri_redis_op *op,
                           peri_slice command, uint64_t timeout_ms,
                           peri_redis_fault *fault)
{
    redis_entry *entry;
    uint64_t due_ms =
        timeout_ms != 0 ? uv_now(conn->client->loop) + timeout_ms : 0;

    assert(!conn->closing && op->conn == NULL && op->replies > 0);
    if (command.length > PERI_REDIS_OUT_MAX_BYTES) {
        peri_redis_fault_set(conn->client, fault, PERI_ELIMIT,
                             "a command or a pipeline of over 64 MB");
        return PERI_ELIMIT;
    }
    if (conn->tail - conn->head >= conn->client->config.queue_max ||
        peri_buf_append_slice(&conn->out, command) < 0) {
        return refuse(conn, fault);
    }
    if (conn->tail - conn->head == conn->ring_size) {
        grow_ring(conn);
    }
    op->conn = conn;
    op->sequence = conn->tail++;
    entry = peri_redis_conn_entry(conn, op->sequence);
    *entry = (redis_entry){op, due_ms, op->replies, (uint32_t)command.length};
    conn->client->stats.commands++;
    if (conn->up && !uv_is_active((const uv_handle_t *)&conn->prepare)) {
        uv_prepare_start(&conn->prepare, on_prepare);
    }
    if (due_ms != 0) {
        peri_redis_conn_arm(conn, due_ms);
    }
    return 0;
}

void peri_redis_cancel(peri_redis_op *op)
{
    peri_redis_conn *conn = op->conn;

    if (conn != NULL) {
        peri_redis_conn_entry(conn, op->sequence)->op = NULL;
        conn->owed++;
        op->conn = NULL;
    }
}

/* ---- in ---- */

static void unasked(peri_redis_conn *conn)
{
    peri_redis_fault fault;

    if (conn->reply.nodes[0].type == PERI_REDIS_ERROR) {
        peri_slice text = peri_redis_text(&conn->reply, conn->reply.nodes);

        peri_redis_fault_set(conn->client, &fault, 0, "%.*s", (int)text.length,
                             text.data);
        peri_redis_code(text, fault.code);
        peri_redis_conn_fail(conn, &fault);
        return;
    }
    peri_redis_conn_fail_rc(conn, PERI_EFORMAT, "a reply to nothing");
}

static void take_reply(peri_redis_conn *conn)
{
    redis_entry *entry;

    if (conn->logins > 0) {
        peri_redis_conn_login_reply(conn);
    } else if (conn->holder.message != NULL) {
        conn->holder.message(conn->holder.data, &conn->reply);
    } else if (conn->head == conn->tail) {
        unasked(conn);
    } else {
        entry = peri_redis_conn_entry(conn, conn->head);
        if (--entry->replies > 0) {
            if (entry->op == NULL) {
                peri_redis_reply_clear(&conn->reply);
            }
            return;
        }
        conn->head++;
        if (entry->op == NULL) {
            conn->owed--;
        }
        finish(entry, NULL, &conn->reply);
    }
    peri_redis_reply_clear(&conn->reply);
}

void peri_redis_conn_take(peri_redis_conn *conn, peri_slice bytes)
{
    int rc = peri_redis_reply_feed(&conn->reply, bytes);

    while (rc >= 0) {
        rc = peri_redis_reply_next(&conn->reply);
        if (rc <= 0) {
            break;
        }
        take_reply(conn);
        if (conn->closing) {
            return;
        }
    }
    if (rc < 0) {
        peri_redis_conn_fail_rc(
            conn, rc, rc == PERI_ELIMIT ? "reply_max" : "not a Redis reply");
    }
}

void peri_redis_conn_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    peri_redis_conn *conn = ((redis_socket *)handle->data)->conn;

    (void)size;
    *buf = uv_buf_init(conn->client->read_buffer, PERI_REDIS_READ_BYTES);
}

void peri_redis_conn_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    peri_redis_conn *conn = ((redis_socket *)stream->data)->conn;

    if (conn->closing) {
        return;
    }
    if (n < 0) {
        peri_redis_conn_fail_rc(conn, (int)n, "the connection was lost");
    } else if (n > 0) {
        peri_redis_conn_take(conn, peri_slice_of(buf->base, (size_t)n));
    }
}

void peri_redis_conn_pause(peri_redis_conn *conn, bool pause)
{
    if (conn->paused == pause || !conn->up) {
        return;
    }
    conn->paused = pause;
    if (pause) {
        uv_read_stop(&conn->socket->as.stream);
    } else {
        uv_read_start(&conn->socket->as.stream, peri_redis_conn_alloc,
                      conn->tls == NULL ? peri_redis_conn_read
                                        : peri_redis_conn_tls_read);
    }
}

/* ---- the beginning ---- */

void peri_redis_conn_on_up(peri_redis_conn *conn)
{
    peri_redis_conn_forget(conn);
    conn->up = true;
    uv_timer_stop(&conn->timer);
    conn->timer_due_ms = 0;
    if (conn->head != conn->tail) {
        peri_redis_conn_arm(conn, uv_now(conn->client->loop)); /* looks */
    }
    peri_redis_client_conn_up(conn->client);
    if (conn->holder.up != NULL) {
        conn->holder.up(conn->holder.data);
    }
    if (!conn->closing) {
        uv_prepare_start(&conn->prepare, on_prepare);
    }
}

peri_redis_conn *peri_redis_conn_open(peri_redis_client *client, bool shared,
                                      uint64_t delay_ms)
{
    peri_redis_conn *conn = peri_calloc(1, sizeof *conn);

    conn->client = client;
    conn->shared = shared;
    conn->handles = 2;
    client->open++;
    client->stats.connects++;
    if (!shared) {
        client->own_count++;
    }
    peri_list_append(&client->conns, &conn->link);
    peri_list_init(&conn->idle);
    peri_buf_init(&conn->out, PERI_REDIS_OUT_MAX_BYTES);
    peri_buf_init(&conn->sending, PERI_REDIS_OUT_MAX_BYTES);
    peri_buf_init(&conn->sealed, PERI_REDIS_OUT_MAX_BYTES * 2);
    peri_redis_reply_init(&conn->reply, client->config.reply_max_bytes);
    uv_timer_init(client->loop, &conn->timer);
    uv_prepare_init(client->loop, &conn->prepare);
    conn->timer.data = conn;
    conn->prepare.data = conn;
    peri_redis_conn_stage(conn, delay_ms, peri_redis_conn_begin);
    return conn;
}
