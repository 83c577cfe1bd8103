/* Dashboard queues: passed on to a worker, whose answer is passed back. */
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/cluster/dashboard.h"

#define QUESTION_MAX ((size_t)2 << 10)

typedef struct queues_ask {
    peri_dashboard_user user;
    peri_exchange *exchange;
    peri_ask *ask;
} queues_ask;

static void release(queues_ask *ask)
{
    peri_exchange_unref(ask->exchange);
    free(ask);
}

static void on_gone(peri_dashboard_user *user)
{
    queues_ask *ask = PERI_CONTAINER(user, queues_ask, user);

    peri_ask_forget(ask->ask);
    release(ask);
}

static void on_told(void *data, int status, peri_slice json)
{
    queues_ask *ask = data;

    ask->exchange->user = NULL;
    peri_dashboard_answer_as(ask->exchange, status,
                             PERI_SLICE("application/json"), json);
    release(ask);
}

void peri_dashboard_queues(peri_master *master, peri_exchange *ex,
                           peri_slice target)
{
    queues_ask *ask;
    peri_buf question;
    int rc;

    peri_buf_init(&question, QUESTION_MAX);
    peri_buf_append_str(&question,
                        ex->method == PERI_METHOD_POST ? "POST " : "GET ");
    rc = peri_buf_append_slice(&question, target);
    if (rc < 0) {
        peri_buf_fini(&question);
        peri_dashboard_refuse(ex, 414, "");
        return;
    }
    ask = peri_calloc(1, sizeof *ask);
    ask->user.gone = on_gone;
    ask->exchange = ex;
    peri_exchange_keep(ex);
    peri_exchange_ref(ex);
    ask->ask = peri_ask_worker(master, peri_buf_slice(&question), on_told, ask);
    peri_buf_fini(&question);
    if (ask->ask == NULL) {
        peri_dashboard_refuse(ex, 503, "no worker can be asked now");
        release(ask);
        return;
    }
    ex->user = &ask->user;
}
