/* Set: a list of pools. */
#include "core/sqlite/set.h"

#include <assert.h>
#include <sqlite3.h>
#include <stdlib.h>

#include "core/base/alloc.h"

/* What undoes a statement or a savepoint goes to a file beyond that: batches of
 * small changes, the most frequent case by far, should not make one each. It is
 * written in one piece then, and SQLite writes no piece of 128 KB or more. */
#define UNDO_MAX_BYTES 0x1f000

typedef struct set_member {
    peri_list link;
    peri_sqlite_set *set;
    peri_sqlite_pool *pool;
    uint32_t refs;
    bool superseded; /* by one of the same name with a new configuration */
} set_member;

struct peri_sqlite_set {
    uv_loop_t *loop;
    uv_async_t async; /* so that closed comes from the loop, pools or none */
    peri_list members;
    uint32_t pools_open;
    bool closing;
    void (*closed)(void *data);
    void *closed_data;
};

static void on_set_closed(uv_handle_t *handle)
{
    peri_sqlite_set *set = handle->data;

    if (set->closed != NULL) {
        set->closed(set->closed_data);
    }
    free(set);
}

static void close_when_empty(peri_sqlite_set *set)
{
    if (set->closing && set->pools_open == 0) {
        uv_close((uv_handle_t *)&set->async, on_set_closed);
    }
}

static void on_pool_closed(void *data)
{
    set_member *member = data;
    peri_sqlite_set *set = member->set;

    free(member);
    set->pools_open--;
    close_when_empty(set);
}

static void member_close(set_member *member)
{
    peri_list_remove(&member->link);
    peri_sqlite_pool_close(member->pool, on_pool_closed, member);
}

peri_sqlite_set *peri_sqlite_set_create(uv_loop_t *loop)
{
    peri_sqlite_set *set = peri_calloc(1, sizeof *set);

    /* Once in a process: refused, and not needed, when SQLite is in use. Pages
     * one by one: twenty at once for each small table of a RETURNING went back
     * to the system with it, and were faulted in again for the next one. */
    sqlite3_config(SQLITE_CONFIG_STMTJRNL_SPILL, UNDO_MAX_BYTES);
    sqlite3_config(SQLITE_CONFIG_PAGECACHE, NULL, 0, 0);
    set->loop = loop;
    peri_list_init(&set->members);
    uv_async_init(loop, &set->async, NULL);
    set->async.data = set;
    uv_unref((uv_handle_t *)&set->async);
    return set;
}

void peri_sqlite_set_close(peri_sqlite_set *set, void (*closed)(void *data),
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

static bool same_config(const peri_sqlite_config *a,
                        const peri_sqlite_config *b)
{
    return strcmp(a->path, b->path) == 0 &&
           strcmp(a->synchronous, b->synchronous) == 0 &&
           a->busy_timeout_ms == b->busy_timeout_ms &&
           a->wait_timeout_ms == b->wait_timeout_ms &&
           a->readers == b->readers && a->queue_max == b->queue_max &&
           a->rows_max == b->rows_max &&
           a->result_max_bytes == b->result_max_bytes;
}

static set_member *member_add(peri_sqlite_set *set,
                              const peri_sqlite_config *config)
{
    set_member *member = peri_calloc(1, sizeof *member);

    member->set = set;
    member->pool = peri_sqlite_pool_create(set->loop, config);
    peri_list_append(&set->members, &member->link);
    set->pools_open++;
    return member;
}

peri_sqlite_pool *peri_sqlite_set_ref(peri_sqlite_set *set,
                                      const peri_sqlite_config *config)
{
    set_member *found = NULL;
    peri_list *next;

    assert(!set->closing);
    for (peri_list *at = set->members.next; at != &set->members; at = next) {
        set_member *member = PERI_CONTAINER(at, set_member, link);
        const peri_sqlite_config *its = peri_sqlite_pool_config(member->pool);

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
    return found->pool;
}

void peri_sqlite_set_unref(peri_sqlite_set *set, peri_sqlite_pool *pool)
{
    for (peri_list *at = set->members.next; at != &set->members;
         at = at->next) {
        set_member *member = PERI_CONTAINER(at, set_member, link);

        if (member->pool == pool) {
            member->refs--;
            if (member->refs == 0 && member->superseded) {
                member_close(member);
            }
            return;
        }
    }
}

void peri_sqlite_set_each(const peri_sqlite_set *set,
                          void (*fn)(void *data, const char *name,
                                     const peri_pool_counts *counts),
                          void *data)
{
    for (const peri_list *at = set->members.next; at != &set->members;
         at = at->next) {
        const set_member *member = PERI_CONTAINER(at, set_member, link);
        peri_pool_counts counts;

        peri_sqlite_pool_count(member->pool, &counts);
        fn(data, peri_sqlite_pool_config(member->pool)->name, &counts);
    }
}
