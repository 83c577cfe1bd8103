/* Sub: subscriptions. */
#include "core/redis/sub.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/redis/conn_internal.h"

#define MESSAGES_MAX 1000u
#define AGAIN_MS 50
#define TRACKING_MAX_BYTES ((size_t)4096)
#define ALIVE_MS 1000 /* between signs of life, of those that watch */
#define ALIVE_MISSED 3

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
    bool once; /* it does not come back */
    bool watches;
    uint32_t missed;   /* signs of life in a row */
    peri_buf tracking; /* to be sent before and after the id; */
    size_t split;      /* where */
    void (*changed)(void *data);
    void *data;
};

static void connect_sub(peri_redis_sub *sub);
static void on_again(uv_timer_t *timer);

static void end(peri_redis_sub *sub, const peri_redis_fault *fault)
{
    sub->state = PERI_REDIS_SUB_ENDED;
    sub->fault = *fault;
    uv_timer_start(&sub->timer, on_again, 0, 0); /* tells it */
}

static void on_down(void *data, const peri_redis_fault *fault, bool was_up)
{
    peri_redis_sub *sub = data;

    (void)was_up;
    sub->conn = NULL;
    if (sub->state == PERI_REDIS_SUB_WAITING || sub->once) {
        end(sub, fault);
    } else if (sub->state == PERI_REDIS_SUB_LIVE) {
        uv_timer_start(&sub->timer, on_again, AGAIN_MS, 0);
    }
}

static void put(peri_redis_sub *sub, peri_slice text)
{
    if (peri_buf_append_slice(&sub->conn->out, text) == 0) {
        peri_redis_conn_flush(sub->conn);
    }
}

static void check_alive(peri_redis_sub *sub)
{
    peri_redis_conn *conn = sub->conn;
    peri_redis_fault fault;

    if (!conn->up) {
        return; /* the attempt to connect has a time-out of its own */
    }
    if (++sub->missed <= ALIVE_MISSED) {
        put(sub, PERI_SLICE("*1\r\n$4\r\nPING\r\n"));
        return;
    }
    peri_redis_fault_set(sub->client, &fault, UV_ETIMEDOUT,
                         "no sign of life from the server");
    peri_redis_conn_drop(conn);
    on_down(sub, &fault, true);
}

static void on_again(uv_timer_t *timer)
{
    peri_redis_sub *sub = timer->data;

    if (sub->state == PERI_REDIS_SUB_ENDED) {
        sub->changed(sub->data);
    } else if (sub->conn == NULL) {
        connect_sub(sub);
    } else if (sub->watches) {
        check_alive(sub);
    }
}

static void on_up(void *data)
{
    peri_redis_sub *sub = data;

    sub->confirmed = 0;
    sub->missed = 0;
    if (sub->watches) {
        uv_timer_start(&sub->timer, on_again, ALIVE_MS, ALIVE_MS);
    }
    if (sub->tracking.length > 0) {
        put(sub, PERI_SLICE("*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n"));
    } else {
        put(sub, peri_buf_slice(&sub->command));
    }
}

/* The connection's id has come. */
static void start_tracking(peri_redis_sub *sub, int64_t id)
{
    peri_slice text = peri_buf_slice(&sub->tracking);
    char digits[24];
    char bulk[48];
    int length = snprintf(digits, sizeof digits, "%lld", (long long)id);

    snprintf(bulk, sizeof bulk, "$%d\r\n%s\r\n", length, digits);
    put(sub, peri_slice_of(text.data, sub->split));
    put(sub, peri_slice_str(bulk));
    put(sub, peri_slice_of(text.data + sub->split, text.length - sub->split));
    put(sub, peri_buf_slice(&sub->command));
}

/* pattern NULL: it has none. */
static void add(peri_redis_sub *sub, peri_slice channel, peri_slice payload,
                const peri_slice *pattern)
{
    peri_slice from[3] = {channel, payload,
                          pattern != NULL ? *pattern : PERI_SLICE("")};
    peri_redis_message *message = peri_alloc(
        sizeof *message + from[0].length + from[1].length + from[2].length + 1);
    peri_slice *to[3] = {&message->channel, &message->payload,
                         &message->pattern};
    char *at = (char *)(message + 1);

    for (int i = 0; i < 3; i++) {
        memcpy(at, from[i].data, from[i].length);
        *to[i] = peri_slice_of(at, from[i].length);
        at += from[i].length;
    }
    message->has_pattern = pattern != NULL;
    peri_list_append(&sub->messages, &message->link);
    sub->waiting++;
    if (sub->waiting >= MESSAGES_MAX) {
        peri_redis_conn_pause(sub->conn, true);
    }
}

