/* perigee.core.client, inside: what bind_client.c and client_*.c share. */
#ifndef PERILUA_CLIENT_BIND_H
#define PERILUA_CLIENT_BIND_H

#include "bindings/bind.h"
#include "core/http/client.h"

#define PERILUA_CLIENT_FIELDS_MAX 200

typedef enum perilua_client_want {
    PERILUA_WANT_HEAD,
    PERILUA_WANT_WHOLE,
    PERILUA_WANT_RAW, /* the whole, its head as it came */
    PERILUA_WANT_CHUNK,
    PERILUA_WANT_DRAIN
} perilua_client_want;

/* A call, and the task that waits for it. The userdata holds a pointer to it;
 * collected while a task waits, it lives on until that wait is over. */
typedef struct perilua_client_call {
    peri_call *call; /* NULL: closed */
    perilua_wait wait;
    perilua_owned owned; /* by the task, as a stream that may stay unread */
    const char *what;    /* for messages: "GET http://host/path" */
    /* whose what is, or NULL: it is the call's own */
    struct perilua_prepared *request;
    perilua_client_want want;
    bool whole;
    bool orphan;
} perilua_client_call;

/* ---- client_options.c ---- */

/* Everything but its tls; fields has room for PERILUA_CLIENT_FIELDS_MAX. Text
 * stays the table's; the result is what messages call it. */
peri_slice perilua_client_get_options(lua_State *L, int table,
                                      peri_call_options *options,
                                      peri_field *fields);

/* options.tls: whom to trust, as whom to go; absent: plain. False: why. */
bool perilua_client_get_identity(lua_State *L, int table, perilua_vm *vm,
                                 peri_call_options *options, char *why,
                                 size_t why_bytes);

/* ---- client_answer.c ---- */

/* Ends the call, whatever has come of it. */
void perilua_client_close(perilua_client_call *box);

/* Whether what is wanted of it is there, or never will be. */
bool perilua_client_is_ready(const perilua_client_call *box);

/* Pushes it, for perilua_task_wake(); data is the call. */
int perilua_client_push_result(lua_State *L, void *data);

void perilua_client_push_headers(lua_State *L, const peri_reply *reply,
                                 bool decoded);

#endif
