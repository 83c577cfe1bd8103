/* Listen: sockets for the worker slots, all on one address. */
#ifndef PERI_CLUSTER_LISTEN_H
#define PERI_CLUSTER_LISTEN_H

#include <stddef.h>
#include <sys/socket.h>

typedef struct peri_address {
    struct sockaddr_storage storage;
    socklen_t length;
    char host[64]; /* as numbers, "127.0.0.1" or "::1" */
    int port;
} peri_address;

/* host: a name or numbers. 0 or a negative code, with a sentence in why. */
int peri_address_resolve(const char *host, int port, peri_address *out,
                         char *why, size_t why_bytes);

/* Whether somebody else listens there: SO_REUSEPORT would silently share the
 * port with another process of the same user. 0; or -EADDRINUSE and its like,
 * with a sentence in why that names who holds it. Port 0 is always free. */
int peri_listen_probe(const peri_address *address, char *why, size_t why_bytes);

/* A bound socket, not yet listening, non-blocking, closed on exec; SO_REUSEPORT
 * when shared. The caller owns *out_fd. With port 0 the kernel's choice goes
 * into address. 0 or -errno. */
int peri_listen_bind(peri_address *address, int shared, int *out_fd);

/* Whether a socket is bound to this address. With port 0 any port will do, and
 * address gets it. */
int peri_listen_is_bound_to(int fd, peri_address *address);

/* "http://127.0.0.1:3000"; scheme without "://". */
void peri_address_url(const peri_address *address, const char *scheme,
                      char *out, size_t out_bytes);

#endif
