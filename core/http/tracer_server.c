/* Tracer: what the spans of requests that are served hold.
 *
 * Most of it is the same for many requests, so for protobuf it is encoded once
 * for each route and status, host, client and user agent; then a span costs
 * little but copies. What that cannot take goes the way of all attributes. */

#include "core/base/otlp.h"
#include "core/http/exchange.h"
#include "core/http/query_mask.h"
#include "core/http/tracer_internal.h"

static void note_host(peri_attributes *to, peri_slice host)
{
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

static void note_method(peri_attributes *to, const peri_exchange *ex)
{
    peri_slice text = peri_exchange_text(ex, ex->method_text);

    if (ex->method == PERI_METHOD_OTHER) {
        peri_attributes_add_text(to, "http.request.method",
                                 PERI_SLICE("_OTHER"));
        peri_attributes_add_text(to, "http.request.method_original", text);
    } else {
        peri_attributes_add_text(to, "http.request.method", text);
    }
}

/* What is alike for many requests of one route. */
static void note_kind(peri_attributes *to, const peri_exchange *ex)
{
    char text[8];
    peri_slice error_type = peri_exchange_error_type(ex, text);

    note_method(to, ex);
    peri_attributes_add_text(to, "url.scheme",
                             ex->is_tls ? PERI_SLICE("https")
                                        : PERI_SLICE("http"));
    peri_attributes_add_text(to, "network.protocol.version",
                             ex->version_minor == 0 ? PERI_SLICE("1.0")
                                                    : PERI_SLICE("1.1"));
    peri_attributes_add_int(to, "http.response.status_code", ex->status);
    if (error_type.length != 0) {
        peri_attributes_add_text(to, "error.type", error_type);
    }
    if (ex->route != NULL && ex->route->pattern != NULL) {
        peri_attributes_add_text(to, "http.route",
                                 peri_slice_str(ex->route->pattern));
    }
}

static void note_client(peri_attributes *to, peri_slice address)
{
    peri_attributes_add_text(to, "client.address", address);
}

static void note_agent(peri_attributes *to, peri_slice agent)
{
    if (agent.length != 0) {
        peri_attributes_add_text(to, "user_agent.original", agent);
    }
}

/* Borrowed until the exchange ends. */
static peri_slice masked_query(peri_exchange *ex)
{
    peri_slice query = peri_exchange_text(ex, ex->query);
    peri_buf masked;

    if (query.length == 0) {
        return query;
    }
    peri_buf_init(&masked, PERI_QUERY_MASKED_MAX(query.length));
    if (peri_query_mask(query, &masked)) {
        query.data = peri_arena_copy(peri_exchange_arena(ex), masked.data,
                                     masked.length);
        query.length = masked.length;
    }
    peri_buf_fini(&masked);
    return query;
}

static void note_url(peri_attributes *to, peri_exchange *ex)
{
    peri_slice query = masked_query(ex);

    peri_attributes_add_text(to, "url.path", peri_exchange_text(ex, ex->path));
    if (query.length != 0) {
        peri_attributes_add_text(to, "url.query", query);
    }
}

/* ---- encoded before ---- */

static bool is_plain(peri_slice text, size_t max_bytes)
{
    unsigned char all = 0;

    for (size_t i = 0; i < text.length; i++) {
        all |= (unsigned char)text.data[i];
    }
    return text.length <= max_bytes && all < 0x80;
}

/* Fills the memo, unless it is of that text. */
static void remember(peri_tracer_memo *memo, peri_slice text,
                     void (*note)(peri_attributes *to, peri_slice text))
{
    peri_attributes some;

    if (memo->is_there && peri_slice_equal(peri_buf_slice(&memo->text), text)) {
        return;
    }
    peri_attributes_init(&some);
    note(&some, text);
    peri_buf_clear(&memo->text);
    peri_buf_clear(&memo->encoded);
    memo->is_there = peri_buf_append_slice(&memo->text, text) == 0 &&
                     peri_otlp_append_attributes(&memo->encoded, &some) == 0;
    peri_attributes_fini(&some);
}

static void remember_kind(peri_tracer_memo *memo, const peri_exchange *ex,
                          uint32_t what)
{
    const char *pattern = ex->route != NULL ? ex->route->pattern : NULL;
    peri_slice route =
        pattern != NULL ? peri_slice_str(pattern) : PERI_SLICE("");
    peri_attributes some;

    /* Routes come and go with generations: their text tells them apart. */
    if (memo->is_there && memo->what == what &&
        peri_slice_equal(peri_buf_slice(&memo->text), route)) {
        return;
    }
    peri_attributes_init(&some);
    note_kind(&some, ex);
    peri_buf_clear(&memo->text);
    peri_buf_clear(&memo->encoded);
    memo->what = what;
    memo->is_there = peri_buf_append_slice(&memo->text, route) == 0 &&
                     peri_otlp_append_attributes(&memo->encoded, &some) == 0;
    peri_attributes_fini(&some);
}

static peri_tracer_memo *find_kind(peri_tracer *tracer, const peri_exchange *ex)
{
    uint32_t what =
        ex->status | (uint32_t)ex->method << 16 | (uint32_t)ex->gone << 24 |
        (uint32_t)ex->is_tls << 25 | (uint32_t)(ex->version_minor == 0) << 26 |
        (uint32_t)(ex->route == NULL) << 27 | (uint32_t)ex->cut << 28;
    size_t at = ((uintptr_t)ex->route >> 4) + what + (what >> 16);
    peri_tracer_memo *memo = &tracer->kinds[at % PERI_TRACER_KINDS];

    remember_kind(memo, ex, what);
    return memo;
}

/* Whether whoever keeps slow requests will look for attributes. */
static bool is_looked_at(const peri_trace_span *span, uint64_t now_ns)
{
    const peri_tracer *tracer = span->tracer;

    return tracer->recorder != NULL && now_ns > span->start_ns &&
           peri_recorder_wants(tracer->recorder, now_ns - span->start_ns,
                               now_ns);
}

/* All of it, encoded, behind the span's own attributes. False: it is to go the
 * way of the others. */
static bool encode(peri_trace_span *span, peri_exchange *ex, uint64_t now_ns)
{
    peri_tracer *tracer = span->tracer;
    peri_slice query = peri_exchange_text(ex, ex->query);
    peri_slice path = peri_exchange_text(ex, ex->path);
    peri_slice agent = peri_exchange_field(ex, PERI_SLICE("user-agent"));
    peri_slice host = peri_exchange_field(ex, PERI_SLICE("host"));
    peri_slice client = peri_exchange_remote(ex);
    peri_tracer_memo *all[] = {NULL, &tracer->host, &tracer->client_address,
                               &tracer->agent};
    peri_buf *to = &span->encoded;

    if (!tracer->memorizes || is_looked_at(span, now_ns) ||
        ex->method == PERI_METHOD_OTHER ||
        span->attributes.count + PERI_TRACER_OWN_ATTRIBUTES >
            span->attributes.count_max ||
        !is_plain(path, PERI_TRACER_MEMO_MAX) ||
        !is_plain(query, PERI_TRACER_MEMO_MAX) ||
        !is_plain(agent, PERI_TRACER_MEMO_MAX) ||
        !is_plain(host, PERI_TRACER_MEMO_MAX)) {
        return false;
    }
    all[0] = find_kind(tracer, ex);
    remember(all[1], host, note_host);
    remember(all[2], client, note_client);
    remember(all[3], agent, note_agent);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (!all[i]->is_there) {
            peri_buf_clear(to);
            return false;
        }
        peri_buf_append_slice(to, peri_buf_slice(&all[i]->encoded));
    }
    peri_otlp_append_text(to, "url.path", path);
    if (query.length != 0) {
        peri_otlp_append_text(to, "url.query", masked_query(ex));
    }
    return true;
}

