/* Profile: the files that one can be. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/flame.h"
#include "core/base/pprof.h"
#include "core/cluster/profile.h"
#include "core/http/encoder.h"

#define RENDERED_MAX ((size_t)64 << 20)
#define SAMPLE_NS 1000000
#define HEAP_INTERVAL 65536 /* bytes; see bindings/heap.c */
#define TYPES_MAX 16

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

static void sum_up(const peri_profile_result *result,
                   uint64_t sums[PERI_STACK_VALUES])
{
    for (int v = 0; v < PERI_STACK_VALUES; v++) {
        sums[v] = 0;
    }
    for (size_t i = 0; i < peri_stacks_count(result->stacks); i++) {
        const peri_stack *stack = peri_stacks_get(result->stacks, i);

        for (int v = 0; v < PERI_STACK_VALUES; v++) {
            sums[v] += stack->values[v];
        }
    }
}

static double megabytes(uint64_t bytes)
{
    return (double)bytes / 1048576.0;
}

static int by_bytes(const void *a, const void *b)
{
    uint64_t left = (*(const peri_stack *const *)a)->values[1];
    uint64_t right = (*(const peri_stack *const *)b)->values[1];

    return (left < right) - (left > right);
}

/* "26.1 MB, of it table 4031 (21.2 MB), string ...", the largest first. */
static void types_text(const peri_profile_result *result, char *out,
                       size_t out_bytes)
{
    peri_stack *sorted[TYPES_MAX];
    size_t count = peri_stacks_count(result->types);
    int at = snprintf(out, out_bytes, "heap %.2f MB, of it",
                      megabytes(result->heap_bytes));

    count = count < TYPES_MAX ? count : TYPES_MAX;
    for (size_t i = 0; i < count; i++) {
        sorted[i] = peri_stacks_get(result->types, i);
    }
    qsort(sorted, count, sizeof(peri_stack *), by_bytes);
    for (size_t i = 0; i < count && at > 0 && (size_t)at < out_bytes; i++) {
        at += snprintf(out + at, out_bytes - (size_t)at,
                       "%s %.*s %llu (%.2f MB)", i == 0 ? "" : ",",
                       (int)sorted[i]->key.length - 2, sorted[i]->key.data + 2,
                       (unsigned long long)sorted[i]->values[0],
                       megabytes(sorted[i]->values[1]));
    }
}

static void missing_text(const peri_profile_result *result, char *out,
                         size_t out_bytes)
{
    out[0] = '\0';
    if (result->missing > 0) {
        snprintf(out, out_bytes, " (%d more did not answer)", result->missing);
    }
}

void peri_profile_summary(const peri_profile_result *result, char *out,
                          size_t out_bytes)
{
    uint64_t sums[PERI_STACK_VALUES];
    char missing[48];
    char types[512] = "";

    sum_up(result, sums);
    missing_text(result, missing, sizeof missing);
    if (result->kind == PERI_PROFILE_CPU) {
        snprintf(out, out_bytes,
                 "%d worker%s%s, %.2f s of CPU time in %.1f s, %llu sample%s",
                 result->workers, plural((uint64_t)result->workers), missing,
                 (double)sums[1] / 1e9, (double)result->took_ms / 1e3,
                 (unsigned long long)sums[0], plural(sums[0]));
        return;
    }
    types_text(result, types, sizeof types);
    snprintf(out, out_bytes,
             "%d worker%s%s, %.1f MB allocated in %.1f s, %.1f MB of it still "
             "there; objects counted in slices of %.1f ms at most\n%s",
             result->workers, plural((uint64_t)result->workers), missing,
             megabytes(sums[1]), (double)result->took_ms / 1e3,
             megabytes(sums[3]), (double)result->longest_us / 1e3, types);
}

/* The lines of a summary. */
static size_t split_lines(char *text, const char **out, size_t max)
{
    size_t count = 0;

    while (count < max && *text != '\0') {
        char *end = strchr(text, '\n');

        out[count++] = text;
        if (end == NULL) {
            break;
        }
        *end = '\0';
        text = end + 1;
    }
    return count;
}

static int render_pprof(const peri_profile_result *result, peri_buf *out)
{
    static const peri_pprof_type cpu[] = {{"samples", "count"},
                                          {"cpu", "nanoseconds"}};
    static const peri_pprof_type heap[] = {{"alloc_objects", "count"},
                                           {"alloc_space", "bytes"},
                                           {"inuse_objects", "count"},
                                           {"inuse_space", "bytes"}};
    bool is_heap = result->kind == PERI_PROFILE_HEAP;
    char summary[PERI_PROFILE_SUMMARY_BYTES];
    const char *comments[2];
    peri_buf plain;
    int rc;

    peri_profile_summary(result, summary, sizeof summary);
    peri_buf_init(&plain, RENDERED_MAX);
    rc = peri_pprof_write(
        result->stacks,
        &(peri_pprof_options){
            .types = is_heap ? heap : cpu,
            .type_count = is_heap ? 4 : 2,
            .default_type = 1,
            .period_type = is_heap ? heap[1] : cpu[1],
            .period = is_heap ? HEAP_INTERVAL : SAMPLE_NS,
            .time_unix_ns = (int64_t)result->started_unix_ms * 1000000,
            .duration_ns = (int64_t)result->took_ms * 1000000,
            .comment_count = split_lines(summary, comments, 2),
            .comments = comments},
        &plain);
    if (rc == 0) {
        rc = peri_encode(PERI_CODING_GZIP, 6, peri_buf_slice(&plain), out);
    }
    peri_buf_fini(&plain);
    return rc;
}

static int render_svg(const peri_profile_result *result, peri_buf *out)
{
    bool is_heap = result->kind == PERI_PROFILE_HEAP;
    char summary[PERI_PROFILE_SUMMARY_BYTES];
    const char *lines[2] = {"", ""};

    peri_profile_summary(result, summary, sizeof summary);
    split_lines(summary, lines, 2);
    return peri_flame_write(
        result->stacks,
        &(peri_flame_options){
            .title = is_heap ? "Memory by where it was allocated"
                             : "CPU time by call stack",
            .subtitle = lines[0],
            .second = lines[1],
            .value = 1,
            .unit = is_heap ? PERI_FLAME_BYTES : PERI_FLAME_NS},
        out);
}

int peri_profile_render(const peri_profile_result *result,
                        peri_profile_format format, peri_buf *out)
{
    switch (format) {
    case PERI_PROFILE_PPROF:
        return render_pprof(result, out);
    case PERI_PROFILE_COLLAPSED:
        return peri_stacks_collapse(
            result->stacks, result->kind == PERI_PROFILE_HEAP ? 1 : 0, out);
    case PERI_PROFILE_SVG:
    default:
        return render_svg(result, out);
    }
}

bool peri_profile_format_parse(const char *name, peri_profile_format *out)
{
    static const char *const names[] = {"svg", "pprof", "collapsed"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (peri_profile_format)i;
            return true;
        }
    }
    return false;
}
