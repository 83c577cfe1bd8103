/* Conn, sending: answers are copied into blocks and leave in one system call;
 * what the kernel does not take at once is left to libuv. */
#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "core/base/alloc.h"
#include "core/http/conn.h"

#define IOV_MAX_BLOCKS 32
#define FREE_BLOCKS_MAX 64
#define FREE_OUTS_MAX 64
/* Shorter than this is copied: cheaper than a call of its own. */
#define LARGE_BYTES 8192
/* Encrypted for one system call. */
#define SEAL_AT_ONCE_BYTES 65536
/* What TLS itself has to say while the client takes nothing. */
#define SEALED_MAX_BYTES 262144

static peri_block *block_take(peri_http_server *server, size_t capacity)
{
    peri_block *block = server->free_blocks;

    if (capacity <= PERI_BLOCK_BYTES && block != NULL) {
        server->free_blocks = block->next;
        server->free_block_count--;
    } else {
        if (capacity < PERI_BLOCK_BYTES) {
            capacity = PERI_BLOCK_BYTES;
        }
        block = peri_alloc(sizeof *block + capacity);
        block->capacity = capacity;
    }
    block->next = NULL;
    block->start = 0;
    block->length = 0;
    return block;
}

static void block_give(peri_http_server *server, peri_block *block)
{
    if (block->capacity != PERI_BLOCK_BYTES ||
        server->free_block_count == FREE_BLOCKS_MAX) {
        free(block);
        return;
    }
    block->next = server->free_blocks;
    server->free_blocks = block;
    server->free_block_count++;
}

static void blocks_give(peri_http_server *server, peri_block *block)
{
    while (block != NULL) {
        peri_block *next = block->next;

        block_give(server, block);
        block = next;
    }
}

static peri_conn_out *out_take(peri_conn *conn)
{
    peri_http_server *server = conn->server;
    peri_conn_out *out = server->free_outs;

    if (out != NULL) {
        server->free_outs = out->next_free;
        server->free_out_count--;
    } else {
        out = peri_alloc(sizeof *out);
    }
    out->first = NULL;
    out->last = NULL;
    out->flying = NULL;
    out->pending_bytes = 0;
    out->flying_bytes = 0;
    out->sealed = NULL;
    out->conn = conn;
    conn->out = out;
    return out;
}

void peri_conn_out_free(peri_conn *conn)
{
    peri_http_server *server = conn->server;
    peri_conn_out *out = conn->out;

    if (out == NULL) {
        return;
    }
    conn->out = NULL;
    blocks_give(server, out->first);
    blocks_give(server, out->flying);
    blocks_give(server, out->sealed);
    if (server->free_out_count == FREE_OUTS_MAX) {
        free(out);
        return;
    }
    out->next_free = server->free_outs;
    server->free_outs = out;
    server->free_out_count++;
}

/* The kernel's buffer may hold minutes of a slow client's: it counts too. */
size_t peri_conn_unsent(const peri_conn *conn)
{
    int held = 0;
    int fd = -1;

    uv_fileno((const uv_handle_t *)&conn->tcp, &fd);
    if (ioctl(fd, SIOCOUTQ, &held) < 0) {
        held = 0;
    }
    return (size_t)held +
           uv_stream_get_write_queue_size((const uv_stream_t *)&conn->tcp);
}

/* ---- filling ---- */

char *peri_conn_room(peri_conn *conn, size_t size_bytes)
{
    peri_conn_out *out = conn->out != NULL ? conn->out : out_take(conn);
    peri_block *last = out->last;

    if (last == NULL || size_bytes > last->capacity - last->length) {
        peri_block *block = block_take(conn->server, size_bytes);

        if (last == NULL) {
            out->first = block;
        } else {
            last->next = block;
        }
        out->last = block;
        last = block;
    }
    return last->data + last->length;
}

void peri_conn_filled(peri_conn *conn, const char *end)
{
    peri_block *last = conn->out->last;
    size_t length = (size_t)(end - last->data);

    assert(length <= last->capacity);
    conn->out->pending_bytes += length - last->length;
    last->length = length;
}

void peri_conn_unfill(peri_conn *conn, size_t length)
{
    conn->out->pending_bytes -= length;
    conn->out->last->length -= length;
}

