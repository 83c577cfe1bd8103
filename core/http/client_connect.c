/* Client connect: from a name to a connection.
 *
 * Addresses are tried in turn, families alternating, the next one after 250 ms
 * or as soon as one has failed. The first that answers wins. Of RFC 8305 that
 * is section 5; names are looked up in one query for both families. */
#include <limits.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/err.h"
#include "core/http/client_internal.h"

static void try_next(peri_connect *c);

static void connect_free(peri_connect *c)
{
    peri_origin *origin = c->origin;

    peri_client_timer_stop(&c->stagger);
    peri_list_remove(&c->link);
    free(c);
    peri_origin_unref(origin);
}

/* Its place among the connecting is given back. */
static void connect_end(peri_connect *c)
{
    c->origin->connecting--;
    while (!peri_list_empty(&c->attempts)) {
        peri_client_conn *conn =
            PERI_CONTAINER(c->attempts.next, peri_client_conn, link);

        peri_client_conn_close(conn);
    }
    if (c->resolving) {
        c->over = true; /* on_resolved frees it */
        peri_list_remove(&c->link);
        uv_cancel((uv_req_t *)&c->resolve);
        return;
    }
    connect_free(c);
}

void peri_connect_abort(peri_connect *connect)
{
    connect_end(connect);
}

static void connect_failed(peri_connect *c, int rc)
{
    peri_origin *origin = c->origin;

    origin->refs++;
    connect_end(c);
    peri_origin_connect_failed(origin, rc);
    peri_origin_serve_later(origin);
    peri_origin_unref(origin);
}

/* ---- attempts ---- */

void peri_connect_refused(peri_client_conn *conn, int rc)
{
    peri_connect *c = conn->connect;

    c->rc = rc;
    peri_client_conn_close(conn);
    try_next(c);
}

void peri_connect_done(peri_client_conn *conn)
{
    peri_origin *origin = conn->origin;
    peri_connect *c = conn->connect;

    peri_list_remove(&conn->link);
    conn->connect = NULL;
    origin->refs++;
    connect_end(c);
    peri_client_conn_established(conn);
    peri_origin_unref(origin);
}

/* The others are given up, those that were not tried too. */
static void take_only(peri_connect *c, peri_client_conn *conn)
{
    peri_list *link = c->attempts.next;

    while (link != &c->attempts) {
        peri_client_conn *other = PERI_CONTAINER(link, peri_client_conn, link);

        link = link->next;
        if (other != conn) {
            peri_client_conn_close(other);
        }
    }
    c->next = UINT_MAX;
    peri_client_timer_stop(&c->stagger);
}

static void on_connected(uv_connect_t *request, int status)
{
    peri_client_conn *conn = request->data;
    peri_connect *c = conn->connect;

    if (c == NULL) {
        return; /* another was quicker, or nobody wants it any more */
    }
    if (status < 0) {
        peri_connect_refused(conn, status);
        return;
    }
    if (c->origin->identity == NULL) {
        peri_connect_done(conn);
        return;
    }
    take_only(c, conn);
    if (c->origin->tunnel != NULL) {
        peri_client_tunnel_begin(conn);
    } else {
        peri_client_tls_begin(conn);
    }
}

static int attempt(peri_connect *c, peri_client_conn *conn)
{
    conn->connect_request.data = conn;
    if (c->origin->local) {
        uv_pipe_connect(&conn->connect_request, &conn->u.pipe, c->origin->host,
                        on_connected);
        return 0;
    }
    return uv_tcp_connect(
        &conn->connect_request, &conn->u.tcp,
        (const struct sockaddr *)&c->origin->addrs[c->next - 1], on_connected);
}

static unsigned address_count(const peri_origin *origin)
{
    return origin->local ? !origin->deny_private : origin->addr_count;
}

static void try_next(peri_connect *c)
{
    peri_client *client = c->origin->client;

    while (c->next < address_count(c->origin)) {
        peri_client_conn *conn = peri_client_conn_create(c->origin);
        int rc;

        c->next++;
        conn->connect = c;
        peri_list_append(&c->attempts, &conn->link);
        rc = attempt(c, conn);
        if (rc == 0) {
            peri_client_timer_set(client, &c->stagger,
                                  uv_now(client->loop) +
                                      PERI_CLIENT_STAGGER_MS);
            return;
        }
        c->rc = rc;
        peri_client_conn_close(conn);
    }
    if (peri_list_empty(&c->attempts)) {
        connect_failed(c, c->rc);
    }
}

