/* Client: the shared connection, those of their own, and coming back. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/redis/conn_internal.h"

#define SPACING_MS 50 /* at most 20 attempts in a second */
#define BACKOFF_MAX_MS 500
#define CALM_MS 1000 /* after a loss, until attempts are free again */

/* ---- faults ---- */

static const char *code_name(int rc)
{
    return rc <= PERI_ELIMIT ? peri_err_name(rc) : uv_err_name(rc);
}

__attribute__((format(printf, 4, 5))) void
peri_redis_fault_set(peri_redis_client *client, peri_redis_fault *fault, int rc,
                     const char *format, ...)
{
    va_list args;
    char text[sizeof fault->message / 2];

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fault->rc = rc;
    snprintf(fault->code, sizeof fault->code, "%s",
             rc < 0 ? code_name(rc) : "ERR");
    snprintf(fault->message, sizeof fault->message, "%.100s: %s", client->label,
             text);
}

/* ---- coming back ---- */

static uint64_t random_below(peri_redis_client *client, uint64_t bound)
{
    client->random ^= client->random << 13;
    client->random ^= client->random >> 7;
    client->random ^= client->random << 17;
    return client->random % bound;
}

uint64_t peri_redis_client_slot(peri_redis_client *client)
{
    uint64_t now_ms = uv_now(client->loop);
    uint64_t at_ms = now_ms;

    if (client->failures == 0 &&
        (client->lost_ms == 0 || now_ms - client->lost_ms > CALM_MS)) {
        return 0;
    }
    if (client->failures > 0) { /* exponential, with full jitter */
        uint32_t shift = client->failures < 5 ? client->failures : 5;
        uint64_t bound = (uint64_t)SPACING_MS << shift;

        at_ms += random_below(client,
                              bound < BACKOFF_MAX_MS ? bound : BACKOFF_MAX_MS);
    }
    if (at_ms < *client->next_slot_ms) {
        at_ms = *client->next_slot_ms;
    }
    *client->next_slot_ms = at_ms + SPACING_MS;
    return at_ms - now_ms;
}

static void main_down(void *data, const peri_redis_fault *fault, bool was_up);

static void open_main(peri_redis_client *client)
{
    client->main =
        peri_redis_conn_open(client, true, peri_redis_client_slot(client));
    client->main->holder = (peri_redis_holder){client, NULL, main_down, NULL};
}

static void on_retry(uv_timer_t *timer)
{
    peri_redis_client *client = timer->data;

    if (client->main == NULL && !client->closing) {
        open_main(client);
    }
}

/* Not in this turn: commands are being failed. */
static void come_back(peri_redis_client *client)
{
    if (client->main == NULL && !client->closing &&
        !uv_is_active((const uv_handle_t *)&client->retry)) {
        uv_timer_start(&client->retry, on_retry, 0, 0);
    }
}

static void main_down(void *data, const peri_redis_fault *fault, bool was_up)
{
    peri_redis_client *client = data;

    (void)was_up;
    client->main = NULL;
    if (fault->rc != UV_ECANCELED) { /* else nobody wants it back */
        come_back(client);
    }
}

void peri_redis_client_conn_up(peri_redis_client *client)
{
    client->failures = 0;
}

void peri_redis_client_conn_down(peri_redis_client *client,
                                 peri_redis_conn *conn, bool was_up)
{
    if (!conn->shared) {
        client->own_count--;
    }
    if (conn == client->main) {
        client->main = NULL;
    }
    if (conn->fault.rc == UV_ECANCELED) {
        return; /* it was us */
    }
    client->lost_ms = uv_now(client->loop);
    if (!was_up) {
        client->failures++;
        come_back(client);
    }
}

/* ---- commands ---- */

static int refuse(peri_redis_client *client, peri_redis_fault *fault)
{
    if (client->closing) {
        peri_redis_fault_set(client, fault, UV_ECANCELED,
                             "the host is closing");
        return UV_ECANCELED;
    }
    *fault = client->cause;
    return fault->rc < 0 ? fault->rc : UV_ECONNREFUSED;
}

