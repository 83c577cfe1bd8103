/* The scan of a head, and chunked bodies: whole and split they get the same
 * verdict, and whatever the scan takes, llhttp's strict mode takes too (but for
 * the few sound things that it refuses). */
#include <llhttp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/http/chunked.h"
#include "core/http/router.h"
#include "core/http/scan.h"

#define FIELDS_MAX 32
#define BODY_MAX_BYTES 4096

static const peri_scan_limits limits = {.head_max_bytes = 2048,
                                        .url_max_bytes = 512,
                                        .field_count_max = FIELDS_MAX};

static char *padded(const char *data, size_t length)
{
    char *copy = malloc(length + PERI_SCAN_PADDING);

    memcpy(copy, data, length);
    memset(copy + length, 0, PERI_SCAN_PADDING);
    return copy;
}

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check_spans(const peri_head *head, size_t length)
{
    require(head->path.offset + head->path.length <= length);
    require(head->query.offset + head->query.length <= length);
    require(head->target.offset + head->target.length <= length);
    for (unsigned i = 0; i < head->field_count; i++) {
        const peri_head_field *field = &head->fields[i];

        require(field->name.offset + field->name.length <= length);
        require(field->value.offset + field->value.length <= length);
    }
}

static void check_split(const char *data, size_t length, size_t at, int whole,
                        int status)
{
    peri_head_field fields[FIELDS_MAX];
    peri_head head = {.fields = fields};
    char *part = padded(data, at);
    int rc = peri_scan_head(part, at, &limits, &head);

    (void)length;
    if (rc > 0) {
        require(rc == whole);
    } else if (rc < 0) {
        require(whole < 0 && head.refusal.status == status);
    } else {
        require(whole <= 0 || (size_t)whole > at);
    }
    free(part);
}

/* What llhttp refuses although it is sound. */
static bool llhttp_is_too_strict(const char *data, const peri_head *head)
{
    const char *version = data + head->target.offset + head->target.length + 1;

    if (version[7] > '1') {
        return true; /* HTTP/1.2 */
    }
    for (unsigned i = 0; i < head->field_count; i++) {
        const char *value = data + head->fields[i].value.offset;
        const char *line_end = strchr(value, '\n'); /* behind its white space */

        if (memchr(value, '\t', (size_t)(line_end - value)) != NULL) {
            return true; /* "Content-Length: 3<TAB>", "chunked <TAB>" */
        }
    }
    return false;
}

static int on_headers_complete(llhttp_t *parser)
{
    *(bool *)parser->data = true;
    return 0;
}

static void check_against_llhttp(const char *data, size_t length,
                                 const peri_head *head)
{
    llhttp_settings_t settings;
    llhttp_t parser;
    bool complete = false;
    llhttp_errno_t error;

    if (llhttp_is_too_strict(data, head)) {
        return;
    }
    llhttp_settings_init(&settings);
    settings.on_headers_complete = on_headers_complete;
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    parser.data = &complete;
    error = llhttp_execute(&parser, data, length);
    require(error == HPE_OK || error == HPE_PAUSED_UPGRADE);
    require(complete);
    require(head->chunked == ((parser.flags & F_CHUNKED) != 0) ||
            error == HPE_PAUSED_UPGRADE);
}

/* Feeds in two steps at most; the body's length or the error. */
static ptrdiff_t feed(const char *data, size_t length, size_t at, peri_buf *out)
{
    peri_chunked chunked;
    ptrdiff_t used = 0;
    size_t start = 0;

    peri_chunked_init(&chunked, BODY_MAX_BYTES);
    for (int step = at < length ? 0 : 1; step < 2; step++) {
        size_t end = step == 0 ? at : length;
        char *copy = padded(data + start, end - start);

        used = peri_chunked_feed(&chunked, copy, end - start, out);
        free(copy);
        if (used < 0 || chunked.ended) {
            break;
        }
        start += (size_t)used;
    }
    return used < 0 ? used : chunked.ended ? (ptrdiff_t)out->length : -1;
}

static void check_chunked(const char *data, size_t length, size_t at)
{
    peri_buf whole;
    peri_buf split;
    ptrdiff_t rc;

    peri_buf_init(&whole, 1 << 20);
    peri_buf_init(&split, 1 << 20);
    rc = feed(data, length, length, &whole);
    require(rc == feed(data, length, at % (length + 1), &split));
    if (rc > 0) {
        require(memcmp(whole.data, split.data, (size_t)rc) == 0);
    }
    peri_buf_fini(&whole);
    peri_buf_fini(&split);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    peri_head_field fields[FIELDS_MAX];
    peri_head head = {.fields = fields};
    const char *data = (const char *)bytes;
    char *copy;
    size_t at;
    int rc;

    if (length < 2) {
        return 0;
    }
    at = (size_t)bytes[length - 1] << 8 | bytes[length - 2];
    length -= 2;
    copy = padded(data, length);
    rc = peri_scan_head(copy, length, &limits, &head);
    check_split(data, length, at % (length + 1), rc, head.refusal.status);
    if (rc > 0) {
        check_spans(&head, (size_t)rc);
        check_against_llhttp(copy, (size_t)rc, &head);
        if (head.chunked) {
            check_chunked(data + rc, length - (size_t)rc, at);
        }
    }
    free(copy);
    return 0;
}
