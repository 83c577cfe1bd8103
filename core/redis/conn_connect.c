/* Conn: how it comes up. Name, socket, login. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/redis/command.h"
#include "core/redis/conn_internal.h"

#define KEEPALIVE_SECONDS 30

static void try_next(peri_redis_conn *conn, int rc);

static void on_attempt_closed(uv_handle_t *handle)
{
    redis_socket *socket = PERI_CONTAINER(handle, redis_socket, as.handle);
    uv_handle_t last = {.data = socket->conn};

    free(socket);
    peri_redis_conn_closed(&last);
}

/* ---- login ---- */

static void put(peri_buf *buf, const char *text)
{
    peri_redis_put(buf, peri_slice_str(text));
}

/* AUTH, SELECT, and a PING: whatever accepts connections may be hung. */
void peri_redis_conn_login(peri_redis_conn *conn)
{
    const peri_redis_url *target = &conn->client->config.target;
    peri_buf commands = conn->out;
    char db[16];

    peri_buf_init(&conn->out, PERI_REDIS_OUT_MAX_BYTES);
    conn->logins = 1;
    if (target->password != NULL) {
        conn->logins++;
        peri_redis_put_count(&conn->out, target->user != NULL ? 3 : 2);
        put(&conn->out, "AUTH");
        if (target->user != NULL) {
            put(&conn->out, target->user);
        }
        put(&conn->out, target->password);
    }
    if (target->db != 0) {
        conn->logins++;
        snprintf(db, sizeof db, "%u", target->db);
        peri_redis_put_count(&conn->out, 2);
        put(&conn->out, "SELECT");
        put(&conn->out, db);
    }
    if (conn->client->config.readonly) {
        conn->logins++;
        peri_redis_put_count(&conn->out, 1);
        put(&conn->out, "READONLY");
    }
    peri_redis_put_count(&conn->out, 1);
    put(&conn->out, "PING");
    peri_redis_conn_flush(conn);
    peri_buf_fini(&conn->out); /* sent, or in sending */
    conn->out = commands;
}

/* Whether commands may well succeed although PING was refused. */
static bool may_go_on(const char *code)
{
    return strcmp(code, "NOPERM") == 0 || strcmp(code, "MISCONF") == 0 ||
           strcmp(code, "BUSY") == 0 || strcmp(code, "READONLY") == 0;
}

void peri_redis_conn_login_reply(peri_redis_conn *conn)
{
    const peri_redis_node *node = conn->reply.nodes;
    peri_redis_fault fault;
    char code[PERI_REDIS_CODE_BYTES];

    conn->logins--;
    if (node->type == PERI_REDIS_ERROR) {
        peri_slice text = peri_redis_text(&conn->reply, node);

        peri_redis_code(text, code);
        if (conn->logins > 0 || !may_go_on(code)) {
            peri_redis_fault_set(conn->client, &fault, 0, "%.*s",
                                 (int)text.length, text.data);
            memcpy(fault.code, code, sizeof code);
            peri_redis_conn_fail(conn, &fault);
            return;
        }
    }
    if (conn->logins == 0) {
        peri_redis_conn_on_up(conn);
    }
}

/* ---- socket ---- */

static void on_connected(uv_connect_t *request, int status)
{
    redis_socket *socket = request->data;
    peri_redis_conn *conn = socket->conn;

    if (conn->closing || conn->socket != socket) {
        return;
    }
    if (status < 0) {
        try_next(conn, status);
        return;
    }
    if (conn->client->config.target.path == NULL) {
        uv_tcp_nodelay(&socket->as.tcp, 1);
        uv_tcp_keepalive(&socket->as.tcp, 1, KEEPALIVE_SECONDS);
    }
    if (conn->client->config.target.tls) {
        peri_redis_conn_tls_begin(conn);
        return;
    }
    uv_read_start(&socket->as.stream, peri_redis_conn_alloc,
                  peri_redis_conn_read);
    peri_redis_conn_login(conn);
}

static redis_socket *new_socket(peri_redis_conn *conn)
{
    redis_socket *socket = peri_calloc(1, sizeof *socket);

    if (conn->socket != NULL) { /* the attempt before */
        uv_close(&conn->socket->as.handle, on_attempt_closed);
    }
    socket->conn = conn;
    socket->connect.data = socket;
    if (conn->client->config.target.path != NULL) {
        uv_pipe_init(conn->client->loop, &socket->as.pipe, 0);
    } else {
        uv_tcp_init(conn->client->loop, &socket->as.tcp);
    }
    socket->as.handle.data = socket;
    conn->socket = socket;
    conn->handles++;
    return socket;
}