/* "GET /users/:id"; paths are not names: there are too many of them. */
static void name_it(peri_trace_span *span, const peri_exchange *ex)
{
    const char *pattern = ex->route != NULL ? ex->route->pattern : NULL;

    if (pattern == NULL) {
        return;
    }
    peri_buf_append_byte(&span->name, ' ');
    peri_utf8_append(&span->name, peri_slice_str(pattern),
                     PERI_SPAN_TEXT_MAX / 2);
}

void peri_tracer_done(peri_exchange *ex, uint64_t now_ns)
{
    peri_trace_span *span = ex->trace;

    ex->trace = NULL;
    if (span->recording) {
        if (!encode(span, ex, now_ns)) {
            note_kind(&span->attributes, ex);
            note_host(&span->attributes,
                      peri_exchange_field(ex, PERI_SLICE("host")));
            note_client(&span->attributes, peri_exchange_remote(ex));
            note_agent(&span->attributes,
                       peri_exchange_field(ex, PERI_SLICE("user-agent")));
            note_url(&span->attributes, ex);
        }
        if ((ex->status >= 500 || ex->cut) && !ex->gone) {
            peri_trace_set_status(span, PERI_SPAN_ERROR, PERI_SLICE(""));
        }
        name_it(span, ex);
    }
    peri_trace_end(span, now_ns);
    peri_trace_unref(span);
}

static void memo_fini(peri_tracer_memo *memo)
{
    peri_buf_fini(&memo->text);
    peri_buf_fini(&memo->encoded);
}

static void memo_init(peri_tracer_memo *memo)
{
    memo->is_there = false;
    peri_buf_init(&memo->text, PERI_TRACER_MEMO_MAX);
    peri_buf_init(&memo->encoded, (size_t)4 * PERI_TRACER_MEMO_MAX);
}

void peri_tracer_init_memos(peri_tracer *tracer)
{
    for (size_t i = 0; i < PERI_TRACER_KINDS; i++) {
        memo_init(&tracer->kinds[i]);
    }
    memo_init(&tracer->host);
    memo_init(&tracer->client_address);
    memo_init(&tracer->agent);
}

void peri_tracer_fini_memos(peri_tracer *tracer)
{
    for (size_t i = 0; i < PERI_TRACER_KINDS; i++) {
        memo_fini(&tracer->kinds[i]);
    }
    memo_fini(&tracer->host);
    memo_fini(&tracer->client_address);
    memo_fini(&tracer->agent);
}
