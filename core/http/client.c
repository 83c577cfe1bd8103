/* Client: origins, their pools, and who gets which connection. */
#include "core/http/client_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/err.h"

/* ---- timers ---- */

static void on_due(peri_wheel_entry *entry)
{
    peri_client_timer *timer = PERI_CONTAINER(entry, peri_client_timer, entry);

    timer->fn(timer);
}

void peri_client_timer_init(peri_client_timer *timer,
                            void (*fn)(peri_client_timer *timer))
{
    peri_wheel_entry_init(&timer->entry);
    timer->fn = fn;
}

void peri_client_timer_set(peri_client *client, peri_client_timer *timer,
                           uint64_t at_ms)
{
    peri_wheel_set(&client->wheel, &timer->entry, at_ms);
}

void peri_client_timer_stop(peri_client_timer *timer)
{
    peri_wheel_remove(&timer->entry);
}

/* ---- origins ---- */

static void on_serve_later(peri_later_entry *entry)
{
    peri_origin_serve(PERI_CONTAINER(entry, peri_origin, later));
}

static bool is_origin(const peri_origin *origin,
                      const peri_call_options *options)
{
    return origin->port == options->port && origin->local == options->local &&
           origin->deny_private == options->deny_private &&
           peri_slice_equal(peri_slice_str(origin->host), options->host) &&
           peri_origin_has_tls(origin, options);
}

/* With a reference for the caller. */
peri_origin *peri_origin_get(peri_client *client,
                             const peri_call_options *options)
{
    peri_origin *origin;

    for (peri_list *link = client->origins.next; link != &client->origins;
         link = link->next) {
        origin = PERI_CONTAINER(link, peri_origin, link);
        if (is_origin(origin, options)) {
            origin->refs++;
            return origin;
        }
    }
    origin = peri_calloc(1, sizeof *origin);
    origin->client = client;
    origin->host = peri_strndup(options->host.data, options->host.length);
    origin->port = options->port;
    origin->local = options->local;
    origin->deny_private = options->deny_private;
    origin->refs = 1;
    if (options->identity != NULL) {
        peri_origin_use_tls(origin, options);
    }
    peri_list_init(&origin->conns);
    peri_list_init(&origin->idle);
    peri_list_init(&origin->waiters);
    peri_list_init(&origin->connects);
    peri_later_entry_init(&origin->later, on_serve_later);
    peri_list_prepend(&client->origins, &origin->link);
    return origin;
}

void peri_origin_unref(peri_origin *origin)
{
    if (--origin->refs > 0) {
        return;
    }
    peri_later_cancel(&origin->later);
    peri_list_remove(&origin->link);
    peri_origin_drop_tls(origin);
    free(origin->host);
    free(origin);
}

/* ---- the pool ---- */

/* A connection for that call, or NULL. */
static peri_client_conn *take_idle(peri_origin *origin, const peri_call *call)
{
    peri_list *link = origin->idle.next;

    while (link != &origin->idle) {
        peri_client_conn *conn = PERI_CONTAINER(link, peri_client_conn, link);

        link = link->next;
        if (call->fresh && conn->uses > 0) {
            continue;
        }
        /* What has come meanwhile is no answer to what is asked now. */
        if (conn->uses > 0 && !peri_client_conn_quiet(conn)) {
            peri_client_conn_close(conn);
            continue;
        }
        return conn;
    }
    return NULL;
}

void peri_origin_serve(peri_origin *origin)
{
    peri_list *link = origin->waiters.next;

    origin->refs++;
    while (link != &origin->waiters && !peri_list_empty(&origin->idle)) {
        peri_call *call = PERI_CONTAINER(link, peri_call, link);
        peri_client_conn *conn = take_idle(origin, call);

        link = link->next;
        if (conn != NULL) {
            peri_list_remove(&call->link);
            origin->waiting--;
            origin->client->stats.waiting--;
            peri_client_conn_use(conn, call);
        }
    }
    while (origin->connecting < origin->waiting &&
           origin->open + origin->connecting <
               origin->client->limits.connections &&
           !origin->client->closing) {
        peri_connect_start(origin);
    }
    peri_origin_unref(origin);
}

void peri_origin_serve_later(peri_origin *origin)
{
    if (origin->waiting > 0 && !origin->client->closing) {
        peri_later_call(&origin->client->later, &origin->later);
    }
}

