/* Dashboard, inside: what its files share.
 *
 *   dashboard.c         paths, files, the way of a request
 *   dashboard_guard.c   who may look, and who may change
 *   dashboard_live.c    viewers: what happens, as server-sent events
 *   dashboard_state.c   the numbers, as JSON
 *   dashboard_routes.c  of them those of routes
 *   dashboard_queues.c  what a worker is asked
 *   dashboard_profile.c the flame graph */
#ifndef PERI_CLUSTER_DASHBOARD_H
#define PERI_CLUSTER_DASHBOARD_H

#include "core/cluster/master_state.h"
#include "core/shm/ring_tail.h"

#define PERI_DASHBOARD_JSON_MAX ((size_t)4 << 20)

/* What an exchange that is not answered yet belongs to: exchange->user. */
typedef struct peri_dashboard_user {
    /* The client has left; drops the reference. */
    void (*gone)(struct peri_dashboard_user *user);
} peri_dashboard_user;

typedef struct peri_dashboard {
    peri_master *master;
    peri_list viewers;
    int viewer_count;
    uv_timer_t timer; /* runs while there are viewers */
    unsigned ticks;
    uint32_t slow_seen; /* changes of the recorders, when last told */
    /* Of each log ring, what was told. */
    peri_ring_cursor log_at[PERI_SLOTS_MAX + 1];
} peri_dashboard;

/* ---- dashboard.c ---- */

/* With the fields that every answer has. */
void peri_dashboard_answer_as(peri_exchange *ex, int status,
                              peri_slice content_type, peri_slice body);
void peri_dashboard_refuse(peri_exchange *ex, int status, const char *detail);

/* ---- dashboard_guard.c ---- */

/* Whether another site's page may be behind it, or somebody from elsewhere.
 * NULL: it may be answered; else why not. is_page: where links may lead. */
const char *peri_dashboard_suspect(const peri_master *master, peri_exchange *ex,
                                   bool is_page);
/* The same for what changes something. */
const char *peri_dashboard_suspect_change(peri_exchange *ex);
bool peri_dashboard_is_on(const peri_master *master);
bool peri_dashboard_may_write(const peri_master *master);

/* ---- dashboard_live.c ---- */

void peri_dashboard_join(peri_master *master, peri_exchange *ex);
void peri_dashboard_end_viewers(peri_dashboard *dashboard);

/* ---- dashboard_state.c, dashboard_routes.c ---- */

void peri_dashboard_state(peri_master *master, peri_buf *out);
/* The slowest requests of all workers. */
void peri_dashboard_slow(const peri_master *master, peri_buf *out);
uint32_t peri_dashboard_slow_changes(const peri_master *master);

typedef struct peri_routes peri_routes;

peri_routes *peri_routes_create(void);
void peri_routes_destroy(peri_routes *routes);
/* One series of http_server_request_duration_seconds. */
void peri_routes_add(peri_routes *routes, peri_slice labels,
                     const double *bounds, const double *counts, size_t count,
                     double sum);
/* As members of an object, with a comma behind. */
void peri_routes_json(const peri_routes *routes, peri_buf *out);

/* ---- dashboard_queues.c ---- */

/* target: what follows /dashboard/queues, query included. */
void peri_dashboard_queues(peri_master *master, peri_exchange *ex,
                           peri_slice target);

/* ---- dashboard_profile.c ---- */

void peri_dashboard_profile(peri_master *master, peri_exchange *ex);

#endif