static void on_stagger(peri_client_timer *timer)
{
    peri_connect *c = PERI_CONTAINER(timer, peri_connect, stagger);

    if (c->next < address_count(c->origin)) {
        try_next(c);
    }
}

/* ---- addresses ---- */

static void keep_address(peri_origin *origin, const struct sockaddr *addr)
{
    struct sockaddr_storage *to = &origin->addrs[origin->addr_count];

    if (addr->sa_family != AF_INET && addr->sa_family != AF_INET6) {
        return;
    }
    memset(to, 0, sizeof *to);
    memcpy(to, addr,
           addr->sa_family == AF_INET ? sizeof(struct sockaddr_in)
                                      : sizeof(struct sockaddr_in6));
    if (addr->sa_family == AF_INET) {
        ((struct sockaddr_in *)to)->sin_port = htons(origin->port);
    } else {
        ((struct sockaddr_in6 *)to)->sin6_port = htons(origin->port);
    }
    origin->addr_count++;
}

/* The next of that list, from at on, whose family is (or is not) that one. */
static const struct addrinfo *next_of(const struct addrinfo *at, int family,
                                      bool same)
{
    while (at != NULL && (at->ai_family == family) != same) {
        at = at->ai_next;
    }
    return at;
}

/* Families alternate, the first one's first. Whether any was there at all. */
static bool keep_addresses(peri_origin *origin, const struct addrinfo *list)
{
    int family = list != NULL ? list->ai_family : 0;
    const struct addrinfo *same = next_of(list, family, true);
    const struct addrinfo *other = next_of(list, family, false);

    origin->addr_count = 0;
    while (same != NULL || other != NULL) {
        const struct addrinfo *pair[2] = {same, other};

        for (unsigned i = 0; i < 2; i++) {
            if (pair[i] != NULL && origin->addr_count < PERI_CLIENT_ADDRS_MAX &&
                (!origin->deny_private ||
                 !peri_address_private(pair[i]->ai_addr))) {
                keep_address(origin, pair[i]->ai_addr);
            }
        }
        same = same != NULL ? next_of(same->ai_next, family, true) : NULL;
        other = other != NULL ? next_of(other->ai_next, family, false) : NULL;
    }
    return list != NULL;
}

static void on_resolved(uv_getaddrinfo_t *request, int status,
                        struct addrinfo *list)
{
    peri_connect *c = request->data;
    peri_client *client = c->origin->client;
    bool any = false;

    c->resolving = false;
    if (status == 0) {
        any = keep_addresses(c->origin, list);
        c->origin->resolved_until_ms =
            uv_now(client->loop) + client->limits.dns_ms;
    }
    uv_freeaddrinfo(list);
    if (c->over) {
        connect_free(c);
    } else if (status < 0) {
        connect_failed(c, status);
    } else {
        c->rc = any ? PERI_ESTATE : UV_EAI_NONAME;
        try_next(c);
    }
    peri_client_handle_closed(client);
}

/* Whether the host is an address itself; it is kept then. */
static bool is_numeric(peri_connect *c)
{
    peri_origin *origin = c->origin;
    struct sockaddr_storage addr;

    memset(&addr, 0, sizeof addr);
    if (uv_ip4_addr(origin->host, origin->port, (struct sockaddr_in *)&addr) !=
            0 &&
        uv_ip6_addr(origin->host, origin->port, (struct sockaddr_in6 *)&addr) !=
            0) {
        return false;
    }
    origin->addr_count = 0;
    if (!origin->deny_private ||
        !peri_address_private((const struct sockaddr *)&addr)) {
        keep_address(origin, (const struct sockaddr *)&addr);
    }
    return true;
}

static void resolve(peri_connect *c)
{
    peri_origin *origin = c->origin;
    peri_client *client = origin->client;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_ADDRCONFIG};
    int rc;

    c->resolve.data = c;
    rc = uv_getaddrinfo(client->loop, &c->resolve, on_resolved, origin->host,
                        NULL, &hints);
    if (rc < 0) {
        connect_failed(c, rc);
        return;
    }
    c->resolving = true;
    client->open_handles++;
}

void peri_connect_start(peri_origin *origin)
{
    peri_connect *c = peri_calloc(1, sizeof *c);

    c->origin = origin;
    c->rc = PERI_ESTATE; /* unless an address is tried */
    origin->refs++;
    origin->connecting++;
    peri_list_init(&c->attempts);
    peri_list_append(&origin->connects, &c->link);
    peri_client_timer_init(&c->stagger, on_stagger);
    if (origin->local ||
        uv_now(origin->client->loop) < origin->resolved_until_ms ||
        is_numeric(c)) {
        try_next(c);
        return;
    }
    resolve(c);
}
