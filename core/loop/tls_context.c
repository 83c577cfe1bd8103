/* TLS: contexts, made of certificates and keys as PEM. */
#include "core/loop/tls_internal.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/alloc.h"

#define OUT_MAX_BYTES ((size_t)64 << 20)
#define CHAIN_MAX 32
#define AUTHORITIES_MAX 1000

/* Forward secrecy and authenticated encryption; TLS 1.3 has nothing else. */
static const char default_ciphers[] =
    "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!SHA1:!DSS";

typedef struct pem_why {
    const char *what; /* the setting */
    char *text;
    size_t text_bytes;
} pem_why;

static int refuse(const pem_why *why, const char *problem)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

    snprintf(why->text, why->text_bytes, "%s: %s%s%s%s", why->what, problem,
             reason != NULL ? " (" : "", reason != NULL ? reason : "",
             reason != NULL ? ")" : "");
    ERR_clear_error();
    return PERI_EFORMAT;
}

/* ---- PEM ---- */

static BIO *memory_of(peri_slice text)
{
    BIO *bio = BIO_new_mem_buf(text.data, (int)text.length);

    if (bio == NULL) {
        abort(); /* out of memory */
    }
    ERR_clear_error();
    return bio;
}

/* Nobody is there to be asked. */
static int no_passphrase(char *buffer, int size, int writes, void *data)
{
    bool *asked = data;

    (void)buffer;
    (void)size;
    (void)writes;
    *asked = true;
    return 0;
}

static bool is_at_end(void)
{
    return ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
}

static bool has_pem(peri_slice text)
{
    static const char begin[] = "-----BEGIN ";

    return text.length > 0 &&
           memmem(text.data, text.length, begin, sizeof begin - 1) != NULL;
}

static int use_chain(SSL_CTX *ssl, BIO *bio, const pem_why *why)
{
    X509 *cert;

    SSL_CTX_clear_chain_certs(ssl);
    for (int i = 0; i < CHAIN_MAX; i++) {
        ERR_clear_error();
        cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (cert == NULL) {
            return is_at_end() ? 0 : refuse(why, "cert: malformed PEM");
        }
        if (SSL_CTX_add0_chain_cert(ssl, cert) != 1) {
            X509_free(cert);
            return refuse(why, "cert: a certificate of the chain is bad");
        }
    }
    return refuse(why, "cert: too many certificates");
}

static int use_cert(SSL_CTX *ssl, peri_slice text, const pem_why *why)
{
    BIO *bio = memory_of(text);
    X509 *leaf = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
    int rc;

    if (leaf == NULL) {
        bool present = has_pem(text) && !is_at_end();

        if (!present) {
            ERR_clear_error();
        }
        rc = refuse(why, present ? "cert: malformed PEM"
                                 : "cert: no certificate in PEM form");
    } else if (SSL_CTX_use_certificate(ssl, leaf) != 1) {
        rc = refuse(why, "cert: the certificate cannot be used");
    } else {
        rc = use_chain(ssl, bio, why);
    }
    X509_free(leaf);
    BIO_free(bio);
    return rc;
}

static int use_key(SSL_CTX *ssl, peri_slice text, const pem_why *why)
{
    bool encrypted = false;
    BIO *bio = memory_of(text);
    EVP_PKEY *key =
        PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &encrypted);
    int rc = 0;

    if (key == NULL && encrypted) {
        ERR_clear_error();
        rc = refuse(why, "key: it is encrypted; nobody can be asked for the "
                         "passphrase");
    } else if (key == NULL) {
        bool present = has_pem(text);

        if (!present) {
            ERR_clear_error();
        }
        rc = refuse(why, present ? "key: no private key that can be read"
                                 : "key: no private key in PEM form");
    } else if (SSL_CTX_use_PrivateKey(ssl, key) != 1 ||
               SSL_CTX_check_private_key(ssl) != 1) {
        ERR_clear_error();
        rc = refuse(why, "key: it is not the key of the certificate");
    }
    EVP_PKEY_free(key);
    BIO_free(bio);
    return rc;
}

/* list: their names, for those who are asked for a certificate; may be NULL. */
static int use_authorities(SSL_CTX *ssl, peri_slice text,
                           STACK_OF(X509_NAME) * list, const pem_why *why)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ssl);
    BIO *bio = memory_of(text);
    int count = 0;
    int rc = 0;
    X509 *cert;

    while (count < AUTHORITIES_MAX &&
           (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        X509_STORE_add_cert(store, cert); /* twice the same is no harm */
        if (list != NULL) {
            X509_NAME *name = X509_NAME_dup(X509_get_subject_name(cert));

            if (name == NULL || sk_X509_NAME_push(list, name) <= 0) {
                X509_NAME_free(name);
            }
        }
        X509_free(cert);
        count++;
        ERR_clear_error();
    }
    if (count == 0 || !is_at_end()) {
        rc = refuse(why, count == 0 ? "ca: no certificate in PEM form"
                                    : "ca: malformed PEM");
    }
    ERR_clear_error();
    BIO_free(bio);
    return rc;
}

/* ---- what both sides want ---- */

