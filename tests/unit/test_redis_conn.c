/* Clients and connections of Redis, against a server in the same loop that
 * says what the test wants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/redis/command.h"
#include "core/redis/set.h"
#include "core/redis/sub.h"

#define TEST(name) static void name(void **state)
#define PEERS_MAX 64
#define PATIENCE_MS 20000
#define LOGIN "*1\r\n$4\r\nPING\r\n"

/* One connection, seen from the server. */
typedef struct peer {
    uv_tcp_t tcp;
    peri_buf got; /* without the login */
    bool open;
} peer;

typedef struct fixture {
    uv_loop_t loop;
    uv_timer_t tick; /* so that waiting ends */
    uv_tcp_t server;
    char url[64];
    const char *login; /* answered to the first bytes of a connection */
    peer peers[PEERS_MAX];
    int count;
    char bytes[65536];
    peri_redis_set *set;
    peri_redis_client *client;
    bool closed;
} fixture;

typedef struct waiter {
    peri_redis_op op;
    int done;
    int rc; /* of the fault; 1: there was a reply */
    char code[PERI_REDIS_CODE_BYTES];
    char text[64]; /* of the last node of the reply */
} waiter;

static void on_done(peri_redis_op *op, const peri_redis_fault *fault,
                    const peri_redis_reply *reply)
{
    waiter *w = PERI_CONTAINER(op, waiter, op);

    w->done++;
    w->rc = 1;
    if (fault != NULL) {
        w->rc = fault->rc;
        memcpy(w->code, fault->code, sizeof w->code);
    } else {
        peri_slice text =
            peri_redis_text(reply, &reply->nodes[reply->count - 1]);

        snprintf(w->text, sizeof w->text, "%.*s", (int)text.length, text.data);
    }
}

/* ---- the server ---- */

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    fixture *f = handle->loop->data;

    (void)size;
    *buf = uv_buf_init(f->bytes, sizeof f->bytes);
}

static void on_peer_closed(uv_handle_t *handle)
{
    peri_buf_fini(&((peer *)handle)->got);
}

static void hang_up(peer *p)
{
    if (p->open) {
        p->open = false;
        uv_close((uv_handle_t *)&p->tcp, on_peer_closed);
    }
}

static void say(peer *p, const char *text)
{
    uv_buf_t buf = uv_buf_init((char *)text, (unsigned)strlen(text));

    assert_int_equal(uv_try_write((uv_stream_t *)&p->tcp, &buf, 1),
                     (int)strlen(text));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    peer *p = (peer *)stream;
    fixture *f = stream->loop->data;
    const char *end;

    if (n < 0) {
        hang_up(p);
        return;
    }
    peri_buf_append(&p->got, buf->base, (size_t)n);
    end = memmem(p->got.data, p->got.length, LOGIN, strlen(LOGIN));
    if (f->login != NULL && end != NULL) {
        peri_buf_consume(&p->got, (size_t)(end - p->got.data) + strlen(LOGIN));
        say(p, f->login);
    }
}

static void on_connection(uv_stream_t *server, int status)
{
    fixture *f = server->loop->data;
    peer *p = &f->peers[f->count++];

    assert_int_equal(status, 0);
    assert_true(f->count < PEERS_MAX);
    uv_tcp_init(&f->loop, &p->tcp);
    peri_buf_init(&p->got, 1 << 20);
    assert_int_equal(uv_accept(server, (uv_stream_t *)&p->tcp), 0);
    p->open = true;
    uv_read_start((uv_stream_t *)&p->tcp, on_alloc, on_read);
}

/* ---- the loop ---- */

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

/* Runs the loop until the expression holds. */
#define WAIT_UNTIL(f, holds)                                                   \
    do {                                                                       \
        uint64_t end_ms_ = uv_now(&(f)->loop) + PATIENCE_MS;                   \
        while (!(holds)) {                                                     \
            assert_true(uv_now(&(f)->loop) < end_ms_);                         \
            uv_run(&(f)->loop, UV_RUN_ONCE);                                   \
        }                                                                      \
    } while (0)

static bool has_got(const fixture *f, int which, const char *text)
{
    const peer *p = &f->peers[which];

    return f->count > which && p->got.length >= strlen(text) &&
           memcmp(p->got.data + p->got.length - strlen(text), text,
                  strlen(text)) == 0;
}

static peri_redis_config config_of(const fixture *f)
{
    return (peri_redis_config){.name = "test",
                               .url = f->url,
                               .connect_timeout_ms = 5000,
                               .timeout_ms = 10000,
                               .pool = 2,
                               .own_max = 3,
                               .queue_max = 4,
                               .reply_max_bytes = 1000};
}

