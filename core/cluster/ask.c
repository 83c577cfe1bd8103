/* Ask: questions that only a worker can answer, such as those about queues,
 * whose drivers are written in Lua.
 *
 * One worker that serves gets the question over its channel, the next question
 * goes to the next one. Its answer comes in pieces. A worker that dies, or says
 * nothing for too long, is answered for. */
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/cluster/master_state.h"

#define ASKS_MAX 16
#define ANSWER_MAX ((size_t)1 << 20)
#define LIMIT_MS 10000

struct peri_ask {
    peri_list link; /* of master->asks */
    uv_timer_t timer;
    peri_master *master;
    peri_proc *proc;
    uint32_t number;
    peri_buf answer;
    void (*told)(void *data, int status, peri_slice json);
    void *data;
};

static void on_timer_closed(uv_handle_t *handle)
{
    peri_ask *ask = handle->data;

    peri_buf_fini(&ask->answer);
    free(ask);
}

/* The callback is NULL when nobody wants to know any more. */
static void finish(peri_ask *ask, int status, peri_slice json)
{
    peri_list_remove(&ask->link);
    ask->master->ask_count--;
    if (ask->told != NULL) {
        ask->told(ask->data, status, json);
    }
    uv_close((uv_handle_t *)&ask->timer, on_timer_closed);
}

static void on_late(uv_timer_t *timer)
{
    finish(timer->data, 504,
           PERI_SLICE("{\"detail\":\"the worker did not answer in time\"}"));
}

/* The next one in charge of a seat; NULL: none serves. */
static peri_proc *choose(peri_master *master)
{
    for (int i = 0; i < master->seat_count; i++) {
        int at = (int)(++master->next_asked % (uint32_t)master->seat_count);
        peri_proc *proc = master->seats[at]->proc;

        if (proc != NULL && proc->state == PERI_PROC_SERVING &&
            atomic_load(&peri_proc_slot(proc)->state) == PERI_SLOT_SERVING) {
            return proc;
        }
    }
    return NULL;
}

peri_ask *peri_ask_worker(peri_master *master, peri_slice question,
                          void (*told)(void *data, int status, peri_slice json),
                          void *data)
{
    peri_proc *proc = choose(master);
    peri_channel_message message = {
        .verb = PERI_CHANNEL_ASK, .text = question, .fd = -1};
    peri_ask *ask;

    if (proc == NULL || master->ask_count >= ASKS_MAX ||
        question.length > PERI_CHANNEL_TEXT_MAX) {
        return NULL;
    }
    message.number = ++master->ask_number;
    if (peri_channel_send(proc->channel, &message) < 0) {
        return NULL;
    }
    ask = peri_calloc(1, sizeof *ask);
    ask->master = master;
    ask->proc = proc;
    ask->number = message.number;
    ask->told = told;
    ask->data = data;
    peri_buf_init(&ask->answer, ANSWER_MAX);
    uv_timer_init(&master->loop, &ask->timer);
    ask->timer.data = ask;
    uv_timer_start(&ask->timer, on_late, LIMIT_MS, 0);
    peri_list_append(&master->asks, &ask->link);
    master->ask_count++;
    return ask;
}

void peri_ask_forget(peri_ask *ask)
{
    ask->told = NULL;
}

void peri_ask_told(peri_proc *proc, const peri_channel_message *message)
{
    for (peri_list *link = proc->master->asks.next; link != &proc->master->asks;
         link = link->next) {
        peri_ask *ask = PERI_CONTAINER(link, peri_ask, link);

        if (ask->proc != proc || ask->number != message->number) {
            continue;
        }
        if (peri_buf_append_slice(&ask->answer, message->text) < 0) {
            finish(ask, 500,
                   PERI_SLICE("{\"detail\":\"the answer is too large\"}"));
        } else if (message->generation != 0) {
            finish(ask, (int)message->generation, peri_buf_slice(&ask->answer));
        }
        return;
    }
}

static void fail_all(peri_master *master, const peri_proc *proc)
{
    peri_list *next;

    for (peri_list *link = master->asks.next; link != &master->asks;
         link = next) {
        peri_ask *ask = PERI_CONTAINER(link, peri_ask, link);

        next = link->next;
        if (proc == NULL || ask->proc == proc) {
            finish(ask, 503, PERI_SLICE("{\"detail\":\"the worker ended\"}"));
        }
    }
}

void peri_ask_proc_ended(peri_proc *proc)
{
    fail_all(proc->master, proc);
}

void peri_ask_close(peri_master *master)
{
    fail_all(master, NULL);
}
