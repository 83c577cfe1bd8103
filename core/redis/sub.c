/* Sub: subscriptions. */
#include "core/redis/sub.h"

#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/redis/conn_internal.h"

#define MESSAGES_MAX 1000u
#define AGAIN_MS 50

struct peri_redis_sub {
    peri_redis_client *client;
    peri_redis_conn *conn; /* NULL while it is away */
    peri_buf command;
    uint32_t count;
    uint32_t confirmed; /* on this connection */
    uv_timer_t timer;
    peri_list messages;
    uint32_t waiting; /* messages */
    peri_redis_sub_state state;
    peri_redis_fault fault;
    bool closed;
    void (*changed)(void *data);
    void *data;
};

static void connect_sub(peri_redis_sub *sub);

static void on_again(uv_timer_t *timer)
{
    peri_redis_sub *sub = timer->data;

    if (sub->conn != NULL || sub->state == PERI_REDIS_SUB_ENDED) {
        if (sub->state == PERI_REDIS_SUB_ENDED) {
            sub->changed(sub->data);
        }
        return;
    }
    connect_sub(sub);
}

static void end(peri_redis_sub *sub, const peri_redis_fault *fault)
{
    sub->state = PERI_REDIS_SUB_ENDED;
    sub->fault = *fault;
    uv_timer_start(&sub->timer, on_again, 0, 0); /* tells it */
}

static void on_up(void *data)
{
    peri_redis_sub *sub = data;

    sub->confirmed = 0;
    if (peri_buf_append_slice(&sub->conn->out, peri_buf_slice(&sub->command)) ==
        0) {
        peri_redis_conn_flush(sub->conn);
    }
}

static void on_down(void *data, const peri_redis_fault *fault, bool was_up)
{
    peri_redis_sub *sub = data;

    (void)was_up;
    sub->conn = NULL;
    if (sub->state == PERI_REDIS_SUB_WAITING) {
        end(sub, fault);
    } else if (sub->state == PERI_REDIS_SUB_LIVE) {
        uv_timer_start(&sub->timer, on_again, AGAIN_MS, 0);
    }
}

static void keep(peri_redis_sub *sub, const peri_redis_reply *reply,
                 bool has_pattern)
{
    const peri_redis_node *nodes = reply->nodes + 2;
    peri_slice first = peri_redis_text(reply, &nodes[0]);
    peri_slice second = peri_redis_text(reply, &nodes[1]);
    peri_slice third =
        has_pattern ? peri_redis_text(reply, &nodes[2]) : PERI_SLICE("");
    peri_redis_message *message = peri_alloc(sizeof *message + first.length +
                                             second.length + third.length + 1);
    char *at = (char *)(message + 1);
    peri_slice *to[3] = {&message->channel, &message->payload,
                         &message->pattern};
    peri_slice from[3] = {first, second, third};

    if (has_pattern) {
        to[0] = &message->pattern;
        to[1] = &message->channel;
        to[2] = &message->payload;
    }
    for (int i = 0; i < 3; i++) {
        memcpy(at, from[i].data, from[i].length);
        *to[i] = peri_slice_of(at, from[i].length);
        at += from[i].length;
    }
    message->has_pattern = has_pattern;
    peri_list_append(&sub->messages, &message->link);
    sub->waiting++;
    if (sub->waiting >= MESSAGES_MAX) {
        peri_redis_conn_pause(sub->conn, true);
    }
}

static bool is_kind(const peri_redis_reply *reply, const char *kind,
                    size_t elements)
{
    return reply->count == elements + 1 &&
           reply->nodes[1].type == PERI_REDIS_STRING &&
           peri_slice_equal(peri_redis_text(reply, &reply->nodes[1]),
                            peri_slice_str(kind));
}

static void on_message(void *data, const peri_redis_reply *reply)
{
    peri_redis_sub *sub = data;

    if (reply->nodes[0].type == PERI_REDIS_ERROR) {
        peri_slice text = peri_redis_text(reply, reply->nodes);
        peri_redis_fault fault;
        peri_redis_conn *conn = sub->conn;

        peri_redis_fault_set(sub->client, &fault, 0, "%.*s", (int)text.length,
                             text.data);
        peri_redis_code(text, fault.code);
        sub->conn = NULL;
        peri_redis_conn_drop(conn);
        end(sub, &fault);
        return;
    }
    if (is_kind(reply, "message", 3)) {
        keep(sub, reply, false);
    } else if (is_kind(reply, "pmessage", 4)) {
        keep(sub, reply, true);
    } else if ((is_kind(reply, "subscribe", 3) ||
                is_kind(reply, "psubscribe", 3)) &&
               ++sub->confirmed == sub->count &&
               sub->state == PERI_REDIS_SUB_WAITING) {
        sub->state = PERI_REDIS_SUB_LIVE;
    } else {
        return;
    }
    sub->changed(sub->data);
}

static void connect_sub(peri_redis_sub *sub)
{
    const peri_redis_holder holder = {sub, on_up, on_down, on_message};
    peri_redis_fault fault;

    sub->conn = peri_redis_open_own(sub->client, &holder, &fault);
    if (sub->conn != NULL) {
        return;
    }
    if (sub->state == PERI_REDIS_SUB_WAITING || sub->client->closing) {
        end(sub, &fault);
    } else {
        uv_timer_start(&sub->timer, on_again, AGAIN_MS, 0);
    }
}

peri_redis_sub *peri_redis_sub_open(peri_redis_client *client,
                                    peri_slice command, uint32_t count,
                                    void (*changed)(void *data), void *data)
{
    peri_redis_sub *sub = peri_calloc(1, sizeof *sub);

    sub->client = client;
    sub->count = count;
    sub->changed = changed;
    sub->data = data;
    peri_list_init(&sub->messages);
    peri_buf_init(&sub->command, command.length);
    peri_buf_append_slice(&sub->command, command);
    uv_timer_init(client->loop, &sub->timer);
    sub->timer.data = sub;
    client->open++;
    connect_sub(sub);
    return sub;
}

static void on_closed(uv_handle_t *handle)
{
    peri_redis_sub *sub = handle->data;
    peri_redis_client *client = sub->client;

    peri_buf_fini(&sub->command);
    free(sub);
    peri_redis_client_conn_closed(client);
}

void peri_redis_sub_close(peri_redis_sub *sub)
{
    peri_redis_message *message;

    if (sub->closed) {
        return;
    }
    sub->closed = true;
    sub->state = PERI_REDIS_SUB_ENDED;
    while ((message = peri_redis_sub_take(sub)) != NULL) {
        free(message);
    }
    if (sub->conn != NULL) {
        peri_redis_conn_drop(sub->conn);
        sub->conn = NULL;
    }
    uv_close((uv_handle_t *)&sub->timer, on_closed);
}

peri_redis_sub_state peri_redis_sub_state_of(const peri_redis_sub *sub)
{
    return sub->state;
}

bool peri_redis_sub_has(const peri_redis_sub *sub)
{
    return !peri_list_empty(&sub->messages);
}

const peri_redis_fault *peri_redis_sub_fault(const peri_redis_sub *sub)
{
    return &sub->fault;
}

peri_redis_message *peri_redis_sub_take(peri_redis_sub *sub)
{
    peri_redis_message *message;

    if (peri_list_empty(&sub->messages)) {
        return NULL;
    }
    message = PERI_CONTAINER(sub->messages.next, peri_redis_message, link);
    peri_list_remove(&message->link);
    sub->waiting--;
    if (sub->conn != NULL && sub->waiting < MESSAGES_MAX / 2) {
        peri_redis_conn_pause(sub->conn, false);
    }
    return message;
}
