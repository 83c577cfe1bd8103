/* Dashboard: one page, and what it asks for, below /dashboard on the admin
 * listener. */
#include "core/cluster/dashboard.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"

#define PREFIX "/dashboard"
#define ASSET_NAME_MAX 40

/* Nothing but what this listener serves; no text can become code. */
#define CSP                                                                    \
    "default-src 'none'; script-src 'self'; style-src 'self'; "                \
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; "              \
    "form-action 'none'; frame-ancestors 'none'; "                             \
    "require-trusted-types-for 'script'; trusted-types 'none'"

static const peri_field common[] = {
    {PERI_SLICE_INIT("cache-control"), PERI_SLICE_INIT("no-store")},
    {PERI_SLICE_INIT("content-security-policy"), PERI_SLICE_INIT(CSP)},
    {PERI_SLICE_INIT("cross-origin-opener-policy"),
     PERI_SLICE_INIT("same-origin")},
    {PERI_SLICE_INIT("cross-origin-resource-policy"),
     PERI_SLICE_INIT("same-origin")},
    {PERI_SLICE_INIT("referrer-policy"), PERI_SLICE_INIT("no-referrer")},
    {PERI_SLICE_INIT("x-content-type-options"), PERI_SLICE_INIT("nosniff")},
    {PERI_SLICE_INIT("x-frame-options"), PERI_SLICE_INIT("DENY")},
};

#define COMMON_COUNT (sizeof common / sizeof common[0])

void peri_dashboard_answer_as(peri_exchange *ex, int status,
                              peri_slice content_type, peri_slice body)
{
    peri_exchange_answer(ex, status, content_type, common, COMMON_COUNT, body);
}

void peri_dashboard_refuse(peri_exchange *ex, int status, const char *detail)
{
    peri_exchange_problem(ex, status, peri_slice_str(detail), common,
                          COMMON_COUNT);
}

/* ---- files ---- */

static peri_slice type_of(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot == NULL                ? PERI_SLICE("application/octet-stream")
           : strcmp(dot, ".js") == 0  ? PERI_SLICE("text/javascript")
           : strcmp(dot, ".css") == 0 ? PERI_SLICE("text/css; charset=utf-8")
           : strcmp(dot, ".svg") == 0 ? PERI_SLICE("image/svg+xml")
                                      : PERI_SLICE("text/html; charset=utf-8");
}

static void answer_asset(const peri_master *master, peri_exchange *ex,
                         peri_slice name)
{
    char text[ASSET_NAME_MAX + 1] = {0};
    peri_slice body;

    if (name.length > ASSET_NAME_MAX ||
        (memcpy(text, name.data, name.length), strchr(text, '/') != NULL) ||
        master->options->asset == NULL ||
        !master->options->asset(text, &body)) {
        peri_dashboard_refuse(ex, 404, "");
        return;
    }
    peri_dashboard_answer_as(ex, 200, type_of(text), body);
}

static void redirect(peri_exchange *ex)
{
    peri_field location = {PERI_SLICE("location"), PERI_SLICE(PREFIX)};

    peri_exchange_answer(ex, 302, PERI_SLICE(""), &location, 1, PERI_SLICE(""));
}

/* ---- numbers ---- */

static void answer_json(peri_master *master, peri_exchange *ex, bool slow)
{
    peri_buf out;

    peri_buf_init(&out, PERI_DASHBOARD_JSON_MAX);
    if (slow) {
        peri_dashboard_slow(master, &out);
    } else {
        peri_dashboard_state(master, &out);
    }
    peri_dashboard_answer_as(ex, 200, PERI_SLICE("application/json"),
                             peri_buf_slice(&out));
    peri_buf_fini(&out);
}

/* ---- the way of a request ---- */

static bool is_get(const peri_exchange *ex)
{
    return ex->method == PERI_METHOD_GET || ex->method == PERI_METHOD_HEAD;
}

static void refuse_method(peri_exchange *ex, peri_slice allowed)
{
    peri_field allow = {PERI_SLICE("allow"), allowed};

    peri_exchange_problem(ex, 405, PERI_SLICE(""), &allow, 1);
}

/* What follows /dashboard/queues, with the query. */
static peri_slice queues_target(const peri_exchange *ex)
{
    peri_slice target = peri_exchange_text(ex, ex->target);
    size_t skipped =
        ex->path.offset - ex->target.offset + sizeof PREFIX "/queues" - 1;

    return peri_slice_of(target.data + skipped, target.length - skipped);
}

