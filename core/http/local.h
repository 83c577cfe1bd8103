/* Local: an exchange without a socket, for tests and for embedders. */
#ifndef PERI_HTTP_LOCAL_H
#define PERI_HTTP_LOCAL_H

#include <uv.h>

#include "core/http/exchange.h"

typedef struct peri_local_request {
    peri_slice method;
    peri_slice target; /* "/orders?page=2" */
    const peri_field *fields;
    size_t field_count;
    peri_slice body;
    peri_slice remote; /* "" means 127.0.0.1 */
} peri_local_request;

typedef struct peri_local_answer {
    int status;               /* 0: the exchange was aborted */
    const peri_field *fields; /* as they would have gone over the wire */
    size_t field_count;
    peri_slice body;
} peri_local_answer;

/* Copies the request. on_answer is called once, never from inside, with memory
 * borrowed during the call. 0, or PERI_EFORMAT for what a server would refuse.
 */
int peri_local_start(uv_loop_t *loop, const peri_http_app *app,
                     const peri_local_request *request,
                     void (*on_answer)(void *data, const peri_local_answer *a),
                     void *data);

#endif