static peri_tls_context *context_create(size_t count)
{
    peri_tls_context *context = peri_calloc(1, sizeof *context);

    context->refs = 1;
    context->identities = peri_calloc(count, sizeof *context->identities);
    context->method = peri_tls_method_create();
    peri_buf_init(&context->out, OUT_MAX_BYTES);
    return context;
}

void peri_tls_context_ref(peri_tls_context *context)
{
    context->refs++;
}

void peri_tls_context_unref(peri_tls_context *context)
{
    if (context == NULL || --context->refs > 0) {
        return;
    }
    for (size_t i = 0; i < context->count; i++) {
        SSL_CTX_free(context->identities[i].ssl);
        free(context->identities[i].names);
    }
    EVP_CIPHER_free(context->ticket_cipher);
    BIO_meth_free(context->method);
    peri_buf_fini(&context->out);
    if (context->own_tickets != NULL) {
        OPENSSL_cleanse(context->own_tickets, sizeof *context->own_tickets);
        free(context->own_tickets);
    }
    free(context->identities);
    free(context);
}

/* One more SSL_CTX of the context. */
static SSL_CTX *add(peri_tls_context *context, const SSL_METHOD *method,
                    bool from_1_3)
{
    SSL_CTX *ssl = SSL_CTX_new(method);

    if (ssl == NULL) {
        abort(); /* out of memory, or OpenSSL is broken */
    }
    context->identities[context->count++].ssl = ssl;
    SSL_CTX_set_min_proto_version(ssl,
                                  from_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_cipher_list(ssl, default_ciphers);
    return ssl;
}

/* ---- servers ---- */

/* "*" stands for one label. */
static bool name_fits(const char *pattern, size_t length, const char *name)
{
    const char *rest = strchr(name, '.');

    if (length > 2 && pattern[0] == '*' && pattern[1] == '.') {
        pattern++;
        length--;
        name = rest != NULL && rest != name ? rest : "";
    }
    return strlen(name) == length && strncasecmp(pattern, name, length) == 0;
}

/* wild: by a name with "*" too. */
static bool is_for(const tls_identity *identity, const char *name, bool wild)
{
    const char *at = identity->names;

    if (at == NULL) {
        return X509_check_host(identity->leaf, name, 0,
                               wild ? 0 : X509_CHECK_FLAG_NO_WILDCARDS,
                               NULL) == 1;
    }
    while (*at != '\0') {
        size_t length = strcspn(at, " ");

        if (length > 0 && (wild || *at != '*') && name_fits(at, length, name)) {
            return true;
        }
        at += length;
        at += *at == ' ';
    }
    return false;
}

/* The first one is for all names that no other is for. */
static const tls_identity *identity_for(const peri_tls_context *context,
                                        const char *name)
{
    for (int wild = 0; wild < 2; wild++) { /* what is exact goes before */
        for (size_t i = 1; i < context->count; i++) {
            if (is_for(&context->identities[i], name, wild != 0)) {
                return &context->identities[i];
            }
        }
    }
    return &context->identities[0];
}

static int on_server_name(SSL *ssl, int *alert, void *data)
{
    const peri_tls_context *context = data;
    const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    char name[TLSEXT_MAXLEN_host_name + 1];
    size_t length;

    (void)alert;
    if (asked == NULL) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    length = strlen(asked);
    length -= length > 0 && asked[length - 1] == '.'; /* the root's */
    if (length < sizeof name) {
        memcpy(name, asked, length);
        name[length] = '\0';
        SSL_set_SSL_CTX(ssl, identity_for(context, name)->ssl);
    }
    return SSL_TLSEXT_ERR_OK;
}

static int on_protocols(SSL *ssl, const unsigned char **out,
                        unsigned char *out_length, const unsigned char *in,
                        unsigned in_length, void *data)
{
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen;

    (void)ssl;
    (void)data;
    if (SSL_select_next_proto(&chosen, out_length, ours, sizeof ours - 1, in,
                              in_length) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* Looked at later, by whoever asks for the result. */
static int accept_any(int ok, X509_STORE_CTX *store)
{
    (void)ok;
    (void)store;
    return 1;
}

static int ask_clients(SSL_CTX *ssl, const peri_tls_server_options *options,
                       const pem_why *why)
{
    STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
    int rc;

    if (options->client == PERI_TLS_ASK_NEVER) {
        sk_X509_NAME_free(names);
        return 0;
    }
    rc = use_authorities(ssl, options->ca, names, why);
    SSL_CTX_set_client_CA_list(ssl, names); /* takes it */
    if (options->client == PERI_TLS_ASK_REQUIRE) {
        SSL_CTX_set_verify(
            ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    } else {
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, accept_any);
    }
    return rc;
}

/* Tickets are good only where clients are held to the same. */
static void set_session_id(SSL_CTX *ssl, const peri_tls_server_options *options)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    EVP_MD_CTX *digest = EVP_MD_CTX_new();

    if (digest == NULL || EVP_DigestInit(digest, EVP_sha256()) != 1 ||
        EVP_DigestUpdate(digest, &options->client, sizeof options->client) !=
            1 ||
        EVP_DigestUpdate(digest, options->ca.data, options->ca.length) != 1 ||
        EVP_DigestFinal(digest, hash, &length) != 1) {
        abort(); /* out of memory */
    }
    EVP_MD_CTX_free(digest);
    SSL_CTX_set_session_id_context(
        ssl, hash,
        length < SSL_MAX_SID_CTX_LENGTH ? length : SSL_MAX_SID_CTX_LENGTH);
}

static int set_tickets(SSL_CTX *ssl, peri_tls_context *context,
                       const peri_tls_server_options *options)
{
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    set_session_id(ssl, options);
    if (!options->tickets) {
        SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ssl, 0);
        return 0;
    }
    return peri_tls_tickets_use(ssl, context, options->ticket_keys);
}

static int add_identity(peri_tls_context *context,
                        const peri_tls_server_options *options,
                        const peri_tls_identity *identity, char *text,
                        size_t text_bytes)
{
    pem_why why = {identity->what, text, text_bytes};
    SSL_CTX *ssl = add(context, TLS_server_method(), options->from_1_3);
    tls_identity *at = &context->identities[context->count - 1];
    int rc = use_cert(ssl, identity->cert, &why);

    if (rc == 0) {
        rc = use_key(ssl, identity->key, &why);
    }
    at->leaf = SSL_CTX_get0_certificate(ssl);
    if (identity->names != NULL && *identity->names != '\0') {
        at->names = peri_strdup(identity->names);
    }
    if (rc == 0) {
        why.what = "http.tls";
        rc = ask_clients(ssl, options, &why);
    }
    if (rc == 0 && options->ciphers != NULL && *options->ciphers != '\0' &&
        SSL_CTX_set_cipher_list(ssl, options->ciphers) != 1) {
        rc = refuse(&why, "ciphers: no cipher that OpenSSL knows");
    }
    if (rc == 0 && set_tickets(ssl, context, options) < 0) {
        rc = refuse(&why, "no keys for session tickets");
    }
    SSL_CTX_set_alpn_select_cb(ssl, on_protocols, NULL);
    return rc;
}

int peri_tls_server_context(const peri_tls_server_options *options,
                            peri_tls_context **out, char *why, size_t why_bytes)
{
    peri_tls_context *context;
    int rc = 0;

    *out = NULL;
    if (options->count == 0 || options->count > PERI_TLS_IDENTITIES_MAX) {
        snprintf(why, why_bytes, "http.tls: %zu certificates", options->count);
        return PERI_ELIMIT;
    }
    context = context_create(options->count);
    for (size_t i = 0; i < options->count && rc == 0; i++) {
        rc = add_identity(context, options, &options->identities[i], why,
                          why_bytes);
    }
    if (rc < 0) {
        peri_tls_context_unref(context);
        return rc;
    }
    /* With one certificate, too: a session of TLS 1.2 keeps the name only if
     * somebody has said that it is right. */
    SSL_CTX_set_tlsext_servername_callback(context->identities[0].ssl,
                                           on_server_name);
    SSL_CTX_set_tlsext_servername_arg(context->identities[0].ssl, context);
    *out = context;
    return 0;
}

int64_t peri_tls_context_expires_s(const peri_tls_context *context)
{
    int64_t first_s = INT64_MAX;

    for (size_t i = 0; i < context->count; i++) {
        const ASN1_TIME *end = X509_get0_notAfter(context->identities[i].leaf);
        struct tm broken_down;

        if (ASN1_TIME_to_tm(end, &broken_down) == 1) {
            int64_t end_s = timegm(&broken_down);

            first_s = end_s < first_s ? end_s : first_s;
        }
    }
    return first_s;
}

/* ---- clients ---- */

static int set_trust(SSL_CTX *ssl, const peri_tls_client_options *options,
                     const pem_why *why)
{
    SSL_CTX_set_verify(
        ssl, options->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    if (options->ca.length > 0) {
        return use_authorities(ssl, options->ca, NULL, why);
    }
    if (!options->insecure && SSL_CTX_set_default_verify_paths(ssl) != 1) {
        return refuse(why, "the system's certificates cannot be read");
    }
    return 0;
}

int peri_tls_client_context(const peri_tls_client_options *options,
                            peri_tls_context **out, char *text,
                            size_t text_bytes)
{
    static const unsigned char http[] = "\x08http/1.1";
    peri_tls_context *context = context_create(1);
    SSL_CTX *ssl = add(context, TLS_client_method(), options->from_1_3);
    pem_why why = {"tls", text, text_bytes};
    int rc = set_trust(ssl, options, &why);

    if (rc == 0 && options->cert.length > 0) {
        rc = use_cert(ssl, options->cert, &why);
        if (rc == 0) {
            rc = use_key(ssl, options->key, &why);
        }
    }
    if (options->http) {
        SSL_CTX_set_alpn_protos(ssl, http, sizeof http - 1);
    }
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_CLIENT |
                                            SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ssl, peri_tls_on_session);
    if (rc < 0) {
        peri_tls_context_unref(context);
        context = NULL;
    }
    *out = context;
    return rc;
}
