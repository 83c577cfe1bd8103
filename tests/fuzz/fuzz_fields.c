/* Fields that say which answer is wanted: Range, Accept-Encoding, the If-
 * fields, and those of proxies. The input is the fields of a request; its
 * first byte makes the size of the file. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/err.h"
#include "core/http/coding.h"
#include "core/http/condition.h"
#include "core/http/conn.h"
#include "core/http/exchange_ops.h"
#include "core/http/range.h"

#define START "GET / HTTP/1.1\r\nHost: a\r\n"
#define FIELDS_MAX 64

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void try_range(const peri_exchange *ex, int64_t size)
{
    peri_range ranges[PERI_RANGES_MAX];
    peri_slice value = peri_exchange_field(ex, PERI_SLICE("range"));
    int count;
    int64_t sum = 0;

    if (value.data == NULL) {
        return;
    }
    count = peri_ranges_parse(value, size, ranges);
    require(count <= PERI_RANGES_MAX && (count >= 0 || count == PERI_ELIMIT));
    for (int i = 0; i < count; i++) {
        require(ranges[i].first >= 0 && ranges[i].first <= ranges[i].last &&
                ranges[i].last < size);
        sum += ranges[i].last - ranges[i].first + 1;
    }
    require(sum <= size);
}

static void try_codings(const peri_exchange *ex)
{
    static const peri_compression compression = {
        .min_bytes = 1,
        .level = 5,
        .count = 2,
        .codings = {PERI_CODING_BR, PERI_CODING_GZIP},
    };
    peri_coding accepted[PERI_CODINGS_MAX];
    size_t count = peri_coding_accepted(&compression, ex, accepted);

    require(count <= PERI_CODINGS_MAX);
    require(count < 2 || accepted[0] != accepted[1]);
    for (size_t i = 0; i < count; i++) {
        require(accepted[i] != PERI_CODING_IDENTITY);
    }
    peri_coding_helps(peri_exchange_field(ex, PERI_SLICE("content-type")));
}

static void try_conditions(const peri_exchange *ex)
{
    static const peri_slice tags[] = {{"\"a\"", 3}, {"W/\"a\"", 5}, {NULL, 0}};

    for (size_t i = 0; i < 3; i++) {
        int verdict = peri_condition_check(ex, tags[i], 1700000000);

        require(verdict == 200 || verdict == 304 || verdict == 412);
        peri_condition_check(ex, tags[i], PERI_MODIFIED_UNKNOWN);
        peri_condition_range(ex, tags[i], 1700000000);
    }
}

static void try_proxies(const peri_exchange *ex)
{
    peri_net_block all[2];
    peri_http_server server = {.proxies = all, .proxy_count = 2};
    peri_conn_exchange *of = calloc(1, sizeof *of);

    require(peri_net_block_parse("0.0.0.0/0", &all[0]) == 0);
    require(peri_net_block_parse("::/1", &all[1]) == 0);
    of->base = *ex;
    of->server = &server;
    require(peri_net_addr_parse(PERI_SLICE("127.0.0.1"), &of->addr) == 0);
    peri_conn_proxy_scheme(of);
    peri_conn_proxy_client(of);
    require(of->addr.family == 4 || of->addr.family == 6);
    free(of);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const peri_scan_limits limits = {
        .head_max_bytes = 1 << 20,
        .url_max_bytes = 1 << 16,
        .field_count_max = FIELDS_MAX,
    };
    peri_head_field fields[FIELDS_MAX];
    peri_head head = {.fields = fields};
    peri_exchange ex = {.refs = 1};
    size_t length;
    char *text;
    int used;

    if (size == 0) {
        return 0;
    }
    length = sizeof START - 1 + size - 1 + 4;
    text = malloc(length + PERI_SCAN_PADDING);
    memcpy(text, START, sizeof START - 1);
    memcpy(text + sizeof START - 1, data + 1, size - 1);
    memcpy(text + length - 4, "\r\n\r\n", 4);
    memset(text + length, 0, PERI_SCAN_PADDING);
    used = peri_scan_head(text, length, &limits, &head);
    if (used > 0) {
        peri_exchange_init(&ex, NULL, text, &head, (uint32_t)used);
        try_range(&ex, data[0]);
        try_range(&ex, INT64_MAX / 32);
        try_codings(&ex);
        try_conditions(&ex);
        try_proxies(&ex);
    }
    free(text);
    return 0;
}