int peri_redis_submit(peri_redis_client *client, peri_redis_op *op,
                      peri_slice command, peri_redis_fault *fault)
{
    if (client->closing ||
        (client->failures > 0 && (client->main == NULL || !client->main->up))) {
        return refuse(client, fault);
    }
    if (client->main == NULL) {
        uv_timer_stop(&client->retry);
        open_main(client);
    }
    return peri_redis_conn_submit(client->main, op, command,
                                  client->config.timeout_ms, fault);
}

void peri_redis_flush(peri_redis_client *client)
{
    if (client->main != NULL && client->main->up) {
        peri_redis_conn_flush(client->main);
    }
}

/* ---- connections of their own ---- */

static void idle_down(void *data, const peri_redis_fault *fault, bool was_up)
{
    (void)data;
    (void)fault;
    (void)was_up;
}

static void idle_message(void *data, const peri_redis_reply *reply)
{
    (void)reply;
    peri_redis_conn_drop(data); /* nothing is owed on it */
}

peri_redis_conn *peri_redis_open_own(peri_redis_client *client,
                                     const peri_redis_holder *holder,
                                     peri_redis_fault *fault)
{
    peri_redis_conn *conn;

    if (client->closing || client->failures > 0) {
        refuse(client, fault);
        return NULL;
    }
    if (client->own_count >= client->config.own_max) {
        peri_redis_fault_set(client, fault, UV_ENOBUFS,
                             "too many connections (connections_max)");
        memcpy(fault->code, "queue_full", sizeof "queue_full");
        return NULL;
    }
    conn = peri_redis_conn_open(client, false, peri_redis_client_slot(client));
    conn->holder = *holder;
    return conn;
}

peri_redis_conn *peri_redis_take(peri_redis_client *client,
                                 const peri_redis_holder *holder,
                                 peri_redis_fault *fault)
{
    peri_redis_conn *conn;

    if (client->closing || client->failures > 0) {
        refuse(client, fault);
        return NULL;
    }
    if (!peri_list_empty(&client->idle)) {
        conn = PERI_CONTAINER(client->idle.prev, peri_redis_conn, idle);
        peri_list_remove(&conn->idle);
        client->idle_count--;
        conn->holder = *holder;
        return conn;
    }
    return peri_redis_open_own(client, holder, fault);
}

void peri_redis_give_back(peri_redis_conn *conn, bool keep)
{
    peri_redis_client *client = conn->client;

    if (conn->closing) {
        return;
    }
    if (!keep || !conn->up || conn->head != conn->tail ||
        client->idle_count >= client->config.pool) {
        peri_redis_conn_drop(conn);
        return;
    }
    conn->holder = (peri_redis_holder){conn, NULL, idle_down, idle_message};
    peri_list_append(&client->idle, &conn->idle);
    client->idle_count++;
}

/* ---- life ---- */

static void make_target(peri_redis_client *client)
{
    peri_redis_config *config = &client->config;
    peri_redis_url *target = &config->target;
    const char *why;

    peri_redis_url_parse(peri_slice_str(config->url), target, &why);
    if (config->host != NULL) {
        free(target->host);
        target->host = peri_strdup(config->host);
        target->port = config->port;
    }
    if (config->sentinel) {
        free(target->user);
        free(target->password);
        target->user = target->sentinel_user;
        target->password = target->sentinel_password;
        target->sentinel_user = NULL;
        target->sentinel_password = NULL;
        target->db = 0;
    }
}

static const char *copy(const char *text)
{
    return text != NULL ? peri_strdup(text) : NULL;
}

static void copy_tls(peri_redis_tls *tls)
{
    tls->ca = copy(tls->ca);
    tls->cert = copy(tls->cert);
    tls->key = copy(tls->key);
    tls->server_name = copy(tls->server_name);
}