static void answer_queues(peri_master *master, peri_exchange *ex)
{
    const char *why = NULL;

    if (!is_get(ex) && ex->method != PERI_METHOD_POST) {
        refuse_method(ex, PERI_SLICE("GET, HEAD, POST"));
        return;
    }
    if (ex->method == PERI_METHOD_POST) {
        why = peri_dashboard_suspect_change(ex);
        if (why == NULL && !peri_dashboard_may_write(master)) {
            why = "the dashboard is read-only: admin.dashboard.write is not "
                  "set";
        }
    }
    if (why != NULL) {
        peri_dashboard_refuse(ex, 403, why);
        return;
    }
    peri_dashboard_queues(master, ex, queues_target(ex));
}

/* It changes nothing, but costs: pages of our own alone. */
static void answer_profile(peri_master *master, peri_exchange *ex)
{
    const char *why = peri_dashboard_suspect_change(ex);

    if (ex->method != PERI_METHOD_POST) {
        refuse_method(ex, PERI_SLICE("POST"));
    } else if (why != NULL) {
        peri_dashboard_refuse(ex, 403, why);
    } else {
        peri_dashboard_profile(master, ex);
    }
}

static void answer_below(peri_master *master, peri_exchange *ex,
                         peri_slice rest)
{
    if (peri_slice_equal(rest, PERI_SLICE("/queues")) ||
        peri_slice_starts(rest, PERI_SLICE("/queues/"))) {
        answer_queues(master, ex);
    } else if (peri_slice_equal(rest, PERI_SLICE("/profile"))) {
        answer_profile(master, ex);
    } else if (!is_get(ex)) {
        refuse_method(ex, PERI_SLICE("GET, HEAD"));
    } else if (rest.length <= 1) {
        answer_asset(master, ex, PERI_SLICE("index.html"));
    } else if (peri_slice_equal(rest, PERI_SLICE("/events"))) {
        peri_dashboard_join(master, ex);
    } else if (peri_slice_equal(rest, PERI_SLICE("/state"))) {
        answer_json(master, ex, false);
    } else if (peri_slice_equal(rest, PERI_SLICE("/slow"))) {
        answer_json(master, ex, true);
    } else {
        answer_asset(master, ex, peri_slice_of(rest.data + 1, rest.length - 1));
    }
}

static bool is_below(peri_slice path)
{
    size_t length = sizeof PREFIX - 1;

    return peri_slice_starts(path, PERI_SLICE(PREFIX)) &&
           (path.length == length || path.data[length] == '/');
}

bool peri_dashboard_answer(peri_master *master, peri_exchange *ex,
                           peri_slice path)
{
    bool is_root = peri_slice_equal(path, PERI_SLICE("/"));
    size_t length = sizeof PREFIX - 1;
    const char *why;

    if ((!is_root && !is_below(path)) || !peri_dashboard_is_on(master)) {
        return false;
    }
    why = peri_dashboard_suspect(master, ex,
                                 is_root || path.length <= length + 1);
    if (why != NULL) {
        peri_dashboard_refuse(ex, 403, why);
    } else if (is_root && is_get(ex)) {
        redirect(ex);
    } else if (is_root) {
        refuse_method(ex, PERI_SLICE("GET, HEAD"));
    } else {
        answer_below(master, ex,
                     peri_slice_of(path.data + length, path.length - length));
    }
    return true;
}

void peri_dashboard_gone(peri_master *master, peri_exchange *ex)
{
    peri_dashboard_user *user = ex->user;

    (void)master;
    if (user != NULL) {
        ex->user = NULL;
        user->gone(user);
    }
}

/* ---- coming and going ---- */

void peri_dashboard_create(peri_master *master)
{
    peri_dashboard *dashboard = peri_calloc(1, sizeof *dashboard);

    dashboard->master = master;
    peri_list_init(&dashboard->viewers);
    uv_timer_init(&master->loop, &dashboard->timer);
    dashboard->timer.data = dashboard;
    master->dashboard = dashboard;
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void peri_dashboard_destroy(peri_master *master)
{
    peri_dashboard *dashboard = master->dashboard;

    if (dashboard != NULL) {
        peri_dashboard_end_viewers(dashboard);
        master->dashboard = NULL;
        uv_close((uv_handle_t *)&dashboard->timer, on_timer_closed);
    }
}
