/* Tracer: headers in and out, and the spans of requests that are served. */
#include "core/http/exchange.h"
#include "core/http/tracer_internal.h"

/* ---- headers ---- */

#define B3_BYTES 51 /* 32 "-" 16 "-1" */

static void inject_b3(const peri_trace_span *span,
                      void (*emit)(void *data, peri_slice name,
                                   peri_slice value),
                      void *data)
{
    const peri_trace_context *context = &span->context;
    char text[B3_BYTES];

    peri_hex_write(context->trace_id, PERI_TRACE_ID_BYTES, text);
    text[32] = '-';
    peri_hex_write(context->span_id, PERI_SPAN_ID_BYTES, text + 33);
    text[49] = '-';
    text[50] = context->sampled ? '1' : '0';
    if ((span->tracer->propagators & PERI_PROPAGATE_B3) != 0) {
        emit(data, PERI_SLICE("b3"), peri_slice_of(text, B3_BYTES));
    }
    if ((span->tracer->propagators & PERI_PROPAGATE_B3_MULTI) != 0) {
        emit(data, PERI_SLICE("x-b3-traceid"), peri_slice_of(text, 32));
        emit(data, PERI_SLICE("x-b3-spanid"), peri_slice_of(text + 33, 16));
        emit(data, PERI_SLICE("x-b3-sampled"), peri_slice_of(text + 50, 1));
    }
}

void peri_trace_inject(const peri_trace_span *span,
                       void (*emit)(void *data, peri_slice name,
                                    peri_slice value),
                       void *data)
{
    unsigned propagators = span->tracer->propagators;
    const peri_trace_span *root = span->root;
    char text[PERI_TRACEPARENT_BYTES];

    if ((propagators & PERI_PROPAGATE_W3C) != 0) {
        peri_traceparent_write(&span->context, text);
        emit(data, PERI_SLICE("traceparent"), peri_slice_of(text, sizeof text));
        if (root->state.length != 0) {
            emit(data, PERI_SLICE("tracestate"), peri_buf_slice(&root->state));
        }
    }
    if ((propagators & PERI_PROPAGATE_BAGGAGE) != 0 &&
        root->baggage.length != 0) {
        emit(data, PERI_SLICE("baggage"), peri_buf_slice(&root->baggage));
    }
    if ((propagators & (PERI_PROPAGATE_B3 | PERI_PROPAGATE_B3_MULTI)) != 0) {
        inject_b3(span, emit, data);
    }
}

bool peri_trace_extract(const peri_tracer *tracer,
                        peri_slice (*get)(void *data, peri_slice name),
                        void *data, peri_trace_remote *out)
{
    unsigned propagators = tracer->propagators;

    *out = (peri_trace_remote){.is_there = false};
    if ((propagators & PERI_PROPAGATE_W3C) != 0 &&
        peri_traceparent_read(get(data, PERI_SLICE("traceparent")),
                              &out->context) == 0) {
        out->is_there = true;
        out->state = get(data, PERI_SLICE("tracestate"));
        if (!peri_tracestate_is_sane(out->state)) {
            out->state = PERI_SLICE("");
        }
    }
    /* Whichever of its forms is sent, both are read. */
    if (!out->is_there &&
        (propagators & (PERI_PROPAGATE_B3 | PERI_PROPAGATE_B3_MULTI)) != 0) {
        out->is_there =
            peri_b3_read(get(data, PERI_SLICE("b3")), &out->context) == 0 ||
            peri_b3_multi_read(get(data, PERI_SLICE("x-b3-traceid")),
                               get(data, PERI_SLICE("x-b3-spanid")),
                               get(data, PERI_SLICE("x-b3-sampled")),
                               get(data, PERI_SLICE("x-b3-flags")),
                               &out->context) == 0;
    }
    if ((propagators & PERI_PROPAGATE_BAGGAGE) != 0) {
        out->baggage = get(data, PERI_SLICE("baggage"));
        if (!peri_baggage_is_sane(out->baggage)) {
            out->baggage = PERI_SLICE("");
        }
    }
    return out->is_there;
}

/* ---- requests ---- */

typedef struct lookup {
    const peri_exchange *ex;
    /* of tracestate and baggage, when they came in several lines */
    peri_buf joined[2];
} lookup;

/* Lists that came in several lines are one; of all else, two are none. */
static peri_slice get_field(void *data, peri_slice name)
{
    lookup *l = data;
    bool list = name.data[0] != 'x' && name.length > 2 &&
                !peri_slice_equal(name, PERI_SLICE("traceparent"));
    peri_buf *joined = &l->joined[name.data[0] == 't'];
    peri_slice first = {NULL, 0};
    int count = 0;

    for (uint16_t i = 0; i < l->ex->field_count; i++) {
        peri_slice value;

        if (!peri_slice_equal_nocase(
                peri_exchange_text(l->ex, l->ex->fields[i].name), name)) {
            continue;
        }
        value = peri_exchange_text(l->ex, l->ex->fields[i].value);
        if (count++ == 0) {
            first = value;
            continue;
        }
        if (!list) {
            return PERI_SLICE("");
        }
        if (count == 2) {
            peri_buf_clear(joined);
            peri_buf_append_slice(joined, first);
        }
        if (peri_buf_append_byte(joined, ',') < 0 ||
            peri_buf_append_slice(joined, value) < 0) {
            return PERI_SLICE("");
        }
    }
    return count > 1 ? peri_buf_slice(joined) : first;
}