static void free_tls(peri_redis_client *client)
{
    const char *const texts[] = {client->config.tls.ca, client->config.tls.cert,
                                 client->config.tls.key,
                                 client->config.tls.server_name};

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        free((char *)(uintptr_t)texts[i]);
    }
    peri_tls_sessions_destroy(client->sessions);
    peri_tls_context_unref(client->tls);
    free(client->plain_buffer);
}

peri_redis_client *peri_redis_client_create(uv_loop_t *loop,
                                            const peri_redis_config *config,
                                            uint64_t *next_slot_ms)
{
    peri_redis_client *client = peri_calloc(1, sizeof *client);
    const peri_redis_url *target = &client->config.target;
    char label[512];

    client->loop = loop;
    client->next_slot_ms = next_slot_ms;
    client->config = *config;
    client->config.name = peri_strdup(config->name);
    client->config.url = peri_strdup(config->url);
    make_target(client);
    client->config.host = NULL; /* was the caller's */
    copy_tls(&client->config.tls);
    if (target->path != NULL) {
        snprintf(label, sizeof label, "redis %s (%s)", config->name,
                 target->path);
    } else {
        snprintf(label, sizeof label, "redis %.*s (%s:%u)",
                 (int)strcspn(config->name, "@"), config->name, target->host,
                 target->port);
    }
    client->label = peri_strdup(label);
    client->read_buffer = peri_alloc(PERI_REDIS_READ_BYTES);
    client->random = uv_hrtime() ^ ((uint64_t)uv_os_getpid() << 32) ^ 1;
    peri_list_init(&client->conns);
    peri_list_init(&client->idle);
    uv_timer_init(loop, &client->retry);
    client->retry.data = client;
    client->open = 1;
    return client;
}

void peri_redis_client_conn_closed(peri_redis_client *client)
{
    union {
        const char *in;
        char *out;
    } name = {client->config.name}, url = {client->config.url};

    if (--client->open > 0) {
        return;
    }
    if (client->closed != NULL) {
        client->closed(client->closed_data);
    }
    peri_redis_url_fini(&client->config.target);
    free(name.out);
    free(url.out);
    free(client->label);
    free_tls(client);
    free(client->read_buffer);
    free(client);
}

static void on_retry_closed(uv_handle_t *handle)
{
    peri_redis_client_conn_closed(handle->data);
}

void peri_redis_client_close(peri_redis_client *client,
                             void (*closed)(void *data), void *data)
{
    client->closing = true;
    client->closed = closed;
    client->closed_data = data;
    while (!peri_list_empty(&client->conns)) {
        peri_redis_conn_drop(
            PERI_CONTAINER(client->conns.next, peri_redis_conn, link));
    }
    uv_close((uv_handle_t *)&client->retry, on_retry_closed);
}

void peri_redis_client_leave(peri_redis_client *client)
{
    peri_redis_fault fault;
    peri_list *next;

    peri_redis_fault_set(client, &fault, UV_ECANCELED,
                         "the server is not used any more");
    for (peri_list *at = client->conns.next; at != &client->conns; at = next) {
        peri_redis_conn *conn = PERI_CONTAINER(at, peri_redis_conn, link);

        next = at->next;
        peri_redis_conn_fail(conn, &fault);
    }
}

const peri_redis_config *
peri_redis_client_config(const peri_redis_client *client)
{
    return &client->config;
}

void peri_redis_client_get_stats(const peri_redis_client *client,
                                 peri_redis_stats *out)
{
    *out = client->stats;
}

void peri_redis_client_count(const peri_redis_client *client,
                             peri_pool_counts *out)
{
    *out = (peri_pool_counts){0};
    for (const peri_list *link = client->conns.next; link != &client->conns;
         link = link->next) {
        const peri_redis_conn *conn =
            PERI_CONTAINER(link, peri_redis_conn, link);
        bool used = conn->shared ? conn->head != conn->tail
                                 : peri_list_empty(&conn->idle);

        if (conn->shared) {
            out->waiting += (uint32_t)(conn->tail - conn->head);
        }
        if (conn->up && used) {
            out->used++;
        } else if (conn->up) {
            out->idle++;
        }
    }
}
