/* Pprof: texts, functions and places are numbered by three tables, each a
 * peri_stacks whose keys are what is numbered. */
#include "core/base/pprof.h"

#include "core/base/protobuf.h"

#define FRAMES_MAX 512

enum { /* of Profile */
       SAMPLE_TYPE = 1,
       SAMPLE,
       MAPPING,
       LOCATION,
       FUNCTION,
       STRING_TABLE,
       TIME_NANOS = 9,
       DURATION_NANOS,
       PERIOD_TYPE,
       PERIOD,
       COMMENT,
       DEFAULT_SAMPLE_TYPE
};

typedef struct writer {
    peri_buf *out;
    peri_buf packed;
    peri_stacks *texts;     /* number + 1: 0 is the empty text */
    peri_stacks *functions; /* number + 1 is the id */
    peri_stacks *places;
    int rc;
} writer;

static const uint64_t nothing[PERI_STACK_VALUES];

static void check(writer *w, int rc)
{
    if (rc != 0) {
        w->rc = PERI_ELIMIT;
    }
}

static uint64_t text_of(writer *w, peri_slice text)
{
    return text.length == 0 ? 0 : peri_stacks_add(w->texts, text, nothing) + 1;
}

static uint64_t text_of_str(writer *w, const char *text)
{
    return text_of(w, peri_slice_str(text));
}

static void number(writer *w, unsigned field, uint64_t value)
{
    check(w, peri_protobuf_number(w->out, field, value));
}

static void put_type(writer *w, unsigned field, const peri_pprof_type *type)
{
    size_t start = peri_protobuf_open(w->out, field);

    number(w, 1, text_of_str(w, type->type));
    number(w, 2, text_of_str(w, type->unit));
    check(w, peri_protobuf_close(w->out, start));
}

static void pack(writer *w, uint64_t value)
{
    char bytes[PERI_PROTOBUF_VARINT_MAX];

    check(w, peri_buf_append(
                 &w->packed, bytes,
                 (size_t)(peri_protobuf_put_varint(bytes, value) - bytes)));
}

static void put_packed(writer *w, unsigned field)
{
    check(w,
          peri_protobuf_bytes(w->out, field, w->packed.data, w->packed.length));
    peri_buf_clear(&w->packed);
}

static const char *state_name(char state)
{
    switch (state) {
    case 'N':
        return "compiled";
    case 'I':
        return "interpreted";
    case 'C':
        return "c";
    case 'G':
        return "gc";
    case 'J':
        return "compiler";
    case 'H':
        return "host";
    default:
        return "unknown";
    }
}

/* ---- samples ---- */

static void put_label(writer *w, const char *key, const char *value)
{
    size_t start = peri_protobuf_open(w->out, 3);

    number(w, 1, text_of_str(w, key));
    number(w, 2, text_of_str(w, value));
    check(w, peri_protobuf_close(w->out, start));
}

static void put_sample(writer *w, const peri_pprof_options *options,
                       const peri_stack *stack)
{
    size_t start = peri_protobuf_open(w->out, SAMPLE);
    uint64_t places[FRAMES_MAX];
    peri_slice rest = stack->key;
    peri_slice frame;
    peri_slice leaf;
    char state = '?';
    size_t depth = 0;

    if (peri_stack_next(&rest, &frame) && frame.length == 1) {
        state = frame.data[0];
    }
    while (depth < FRAMES_MAX - 1 && peri_stack_next(&rest, &frame)) {
        places[depth++] = peri_stacks_add(w->places, frame, nothing) + 1;
    }
    leaf = peri_stack_leaf(state);
    if (leaf.length != 0) {
        places[depth++] = peri_stacks_add(w->places, leaf, nothing) + 1;
    }
    while (depth > 0) {
        pack(w, places[--depth]); /* the innermost first */
    }
    put_packed(w, 1);
    for (int i = 0; i < options->type_count; i++) {
        pack(w, stack->values[i]);
    }
    put_packed(w, 2);
    put_label(w, "state", state_name(state));
    check(w, peri_protobuf_close(w->out, start));
}

/* ---- what samples refer to ---- */

