/* Framing fields: Host, Content-Length, Transfer-Encoding, Connection, Expect.
 */
#include "core/http/scan_field.h"

#include <stddef.h>
#include <string.h>

#include "core/http/router.h"
#include "core/http/scan_text.h"

/* More digits could pass INT64_MAX. */
#define LENGTH_DIGITS_MAX 18

static bool text_is(peri_slice text, const char *name, size_t length)
{
    return text.length == length && peri_token_is(text.data, name, length);
}

#define TEXT_IS(text, literal) text_is(text, literal, sizeof(literal) - 1)

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* Takes the next element of a comma-separated list off *list; white space
 * around it is left out. False at the end. */
static bool list_next(peri_slice *list, peri_slice *element)
{
    const char *from = list->data;
    const char *end;
    const char *stop;

    if (from == NULL) {
        return false;
    }
    end = from + list->length;
    stop = memchr(from, ',', list->length);
    if (stop == NULL) {
        *list = (peri_slice){NULL, 0};
        stop = end;
    } else {
        *list = peri_slice_of(stop + 1, (size_t)(end - stop - 1));
    }
    while (from < stop && is_space(*from)) {
        from++;
    }
    while (stop > from && is_space(stop[-1])) {
        stop--;
    }
    *element = peri_slice_of(from, (size_t)(stop - from));
    return true;
}

static void note_connection(peri_framing *framing, peri_slice value)
{
    peri_slice token;

    while (list_next(&value, &token)) {
        if (TEXT_IS(token, "close")) {
            framing->close = true;
        } else if (TEXT_IS(token, "keep-alive")) {
            framing->keep_alive = true;
        }
    }
}

static void note_expect(peri_framing *framing, peri_slice value)
{
    if (TEXT_IS(value, "100-continue")) {
        framing->expect_continue = true;
    } else {
        framing->expect_other = true;
    }
}

void peri_framing_note(peri_framing *framing, peri_slice name, peri_slice value,
                       uint16_t index, peri_head *head)
{
    switch (name.length) {
    case 4:
        if (peri_token_is(name.data, "host", 4)) {
            framing->host = value;
            framing->hosts++;
        }
        break;
    case 6:
        if (peri_token_is(name.data, "expect", 6)) {
            note_expect(framing, value);
        }
        break;
    case 10:
        if (peri_token_is(name.data, "connection", 10)) {
            note_connection(framing, value);
        }
        break;
    case 12:
        if (peri_token_is(name.data, "x-request-id", 12)) {
            head->request_id = index;
        }
        break;
    case 14:
        if (peri_token_is(name.data, "content-length", 14)) {
            framing->length = value;
            framing->lengths++;
        }
        break;
    case 17:
        if (peri_token_is(name.data, "transfer-encoding", 17)) {
            framing->coding = value;
            framing->codings++;
        }
        break;
    default:
        break;
    }
}

/* ---- Host ---- */

static const char *skip_port(const char *p, const char *end)
{
    const char *from = p;
    unsigned port = 0;

    while (p < end && p - from < 5 && peri_char_is(*p, PERI_CHAR_DIGIT)) {
        port = port * 10 + (unsigned)(*p - '0');
        p++;
    }
    return port <= UINT16_MAX ? p : from;
}

static const char *skip_literal(const char *p, const char *end)
{
    const char *from = p;

    while (p < end &&
           (peri_char_is(*p, PERI_CHAR_HEX) || *p == ':' || *p == '.')) {
        p++;
    }
    return p < end && p > from && *p == ']' ? p + 1 : from;
}

static const char *skip_name(const char *p, const char *end)
{
    while (p < end) {
        if (peri_char_is(*p, PERI_CHAR_HOST)) {
            p++;
        } else if (*p == '%' && end - p > 2 &&
                   peri_char_is(p[1], PERI_CHAR_HEX) &&
                   peri_char_is(p[2], PERI_CHAR_HEX)) {
            p += 3;
        } else {
            break;
        }
    }
    return p;
}

bool peri_host_valid(peri_slice host)
{
    const char *p = host.data;
    const char *end = p + host.length;
    const char *from = p;

    if (host.length == 0) {
        return false;
    }
    p = *p == '[' ? skip_literal(p + 1, end) : skip_name(p, end);
    if (p == from || (*from == '[' && p == from + 1)) {
        return false;
    }
    if (p < end && *p == ':') {
        p = skip_port(p + 1, end);
    }
    return p == end;
}

/* ---- the verdict ---- */

static int refuse(peri_refusal *refusal, int status, const char *detail)
{
    *refusal = (peri_refusal){status, detail};
    return status;
}

