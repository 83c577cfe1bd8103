/* TLS, inside: what tls.c, tls_context.c, tls_tickets.c, tls_fault.c share. */
#ifndef PERI_LOOP_TLS_INTERNAL_H
#define PERI_LOOP_TLS_INTERNAL_H

#include <openssl/ssl.h>

#include "core/base/buf.h"
#include "core/loop/tls.h"

/* One certificate with its key, for some names. */
typedef struct tls_identity {
    SSL_CTX *ssl;
    X509 *leaf;  /* borrowed */
    char *names; /* NULL: the leaf's own */
} tls_identity;

struct peri_tls_context {
    unsigned refs;
    tls_identity *identities;
    size_t count;
    BIO_METHOD *method;
    peri_buf out;
    const peri_tls_tickets *tickets;
    peri_tls_tickets *own_tickets;
    EVP_CIPHER *ticket_cipher;
};

struct peri_tls {
    SSL *ssl;
    peri_tls_context *context;
    peri_tls_sessions *sessions;
    const char *in;
    size_t in_length;
    const char *reason; /* static */
    bool failed;
    bool finished;
};

/* tls_context.c */
BIO_METHOD *peri_tls_method_create(void);

/* tls_tickets.c */
int peri_tls_tickets_use(SSL_CTX *ssl, peri_tls_context *context,
                         const peri_tls_tickets *shared);

/* tls_fault.c: what OpenSSL's error queue means. Empties it. */
int peri_tls_fault(peri_tls *tls);

/* tls.c: OpenSSL has got a session for the client's next connection. */
int peri_tls_on_session(SSL *ssl, SSL_SESSION *session);

#endif
