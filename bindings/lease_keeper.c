/* Keeper: a thread, a loop and a client of its own. */
#include "bindings/lease_keeper.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/redis/command.h"

#define BUCKETS 256
#define TICK_MIN_MS 50
#define COMMAND_MAX_BYTES ((size_t)64 << 20)
#define STACK_BYTES (256 * 1024)

/* Owners of other tokens are left alone. */
static const char renew_script[] =
    "for i = 1, #KEYS do "
    "if redis.call('GET', KEYS[i]) == ARGV[i + 1] then "
    "redis.call('PEXPIRE', KEYS[i], ARGV[1]) end end return 0";

typedef struct lease {
    struct lease *next;
    size_t key_length;
    size_t token_length;
    char text[]; /* key, then token */
} lease;

struct perilua_keeper {
    pthread_mutex_t lock; /* of the leases */
    lease *buckets[BUCKETS];
    size_t count;
    atomic_uint_fast64_t alive_ms;
    uint32_t lease_ms;

    /* Of the thread. */
    pthread_t thread;
    uv_loop_t loop;
    uv_timer_t timer;
    uv_async_t stop;
    peri_redis_config config;
    peri_redis_client *client; /* NULL: not needed so far */
    uint64_t next_slot_ms;
    peri_redis_op op;
    bool busy;
};

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

/* ---- leases ---- */

static size_t bucket_of(peri_slice key)
{
    size_t hash = 5381;

    for (size_t i = 0; i < key.length; i++) {
        hash = hash * 33 + (unsigned char)key.data[i];
    }
    return hash % BUCKETS;
}

static void remove_lease(perilua_keeper *keeper, peri_slice key)
{
    lease **at = &keeper->buckets[bucket_of(key)];

    for (; *at != NULL; at = &(*at)->next) {
        lease *l = *at;

        if (l->key_length == key.length &&
            memcmp(l->text, key.data, key.length) == 0) {
            *at = l->next;
            keeper->count--;
            free(l);
            return;
        }
    }
}

void perilua_keeper_add(perilua_keeper *keeper, peri_slice key,
                        peri_slice token)
{
    lease *l = peri_alloc(sizeof *l + key.length + token.length);
    size_t bucket = bucket_of(key);

    l->key_length = key.length;
    l->token_length = token.length;
    memcpy(l->text, key.data, key.length);
    memcpy(l->text + key.length, token.data, token.length);
    pthread_mutex_lock(&keeper->lock);
    remove_lease(keeper, key);
    l->next = keeper->buckets[bucket];
    keeper->buckets[bucket] = l;
    keeper->count++;
    pthread_mutex_unlock(&keeper->lock);
}

void perilua_keeper_drop(perilua_keeper *keeper, peri_slice key)
{
    pthread_mutex_lock(&keeper->lock);
    remove_lease(keeper, key);
    pthread_mutex_unlock(&keeper->lock);
}

void perilua_keeper_alive(perilua_keeper *keeper)
{
    atomic_store_explicit(&keeper->alive_ms, now_ms(), memory_order_relaxed);
}

/* ---- the thread ---- */

static int put_leases(perilua_keeper *keeper, bool tokens, peri_buf *out)
{
    int rc = 0;

    for (size_t i = 0; i < BUCKETS; i++) {
        for (lease *l = keeper->buckets[i]; l != NULL; l = l->next) {
            const char *from = tokens ? l->text + l->key_length : l->text;

            rc |= peri_redis_put(
                out,
                peri_slice_of(from, tokens ? l->token_length : l->key_length));
        }
    }
    return rc;
}

static void put_number(peri_buf *out, size_t number)
{
    char text[32];

    snprintf(text, sizeof text, "%zu", number);
    peri_redis_put(out, peri_slice_str(text));
}

/* False: there is nothing to renew, or more than a command can carry. */
static bool make_command(perilua_keeper *keeper, peri_buf *out)
{
    size_t count;
    int rc = 0;

    pthread_mutex_lock(&keeper->lock);
    count = keeper->count;
    if (count > 0) {
        peri_redis_put_count(out, 4 + 2 * count);
        peri_redis_put(out, peri_slice_str("EVAL"));
        peri_redis_put(out, peri_slice_str(renew_script));
        put_number(out, count);
        rc = put_leases(keeper, false, out);
        put_number(out, keeper->lease_ms);
        rc |= put_leases(keeper, true, out);
    }
    pthread_mutex_unlock(&keeper->lock);
    return count > 0 && rc == 0;
}