static void put_places(writer *w)
{
    for (size_t i = 0; i < peri_stacks_count(w->places); i++) {
        peri_slice name = peri_stacks_get(w->places, i)->key;
        uint32_t line = peri_stack_line(&name);
        size_t start = peri_protobuf_open(w->out, LOCATION);
        size_t inner;

        number(w, 1, i + 1);
        inner = peri_protobuf_open(w->out, 4);
        number(w, 1, peri_stacks_add(w->functions, name, nothing) + 1);
        number(w, 2, line);
        check(w, peri_protobuf_close(w->out, inner));
        check(w, peri_protobuf_close(w->out, start));
    }
}

/* "services/orders.lua:cancel:42" gives the file and 42. */
static peri_slice file_of(peri_slice name, uint64_t *line)
{
    const char *colon = memchr(name.data, ':', name.length);
    size_t at = name.length;
    uint64_t place = 1;

    *line = 0;
    while (at > 0 && name.data[at - 1] >= '0' && name.data[at - 1] <= '9' &&
           name.length - at < 9) {
        *line += place * (uint64_t)(name.data[--at] - '0');
        place *= 10;
    }
    if (colon == NULL || at == 0 || name.data[at - 1] != ':') {
        *line = 0;
        return (peri_slice){NULL, 0};
    }
    return (peri_slice){name.data, (size_t)(colon - name.data)};
}

static void put_functions(writer *w)
{
    for (size_t i = 0; i < peri_stacks_count(w->functions); i++) {
        peri_slice name = peri_stacks_get(w->functions, i)->key;
        size_t start = peri_protobuf_open(w->out, FUNCTION);
        uint64_t line;
        peri_slice file = file_of(name, &line);

        number(w, 1, i + 1);
        number(w, 2, text_of(w, name));
        number(w, 3, text_of(w, name));
        number(w, 4, text_of(w, file));
        number(w, 5, line);
        check(w, peri_protobuf_close(w->out, start));
    }
}

static void put_head(writer *w, const peri_pprof_options *options)
{
    for (int i = 0; i < options->type_count; i++) {
        put_type(w, SAMPLE_TYPE, &options->types[i]);
    }
    number(w, TIME_NANOS, (uint64_t)options->time_unix_ns);
    number(w, DURATION_NANOS, (uint64_t)options->duration_ns);
    if (options->period != 0) {
        put_type(w, PERIOD_TYPE, &options->period_type);
        number(w, PERIOD, (uint64_t)options->period);
    }
    for (size_t i = 0; i < options->comment_count; i++) {
        number(w, COMMENT, text_of_str(w, options->comments[i]));
    }
    number(w, DEFAULT_SAMPLE_TYPE,
           text_of_str(w, options->types[options->default_type].type));
}

/* The empty text is the first, and is written although it is empty. */
static void put_texts(writer *w)
{
    static const char empty[] = {STRING_TABLE << 3 | PERI_PROTOBUF_BYTES, 0};

    check(w, peri_buf_append(w->out, empty, sizeof empty));
    for (size_t i = 0; i < peri_stacks_count(w->texts); i++) {
        check(w, peri_protobuf_text(w->out, STRING_TABLE,
                                    peri_stacks_get(w->texts, i)->key));
    }
}

int peri_pprof_write(peri_stacks *stacks, const peri_pprof_options *options,
                     peri_buf *out)
{
    writer w = {.out = out,
                .texts = peri_stacks_create(),
                .functions = peri_stacks_create(),
                .places = peri_stacks_create()};

    peri_buf_init(&w.packed, (size_t)FRAMES_MAX * PERI_PROTOBUF_VARINT_MAX);
    put_head(&w, options);
    for (size_t i = 0; i < peri_stacks_count(stacks) && w.rc == 0; i++) {
        put_sample(&w, options, peri_stacks_get(stacks, i));
    }
    put_places(&w);
    put_functions(&w);
    put_texts(&w);
    peri_buf_fini(&w.packed);
    peri_stacks_destroy(w.places);
    peri_stacks_destroy(w.functions);
    peri_stacks_destroy(w.texts);
    return w.rc;
}