/* A sound host without its port where that says nothing: RFC 9110 section
 * 4.2.3. */
static peri_slice without_default(peri_slice host, bool secure)
{
    const char *port = secure ? "443" : "80";
    size_t digits = secure ? 3 : 2;
    const char *end = host.data + host.length;

    if (host.length > digits && memcmp(end - digits, port, digits) == 0 &&
        end[-(ptrdiff_t)digits - 1] == ':') {
        host.length -= digits + 1;
    } else if (host.length > 0 && end[-1] == ':') {
        host.length--;
    }
    return host;
}

static int judge_host(const peri_framing *framing, peri_slice authority,
                      bool secure, const peri_head *head, peri_refusal *refusal)
{
    if (framing->hosts == 0) {
        return head->version_minor == 0
                   ? 0
                   : refuse(refusal, 400, "the Host field is missing");
    }
    if (framing->hosts > 1) {
        return refuse(refusal, 400, "more than one Host field");
    }
    if (!peri_host_valid(framing->host)) {
        return refuse(refusal, 400, "malformed Host field");
    }
    if (authority.data != NULL &&
        !peri_slice_equal_nocase(without_default(authority, secure),
                                 without_default(framing->host, secure))) {
        return refuse(refusal, 400, "Host and request target differ");
    }
    return 0;
}

static int judge_length(const peri_framing *framing, peri_head *head,
                        peri_refusal *refusal)
{
    const char *p = framing->length.data;
    const char *end = p + framing->length.length;
    int64_t value = 0;

    if (framing->lengths > 1) {
        return refuse(refusal, 400, "more than one Content-Length field");
    }
    if (p == end) {
        return refuse(refusal, 400, "malformed Content-Length field");
    }
    while (end - p > 1 && *p == '0') {
        p++;
    }
    for (const char *digit = p; digit < end; digit++) {
        if (!peri_char_is(*digit, PERI_CHAR_DIGIT)) {
            return refuse(refusal, 400, "malformed Content-Length field");
        }
        if (digit - p < LENGTH_DIGITS_MAX) {
            value = value * 10 + (*digit - '0');
        }
    }
    if (end - p > LENGTH_DIGITS_MAX) {
        return refuse(refusal, 413, "the body is too large");
    }
    head->content_length = value;
    return 0;
}

static bool is_token(peri_slice text)
{
    for (size_t i = 0; i < text.length; i++) {
        if (!peri_char_is(text.data[i], PERI_CHAR_TOKEN)) {
            return false;
        }
    }
    return text.length != 0;
}

/* RFC 9112 section 6.1: chunked once and last, or the length is unknown. */
static int judge_coding(const peri_framing *framing, peri_head *head,
                        peri_refusal *refusal)
{
    peri_slice list = framing->coding;
    peri_slice coding;
    bool chunked = false;
    bool other = false;

    if (framing->codings > 1 || framing->lengths != 0) {
        return refuse(refusal, 400, "the length of the body is ambiguous");
    }
    if (head->version_minor == 0) {
        return refuse(refusal, 400, "HTTP/1.0 has no Transfer-Encoding");
    }
    while (list_next(&list, &coding)) {
        if (chunked || !is_token(coding)) {
            return refuse(refusal, 400, "malformed Transfer-Encoding field");
        }
        chunked = TEXT_IS(coding, "chunked");
        other = other || !chunked;
    }
    if (!chunked) {
        return refuse(refusal, 400, "the last transfer coding is not chunked");
    }
    if (other) {
        return refuse(refusal, 501, "the transfer coding is not known");
    }
    head->chunked = true;
    return 0;
}

int peri_framing_judge(const peri_framing *framing, peri_slice authority,
                       bool secure, peri_head *head, peri_refusal *refusal)
{
    int rc = judge_host(framing, authority, secure, head, refusal);

    head->content_length = -1;
    head->chunked = false;
    if (rc == 0 && framing->codings != 0) {
        rc = judge_coding(framing, head, refusal);
    }
    if (rc == 0 && framing->lengths != 0) {
        rc = judge_length(framing, head, refusal);
    }
    if (rc == 0 && framing->expect_other) {
        rc = refuse(refusal, 417, "");
    }
    if (rc == 0 && head->method == PERI_METHOD_TRACE &&
        (head->chunked || head->content_length > 0)) {
        rc = refuse(refusal, 400, "a TRACE request has no body");
    }
    head->keep_alive =
        !framing->close && (head->version_minor != 0 || framing->keep_alive);
    head->expect_continue =
        framing->expect_continue && head->version_minor != 0;
    return rc;
}