static void on_done(peri_redis_op *op, const peri_redis_fault *fault,
                    const peri_redis_reply *reply)
{
    perilua_keeper *keeper = PERI_CONTAINER(op, perilua_keeper, op);

    (void)fault;
    (void)reply;
    keeper->busy = false; /* if it failed: there will be another tick */
}

static void renew(perilua_keeper *keeper)
{
    peri_redis_fault fault;
    peri_buf command;

    peri_buf_init(&command, COMMAND_MAX_BYTES);
    if (make_command(keeper, &command)) {
        if (keeper->client == NULL) {
            keeper->client = peri_redis_client_create(
                &keeper->loop, &keeper->config, &keeper->next_slot_ms);
        }
        keeper->op.done = on_done;
        keeper->op.replies = 1;
        keeper->busy = peri_redis_submit(keeper->client, &keeper->op,
                                         peri_buf_slice(&command), &fault) == 0;
    }
    peri_buf_fini(&command);
}

static void on_tick(uv_timer_t *timer)
{
    perilua_keeper *keeper = timer->data;
    uint64_t alive_ms =
        atomic_load_explicit(&keeper->alive_ms, memory_order_relaxed);

    if (!keeper->busy && now_ms() - alive_ms > keeper->lease_ms / 3) {
        renew(keeper);
    }
}

static void on_stop(uv_async_t *stop)
{
    perilua_keeper *keeper = stop->data;

    uv_close((uv_handle_t *)&keeper->timer, NULL);
    uv_close((uv_handle_t *)&keeper->stop, NULL);
    if (keeper->client != NULL) {
        peri_redis_client_close(keeper->client, NULL, NULL);
        keeper->client = NULL;
    }
}

static void *thread_main(void *data)
{
    perilua_keeper *keeper = data;

    uv_run(&keeper->loop, UV_RUN_DEFAULT);
    return NULL;
}

/* Signals are for the loop's thread. */
static int start_thread(perilua_keeper *keeper)
{
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;
    int rc;

    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&keeper->thread, &attributes, thread_main, keeper);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return rc;
}

static const char *copy_of(const char *text)
{
    return text != NULL ? peri_strdup(text) : NULL;
}

static void free_keeper(perilua_keeper *keeper)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        while (keeper->buckets[i] != NULL) {
            lease *l = keeper->buckets[i];

            keeper->buckets[i] = l->next;
            free(l);
        }
    }
    uv_loop_close(&keeper->loop);
    pthread_mutex_destroy(&keeper->lock);
    free((char *)keeper->config.name);
    free((char *)keeper->config.url);
    free((char *)keeper->config.host);
    free(keeper);
}

perilua_keeper *perilua_keeper_create(const peri_redis_config *config,
                                      uint32_t lease_ms)
{
    perilua_keeper *keeper = peri_calloc(1, sizeof *keeper);
    uint64_t tick_ms = lease_ms / 6;

    keeper->config = *config;
    keeper->config.name = copy_of(config->name);
    keeper->config.url = copy_of(config->url);
    keeper->config.host = copy_of(config->host);
    memset(&keeper->config.target, 0, sizeof keeper->config.target);
    keeper->lease_ms = lease_ms;
    pthread_mutex_init(&keeper->lock, NULL);
    perilua_keeper_alive(keeper);
    tick_ms = tick_ms < TICK_MIN_MS ? TICK_MIN_MS : tick_ms;
    uv_loop_init(&keeper->loop);
    uv_timer_init(&keeper->loop, &keeper->timer);
    uv_async_init(&keeper->loop, &keeper->stop, on_stop);
    keeper->timer.data = keeper;
    keeper->stop.data = keeper;
    uv_timer_start(&keeper->timer, on_tick, tick_ms, tick_ms);
    if (start_thread(keeper) != 0) {
        uv_close((uv_handle_t *)&keeper->timer, NULL);
        uv_close((uv_handle_t *)&keeper->stop, NULL);
        uv_run(&keeper->loop, UV_RUN_DEFAULT);
        free_keeper(keeper);
        return NULL;
    }
    return keeper;
}

void perilua_keeper_destroy(perilua_keeper *keeper)
{
    if (keeper != NULL) {
        uv_async_send(&keeper->stop);
        pthread_join(keeper->thread, NULL);
        free_keeper(keeper);
    }
}
