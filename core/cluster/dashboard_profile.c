/* Dashboard profile: the flame graph on a button. The page draws it from
 * stacks; files are `perigee profile`'s. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/json_text.h"
#include "core/cluster/dashboard.h"
#include "core/cluster/profile.h"

#define SECONDS_MAX 30
#define SECONDS_DEFAULT 5

typedef struct profile_ask {
    peri_dashboard_user user;
    peri_master *master;
    peri_exchange *exchange;
} profile_ask;

static void release(profile_ask *ask)
{
    peri_exchange_unref(ask->exchange);
    free(ask);
}

static void on_gone(peri_dashboard_user *user)
{
    profile_ask *ask = PERI_CONTAINER(user, profile_ask, user);

    peri_profile_forget(ask->master, ask);
    release(ask);
}

/* False: it is too large for a page. */
static bool result_json(const peri_profile_result *result, peri_buf *out)
{
    char summary[PERI_PROFILE_SUMMARY_BYTES];
    peri_buf stacks;
    bool fits;

    peri_buf_init(&stacks, PERI_DASHBOARD_JSON_MAX / 2);
    fits = peri_profile_render(result, PERI_PROFILE_COLLAPSED, &stacks) == 0;
    peri_profile_summary(result, summary, sizeof summary);
    peri_buf_append_str(out, "{\"summary\":");
    peri_json_append_string(out, peri_slice_str(summary));
    peri_buf_append_str(out, ",\"stacks\":");
    fits = fits && peri_json_append_string(out, peri_buf_slice(&stacks)) == 0;
    fits = fits && peri_buf_append_str(out, "}") == 0;
    peri_buf_fini(&stacks);
    return fits;
}

static void on_profile(void *data, const peri_profile_result *result)
{
    profile_ask *ask = data;
    peri_buf out;

    ask->exchange->user = NULL;
    peri_buf_init(&out, PERI_DASHBOARD_JSON_MAX);
    if (result->fault != NULL) {
        peri_dashboard_refuse(ask->exchange, 503, result->fault);
    } else if (!result_json(result, &out)) {
        peri_dashboard_refuse(ask->exchange, 500,
                              "the profile is too large for a page: see "
                              "perigee profile");
    } else {
        peri_dashboard_answer_as(ask->exchange, 200,
                                 PERI_SLICE("application/json"),
                                 peri_buf_slice(&out));
    }
    peri_buf_fini(&out);
    release(ask);
}

/* "kind=heap&seconds=5", or parts of it. False: it is none. */
static bool read_query(peri_slice query, peri_profile_options *out)
{
    char text[64] = {0};
    unsigned seconds = SECONDS_DEFAULT;
    char *rest;

    if (query.length >= sizeof text) {
        return false;
    }
    *out = (peri_profile_options){.kind = PERI_PROFILE_CPU, .worker = -1};
    if (query.length != 0) {
        memcpy(text, query.data, query.length);
    }
    for (char *part = strtok_r(text, "&", &rest); part != NULL;
         part = strtok_r(NULL, "&", &rest)) {
        char end;

        if (strcmp(part, "kind=heap") == 0) {
            out->kind = PERI_PROFILE_HEAP;
        } else if (strcmp(part, "kind=cpu") != 0 &&
                   sscanf(part, "seconds=%3u%c", &seconds, &end) != 1) {
            return false;
        }
    }
    out->duration_ms = seconds * 1000;
    return seconds >= 1 && seconds <= SECONDS_MAX;
}

void peri_dashboard_profile(peri_master *master, peri_exchange *ex)
{
    peri_profile_options options;
    profile_ask *ask;
    char why[160];

    if (!read_query(peri_exchange_text(ex, ex->query), &options)) {
        peri_dashboard_refuse(ex, 400, "kind is cpu or heap, seconds 1 to 30");
        return;
    }
    ask = peri_calloc(1, sizeof *ask);
    ask->user.gone = on_gone;
    ask->master = master;
    ask->exchange = ex;
    if (peri_profile_start(master, &options, on_profile, ask, why, sizeof why) <
        0) {
        peri_dashboard_refuse(ex, 409, why);
        free(ask);
        return;
    }
    peri_exchange_keep(ex);
    peri_exchange_ref(ex);
    ex->user = &ask->user;
}
