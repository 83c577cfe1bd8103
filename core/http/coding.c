/* Coding: see the header. */
#include "core/http/coding.h"

#include "core/http/scan_text.h"

#define NOT_NAMED (-1)

/* Weights in thousandths, NOT_NAMED where the client says nothing. */
typedef struct wishes {
    int gzip;
    int br;
    int identity;
    int any;
} wishes;

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static peri_slice trim(const char *from, const char *to)
{
    while (from < to && is_space(*from)) {
        from++;
    }
    while (to > from && is_space(to[-1])) {
        to--;
    }
    return peri_slice_of(from, (size_t)(to - from));
}

/* "1", "0.5", "0.123" in thousandths; malformed: as if it were 1. */
static int weight_of(peri_slice text)
{
    int value = 1000;
    int unit = 100;

    if (text.length == 0 || (text.data[0] != '0' && text.data[0] != '1')) {
        return 1000;
    }
    value = (text.data[0] - '0') * 1000;
    for (size_t i = 2; i < text.length && i < 5 && text.data[1] == '.'; i++) {
        if (!peri_char_is(text.data[i], PERI_CHAR_DIGIT)) {
            break;
        }
        value += (text.data[i] - '0') * unit;
        unit /= 10;
    }
    return value > 1000 ? 1000 : value;
}

static bool is(peri_slice text, const char *name)
{
    return peri_slice_equal_nocase(text, peri_slice_str(name));
}

/* "gzip;q=0.8" */
static void note(wishes *w, const char *from, const char *to)
{
    const char *semicolon = memchr(from, ';', (size_t)(to - from));
    peri_slice name = trim(from, semicolon != NULL ? semicolon : to);
    int weight = 1000;

    if (semicolon != NULL) {
        peri_slice rest = trim(semicolon + 1, to);

        if (rest.length > 2 && (rest.data[0] | 0x20) == 'q' &&
            rest.data[1] == '=') {
            weight = weight_of(peri_slice_of(rest.data + 2, rest.length - 2));
        }
    }
    if (is(name, "gzip") || is(name, "x-gzip")) {
        w->gzip = weight;
    } else if (is(name, "br")) {
        w->br = weight;
    } else if (is(name, "identity")) {
        w->identity = weight;
    } else if (is(name, "*")) {
        w->any = weight;
    }
}

static void note_list(wishes *w, peri_slice list)
{
    const char *at = list.data;
    const char *end = at + list.length;

    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));

        comma = comma != NULL ? comma : end;
        note(w, at, comma);
        at = comma + 1;
    }
}

static int wish_for(const wishes *w, uint8_t coding)
{
    int named = coding == PERI_CODING_GZIP ? w->gzip : w->br;

    if (named != NOT_NAMED) {
        return named;
    }
    return w->any != NOT_NAMED ? w->any : 0;
}

peri_slice peri_coding_name(peri_coding coding)
{
    return coding == PERI_CODING_GZIP ? PERI_SLICE("gzip") : PERI_SLICE("br");
}

size_t peri_coding_accepted(const peri_compression *compression,
                            const peri_exchange *ex,
                            peri_coding out[PERI_CODINGS_MAX])
{
    wishes w = {NOT_NAMED, NOT_NAMED, NOT_NAMED, NOT_NAMED};
    int first = 0;
    size_t count = 0;

    for (uint16_t i = 0; i < ex->field_count; i++) {
        if (peri_slice_equal_nocase(peri_exchange_text(ex, ex->fields[i].name),
                                    PERI_SLICE("accept-encoding"))) {
            note_list(&w, peri_exchange_text(ex, ex->fields[i].value));
        }
    }
    for (uint8_t i = 0; i < compression->count; i++) {
        uint8_t coding = compression->codings[i];
        int wish = wish_for(&w, coding);

        if (wish == 0 || wish < w.identity) {
            continue;
        }
        if (count != 0 && wish > first) {
            out[count++] = out[0];
            out[0] = coding;
        } else {
            out[count++] = coding;
        }
        first = count == 1 || wish > first ? wish : first;
    }
    return count;
}

/* ---- types ---- */

static bool ends(peri_slice text, peri_slice with)
{
    return text.length >= with.length &&
           strncasecmp(text.data + text.length - with.length, with.data,
                       with.length) == 0;
}

bool peri_coding_helps(peri_slice content_type)
{
    static const char *const names[] = {
        "application/json",
        "application/javascript",
        "application/xml",
        "application/x-ndjson",
        "application/yaml",
        "application/wasm",
        "application/graphql",
        "application/x-www-form-urlencoded",
        "application/vnd.ms-excel",
        "application/x-javascript",
        "font/ttf",
        "font/otf",
        "image/bmp",
        "image/vnd.microsoft.icon",
        "image/x-icon",
    };
    const char *semicolon =
        content_type.length != 0
            ? memchr(content_type.data, ';', content_type.length)
            : NULL;
    peri_slice type =
        content_type.length == 0
            ? content_type
            : trim(content_type.data,
                   semicolon != NULL ? semicolon
                                     : content_type.data + content_type.length);

    if (type.length > 5 && strncasecmp(type.data, "text/", 5) == 0) {
        return true;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (is(type, names[i])) {
            return true;
        }
    }
    return ends(type, PERI_SLICE("+json")) || ends(type, PERI_SLICE("+xml")) ||
           ends(type, PERI_SLICE("+yaml"));
}
