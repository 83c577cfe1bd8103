/* Tracer: headers in and out. What the spans of requests hold is in
 * tracer_server.c. */
#include "core/base/text_code.h"
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
    bool debug = context->debug && context->sampled;
    char text[B3_BYTES];

    peri_hex_encode(context->trace_id, PERI_TRACE_ID_BYTES, text);
    text[32] = '-';
    peri_hex_encode(context->span_id, PERI_SPAN_ID_BYTES, text + 33);
    text[49] = '-';
    text[50] = debug ? 'd' : context->sampled ? '1' : '0';
    if ((span->tracer->propagators & PERI_PROPAGATE_B3) != 0) {
        emit(data, PERI_SLICE("b3"), peri_slice_of(text, B3_BYTES));
    }
    if ((span->tracer->propagators & PERI_PROPAGATE_B3_MULTI) != 0) {
        emit(data, PERI_SLICE("x-b3-traceid"), peri_slice_of(text, 32));
        emit(data, PERI_SLICE("x-b3-spanid"), peri_slice_of(text + 33, 16));
        if (debug) { /* says that it is sampled, too */
            emit(data, PERI_SLICE("x-b3-flags"), PERI_SLICE("1"));
        } else {
            emit(data, PERI_SLICE("x-b3-sampled"), peri_slice_of(text + 50, 1));
        }
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

/* Whether a field may be one of those above; most requests have none. */
static bool may_have_context(const peri_exchange *ex)
{
    for (uint16_t i = 0; i < ex->field_count; i++) {
        peri_slice name = peri_exchange_text(ex, ex->fields[i].name);
        char first = (char)(name.data[0] | 0x20);

        if (first == 't' || first == 'b' ||
            (first == 'x' && name.length > 5 && (name.data[2] | 0x20) == 'b')) {
            return true;
        }
    }
    return false;
}

void peri_tracer_request(peri_tracer *tracer, peri_exchange *ex)
{
    peri_slice method = peri_exchange_text(ex, ex->method_text);
    lookup l = {.ex = ex};
    peri_trace_remote remote;

    if (!may_have_context(ex)) {
        ex->trace = peri_trace_begin(tracer, method, PERI_SPAN_SERVER, NULL,
                                     ex->started_ns);
        return;
    }
    peri_buf_init(&l.joined[0], PERI_BAGGAGE_MAX);
    peri_buf_init(&l.joined[1], PERI_BAGGAGE_MAX);
    peri_trace_extract(tracer, get_field, &l, &remote);
    ex->trace = peri_trace_begin(tracer, method, PERI_SPAN_SERVER, &remote,
                                 ex->started_ns);
    peri_buf_fini(&l.joined[0]);
    peri_buf_fini(&l.joined[1]);
}
