/* TLS: OpenSSL as a machine between bytes and bytes.
 *
 * It knows no socket: whoever owns one feeds what came (peri_tls_feed), reads
 * what it means (peri_tls_read, which also goes on with the handshake), and
 * sends what peri_tls_output gives. Server, HTTP client and Redis use it alike.
 *
 * What is fed is borrowed until a read has returned 0 or less. Output lies in a
 * buffer that all connections of a context share: take it (peri_tls_sent)
 * before the next call on another connection of that context. Loop thread. */
#ifndef PERI_LOOP_TLS_H
#define PERI_LOOP_TLS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/slice.h"

/* Certificates and what goes with them; counted. */
typedef struct peri_tls_context peri_tls_context;
/* One connection. */
typedef struct peri_tls peri_tls;
/* Sessions of one server, for quick handshakes; see peri_tls_client(). */
typedef struct peri_tls_sessions peri_tls_sessions;

/* ---- keys of session tickets ---- */

#define PERI_TLS_TICKET_KEYS 4

typedef struct peri_tls_ticket_key {
    unsigned char name[16];
    unsigned char mac[32];
    unsigned char cipher[32];
} peri_tls_ticket_key;

/* In memory that all workers share, so that each takes the others' tickets and
 * those of its predecessor. One process rotates. */
typedef struct peri_tls_tickets {
    _Atomic uint32_t current; /* keys[current % KEYS] seals; 0: none yet */
    peri_tls_ticket_key keys[PERI_TLS_TICKET_KEYS];
} peri_tls_tickets;

#define PERI_TLS_TICKET_LIFE_S 14400
/* Every key outlives the tickets that it sealed. */
#define PERI_TLS_ROTATE_MS ((uint64_t)PERI_TLS_TICKET_LIFE_S * 1000 / 2)

/* A new key for new tickets; the oldest is forgotten. 0 or negative. */
int peri_tls_tickets_rotate(peri_tls_tickets *tickets);

/* ---- contexts ---- */

typedef struct peri_tls_identity {
    peri_slice cert;  /* PEM: the certificate, then those that issued it */
    peri_slice key;   /* PEM */
    const char *what; /* the setting, for messages: "http.tls" */
    /* Names it is for, "*.example.org" among them, separated by blanks; empty:
     * those in the certificate. */
    const char *names;
} peri_tls_identity;

#define PERI_TLS_IDENTITIES_MAX 256

typedef enum peri_tls_ask {
    PERI_TLS_ASK_NEVER,
    PERI_TLS_ASK_REQUEST, /* without one, or with a bad one, it goes on */
    PERI_TLS_ASK_REQUIRE
} peri_tls_ask;

typedef struct peri_tls_server_options {
    const peri_tls_identity *identities; /* the first is for unknown names */
    size_t count;
    peri_slice ca;       /* PEM: who may have issued clients' certificates */
    peri_tls_ask client; /* whether a certificate is asked of clients */
    bool from_1_3;       /* else from TLS 1.2 */
    const char *ciphers; /* OpenSSL's list for TLS 1.2; empty: the default */
    bool tickets;
    /* Borrowed for the context's life; NULL: the context has keys of its own.
     */
    const peri_tls_tickets *ticket_keys;
} peri_tls_server_options;

/* With a reference for the caller. Copies what options point to. PERI_EFORMAT:
 * why says which file is wrong, and how. */
int peri_tls_server_context(const peri_tls_server_options *options,
                            peri_tls_context **out, char *why,
                            size_t why_bytes);

typedef struct peri_tls_client_options {
    peri_slice ca;   /* PEM; empty: the system's store */
    peri_slice cert; /* PEM, for servers that ask; empty: none */
    peri_slice key;
    bool insecure; /* any certificate will do */
    bool from_1_3;
    bool http; /* asks for http/1.1 (ALPN) */
} peri_tls_client_options;

int peri_tls_client_context(const peri_tls_client_options *options,
                            peri_tls_context **out, char *why,
                            size_t why_bytes);

#define PERI_TLS_PEM_MAX_BYTES ((size_t)4 << 20)

/* Whether a text that may be PEM or the path of a file with it is a path. */
bool peri_tls_is_path(peri_slice text);

/* PEM from the file, or the text itself. 0, -errno or PERI_ELIMIT. */
int peri_tls_read_pem(peri_slice text, peri_buf *out);

/* As peri_tls_client_context, with paths where PEM is expected. */
int peri_tls_client_context_from(const peri_tls_client_options *options,
                                 peri_tls_context **out, char *why,
                                 size_t why_bytes);

/* Unix time when the first of a server's certificates expires. */
int64_t peri_tls_context_expires_s(const peri_tls_context *context);

void peri_tls_context_ref(peri_tls_context *context);
void peri_tls_context_unref(peri_tls_context *context); /* NULL is allowed */

/* ---- one connection ---- */

/* Takes a reference of the context. Never NULL. */
peri_tls *peri_tls_server(peri_tls_context *context);

/* name: whom the certificate must be for, and what is asked for (SNI); an
 * address is compared and not asked for. sessions: borrowed for the
 * connection's life, or NULL. */
peri_tls *peri_tls_client(peri_tls_context *context, const char *name,
                          peri_tls_sessions *sessions);

void peri_tls_destroy(peri_tls *tls); /* NULL is allowed */

void peri_tls_feed(peri_tls *tls, const char *data, size_t length);

/* Bytes; 0: more must be fed first; UV_EOF: the other side has said that it
 * ends; else what went wrong: PERI_ETLS or one of its kin. The first call of a
 * client, with nothing fed, makes its greeting. */
ssize_t peri_tls_read(peri_tls *tls, char *buffer, size_t size_bytes);

/* Whether another read may give more without more being fed. */
bool peri_tls_has_more(const peri_tls *tls);

/* After the handshake: all of data becomes output. 0 or negative. */
int peri_tls_write(peri_tls *tls, const char *data, size_t length);

/* Says that nothing more will be sent (close_notify). */
void peri_tls_finish(peri_tls *tls);

peri_slice peri_tls_output(const peri_tls *tls);
void peri_tls_sent(peri_tls *tls); /* all of the output was taken */

bool peri_tls_is_ready(const peri_tls *tls); /* the handshake is done */

/* More about a failure than its code says; "" when there is none. */
const char *peri_tls_reason(const peri_tls *tls);

/* What was agreed on; borrowed. Texts may be "". */
typedef struct peri_tls_info {
    const char *version; /* "TLSv1.3" */
    const char *cipher;
    const char *server_name;
    bool resumed;
    bool peer_verified; /* it has shown a certificate that is good */
} peri_tls_info;

void peri_tls_get_info(const peri_tls *tls, peri_tls_info *out);

/* The other side's certificate: its subject as RFC 2253 has it, and the SHA-256
 * of all of it in lower-case hex. False: it has shown none. */
bool peri_tls_peer(const peri_tls *tls, char *subject, size_t subject_bytes,
                   char fingerprint[65]);

peri_tls_sessions *peri_tls_sessions_create(void);
void peri_tls_sessions_destroy(peri_tls_sessions *sessions);

#endif
