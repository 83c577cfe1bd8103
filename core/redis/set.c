/* Set: a list of clients. */
#include "core/redis/set.h"

#include <stdlib.h>

#include "core/base/alloc.h"

typedef struct set_member {
    peri_list link;
    peri_redis_set *set;
    peri_redis_client *client;
    uint32_t refs;
    bool superseded; /* by one of the same name with a new configuration */
} set_member;

struct peri_redis_set {
    uv_loop_t *loop;
    uv_timer_t timer; /* so that closed comes from the loop, clients or none */
    peri_list members;
    uint64_t next_slot_ms; /* for all attempts to connect */
    uint32_t open;
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
};

static void on_set_closed(uv_handle_t *handle)
{
    peri_redis_set *set = handle->data;

    if (set->closed != NULL) {
        set->closed(set->closed_data);
    }
    free(set);
}

static void close_when_empty(peri_redis_set *set)
{
    if (set->closing && set->open == 0) {
        uv_close((uv_handle_t *)&set->timer, on_set_closed);
    }
}

static void on_client_closed(void *data)
{
    set_member *member = data;
    peri_redis_set *set = member->set;

    free(member);
    set->open--;
    close_when_empty(set);
}

static void member_close(set_member *member)
{
    peri_list_remove(&member->link);
    peri_redis_client_close(member->client, on_client_closed, member);
}

peri_redis_set *peri_redis_set_create(uv_loop_t *loop)
{
    peri_redis_set *set = peri_calloc(1, sizeof *set);

    set->loop = loop;
    peri_list_init(&set->members);
    uv_timer_init(loop, &set->timer);
    set->timer.data = set;
    return set;
}

void peri_redis_set_close(peri_redis_set *set, void (*closed)(void *data),
                          void *data)
{
    set->closing = true;
    set->closed = closed;
    set->closed_data = data;
    while (!peri_list_empty(&set->members)) {
        member_close(PERI_CONTAINER(set->members.next, set_member, link));
    }
    close_when_empty(set);
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

static bool same_tls(const peri_redis_tls *a, const peri_redis_tls *b)
{
    return same_text(a->ca, b->ca) && same_text(a->cert, b->cert) &&
           same_text(a->key, b->key) &&
           same_text(a->server_name, b->server_name) &&
           a->insecure == b->insecure;
}

static bool same_config(const peri_redis_config *a, const peri_redis_config *b)
{
    return strcmp(a->url, b->url) == 0 &&
           a->connect_timeout_ms == b->connect_timeout_ms &&
           a->timeout_ms == b->timeout_ms && a->pool == b->pool &&
           a->own_max == b->own_max && a->queue_max == b->queue_max &&
           a->reply_max_bytes == b->reply_max_bytes &&
           same_tls(&a->tls, &b->tls) && a->sentinel == b->sentinel &&
           a->readonly == b->readonly;
}

static set_member *member_add(peri_redis_set *set,
                              const peri_redis_config *config)
{
    set_member *member = peri_calloc(1, sizeof *member);

    member->set = set;
    member->client =
        peri_redis_client_create(set->loop, config, &set->next_slot_ms);
    peri_list_append(&set->members, &member->link);
    set->open++;
    return member;
}

peri_redis_client *peri_redis_set_ref(peri_redis_set *set,
                                      const peri_redis_config *config)
{
    set_member *found = NULL;
    peri_list *next;

    for (peri_list *at = set->members.next; at != &set->members; at = next) {
        set_member *member = PERI_CONTAINER(at, set_member, link);
        const peri_redis_config *its = peri_redis_client_config(member->client);

        next = at->next;
        if (strcmp(its->name, config->name) != 0) {
            continue;
        }
        if (same_config(its, config)) {
            member->superseded = false;
            found = member;
            continue;
        }
        member->superseded = true;
        if (member->refs == 0) {
            member_close(member);
        }
    }
    if (found == NULL) {
        found = member_add(set, config);
    }
    found->refs++;
    return found->client;
}

static set_member *member_of(peri_redis_set *set,
                             const peri_redis_client *client)
{
    for (peri_list *at = set->members.next; at != &set->members;
         at = at->next) {
        set_member *member = PERI_CONTAINER(at, set_member, link);

        if (member->client == client) {
            return member;
        }
    }
    return NULL;
}

void peri_redis_set_keep(peri_redis_set *set, peri_redis_client *client)
{
    set_member *member = member_of(set, client);

    if (member != NULL) {
        member->refs++;
    }
}

void peri_redis_set_unref(peri_redis_set *set, peri_redis_client *client)
{
    set_member *member = member_of(set, client);

    if (member != NULL && --member->refs == 0 &&
        (member->superseded || peri_redis_client_config(client)->transient)) {
        member_close(member);
    }
}

void peri_redis_set_each(const peri_redis_set *set,
                         void (*fn)(void *data, const char *name,
                                    const peri_pool_counts *counts),
                         void *data)
{
    for (const peri_list *at = set->members.next; at != &set->members;
         at = at->next) {
        const set_member *member = PERI_CONTAINER(at, set_member, link);
        peri_pool_counts counts;

        peri_redis_client_count(member->client, &counts);
        fn(data, peri_redis_client_config(member->client)->name, &counts);
    }
}
