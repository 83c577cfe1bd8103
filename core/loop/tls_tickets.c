/* TLS: session tickets, sealed with keys that several processes know.
 *
 * A ticket names its key. One that is being written over by a rotation at that
 * moment does not open the ticket: the handshake is a full one. */
#include "core/loop/tls_internal.h"

#include <openssl/core_names.h>
#include <openssl/rand.h>
#include <stdlib.h>

#include "core/base/alloc.h"

#define IV_BYTES 16

int peri_tls_tickets_rotate(peri_tls_tickets *tickets)
{
    uint32_t next = atomic_load(&tickets->current) + 1;
    peri_tls_ticket_key *key;

    next = next != 0 ? next : PERI_TLS_TICKET_KEYS;
    key = &tickets->keys[next % PERI_TLS_TICKET_KEYS];
    if (RAND_bytes(key->name, sizeof key->name) != 1 ||
        RAND_priv_bytes(key->mac, sizeof key->mac) != 1 ||
        RAND_priv_bytes(key->cipher, sizeof key->cipher) != 1) {
        return PERI_ESTATE;
    }
    atomic_store(&tickets->current, next);
    return 0;
}

static int set_keys(const peri_tls_context *context,
                    const peri_tls_ticket_key *key, unsigned char *iv,
                    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seal)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(
            OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)key->mac, sizeof key->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };

    return EVP_CipherInit_ex2(cipher, context->ticket_cipher, key->cipher, iv,
                              seal, NULL) == 1 &&
           EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* As SSL_CTX_set_tlsext_ticket_key_evp_cb wants it: 0 no such key, 1 done, 2
 * done and a new ticket is to be given. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv,
                     EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seal)
{
    const peri_tls *tls = SSL_get_app_data(ssl);
    const peri_tls_context *context = tls->context;
    const peri_tls_tickets *tickets = context->tickets;
    uint32_t current = atomic_load(&tickets->current);
    const peri_tls_ticket_key *key =
        &tickets->keys[current % PERI_TLS_TICKET_KEYS];

    if (seal) {
        memcpy(name, key->name, sizeof key->name);
        if (RAND_bytes(iv, IV_BYTES) != 1) {
            return -1;
        }
        return set_keys(context, key, iv, cipher, mac, 1) ? 1 : -1;
    }
    for (uint32_t age = 0; age < PERI_TLS_TICKET_KEYS && age < current; age++) {
        key = &tickets->keys[(current - age) % PERI_TLS_TICKET_KEYS];
        if (memcmp(name, key->name, sizeof key->name) == 0) {
            int done = age == 0 && SSL_version(ssl) < TLS1_3_VERSION ? 1 : 2;

            return set_keys(context, key, iv, cipher, mac, 0) ? done : -1;
        }
    }
    return 0;
}

int peri_tls_tickets_use(SSL_CTX *ssl, peri_tls_context *context,
                         const peri_tls_tickets *shared)
{
    if (shared == NULL) {
        if (context->own_tickets == NULL) {
            context->own_tickets = peri_calloc(1, sizeof *context->own_tickets);
        }
        if (atomic_load(&context->own_tickets->current) == 0 &&
            peri_tls_tickets_rotate(context->own_tickets) < 0) {
            return PERI_ESTATE;
        }
        shared = context->own_tickets;
    }
    context->tickets = shared;
    if (context->ticket_cipher == NULL) {
        context->ticket_cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    }
    if (context->ticket_cipher == NULL) {
        return PERI_ESTATE;
    }
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ssl, on_ticket);
    SSL_CTX_set_timeout(ssl, PERI_TLS_TICKET_LIFE_S);
    return 0;
}
