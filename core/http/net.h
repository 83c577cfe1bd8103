/* Net: addresses of peers, as numbers and as text. */
#ifndef PERI_HTTP_NET_H
#define PERI_HTTP_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/base/slice.h"

#define PERI_NET_TEXT_BYTES 46

typedef struct peri_net_addr {
    uint8_t family; /* 4, 6, or 0 for a Unix socket */
    uint8_t bytes[16];
} peri_net_addr;

typedef struct peri_net_block {
    peri_net_addr addr;
    uint8_t prefix_bits;
} peri_net_block;

/* An IPv4 address mapped into IPv6 becomes IPv4. */
void peri_net_addr_set(peri_net_addr *addr, const struct sockaddr *from);

/* "127.0.0.1", "::1", "unix"; returns the length. */
size_t peri_net_addr_write(const peri_net_addr *addr,
                           char out[PERI_NET_TEXT_BYTES]);

/* An address, with a port or in brackets too. 0 or PERI_EFORMAT. */
int peri_net_addr_parse(peri_slice text, peri_net_addr *out);

/* "10.0.0.0/8", or an address. 0 or PERI_EFORMAT. */
int peri_net_block_parse(const char *text, peri_net_block *out);

bool peri_net_block_has(const peri_net_block *block, const peri_net_addr *addr);

#endif
