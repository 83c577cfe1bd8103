/* Worker: questions of the master's, answered by the application. An answer
 * goes back in pieces that fit the channel. */
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/cluster/worker_state.h"

typedef struct worker_ask {
    peri_worker *worker;
    uint32_t number;
} worker_ask;

static void tell(peri_worker *w, uint32_t number, int status, peri_slice text)
{
    while (w->channel != NULL) {
        bool last = text.length <= PERI_CHANNEL_TEXT_MAX;
        size_t length = last ? text.length : PERI_CHANNEL_TEXT_MAX;
        peri_channel_message message = {
            .verb = PERI_CHANNEL_TOLD,
            .number = number,
            .generation = last ? (uint64_t)status : 0,
            .text = peri_slice_of(text.data, length),
            .fd = -1};

        /* What the master does not take is late for it, soon. */
        if (peri_channel_send(w->channel, &message) < 0 || last) {
            return;
        }
        text.data += length;
        text.length -= length;
    }
}

static void on_told(void *data, int status, peri_slice json)
{
    worker_ask *ask = data;

    tell(ask->worker, ask->number, status, json);
    free(ask);
}

void peri_worker_on_ask(peri_worker *w, const peri_channel_message *message)
{
    worker_ask *ask;

    if (w->app->ask == NULL || w->phase != PERI_WORKER_SERVING) {
        tell(w, message->number, 503, PERI_SLICE("{}"));
        return;
    }
    ask = peri_calloc(1, sizeof *ask);
    ask->worker = w;
    ask->number = message->number;
    w->app->ask(w->host, message->text, on_told, ask);
}