static void use(fixture *f, const peri_redis_config *config)
{
    f->client = peri_redis_set_ref(f->set, config);
}

static int set_up(void **state)
{
    fixture *f = peri_calloc(1, sizeof *f);
    struct sockaddr_in address;
    int length = sizeof address;
    peri_redis_config config;

    uv_loop_init(&f->loop);
    f->loop.data = f;
    uv_timer_init(&f->loop, &f->tick);
    uv_timer_start(&f->tick, on_tick, 5, 5);
    uv_tcp_init(&f->loop, &f->server);
    uv_ip4_addr("127.0.0.1", 0, &address);
    uv_tcp_bind(&f->server, (const struct sockaddr *)&address, 0);
    uv_listen((uv_stream_t *)&f->server, 128, on_connection);
    uv_tcp_getsockname(&f->server, (struct sockaddr *)&address, &length);
    snprintf(f->url, sizeof f->url, "redis://127.0.0.1:%d",
             ntohs(address.sin_port));
    f->login = "+PONG\r\n";
    f->set = peri_redis_set_create(&f->loop);
    config = config_of(f);
    use(f, &config);
    *state = f;
    return 0;
}

static void on_closed(void *data)
{
    *(bool *)data = true;
}

static int tear_down(void **state)
{
    fixture *f = *state;

    peri_redis_set_close(f->set, on_closed, &f->closed);
    WAIT_UNTIL(f, f->closed);
    for (int i = 0; i < f->count; i++) {
        hang_up(&f->peers[i]);
    }
    if (!uv_is_closing((const uv_handle_t *)&f->server)) {
        uv_close((uv_handle_t *)&f->server, NULL);
    }
    uv_close((uv_handle_t *)&f->tick, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    free(f);
    return 0;
}

static void make(peri_buf *buf, const char *word)
{
    peri_buf_init(buf, 1000);
    peri_redis_put_count(buf, 1);
    peri_redis_put(buf, peri_slice_str(word));
}

static int submit(fixture *f, waiter *w, const char *word)
{
    peri_redis_fault fault;
    peri_buf command;
    int rc;

    make(&command, word);
    *w = (waiter){.op = {.replies = 1, .done = on_done}};
    rc = peri_redis_submit(f->client, &w->op, peri_buf_slice(&command), &fault);
    if (rc < 0) {
        memcpy(w->code, fault.code, sizeof w->code);
    }
    peri_buf_fini(&command);
    return rc;
}

#define A "*1\r\n$1\r\nA\r\n"
#define B "*1\r\n$1\r\nB\r\n"
#define C "*1\r\n$1\r\nC\r\n"

/* ---- the tests ---- */

TEST(commands_of_a_turn_share_a_write_and_their_replies_come_in_order)
{
    fixture *f = *state;
    waiter w[3];
    peri_redis_stats stats;

    submit(f, &w[0], "A"); /* waits for the login with the others */
    submit(f, &w[1], "B");
    submit(f, &w[2], "C");
    WAIT_UNTIL(f, has_got(f, 0, A B C));
    peri_redis_client_get_stats(f->client, &stats);
    assert_int_equal(stats.writes, 2); /* the login, and these */
    assert_int_equal(stats.commands, 3);
    say(&f->peers[0], "+1\r\n$1\r\n2\r\n+");
    WAIT_UNTIL(f, w[1].done == 1);
    assert_int_equal(w[2].done, 0);
    say(&f->peers[0], "3\r\n");
    WAIT_UNTIL(f, w[2].done == 1);
    assert_string_equal(w[0].text, "1");
    assert_string_equal(w[1].text, "2");
    assert_string_equal(w[2].text, "3");
}

TEST(several_replies_belong_to_one_that_waits_for_several)
{
    fixture *f = *state;
    waiter w = {.op = {.replies = 2, .done = on_done}};
    waiter next;
    peri_redis_fault fault;

    peri_redis_submit(f->client, &w.op, PERI_SLICE(A B), &fault);
    submit(f, &next, "C");
    WAIT_UNTIL(f, has_got(f, 0, A B C));
    say(&f->peers[0], "+1\r\n");
    for (int i = 0; i < 3; i++) {
        uv_run(&f->loop, UV_RUN_ONCE);
    }
    assert_int_equal(w.done, 0);
    say(&f->peers[0], "+2\r\n+3\r\n");
    WAIT_UNTIL(f, next.done == 1);
    assert_string_equal(w.text, "2");
    assert_string_equal(next.text, "3");
}

TEST(the_reply_to_what_was_given_up_meets_nobody)
{
    fixture *f = *state;
    waiter w[2];
    waiter two = {.op = {.replies = 2, .done = on_done}};
    peri_redis_fault fault;

    submit(f, &w[0], "A");
    peri_redis_submit(f->client, &two.op, PERI_SLICE(A B), &fault);
    submit(f, &w[1], "B");
    WAIT_UNTIL(f, has_got(f, 0, A A B B));
    peri_redis_cancel(&w[0].op);
    peri_redis_cancel(&two.op);
    say(&f->peers[0], "+late\r\n+late\r\n+late\r\n+mine\r\n");
    WAIT_UNTIL(f, w[1].done == 1);
    assert_string_equal(w[1].text, "mine");
    assert_int_equal(w[0].done + two.done, 0);
}

TEST(a_late_reply_is_dropped_and_the_connection_goes_on)
{
    fixture *f = *state;
    peri_redis_config config = config_of(f);
    waiter w[2];

    config.timeout_ms = 1000;
    peri_redis_set_unref(f->set, f->client);
    use(f, &config);
    submit(f, &w[0], "A");
    WAIT_UNTIL(f, w[0].done == 1);
    assert_int_equal(w[0].rc, PERI_ETIMEOUT);
    submit(f, &w[1], "B");
    WAIT_UNTIL(f, has_got(f, 0, A B));
    say(&f->peers[0], "+late\r\n+mine\r\n");
    WAIT_UNTIL(f, w[1].done == 1);
    assert_string_equal(w[1].text, "mine");
    assert_int_equal(f->count, 1);
}

TEST(a_connection_that_answers_nothing_for_long_is_given_up)
{
    fixture *f = *state;
    peri_redis_config config = config_of(f);
    waiter w;

    config.timeout_ms = 50;
    peri_redis_set_unref(f->set, f->client);
    use(f, &config);
    submit(f, &w, "A");
    WAIT_UNTIL(f, f->count == 2); /* another one */
    assert_int_equal(w.rc, PERI_ETIMEOUT);
}

TEST(a_connection_is_waited_for_no_longer_than_the_timeout)
{
    fixture *f = *state;
    peri_redis_config config = config_of(f);
    waiter late;
    waiter cancelled;
    waiter w;

    config.timeout_ms = 100;
    f->login = NULL; /* it accepts, and says nothing */
    peri_redis_set_unref(f->set, f->client);
    use(f, &config);
    submit(f, &late, "A");
    WAIT_UNTIL(f, late.done == 1 && has_got(f, 0, LOGIN));
    assert_string_equal(late.code, "ETIMEDOUT");
    submit(f, &cancelled, "B");
    submit(f, &w, "C");
    peri_redis_cancel(&cancelled.op);
    say(&f->peers[0], "+PONG\r\n");
    WAIT_UNTIL(f, has_got(f, 0, C));
    /* What was given up before it could be sent is not sent. */
    assert_true(has_got(f, 0, LOGIN C));
    say(&f->peers[0], "+3\r\n");
    WAIT_UNTIL(f, w.done == 1);
    assert_string_equal(w.text, "3");
    assert_int_equal(f->count, 1);
}

TEST(a_lost_connection_fails_what_waits_and_comes_back)
{
    fixture *f = *state;
    waiter w[2];

    submit(f, &w[0], "A");
    WAIT_UNTIL(f, has_got(f, 0, A));
    say(&f->peers[0], "$10\r\nhalf");
    hang_up(&f->peers[0]);
    WAIT_UNTIL(f, w[0].done == 1);
    assert_true(w[0].rc < 0 && w[0].rc != PERI_ETIMEOUT);
    WAIT_UNTIL(f, f->count == 2);
    WAIT_UNTIL(f, submit(f, &w[1], "B") == 0);
    WAIT_UNTIL(f, has_got(f, f->count - 1, B));
    say(&f->peers[f->count - 1], "+new\r\n");
    WAIT_UNTIL(f, w[1].done == 1);
    assert_string_equal(w[1].text, "new");
}

static void ends_by(fixture *f, const char *bytes, int rc)
{
    waiter w[2];

    submit(f, &w[0], "A");
    submit(f, &w[1], "B");
    WAIT_UNTIL(f, has_got(f, 0, A B));
    say(&f->peers[0], bytes);
    WAIT_UNTIL(f, w[1].done == 1);
    assert_int_equal(w[0].done, 1);
    assert_int_equal(w[0].rc, rc);
    assert_true(w[1].rc < 0);
    WAIT_UNTIL(f, !f->peers[0].open);
}

TEST(what_is_no_reply_ends_the_connection)
{
    ends_by(*state, "HTTP/1.1 200 OK\r\n\r\n", PERI_EFORMAT);
}

TEST(a_reply_that_is_too_large_ends_the_connection)
{
    char text[1100];

    snprintf(text, sizeof text, "$1050\r\n%01050d", 1);
    ends_by(*state, text, PERI_ELIMIT);
}

TEST(a_reply_to_nothing_ends_the_connection)
{
    fixture *f = *state;
    waiter w;

    submit(f, &w, "A");
    WAIT_UNTIL(f, has_got(f, 0, A));
    say(&f->peers[0], "+1\r\n+2\r\n");
    WAIT_UNTIL(f, !f->peers[0].open);
    assert_string_equal(w.text, "1");
}

TEST(no_more_than_queue_max_commands_wait)
{
    fixture *f = *state;
    waiter w[5];

    for (int i = 0; i < 4; i++) {
        assert_int_equal(submit(f, &w[i], "A"), 0);
    }
    assert_true(submit(f, &w[4], "A") < 0);
    assert_string_equal(w[4].code, "queue_full");
    WAIT_UNTIL(f, has_got(f, 0, A A A A));
    say(&f->peers[0], "+1\r\n");
    WAIT_UNTIL(f, w[0].done == 1);
    assert_int_equal(submit(f, &w[4], "A"), 0);
    WAIT_UNTIL(f, has_got(f, 0, A A A A A));
    say(&f->peers[0], "+2\r\n+3\r\n+4\r\n+5\r\n");
    WAIT_UNTIL(f, w[4].done == 1);
}

TEST(the_login_says_who_and_where_first)
{
    fixture *f = *state;
    peri_redis_config config = config_of(f);
    char url[96];
    waiter w;

    snprintf(url, sizeof url, "redis://me:pass@%s/7", f->url + 8);
    config.url = url;
    f->login = NULL;
    peri_redis_set_unref(f->set, f->client);
    use(f, &config);
    submit(f, &w, "A");
    WAIT_UNTIL(f, has_got(f, 0,
                          "*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$4\r\npass\r\n"
                          "*2\r\n$6\r\nSELECT\r\n$1\r\n7\r\n" LOGIN));
    say(&f->peers[0], "-WRONGPASS no\r\n");
    WAIT_UNTIL(f, w.done == 1);
    assert_string_equal(w.code, "WRONGPASS");
    assert_int_equal(w.rc, 0);
    /* Known to be refused: at once. */
    assert_true(submit(f, &w, "A") < 0);
    assert_string_equal(w.code, "WRONGPASS");
}

TEST(a_server_that_is_down_is_tried_at_most_20_times_a_second)
{
    fixture *f = *state;
    waiter w;
    peri_redis_stats stats;
    uint64_t since_ms;

    uv_close((uv_handle_t *)&f->server, NULL);
    uv_run(&f->loop, UV_RUN_NOWAIT);
    submit(f, &w, "A");
    since_ms = uv_now(&f->loop);
    WAIT_UNTIL(f, w.done == 1);
    WAIT_UNTIL(f, uv_now(&f->loop) >= since_ms + 1000);
    peri_redis_client_get_stats(f->client, &stats);
    assert_true(stats.connects >= 2);
    assert_true(stats.connects <=
                2 + 20 * (uv_now(&f->loop) - since_ms) / 1000);
}

TEST(connections_of_their_own_are_kept_and_limited)
{
    fixture *f = *state;
    const peri_redis_holder holder = {0};
    peri_redis_conn *conns[3];
    peri_redis_fault fault;
    waiter w = {.op = {.replies = 1, .done = on_done}};

    for (int i = 0; i < 3; i++) {
        conns[i] = peri_redis_take(f->client, &holder, &fault);
        assert_non_null(conns[i]);
    }
    assert_null(peri_redis_take(f->client, &holder, &fault));
    assert_string_equal(fault.code, "queue_full");
    peri_redis_conn_submit(conns[2], &w.op, PERI_SLICE(A), 5000, &fault);
    WAIT_UNTIL(f, has_got(f, 2, A));
    say(&f->peers[2], "+1\r\n");
    WAIT_UNTIL(f, w.done == 1);
    peri_redis_give_back(conns[2], true);
    assert_ptr_equal(peri_redis_take(f->client, &holder, &fault), conns[2]);
    for (int i = 0; i < 3; i++) {
        peri_redis_give_back(conns[i], false);
    }
    WAIT_UNTIL(f, !f->peers[2].open);
}

/* ---- subscriptions ---- */

static void on_changed(void *data)
{
    ++*(int *)data;
}

TEST(a_subscription_gives_messages_and_comes_back)
{
    fixture *f = *state;
    int changes = 0;
    peri_redis_message *message;
    peri_redis_sub *sub = peri_redis_sub_open(
        f->client, PERI_SLICE("*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n"), 1,
        on_changed, &changes);

    WAIT_UNTIL(f, has_got(f, 0, "$1\r\na\r\n"));
    assert_int_equal(peri_redis_sub_state_of(sub), PERI_REDIS_SUB_WAITING);
    say(&f->peers[0], "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    WAIT_UNTIL(f, changes == 1);
    assert_int_equal(peri_redis_sub_state_of(sub), PERI_REDIS_SUB_LIVE);
    say(&f->peers[0], "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n");
    WAIT_UNTIL(f, peri_redis_sub_has(sub));
    message = peri_redis_sub_take(sub);
    assert_true(peri_slice_equal(message->payload, PERI_SLICE("hi")));
    assert_true(peri_slice_equal(message->channel, PERI_SLICE("a")));
    free(message);
    hang_up(&f->peers[0]);
    WAIT_UNTIL(f, has_got(f, 1, "$1\r\na\r\n")); /* subscribed again */
    peri_redis_sub_close(sub);
}

TEST(messages_that_nobody_takes_stop_the_reading)
{
    fixture *f = *state;
    int changes = 0;
    int taken = 0;
    int sent = 0;
    peri_redis_sub *sub = peri_redis_sub_open(
        f->client, PERI_SLICE("*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n"), 1,
        on_changed, &changes);

    WAIT_UNTIL(f, has_got(f, 0, "$1\r\na\r\n"));
    say(&f->peers[0], "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    WAIT_UNTIL(f, changes == 1);
    for (; sent < 4000; sent++) {
        say(&f->peers[0], "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n");
    }
    for (int i = 0; i < 20; i++) {
        uv_run(&f->loop, UV_RUN_NOWAIT);
    }
    assert_true(changes < 3000); /* the rest waits in the kernel */
    while (taken < sent) {
        peri_redis_message *message = peri_redis_sub_take(sub);

        if (message == NULL) {
            WAIT_UNTIL(f, peri_redis_sub_has(sub));
            continue;
        }
        free(message);
        taken++;
    }
    peri_redis_sub_close(sub);
}

TEST(clients_are_shared_by_name_until_their_configuration_changes)
{
    fixture *f = *state;
    peri_redis_config config = config_of(f);
    peri_redis_client *first = f->client;
    waiter w;

    use(f, &config);
    assert_ptr_equal(f->client, first);
    submit(f, &w, "A");
    WAIT_UNTIL(f, has_got(f, 0, A));
    config.timeout_ms++;
    use(f, &config);
    assert_ptr_not_equal(f->client, first);
    peri_redis_set_unref(f->set, first);
    assert_int_equal(w.done, 0);
    peri_redis_set_unref(f->set, first); /* the last: it is closed */
    assert_int_equal(w.done, 1);
    assert_true(w.rc < 0);
}

#define WITH_SERVER(test)                                                      \
    cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(
            commands_of_a_turn_share_a_write_and_their_replies_come_in_order),
        WITH_SERVER(several_replies_belong_to_one_that_waits_for_several),
        WITH_SERVER(the_reply_to_what_was_given_up_meets_nobody),
        WITH_SERVER(a_late_reply_is_dropped_and_the_connection_goes_on),
        WITH_SERVER(a_connection_that_answers_nothing_for_long_is_given_up),
        WITH_SERVER(a_connection_is_waited_for_no_longer_than_the_timeout),
        WITH_SERVER(a_lost_connection_fails_what_waits_and_comes_back),
        WITH_SERVER(what_is_no_reply_ends_the_connection),
        WITH_SERVER(a_reply_that_is_too_large_ends_the_connection),
        WITH_SERVER(a_reply_to_nothing_ends_the_connection),
        WITH_SERVER(no_more_than_queue_max_commands_wait),
        WITH_SERVER(the_login_says_who_and_where_first),
        WITH_SERVER(a_server_that_is_down_is_tried_at_most_20_times_a_second),
        WITH_SERVER(connections_of_their_own_are_kept_and_limited),
        WITH_SERVER(a_subscription_gives_messages_and_comes_back),
        WITH_SERVER(messages_that_nobody_takes_stop_the_reading),
        WITH_SERVER(
            clients_are_shared_by_name_until_their_configuration_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
