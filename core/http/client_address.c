/* Client address: which addresses are not public (RFC 6890 and its kin). */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "core/http/client_internal.h"

typedef struct block4 {
    uint32_t address;
    uint32_t bits;
} block4;

static const block4 private4[] = {
    {0x00000000, 8},  /* 0.0.0.0: this host */
    {0x0a000000, 8},  /* 10.0.0.0 */
    {0x64400000, 10}, /* 100.64.0.0: carrier NAT */
    {0x7f000000, 8},  /* 127.0.0.0 */
    {0xa9fe0000, 16}, /* 169.254.0.0: link-local, clouds' metadata */
    {0xac100000, 12}, /* 172.16.0.0 */
    {0xc0000000, 24}, /* 192.0.0.0 */
    {0xc0000200, 24}, /* documentation */
    {0xc0a80000, 16}, /* 192.168.0.0 */
    {0xc6120000, 15}, /* 198.18.0.0: benchmarks */
    {0xc6336400, 24}, /* documentation */
    {0xcb007100, 24}, /* documentation */
    {0xe0000000, 3},  /* multicast, reserved, broadcast */
};

static bool private_v4(uint32_t address)
{
    for (size_t i = 0; i < sizeof private4 / sizeof private4[0]; i++) {
        if ((address ^ private4[i].address) >> (32 - private4[i].bits) == 0) {
            return true;
        }
    }
    return false;
}

static uint32_t v4_at(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 |
           (uint32_t)bytes[2] << 8 | bytes[3];
}

static bool starts(const uint8_t *bytes, const char *prefix, size_t length)
{
    return memcmp(bytes, prefix, length) == 0;
}

static bool private_v6(const uint8_t *b)
{
    static const char zeros[16] = {0};

    if (starts(b, zeros, 10) && b[10] == 0xff && b[11] == 0xff) {
        return private_v4(v4_at(b + 12)); /* ::ffff:0:0/96, mapped */
    }
    if (starts(b, "\0\x64\xff\x9b\0\0\0\0\0\0\0\0", 12)) {
        return private_v4(v4_at(b + 12)); /* 64:ff9b::/96, NAT64 */
    }
    if (b[0] == 0x20 && b[1] == 0x02) {
        return private_v4(v4_at(b + 2)); /* 2002::/16, 6to4 */
    }
    /* Global unicast is 2000::/3; Teredo and documentation lie in it. */
    return (b[0] & 0xe0) != 0x20 || starts(b, "\x20\x01\0\0", 4) ||
           starts(b, "\x20\x01\x0d\xb8", 4);
}

bool peri_address_private(const struct sockaddr *addr)
{
    if (addr->sa_family == AF_INET) {
        struct sockaddr_in v4;

        memcpy(&v4, addr, sizeof v4);
        return private_v4(ntohl(v4.sin_addr.s_addr));
    }
    if (addr->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;

        memcpy(&v6, addr, sizeof v6);
        return private_v6(v6.sin6_addr.s6_addr);
    }
    return true;
}
