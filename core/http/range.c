/* Range: see the header. */
#include "core/http/range.h"

#include "core/base/err.h"
#include "core/http/scan_text.h"

typedef struct cursor {
    const char *at;
    const char *end;
} cursor;

static void skip_space(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t')) {
        c->at++;
    }
}

/* Digits; a number that is too large for any file is INT64_MAX. -1: none. */
static int64_t number(cursor *c)
{
    int64_t value = 0;
    const char *from = c->at;

    while (c->at < c->end && peri_char_is(*c->at, PERI_CHAR_DIGIT)) {
        int digit = *c->at++ - '0';

        value =
            value > (INT64_MAX - digit) / 10 ? INT64_MAX : value * 10 + digit;
    }
    return c->at == from ? -1 : value;
}

/* One "first-last", "first-" or "-count". 1: added; 0: not in the file;
 * negative: malformed. */
static int take_one(cursor *c, int64_t size, peri_range *out)
{
    int64_t first = number(c);
    int64_t last;

    if (c->at == c->end || *c->at != '-') {
        return PERI_EFORMAT;
    }
    c->at++;
    last = number(c);
    if (first < 0 && last < 0) {
        return PERI_EFORMAT;
    }
    if (first < 0) { /* the last so many bytes */
        *out = (peri_range){last < size ? size - last : 0, size - 1};
        return last > 0;
    }
    if (last >= 0 && last < first) {
        return PERI_EFORMAT;
    }
    *out = (peri_range){first, last < 0 || last >= size ? size - 1 : last};
    return first < size;
}

static int take_all(cursor *c, int64_t size, peri_range *out)
{
    int count = 0;
    int asked = 0;
    int rc;

    for (;;) {
        while (c->at < c->end &&
               (*c->at == ' ' || *c->at == '\t' || *c->at == ',')) {
            c->at++;
        }
        if (c->at == c->end) {
            break;
        }
        if (++asked > PERI_RANGES_MAX) {
            return 0;
        }
        rc = take_one(c, size, &out[count]);
        skip_space(c);
        if (rc < 0 || (c->at < c->end && *c->at != ',')) {
            return 0;
        }
        count += rc;
    }
    return asked == 0 ? 0 : count > 0 ? count : PERI_ELIMIT;
}

int peri_ranges_parse(peri_slice value, int64_t size_bytes,
                      peri_range out[PERI_RANGES_MAX])
{
    static const char unit[] = "bytes=";
    cursor c = {value.data, value.data + value.length};
    int64_t sum = 0;
    int count;

    if (size_bytes == 0 || value.length < sizeof unit - 1 ||
        strncasecmp(c.at, unit, sizeof unit - 1) != 0) {
        return 0;
    }
    c.at += sizeof unit - 1;
    count = take_all(&c, size_bytes, out);
    for (int i = 0; i < count; i++) {
        sum += out[i].last - out[i].first + 1;
        if (sum > size_bytes) {
            return 0; /* parts that overlap: the whole is shorter */
        }
    }
    return count;
}