static void try_address(peri_redis_conn *conn, const struct sockaddr *address)
{
    redis_socket *socket = new_socket(conn);
    int rc = uv_tcp_connect(&socket->connect, &socket->as.tcp, address,
                            on_connected);

    if (rc < 0) {
        try_next(conn, rc);
    }
}

/* rc: why the address before failed. */
static void try_next(peri_redis_conn *conn, int rc)
{
    const struct addrinfo *address = conn->address;

    if (address == NULL) {
        peri_redis_conn_fail_rc(conn, rc, "cannot connect");
        return;
    }
    conn->address = address->ai_next;
    try_address(conn, address->ai_addr);
}

static void on_resolved(uv_getaddrinfo_t *request, int status,
                        struct addrinfo *addresses)
{
    peri_redis_conn *conn = request->data;
    uv_handle_t last = {.data = conn};

    request->loop = NULL;
    if (conn->closing) {
        uv_freeaddrinfo(addresses);
        peri_redis_conn_closed(&last);
        return;
    }
    conn->handles--;
    if (status < 0) {
        peri_redis_conn_fail_rc(conn, status, "the host's name");
        return;
    }
    conn->addresses = addresses;
    conn->address = addresses;
    try_next(conn, UV_EAI_NODATA);
}

static void resolve(peri_redis_conn *conn, const peri_redis_url *target)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    char port[16];
    int rc;

    snprintf(port, sizeof port, "%u", target->port);
    conn->resolve.data = conn;
    rc = uv_getaddrinfo(conn->client->loop, &conn->resolve, on_resolved,
                        target->host, port, &hints);
    if (rc < 0) {
        conn->resolve.loop = NULL;
        peri_redis_conn_fail_rc(conn, rc, "the host's name");
        return;
    }
    conn->handles++;
}

/* ---- stages ---- */

void peri_redis_conn_stage(peri_redis_conn *conn, uint64_t delay_ms,
                           void (*end)(peri_redis_conn *conn))
{
    conn->stage_due_ms = uv_now(conn->client->loop) + delay_ms;
    conn->stage_end = end;
    peri_redis_conn_arm(conn, conn->stage_due_ms);
}

void peri_redis_conn_wait(peri_redis_conn *conn, uint64_t now_ms)
{
    uint64_t next_ms = peri_redis_conn_expire(conn, now_ms);

    if (conn->closing) {
        return;
    }
    if (next_ms != 0) {
        peri_redis_conn_arm(conn, next_ms);
    }
    if (now_ms >= conn->stage_due_ms) {
        conn->stage_end(conn);
    } else {
        peri_redis_conn_arm(conn, conn->stage_due_ms);
    }
}

void peri_redis_conn_forget(peri_redis_conn *conn)
{
    uint64_t kept = conn->head;
    char *to = conn->out.data;
    const char *from = to;

    if (conn->owed == 0) {
        return;
    }
    for (uint64_t at = conn->head; at != conn->tail; at++) {
        redis_entry entry = *peri_redis_conn_entry(conn, at);

        if (entry.op != NULL) {
            memmove(to, from, entry.bytes);
            to += entry.bytes;
            entry.op->sequence = kept;
            *peri_redis_conn_entry(conn, kept++) = entry;
        }
        from += entry.bytes;
    }
    conn->tail = kept;
    conn->owed = 0;
    conn->out.length = (size_t)(to - conn->out.data);
}

static void connect_is_late(peri_redis_conn *conn)
{
    peri_redis_conn_fail_rc(conn, UV_ETIMEDOUT, "cannot connect");
}

void peri_redis_conn_begin(peri_redis_conn *conn)
{
    const peri_redis_url *target = &conn->client->config.target;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address;

    peri_redis_conn_stage(conn, conn->client->config.connect_timeout_ms,
                          connect_is_late);
    if (target->path != NULL) {
        redis_socket *socket = new_socket(conn);

        uv_pipe_connect(&socket->connect, &socket->as.pipe, target->path,
                        on_connected);
    } else if (uv_ip4_addr(target->host, (int)target->port, &address.v4) == 0 ||
               uv_ip6_addr(target->host, (int)target->port, &address.v6) == 0) {
        try_address(conn, &address.any);
    } else {
        resolve(conn, target);
    }
}