void peri_conn_put(peri_conn *conn, const char *data, size_t length)
{
    while (length != 0) {
        char *room = peri_conn_room(conn, 1);
        peri_block *last = conn->out->last;
        size_t part = last->capacity - last->length;

        if (part > length) {
            part = length;
        }
        memcpy(room, data, part);
        peri_conn_filled(conn, room + part);
        data += part;
        length -= part;
    }
}

/* ---- sending ---- */

static unsigned gather(const peri_conn_out *out, struct iovec *iov,
                       unsigned max)
{
    unsigned count = 0;

    for (peri_block *b = out->first; b != NULL && count < max; b = b->next) {
        iov[count].iov_base = b->data + b->start;
        iov[count].iov_len = b->length - b->start;
        count++;
    }
    return count;
}

/* Bytes sent; 0 when the kernel takes none now or the connection is broken. */
static size_t send_now(peri_conn *conn, struct iovec *iov, unsigned count)
{
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
    ssize_t sent;
    int fd = -1;

    uv_fileno((uv_handle_t *)&conn->tcp, &fd);
    do {
        sent = count == 1 ? send(fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL)
                          : sendmsg(fd, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        conn->broken = true;
    }
    return sent > 0 ? (size_t)sent : 0;
}

/* Drops sent bytes off the front; returns what is left over of them. */
static size_t out_consume(peri_conn *conn, size_t sent)
{
    peri_conn_out *out = conn->out;

    while (out->first != NULL) {
        peri_block *block = out->first;
        size_t part = block->length - block->start;

        if (sent < part) {
            block->start += sent;
            out->pending_bytes -= sent;
            return 0;
        }
        sent -= part;
        out->pending_bytes -= part;
        out->first = block->next;
        block_give(conn->server, block);
    }
    out->last = NULL;
    return sent;
}

static void on_written(uv_write_t *write, int status);

static void fly_with(peri_conn *conn, const uv_buf_t *bufs, unsigned count)
{
    peri_conn_out *out = conn->out;

    if (uv_write(&out->write, (uv_stream_t *)&conn->tcp, bufs, count,
                 on_written) < 0) {
        conn->broken = true;
        return;
    }
    out->flying_bytes = peri_conn_unsent(conn);
}

/* Leaves the rest to libuv, which waits until the socket can be written. */
static void fly(peri_conn *conn)
{
    peri_conn_out *out = conn->out;
    struct iovec iov[IOV_MAX_BLOCKS];
    uv_buf_t bufs[IOV_MAX_BLOCKS];
    unsigned count = gather(out, iov, IOV_MAX_BLOCKS);
    peri_block *last = out->first;

    for (unsigned i = 0; i < count; i++) {
        bufs[i] = uv_buf_init(iov[i].iov_base, (unsigned)iov[i].iov_len);
        last = i == 0 ? last : last->next;
    }
    out->flying = out->first;
    out->first = last->next;
    last->next = NULL;
    if (out->first == NULL) {
        out->last = NULL;
    }
    fly_with(conn, bufs, count);
}

/* The encrypted block that waited; nothing else is flying. */
static void fly_sealed(peri_conn *conn)
{
    peri_conn_out *out = conn->out;
    peri_block *block = out->sealed;
    uv_buf_t buf = uv_buf_init(block->data, (unsigned)block->length);

    out->sealed = NULL;
    out->flying = block;
    fly_with(conn, &buf, 1);
}

static void on_written(uv_write_t *write, int status)
{
    peri_conn_out *out = PERI_CONTAINER(write, peri_conn_out, write);
    peri_conn *conn = out->conn;

    for (const peri_block *b = out->flying; b != NULL; b = b->next) {
        out->pending_bytes -= b->length - b->start;
    }
    blocks_give(conn->server, out->flying);
    out->flying = NULL;
    if (conn->state == PERI_CONN_CLOSED) {
        return; /* the close callback frees the rest */
    }
    if (status < 0) {
        peri_conn_gone(conn, PERI_EGONE);
        return;
    }
    peri_conn_on_sent(conn);
}

void peri_conn_send_sealed(peri_conn *conn, peri_slice bytes)
{
    struct iovec iov = {(void *)(uintptr_t)bytes.data, bytes.length};
    peri_conn_out *out = conn->out;
    peri_block *block;
    size_t sent = 0;

    if (bytes.length == 0 || conn->broken) {
        return;
    }
    if (out == NULL || out->flying == NULL) {
        sent = send_now(conn, &iov, 1);
    }
    if (sent == bytes.length || conn->broken) {
        return;
    }
    out = out != NULL ? out : out_take(conn);
    bytes = peri_slice_of(bytes.data + sent, bytes.length - sent);
    if (out->sealed != NULL && out->sealed->length > SEALED_MAX_BYTES) {
        conn->broken = true; /* it makes us talk, and does not listen */
        return;
    }
    block = block_take(conn->server,
                       bytes.length +
                           (out->sealed != NULL ? out->sealed->length : 0));
    if (out->sealed != NULL) {
        memcpy(block->data, out->sealed->data, out->sealed->length);
        block->length = out->sealed->length;
        block_give(conn->server, out->sealed);
    }
    memcpy(block->data + block->length, bytes.data, bytes.length);
    block->length += bytes.length;
    out->pending_bytes += bytes.length;
    out->sealed = block;
    if (out->flying == NULL) {
        fly_sealed(conn);
    }
}

void peri_conn_tls_flush(peri_conn *conn)
{
    peri_conn_out *out = conn->out;

    while (out != NULL && out->flying == NULL && !conn->broken) {
        size_t taken = 0;

        if (out->sealed != NULL) {
            fly_sealed(conn);
            return;
        }
        if (out->pending_bytes == 0) {
            peri_conn_out_free(conn);
            return;
        }
        while (out->first != NULL && taken < SEAL_AT_ONCE_BYTES) {
            const peri_block *block = out->first;
            size_t part = block->length - block->start;

            if (peri_tls_write(conn->tls, block->data + block->start, part) <
                0) {
                conn->broken = true;
                return;
            }
            taken += part;
            out_consume(conn, part);
        }
        peri_conn_send_sealed(conn, peri_tls_output(conn->tls));
        peri_tls_sent(conn->tls);
    }
}

void peri_conn_flush(peri_conn *conn)
{
    struct iovec iov[IOV_MAX_BLOCKS];
    peri_conn_out *out = conn->out;

    if (conn->exchange != NULL) {
        conn->exchange->head_bytes = 0;
    }
    if (conn->tls != NULL) {
        peri_conn_tls_flush(conn);
        return;
    }
    while (out != NULL && out->flying == NULL && !conn->broken) {
        unsigned count;
        size_t sent;

        if (out->pending_bytes == 0) {
            peri_conn_out_free(conn);
            return;
        }
        count = gather(out, iov, IOV_MAX_BLOCKS);
        sent = send_now(conn, iov, count);
        out_consume(conn, sent);
        if (sent == 0 && !conn->broken) {
            fly(conn);
        }
    }
}

void peri_conn_put_large(peri_conn *conn, peri_slice data, peri_slice tail)
{
    struct iovec iov[IOV_MAX_BLOCKS];
    unsigned count;
    size_t sent;

    if (data.length < LARGE_BYTES || conn->broken || conn->tls != NULL ||
        (conn->out != NULL && conn->out->flying != NULL)) {
        peri_conn_put(conn, data.data, data.length);
        peri_conn_put(conn, tail.data, tail.length);
        return;
    }
    peri_conn_room(conn, 1);
    count = gather(conn->out, iov, IOV_MAX_BLOCKS - 2);
    if (count == IOV_MAX_BLOCKS - 2) {
        peri_conn_put(conn, data.data, data.length);
        peri_conn_put(conn, tail.data, tail.length);
        return;
    }
    iov[count++] = (struct iovec){(void *)(uintptr_t)data.data, data.length};
    if (tail.length != 0) {
        iov[count++] =
            (struct iovec){(void *)(uintptr_t)tail.data, tail.length};
    }
    sent = out_consume(conn, send_now(conn, iov, count));
    if (sent < data.length) {
        peri_conn_put(conn, data.data + sent, data.length - sent);
        sent = data.length;
    }
    sent -= data.length;
    peri_conn_put(conn, tail.data + sent, tail.length - sent);
}