static void keep(peri_redis_sub *sub, const peri_redis_reply *reply)
{
    const peri_redis_node *nodes = reply->nodes + 2;

    add(sub, peri_redis_text(reply, &nodes[0]),
        peri_redis_text(reply, &nodes[1]), NULL);
}

static void keep_matched(peri_redis_sub *sub, const peri_redis_reply *reply)
{
    const peri_redis_node *nodes = reply->nodes + 2;
    peri_slice pattern = peri_redis_text(reply, &nodes[0]);

    add(sub, peri_redis_text(reply, &nodes[1]),
        peri_redis_text(reply, &nodes[2]), &pattern);
}

/* What the server says of keys that it tracks: some, or nil for all. */
static bool keep_invalidation(peri_redis_sub *sub,
                              const peri_redis_reply *reply)
{
    const peri_redis_node *nodes = reply->nodes;

    if (sub->tracking.length == 0 || reply->count < 4 ||
        nodes[1].type != PERI_REDIS_STRING ||
        !peri_slice_equal(peri_redis_text(reply, &nodes[1]),
                          PERI_SLICE("message"))) {
        return false;
    }
    if (nodes[3].type == PERI_REDIS_NIL) {
        add(sub, PERI_SLICE(""), PERI_SLICE(""), NULL);
    } else if (nodes[3].type != PERI_REDIS_ARRAY) {
        return false;
    }
    for (size_t i = 4; i < reply->count; i++) {
        add(sub, peri_redis_text(reply, &nodes[2]),
            peri_redis_text(reply, &nodes[i]), NULL);
    }
    return true;
}

static bool is_kind(const peri_redis_reply *reply, const char *kind,
                    size_t elements)
{
    return reply->count == elements + 1 &&
           reply->nodes[1].type == PERI_REDIS_STRING &&
           peri_slice_equal(peri_redis_text(reply, &reply->nodes[1]),
                            peri_slice_str(kind));
}

static void refused(peri_redis_sub *sub, peri_slice text)
{
    peri_redis_conn *conn = sub->conn;
    peri_redis_fault fault;

    peri_redis_fault_set(sub->client, &fault, 0, "%.*s", (int)text.length,
                         text.data);
    peri_redis_code(text, fault.code);
    sub->conn = NULL;
    peri_redis_conn_drop(conn);
    end(sub, &fault);
}

static bool confirm(peri_redis_sub *sub)
{
    bool first = sub->state == PERI_REDIS_SUB_WAITING;

    if (++sub->confirmed != sub->count) {
        return false;
    }
    sub->state = PERI_REDIS_SUB_LIVE;
    if (sub->watches) {
        add(sub, PERI_SLICE(""), PERI_SLICE(""), NULL);
    }
    return first || sub->watches;
}

static void on_message(void *data, const peri_redis_reply *reply)
{
    peri_redis_sub *sub = data;
    const peri_redis_node *first = reply->nodes;

    sub->missed = 0;
    if (first->type == PERI_REDIS_ERROR) {
        refused(sub, peri_redis_text(reply, first));
        return;
    }
    if (first->type == PERI_REDIS_INTEGER && sub->tracking.length > 0) {
        start_tracking(sub, first->value);
        return;
    }
    if (keep_invalidation(sub, reply)) {
        sub->changed(sub->data);
        return;
    }
    if (is_kind(reply, "sunsubscribe", 3)) {
        refused(sub, PERI_SLICE("MOVED the channel's slot is elsewhere now"));
        return;
    }
    if (is_kind(reply, "message", 3) || is_kind(reply, "smessage", 3)) {
        keep(sub, reply);
    } else if (is_kind(reply, "pmessage", 4)) {
        keep_matched(sub, reply);
    } else if ((!is_kind(reply, "subscribe", 3) &&
                !is_kind(reply, "psubscribe", 3) &&
                !is_kind(reply, "ssubscribe", 3)) ||
               !confirm(sub)) {
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
    peri_buf_init(&sub->tracking, TRACKING_MAX_BYTES);
    uv_timer_init(client->loop, &sub->timer);
    sub->timer.data = sub;
    client->open++;
    connect_sub(sub);
    return sub;
}

void peri_redis_sub_once(peri_redis_sub *sub)
{
    sub->once = true;
}

void peri_redis_sub_watch(peri_redis_sub *sub, peri_slice before,
                          peri_slice after)
{
    sub->watches = true;
    sub->split = before.length;
    peri_buf_append_slice(&sub->tracking, before);
    peri_buf_append_slice(&sub->tracking, after);
}

static void on_closed(uv_handle_t *handle)
{
    peri_redis_sub *sub = handle->data;
    peri_redis_client *client = sub->client;

    peri_buf_fini(&sub->command);
    peri_buf_fini(&sub->tracking);
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
