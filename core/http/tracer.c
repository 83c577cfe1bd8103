/* Tracer: spans. Its settings are read in tracer_config.c. */
#include "core/http/tracer_internal.h"

#include <stdlib.h>
#include <sys/random.h>

#include "core/base/alloc.h"
#include "core/base/clock.h"
#include "core/http/flight.h"

#define FREE_SPANS_MAX 256
#define HELD_BYTES_MAX ((size_t)256 << 10)
#define WALL_FRESH_NS 100000000u

/* ---- ids ---- */

static uint64_t rotate(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

/* xoshiro256**: ids need to be unlike each other, not secret. */
static uint64_t next_random(peri_tracer *tracer)
{
    uint64_t *s = tracer->random;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

void peri_tracer_seed(peri_tracer *tracer)
{
    if (getrandom(tracer->random, sizeof tracer->random, 0) !=
        (ssize_t)sizeof tracer->random) {
        abort();
    }
    tracer->random[0] |= 1; /* all 0 would stay 0 */
}

static void make_id(peri_tracer *tracer, unsigned char *out, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += sizeof(uint64_t)) {
        uint64_t random = next_random(tracer);

        random += random == 0;
        memcpy(out + i, &random, sizeof random);
    }
}

/* ---- life ---- */

static void span_init(peri_trace_span *span)
{
    peri_buf_init(&span->name, PERI_SPAN_TEXT_MAX);
    peri_buf_init(&span->message, PERI_SPAN_TEXT_MAX);
    peri_attributes_init(&span->attributes);
    peri_buf_init(&span->encoded, PERI_ATTRIBUTES_BYTES);
    peri_buf_init(&span->state, PERI_TRACESTATE_MAX);
    peri_buf_init(&span->baggage, PERI_BAGGAGE_MAX);
    peri_buf_init(&span->held, HELD_BYTES_MAX);
    peri_buf_init(&span->flight, PERI_FLIGHT_BYTES_MAX);
}

static void span_fini(peri_trace_span *span)
{
    peri_buf_fini(&span->name);
    peri_buf_fini(&span->message);
    peri_attributes_fini(&span->attributes);
    peri_buf_fini(&span->encoded);
    peri_buf_fini(&span->state);
    peri_buf_fini(&span->baggage);
    peri_buf_fini(&span->held);
    peri_buf_fini(&span->flight);
}

static void forget_events(peri_trace_span *span)
{
    for (size_t i = 0; i < span->event_count; i++) {
        free(span->events[i].name);
        peri_attributes_fini(&span->events[i].attributes);
    }
    free(span->events);
    free(span->links);
    span->events = NULL;
    span->links = NULL;
    span->event_count = 0;
    span->link_count = 0;
    span->dropped_events = 0;
    span->dropped_links = 0;
}

void peri_tracer_free_spans(peri_tracer *tracer)
{
    while (tracer->free_spans != NULL) {
        peri_trace_span *span = tracer->free_spans;

        tracer->free_spans = span->next_free;
        span_fini(span);
        free(span);
    }
}

static peri_trace_span *take(peri_tracer *tracer)
{
    peri_trace_span *span = tracer->free_spans;

    if (span != NULL) {
        tracer->free_spans = span->next_free;
        tracer->free_count--;
    } else {
        span = peri_calloc(1, sizeof *span);
        span_init(span);
    }
    span->tracer = tracer;
    span->refs = 1;
    span->ended = false;
    span->status = PERI_SPAN_UNSET;
    span->is_tail = false;
    span->failed = false;
    span->held_count = 0;
    span->held_lost = 0;
    span->attributes.count_max = tracer->limits.attributes;
    span->attributes.value_max = tracer->limits.attribute_bytes;
    make_id(tracer, span->context.span_id, PERI_SPAN_ID_BYTES);
    return span;
}

static void forget_all(peri_trace_span *span)
{
    forget_events(span);
    peri_buf_clear(&span->name);
    peri_buf_clear(&span->message);
    peri_attributes_clear(&span->attributes);
    peri_buf_clear(&span->encoded);
    peri_buf_clear(&span->flight);
    span->flight_dropped = 0;
    peri_buf_fini(&span->held);
    peri_buf_init(&span->held, HELD_BYTES_MAX);
}

static void give_back(peri_trace_span *span)
{
    peri_tracer *tracer = span->tracer;

    if (span->recording) { /* else nothing was kept */
        forget_all(span);
    }
    peri_buf_clear(&span->state);
    peri_buf_clear(&span->baggage);
    if (tracer->free_count >= FREE_SPANS_MAX) {
        span_fini(span);
        free(span);
        return;
    }
    span->next_free = tracer->free_spans;
    tracer->free_spans = span;
    tracer->free_count++;
}

void peri_trace_ref(peri_trace_span *span)
{
    span->refs++;
}

void peri_trace_unref(peri_trace_span *span)
{
    if (span != NULL && --span->refs == 0) {
        peri_trace_span *root = span->root;

        if (root != span) {
            peri_trace_unref(root);
        }
        give_back(span);
    }
}

/* started_ns: monotonic; 0: now. The wall clock is read once in a while. */
static void start_clock(peri_trace_span *span, uint64_t started_ns)
{
    peri_tracer *tracer = span->tracer;
    uint64_t at_ns = started_ns != 0 ? started_ns : peri_clock_monotonic_ns();

    if (at_ns - tracer->wall_read_ns > WALL_FRESH_NS) { /* or is before it */
        tracer->wall_read_ns = peri_clock_monotonic_ns();
        tracer->wall_offset_ns = peri_clock_wall_ns() - tracer->wall_read_ns;
    }
    span->start_ns = at_ns;
    span->start_unix_ns = at_ns + tracer->wall_offset_ns;
}

static void carry(peri_trace_span *span, const peri_trace_remote *remote)
{
    span->context.random = remote->context.random;
    span->context.debug = remote->context.debug;
    memcpy(span->context.trace_id, remote->context.trace_id,
           PERI_TRACE_ID_BYTES);
    memcpy(span->parent_id, remote->context.span_id, PERI_SPAN_ID_BYTES);
    peri_tracestate_append(&span->state, remote->state);
}

peri_trace_span *peri_trace_begin(peri_tracer *tracer, peri_slice name,
                                  peri_span_kind kind,
                                  const peri_trace_remote *remote,
                                  uint64_t started_ns)
{
    peri_trace_span *span = take(tracer);
    bool has_parent = remote != NULL && remote->is_there;

    span->root = span;
    span->kind = (uint8_t)kind;
    span->parent_is_remote = has_parent;
    if (has_parent) {
        carry(span, remote);
    } else {
        make_id(tracer, span->context.trace_id, PERI_TRACE_ID_BYTES);
        span->context.random = false; /* level 1 knows no such flag */
        span->context.debug = false;
        memset(span->parent_id, 0, sizeof span->parent_id);
    }
    if (remote != NULL) {
        peri_buf_append_slice(&span->baggage, remote->baggage);
    }
    span->context.sampled =
        peri_sampling_decide(&tracer->sampling, span->context.trace_id,
                             has_parent ? &remote->context : NULL);
    span->is_tail = !span->context.sampled && tracer->tail;
    span->recording = span->context.sampled || span->is_tail;
    if (span->recording) {
        start_clock(span, started_ns);
        peri_utf8_append(&span->name, name, PERI_SPAN_TEXT_MAX);
    }
    return span;
}

peri_trace_span *peri_trace_child(peri_trace_span *parent, peri_slice name,
                                  peri_span_kind kind)
{
    peri_trace_span *span = take(parent->tracer);

    span->root = parent->root;
    peri_trace_ref(span->root);
    span->kind = (uint8_t)kind;
    span->parent_is_remote = false;
    span->context.sampled = parent->context.sampled;
    span->context.random = parent->context.random;
    span->context.debug = parent->context.debug;
    span->recording = parent->recording;
    memcpy(span->context.trace_id, parent->context.trace_id,
           PERI_TRACE_ID_BYTES);
    memcpy(span->parent_id, parent->context.span_id, PERI_SPAN_ID_BYTES);
    if (span->recording) {
        start_clock(span, 0);
        peri_utf8_append(&span->name, name, PERI_SPAN_TEXT_MAX);
    }
    return span;
}

/* ---- what is noted ---- */

void peri_trace_rename(peri_trace_span *span, peri_slice name)
{
    if (span->recording) {
        peri_buf_clear(&span->name);
        peri_utf8_append(&span->name, name, PERI_SPAN_TEXT_MAX);
    }
}

void peri_trace_set_status(peri_trace_span *span, peri_span_status status,
                           peri_slice message)
{
    if (!span->recording || span->ended) {
        return;
    }
    span->status = (uint8_t)status;
    peri_buf_clear(&span->message);
    if (status == PERI_SPAN_ERROR) {
        span->root->failed = true;
        peri_utf8_append(&span->message, message, PERI_SPAN_TEXT_MAX);
    }
}

peri_attributes *peri_trace_event(peri_trace_span *span, peri_slice name)
{
    peri_span_event *event;
    peri_buf text;

    if (!span->recording || span->ended) {
        return NULL;
    }
    if (span->event_count >= span->tracer->limits.events) {
        span->dropped_events++;
        return NULL;
    }
    span->events = peri_realloc(span->events, (span->event_count + 1) *
                                                  sizeof span->events[0]);
    event = &span->events[span->event_count++];
    peri_buf_init(&text, PERI_SPAN_TEXT_MAX + 1);
    peri_utf8_append(&text, name, PERI_SPAN_TEXT_MAX);
    peri_buf_append_byte(&text, '\0');
    event->name = text.data;
    event->unix_ns = peri_clock_wall_ns();
    peri_attributes_init(&event->attributes);
    event->attributes.count_max = span->tracer->limits.event_attributes;
    event->attributes.value_max = span->tracer->limits.attribute_bytes;
    return &event->attributes;
}

void peri_trace_link(peri_trace_span *span, const peri_trace_context *to)
{
    if (!span->recording || span->ended) {
        return;
    }
    if (span->link_count >= span->tracer->limits.links) {
        span->dropped_links++;
        return;
    }
    span->links = peri_realloc(span->links,
                               (span->link_count + 1) * sizeof span->links[0]);
    span->links[span->link_count++] = *to;
}

/* ---- the end ---- */

static void fill(const peri_trace_span *span, uint64_t now_ns,
                 peri_otlp_span *out)
{
    uint64_t took_ns = now_ns > span->start_ns ? now_ns - span->start_ns : 0;

    *out = (peri_otlp_span){
        .context = span->context,
        .parent_is_remote = span->parent_is_remote,
        .state = peri_buf_slice(&span->root->state),
        .name = peri_buf_slice(&span->name),
        .kind = (peri_span_kind)span->kind,
        .status = (peri_span_status)span->status,
        .message = peri_buf_slice(&span->message),
        .start_unix_ns = span->start_unix_ns,
        .end_unix_ns = span->start_unix_ns + took_ns,
        .attributes = &span->attributes,
        .encoded = peri_buf_slice(&span->encoded),
        .events = span->events,
        .event_count = span->event_count,
        .dropped_events = span->dropped_events,
        .links = span->links,
        .link_count = span->link_count,
        .dropped_links = span->dropped_links,
    };
    memcpy(out->parent_id, span->parent_id, PERI_SPAN_ID_BYTES);
}

/* Not sampled: whether the trace is worth keeping shows at its root's end. */
static void hold(peri_trace_span *span, const peri_otlp_span *ended,
                 uint64_t took_ns)
{
    peri_trace_span *root = span->root;
    peri_exporter *exporter = span->tracer->exporter;

    if (root->held_count != 0 && root->held_for != exporter) {
        peri_buf_clear(&root->held); /* a reload; its form may be another */
        root->held_lost += root->held_count;
        root->held_count = 0;
    }
    root->held_for = exporter;
    if (peri_otlp_append_span(&root->held, peri_exporter_format(exporter),
                              ended) == 0) {
        root->held_count++;
    } else {
        root->held_lost++;
    }
    if (span != root) {
        return;
    }
    if ((root->failed && span->tracer->keeps_failed) ||
        took_ns >= span->tracer->tail_slow_ns) {
        peri_exporter_add(exporter, peri_buf_slice(&root->held),
                          root->held_count);
        peri_exporter_drop(exporter, root->held_lost);
    }
    root->is_tail = false; /* what ends later is not kept */
    root->held_count = 0;
    root->held_lost = 0;
    peri_buf_clear(&root->held);
}

static void export(peri_exporter *exporter, const peri_otlp_span *ended)
{
    peri_buf *to = peri_exporter_begin(exporter, 1);

    if (to != NULL) { /* what does not fit leaves nothing: commit sees that */
        peri_otlp_append_span(to, peri_exporter_format(exporter), ended);
        peri_exporter_commit(exporter, 1);
    }
}

void peri_trace_end(peri_trace_span *span, uint64_t now_ns)
{
    peri_otlp_span ended;

    if (span->ended) {
        return;
    }
    span->ended = true;
    if (span->recording && span->tracer->recorder != NULL) {
        peri_flight_note(span, now_ns);
    }
    if (!span->recording || span->tracer->exporter == NULL) {
        return;
    }
    fill(span, now_ns, &ended);
    if (span->context.sampled) {
        export(span->tracer->exporter, &ended);
    } else if (span->root->is_tail) {
        hold(span, &ended, ended.end_unix_ns - ended.start_unix_ns);
    }
}