void peri_origin_connect_failed(peri_origin *origin, int rc)
{
    peri_call *call;

    origin->resolved_until_ms = 0;
    if (peri_list_empty(&origin->waiters)) {
        return;
    }
    call = PERI_CONTAINER(origin->waiters.next, peri_call, link);
    peri_call_fail(call, rc, NULL);
    peri_call_notify_later(call);
}

void peri_origin_drop_idle(peri_origin *origin)
{
    while (!peri_list_empty(&origin->idle)) {
        peri_client_conn_close(
            PERI_CONTAINER(origin->idle.next, peri_client_conn, link));
    }
}

/* ---- life ---- */

peri_client *peri_client_create(uv_loop_t *loop)
{
    peri_client *client = peri_calloc(1, sizeof *client);

    client->loop = loop;
    client->limits = (peri_client_limits){
        .connections = PERI_CLIENT_CONNECTIONS_MAX,
        .waiting = PERI_CLIENT_WAITING_MAX,
        .idle_ms = PERI_CLIENT_IDLE_MS,
        .dns_ms = PERI_CLIENT_DNS_MS,
    };
    peri_list_init(&client->origins);
    peri_list_init(&client->identities);
    peri_list_init(&client->sessions);
    peri_list_init(&client->spare);
    peri_later_init(&client->later, loop);
    peri_wheel_init(&client->wheel, loop, on_due);
    return client;
}

void peri_client_handle_closed(peri_client *client)
{
    if (--client->open_handles > 0 || !client->closing) {
        return;
    }
    if (client->closed != NULL) {
        client->closed(client->closed_data);
    }
    peri_client_identities_fini(client);
    free(client->plain_buffer);
    free(client->read_buffer);
    free(client);
}

static void on_closed(void *data)
{
    peri_client_handle_closed(data);
}

static void origin_shut(peri_origin *origin)
{
    origin->refs++;
    while (!peri_list_empty(&origin->connects)) {
        peri_connect_abort(
            PERI_CONTAINER(origin->connects.next, peri_connect, link));
    }
    peri_origin_drop_idle(origin);
    while (!peri_list_empty(&origin->conns)) {
        peri_client_conn_close(
            PERI_CONTAINER(origin->conns.next, peri_client_conn, link));
    }
    peri_origin_unref(origin);
}

void peri_client_close(peri_client *client, void (*closed)(void *data),
                       void *data)
{
    peri_list *link = client->origins.next;

    client->closing = true;
    peri_call_drop_spare(client);
    client->closed = closed;
    client->closed_data = data;
    client->open_handles += 2;
    while (link != &client->origins) {
        peri_origin *origin = PERI_CONTAINER(link, peri_origin, link);

        link = link->next;
        origin_shut(origin);
    }
    peri_later_close(&client->later, on_closed, client);
    peri_wheel_close(&client->wheel, on_closed, client);
}

void peri_client_set_limits(peri_client *client,
                            const peri_client_limits *limits)
{
    client->limits = *limits;
}

void peri_client_get_stats(const peri_client *client, peri_client_stats *out)
{
    *out = client->stats;
}

/* ---- what there is ---- */

/* "host:port" or "[host]:port" */
static void split_authority(const char *authority, peri_client_pool *out)
{
    const char *colon = strrchr(authority, ':');
    size_t length =
        colon != NULL ? (size_t)(colon - authority) : strlen(authority);

    out->host = peri_slice_of(authority, length);
    out->port = peri_slice_str(colon != NULL ? colon + 1 : "");
    if (length > 1 && authority[0] == '[' && authority[length - 1] == ']') {
        out->host = peri_slice_of(authority + 1, length - 2);
    }
}

void peri_client_each_pool(const peri_client *client,
                           void (*fn)(void *data, const peri_client_pool *pool),
                           void *data)
{
    for (const peri_list *link = client->origins.next; link != &client->origins;
         link = link->next) {
        const peri_origin *origin = PERI_CONTAINER(link, peri_origin, link);
        peri_client_pool pool = {.host = peri_slice_str(origin->host),
                                 .tls = origin->identity != NULL};
        char port[8];

        snprintf(port, sizeof port, "%u", origin->port);
        pool.port = peri_slice_str(origin->local ? "" : port);
        if (origin->tunnel != NULL) {
            split_authority(origin->tunnel, &pool);
        }
        for (const peri_list *at = origin->idle.next; at != &origin->idle;
             at = at->next) {
            pool.counts.idle++;
        }
        pool.counts.used = origin->open - pool.counts.idle;
        pool.counts.waiting = origin->waiting;
        fn(data, &pool);
    }
}
