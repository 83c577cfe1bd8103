/* Flame: stacks in the order of their texts are a walk through the tree that
 * they make, so it is drawn while it is walked. */
#include "core/base/flame.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/flame_script.h"

#define WIDTH 1200.0
#define MARGIN 10.0
#define INNER (WIDTH - 2 * MARGIN)
#define ROW 17
#define TOP 74
#define BOTTOM 12
#define DEPTH_MAX 256
#define LEAST_WIDTH 0.3 /* narrower ones are not drawn */
#define LETTER_WIDTH 6.6

typedef struct open_frame {
    peri_slice name;
    double from; /* in values, of the whole */
} open_frame;

typedef struct drawing {
    peri_buf *out;
    const peri_flame_options *options;
    double total;
    double at; /* the sum of the stacks so far */
    int rows;
    open_frame path[DEPTH_MAX];
    int depth;
    int rc;
} drawing;

static void put(drawing *d, const char *text)
{
    if (peri_buf_append_str(d->out, text) != 0) {
        d->rc = PERI_ELIMIT;
    }
}

/* Text of an element or of an attribute. */
static void put_escaped(drawing *d, peri_slice text)
{
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];

        if (c == '<') {
            put(d, "&lt;");
        } else if (c == '>') {
            put(d, "&gt;");
        } else if (c == '&') {
            put(d, "&amp;");
        } else if (c == '"') {
            put(d, "&quot;");
        } else if (c < 32 || c == 127) {
            put(d, "?");
        } else if (peri_buf_append_byte(d->out, (char)c) != 0) {
            d->rc = PERI_ELIMIT;
        }
    }
}

/* ---- what a frame looks like ---- */

static bool starts(peri_slice name, const char *with)
{
    return peri_slice_starts(name, peri_slice_str(with));
}

/* Warm: the application; green: the library; blue: routes and the like; violet:
 * the machine below. Within a hue the name decides. */
static void put_color(drawing *d, peri_slice name)
{
    uint32_t hash = peri_slice_hash(name, 0);
    int vary = (int)(hash % 24);
    int light = 62 + (int)(hash / 24 % 12);
    int hue = 14 + vary * 3 / 2;
    char color[48];

    if (name.length > 0 && name.data[0] == '[') {
        hue = starts(name, "[gc]") ? 350 : starts(name, "[host]") ? 215 : 265;
    } else if (starts(name, "perigee/") || starts(name, "perigee.")) {
        hue = 90 + vary;
    } else if (memchr(name.data, ':', name.length) == NULL ||
               memchr(name.data, ' ', name.length) != NULL) {
        hue = 195 + vary / 2;
    }
    snprintf(color, sizeof color, "hsl(%d,%d%%,%d%%)", hue,
             hue == 215 ? 25 : 75, light);
    put(d, color);
}

static void put_amount(drawing *d, double amount)
{
    char text[64];

    if (d->options->unit == PERI_FLAME_NS) {
        snprintf(text, sizeof text, amount >= 1e9 ? "%.2f s" : "%.1f ms",
                 amount >= 1e9 ? amount / 1e9 : amount / 1e6);
    } else if (d->options->unit == PERI_FLAME_BYTES) {
        snprintf(text, sizeof text, amount >= 1048576 ? "%.1f MB" : "%.1f KB",
                 amount >= 1048576 ? amount / 1048576 : amount / 1024);
    } else {
        snprintf(text, sizeof text, "%.0f", amount);
    }
    put(d, text);
}

/* No byte of a longer character is left over. */
static peri_slice cut(peri_slice name, size_t letters)
{
    size_t length = name.length < letters ? name.length : letters;

    while (length > 0 && length < name.length &&
           ((unsigned char)name.data[length] & 0xc0) == 0x80) {
        length--;
    }
    return (peri_slice){name.data, length};
}

static void put_label(drawing *d, peri_slice name, double width)
{
    size_t room = width > 8 ? (size_t)((width - 6) / LETTER_WIDTH) : 0;

    if (room < 3) {
        return;
    }
    if (name.length <= room) {
        put_escaped(d, name);
        return;
    }
    put_escaped(d, cut(name, room - 1));
    put(d, "\xe2\x80\xa6");
}