void peri_tracer_request(peri_tracer *tracer, peri_exchange *ex)
{
    lookup l = {.ex = ex};
    peri_trace_remote remote;

    peri_buf_init(&l.joined[0], PERI_BAGGAGE_MAX);
    peri_buf_init(&l.joined[1], PERI_BAGGAGE_MAX);
    peri_trace_extract(tracer, get_field, &l, &remote);
    ex->trace =
        peri_trace_begin(tracer, peri_exchange_text(ex, ex->method_text),
                         PERI_SPAN_SERVER, &remote, ex->started_ns);
    peri_buf_fini(&l.joined[0]);
    peri_buf_fini(&l.joined[1]);
}

static void note_host(peri_attributes *to, const peri_exchange *ex)
{
    peri_slice host = peri_exchange_field(ex, PERI_SLICE("host"));
    const char *colon;
    size_t digits;
    int64_t port = 0;

    if (host.length == 0) {
        return;
    }
    colon = memrchr(host.data, ':', host.length);
    digits = colon != NULL ? (size_t)(host.data + host.length - colon - 1) : 0;
    if (digits == 0 || digits > 5 || memchr(colon, ']', digits + 1) != NULL) {
        peri_attributes_add_text(to, "server.address", host);
        return;
    }
    for (size_t i = 1; i <= digits; i++) {
        port = port * 10 + (colon[i] - '0'); /* scan has seen digits only */
    }
    peri_attributes_add_text(
        to, "server.address",
        peri_slice_of(host.data, (size_t)(colon - host.data)));
    peri_attributes_add_int(to, "server.port", port);
}

static void note_request(peri_attributes *to, peri_exchange *ex)
{
    peri_slice query = peri_exchange_text(ex, ex->query);
    peri_slice agent = peri_exchange_field(ex, PERI_SLICE("user-agent"));

    if (ex->method == PERI_METHOD_OTHER) {
        peri_attributes_add_text(to, "http.request.method",
                                 PERI_SLICE("_OTHER"));
        peri_attributes_add_text(to, "http.request.method_original",
                                 peri_exchange_text(ex, ex->method_text));
    } else {
        peri_attributes_add_text(to, "http.request.method",
                                 peri_exchange_text(ex, ex->method_text));
    }
    peri_attributes_add_text(to, "url.path", peri_exchange_text(ex, ex->path));
    if (query.length != 0) {
        peri_attributes_add_text(to, "url.query", query);
    }
    peri_attributes_add_text(to, "url.scheme",
                             ex->is_tls ? PERI_SLICE("https")
                                        : PERI_SLICE("http"));
    peri_attributes_add_text(to, "network.protocol.version",
                             ex->version_minor == 0 ? PERI_SLICE("1.0")
                                                    : PERI_SLICE("1.1"));
    note_host(to, ex);
    peri_attributes_add_text(to, "client.address", peri_exchange_remote(ex));
    if (agent.length != 0) {
        peri_attributes_add_text(to, "user_agent.original", agent);
    }
}

static void note_answer(peri_trace_span *span, const peri_exchange *ex)
{
    peri_attributes *to = &span->attributes;
    char status[8];

    peri_attributes_add_int(to, "http.response.status_code", ex->status);
    if (ex->gone) {
        peri_attributes_add_text(to, "error.type", PERI_SLICE("aborted"));
    } else if (ex->status >= 500) {
        snprintf(status, sizeof status, "%u", ex->status);
        peri_attributes_add_text(to, "error.type", peri_slice_str(status));
        peri_trace_set_status(span, PERI_SPAN_ERROR, PERI_SLICE(""));
    }
}

/* "GET /users/:id"; paths are not names: there are too many of them. */
static void name_it(peri_trace_span *span, const peri_exchange *ex)
{
    const char *pattern = ex->route != NULL ? ex->route->pattern : NULL;

    if (pattern == NULL) {
        return;
    }
    peri_attributes_add_text(&span->attributes, "http.route",
                             peri_slice_str(pattern));
    peri_buf_append_byte(&span->name, ' ');
    peri_utf8_append(&span->name, peri_slice_str(pattern),
                     PERI_SPAN_TEXT_MAX / 2);
}

void peri_tracer_done(peri_exchange *ex, uint64_t now_ns)
{
    peri_trace_span *span = ex->trace;

    ex->trace = NULL;
    if (span->recording) {
        note_request(&span->attributes, ex);
        note_answer(span, ex);
        name_it(span, ex);
    }
    peri_trace_end(span, now_ns);
    peri_trace_unref(span);
}
