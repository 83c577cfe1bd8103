/* Request id: a prefix drawn by each server, and a count. */
#include <endian.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "core/base/text_code.h"
#include "core/http/conn.h"

void peri_server_prefix_ids(peri_http_server *server)
{
    uint8_t random[4];

    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        uint64_t time = uv_hrtime() ^ (uint64_t)getpid() << 32;

        memcpy(random, &time, sizeof random);
    }
    peri_hex_encode(random, sizeof random, server->id_prefix);
}

void peri_server_make_id(peri_http_server *server, peri_exchange *ex)
{
    uint32_t n = ++server->id_count;
    uint32_t big_endian = htobe32(n);

    if (n == 0) {
        peri_server_prefix_ids(server);
    }
    memcpy(ex->request_id, server->id_prefix, 8);
    peri_hex_encode(&big_endian, sizeof big_endian, ex->request_id + 8);
    ex->request_id[16] = '\0';
    ex->id_length = 16;
}