static void put_frame(drawing *d, peri_slice name, int level, double from,
                      double to)
{
    double x = MARGIN + INNER * from / d->total;
    double width = INNER * (to - from) / d->total;
    int y = TOP + (d->rows - 1 - level) * ROW;
    char text[160];

    if (width < LEAST_WIDTH) {
        return;
    }
    put(d, "<g class=\"f\"><title>");
    put_escaped(d, name);
    put(d, " (");
    put_amount(d, to - from);
    snprintf(text, sizeof text, ", %.2f %%)</title><rect x=\"%.2f\" y=\"%d\" ",
             100 * (to - from) / d->total, x, y);
    put(d, text);
    snprintf(text, sizeof text, "width=\"%.2f\" height=\"%d\" fill=\"", width,
             ROW - 1);
    put(d, text);
    put_color(d, name);
    snprintf(text, sizeof text, "\"/><text x=\"%.2f\" y=\"%d\">", x + 3,
             y + 12);
    put(d, text);
    put_label(d, name, width);
    put(d, "</text></g>\n");
}

/* ---- the walk ---- */

static void close_to(drawing *d, int depth)
{
    while (d->depth > depth) {
        open_frame *top = &d->path[--d->depth];

        put_frame(d, top->name, d->depth, top->from, d->at);
    }
}

static void walk(drawing *d, const peri_stack *stack)
{
    peri_slice rest = stack->key;
    peri_slice frame;
    int depth = 1; /* below "all" */

    while (depth < DEPTH_MAX && peri_stack_next(&rest, &frame)) {
        if (depth >= d->depth ||
            !peri_slice_equal(d->path[depth].name, frame)) {
            close_to(d, depth);
            d->path[d->depth++] = (open_frame){frame, d->at};
        }
        depth++;
    }
    close_to(d, depth);
    d->at += (double)stack->values[d->options->value];
}

static int by_key(const void *a, const void *b)
{
    peri_slice left = (*(const peri_stack *const *)a)->key;
    peri_slice right = (*(const peri_stack *const *)b)->key;
    size_t least = left.length < right.length ? left.length : right.length;
    int order = memcmp(left.data, right.data, least);

    return order != 0
               ? order
               : (left.length > right.length) - (left.length < right.length);
}

static int depth_of(peri_slice key)
{
    peri_slice frame;
    int depth = 1;

    while (depth < DEPTH_MAX && peri_stack_next(&key, &frame)) {
        depth++;
    }
    return depth;
}

static void put_head(drawing *d)
{
    char text[512];

    snprintf(text, sizeof text,
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" "
             "height=\"%d\" viewBox=\"0 0 %.0f %d\">\n<style>",
             WIDTH, TOP + d->rows * ROW + BOTTOM, WIDTH,
             TOP + d->rows * ROW + BOTTOM);
    put(d, text);
    put(d, peri_flame_style);
    put(d, "</style>\n<rect class=\"ground\" width=\"100%\" "
           "height=\"100%\"/>\n<text class=\"title\" x=\"10\" y=\"24\">");
    put_escaped(d, peri_slice_str(d->options->title));
    put(d, "</text>\n<text class=\"sub\" x=\"10\" y=\"44\">");
    put_escaped(d, peri_slice_str(d->options->subtitle));
    put(d, "</text>\n<text class=\"sub\" x=\"10\" y=\"60\">");
    put_escaped(d, peri_slice_str(d->options->second));
    put(d, "</text>\n<g id=\"frames\">\n");
}

static void put_tail(drawing *d)
{
    put(d, "</g>\n<script><![CDATA[");
    put(d, peri_flame_script);
    put(d, "]]></script>\n</svg>\n");
}

int peri_flame_write(peri_stacks *stacks, const peri_flame_options *options,
                     peri_buf *out)
{
    drawing d = {.out = out, .options = options, .rows = 1, .depth = 1};
    peri_stacks *flat = peri_stacks_flatten(stacks);
    size_t count = peri_stacks_count(flat);
    peri_stack **sorted = peri_calloc(count + 1, sizeof *sorted);

    for (size_t i = 0; i < count; i++) {
        int depth;

        sorted[i] = peri_stacks_get(flat, i);
        depth = depth_of(sorted[i]->key);
        d.rows = depth > d.rows ? depth : d.rows;
        d.total += (double)sorted[i]->values[options->value];
    }
    qsort(sorted, count, sizeof(peri_stack *), by_key);
    d.path[0] = (open_frame){PERI_SLICE("all"), 0};
    put_head(&d);
    if (d.total > 0) {
        for (size_t i = 0; i < count && d.rc == 0; i++) {
            walk(&d, sorted[i]);
        }
        close_to(&d, 0);
    } else {
        put(&d, "<text x=\"10\" y=\"90\">nothing was seen</text>\n");
    }
    put_tail(&d);
    free(sorted);
    peri_stacks_destroy(flat);
    return d.rc;
}
