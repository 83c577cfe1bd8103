/* Net: IPv4 is written by hand, since access logs ask for it each time. */
#include "core/http/net.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "core/base/err.h"

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static void set_bytes(peri_net_addr *addr, const uint8_t *bytes, uint8_t family)
{
    if (family == 6 && memcmp(bytes, mapped, sizeof mapped) == 0) {
        bytes += sizeof mapped;
        family = 4;
    }
    memset(addr, 0, sizeof *addr);
    addr->family = family;
    memcpy(addr->bytes, bytes, family == 4 ? 4 : 16);
}

void peri_net_addr_set(peri_net_addr *addr, const struct sockaddr *from)
{
    const void *any = from;

    if (from->sa_family == AF_INET) {
        const struct sockaddr_in *in = any;

        set_bytes(addr, (const uint8_t *)&in->sin_addr, 4);
    } else if (from->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = any;

        set_bytes(addr, in6->sin6_addr.s6_addr, 6);
    } else {
        memset(addr, 0, sizeof *addr);
    }
}

static char *write_byte(char *out, uint8_t value)
{
    if (value >= 100) {
        *out++ = (char)('0' + value / 100);
    }
    if (value >= 10) {
        *out++ = (char)('0' + value / 10 % 10);
    }
    *out++ = (char)('0' + value % 10);
    return out;
}

size_t peri_net_addr_write(const peri_net_addr *addr,
                           char out[PERI_NET_TEXT_BYTES])
{
    char *at = out;

    if (addr->family == 4) {
        for (int i = 0; i < 4; i++) {
            at = write_byte(at, addr->bytes[i]);
            *at++ = '.';
        }
        *--at = '\0';
        return (size_t)(at - out);
    }
    if (addr->family == 6) {
        inet_ntop(AF_INET6, addr->bytes, out, PERI_NET_TEXT_BYTES);
    } else {
        memcpy(out, "unix", sizeof "unix");
    }
    return strlen(out);
}

/* Takes "[...]:port" and "1.2.3.4:port" apart. */
static peri_slice without_port(peri_slice text)
{
    const char *colon = memchr(text.data, ':', text.length);
    const char *end = text.data + text.length;

    if (text.data[0] == '[') {
        const char *bracket = memchr(text.data, ']', text.length);

        return bracket == NULL
                   ? text
                   : peri_slice_of(text.data + 1,
                                   (size_t)(bracket - text.data - 1));
    }
    if (colon != NULL &&
        memchr(colon + 1, ':', (size_t)(end - colon - 1)) == NULL) {
        return peri_slice_of(text.data, (size_t)(colon - text.data));
    }
    return text;
}

int peri_net_addr_parse(peri_slice text, peri_net_addr *out)
{
    char copy[PERI_NET_TEXT_BYTES];
    uint8_t bytes[16];

    if (text.length == 0) {
        return PERI_EFORMAT;
    }
    text = without_port(text);
    if (text.length >= sizeof copy) {
        return PERI_EFORMAT;
    }
    memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    if (inet_pton(AF_INET, copy, bytes) == 1) {
        set_bytes(out, bytes, 4);
        return 0;
    }
    if (inet_pton(AF_INET6, copy, bytes) == 1) {
        set_bytes(out, bytes, 6);
        return 0;
    }
    return PERI_EFORMAT;
}

int peri_net_block_parse(const char *text, peri_net_block *out)
{
    const char *slash = strchr(text, '/');
    size_t length = slash != NULL ? (size_t)(slash - text) : strlen(text);
    unsigned long bits;
    unsigned long max_bits;
    char *end;
    int rc = peri_net_addr_parse(peri_slice_of(text, length), &out->addr);

    if (rc < 0) {
        return rc;
    }
    max_bits = out->addr.family == 4 ? 32 : 128;
    bits = max_bits;
    if (slash != NULL) {
        bits = strtoul(slash + 1, &end, 10);
        if (end == slash + 1 || *end != '\0' || bits > max_bits) {
            return PERI_EFORMAT;
        }
    }
    out->prefix_bits = (uint8_t)bits;
    return 0;
}

bool peri_net_block_has(const peri_net_block *block, const peri_net_addr *addr)
{
    unsigned whole = block->prefix_bits / 8;
    unsigned rest = block->prefix_bits % 8;

    if (block->addr.family != addr->family ||
        memcmp(block->addr.bytes, addr->bytes, whole) != 0) {
        return false;
    }
    return rest == 0 ||
           ((block->addr.bytes[whole] ^ addr->bytes[whole]) >> (8 - rest)) == 0;
}
