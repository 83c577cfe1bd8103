/* Request id: a prefix drawn by each server, and a count. */
#include <endian.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "core/http/conn.h"

static const char hex[] = "0123456789abcdef";

void peri_server_prefix_ids(peri_http_server *server)
{
    uint8_t random[4];

    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        uint64_t time = uv_hrtime() ^ (uint64_t)getpid() << 32;

        memcpy(random, &time, sizeof random);
    }
    for (unsigned i = 0; i < 4; i++) {
        server->id_prefix[i * 2] = hex[random[i] >> 4];
        server->id_prefix[i * 2 + 1] = hex[random[i] & 15];
    }
}

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* The eight digits of n, all at once; the first in the lowest byte. */
static uint64_t hex_digits(uint32_t n)
{
    uint64_t v = (uint64_t)(n & 0xffff) << 32 | n >> 16;
    uint64_t letters;

    v = ((v & UINT64_C(0x000000ff000000ff)) << 16) |
        (v >> 8 & UINT64_C(0x000000ff000000ff));
    v = ((v & UINT64_C(0x000f000f000f000f)) << 8) |
        (v >> 4 & UINT64_C(0x000f000f000f000f));
    letters = (v + EACH(6)) >> 4 & EACH(1);
    return v + EACH('0') + letters * ('a' - '0' - 10);
}

void peri_server_make_id(peri_http_server *server, peri_exchange *ex)
{
    uint32_t n = ++server->id_count;
    uint64_t digits = htole64(hex_digits(n));

    if (n == 0) {
        peri_server_prefix_ids(server);
    }
    memcpy(ex->request_id, server->id_prefix, 8);
    memcpy(ex->request_id + 8, &digits, sizeof digits);
    ex->request_id[16] = '\0';
    ex->id_length = 16;
}
