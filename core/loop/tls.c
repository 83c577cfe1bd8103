/* TLS: one connection. */
#include "core/loop/tls_internal.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <uv.h>

#include "core/base/alloc.h"
#include "core/base/text_code.h"

#define SESSIONS_MAX 4
/* What the engine itself may have to say before anybody has taken it. */
#define OUT_MAX_BYTES ((size_t)64 << 20)
#define OUT_KEEP_BYTES ((size_t)256 << 10)

struct peri_tls_sessions {
    SSL_SESSION *list[SESSIONS_MAX]; /* the newest last */
    unsigned count;
};

/* ---- bytes in and out ---- */

static int bio_read(BIO *bio, char *data, int size)
{
    peri_tls *tls = BIO_get_data(bio);
    size_t length =
        (size_t)size < tls->in_length ? (size_t)size : tls->in_length;

    BIO_clear_retry_flags(bio);
    if (length == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(data, tls->in, length);
    tls->in += length;
    tls->in_length -= length;
    return (int)length;
}

static int bio_write(BIO *bio, const char *data, int length)
{
    peri_tls *tls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    return peri_buf_append(&tls->context->out, data, (size_t)length) < 0
               ? -1
               : length;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

BIO_METHOD *peri_tls_method_create(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "peri_tls");

    if (method == NULL) {
        abort(); /* out of memory */
    }
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_ctrl(method, bio_control);
    return method;
}

/* ---- life ---- */

static peri_tls *create(peri_tls_context *context)
{
    peri_tls *tls = peri_calloc(1, sizeof *tls);
    BIO *bio = BIO_new(context->method);

    tls->ssl = SSL_new(context->identities[0].ssl);
    if (tls->ssl == NULL || bio == NULL) {
        abort(); /* out of memory */
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_app_data(tls->ssl, tls);
    tls->context = context;
    tls->reason = "";
    peri_tls_context_ref(context);
    return tls;
}

peri_tls *peri_tls_server(peri_tls_context *context)
{
    peri_tls *tls = create(context);

    SSL_set_accept_state(tls->ssl);
    return tls;
}

static bool is_address(const char *name)
{
    unsigned char address[16];

    return inet_pton(AF_INET, name, address) == 1 ||
           inet_pton(AF_INET6, name, address) == 1;
}

/* A ticket is better used once, but some servers give no more: the last one
 * stays. OpenSSL marks what it was given as used up. */
static void use_session(peri_tls *tls, peri_tls_sessions *sessions)
{
    SSL_SESSION *session = sessions->list[sessions->count - 1];

    if (sessions->count > 1) {
        sessions->count--;
    } else {
        session = SSL_SESSION_dup(session);
    }
    if (session != NULL) {
        SSL_set_session(tls->ssl, session);
        SSL_SESSION_free(session);
    }
}

peri_tls *peri_tls_client(peri_tls_context *context, const char *name,
                          peri_tls_sessions *sessions)
{
    peri_tls *tls = create(context);
    X509_VERIFY_PARAM *param = SSL_get0_param(tls->ssl);

    SSL_set_connect_state(tls->ssl);
    if (is_address(name)) {
        X509_VERIFY_PARAM_set1_ip_asc(param, name);
    } else {
        X509_VERIFY_PARAM_set_hostflags(param,
                                        X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        X509_VERIFY_PARAM_set1_host(param, name, 0);
        SSL_set_tlsext_host_name(tls->ssl, name);
    }
    tls->sessions = sessions;
    if (sessions != NULL && sessions->count > 0) {
        use_session(tls, sessions);
    }
    return tls;
}

void peri_tls_destroy(peri_tls *tls)
{
    if (tls == NULL) {
        return;
    }
    if (!tls->failed) {
        /* Else its session would count as bad. */
        SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    }
    SSL_free(tls->ssl);
    peri_tls_context_unref(tls->context);
    free(tls);
}

/* ---- reading and writing ---- */

void peri_tls_feed(peri_tls *tls, const char *data, size_t length)
{
    tls->in = data;
    tls->in_length = length;
}

static int fail(peri_tls *tls)
{
    tls->failed = true;
    tls->in_length = 0;
    return peri_tls_fault(tls);
}

ssize_t peri_tls_read(peri_tls *tls, char *buffer, size_t size_bytes)
{
    int size = size_bytes < INT32_MAX ? (int)size_bytes : INT32_MAX;
    int n;

    if (tls->failed) {
        return PERI_ETLS;
    }
    ERR_clear_error();
    n = SSL_read(tls->ssl, buffer, size);
    if (n > 0) {
        return n;
    }
    switch (SSL_get_error(tls->ssl, n)) {
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        tls->in_length = 0;
        return UV_EOF;
    default:
        return fail(tls);
    }
}

bool peri_tls_has_more(const peri_tls *tls)
{
    return tls->in_length > 0 || SSL_pending(tls->ssl) > 0;
}

int peri_tls_write(peri_tls *tls, const char *data, size_t length)
{
    size_t written;

    if (tls->failed || tls->finished) {
        return PERI_EGONE;
    }
    if (length == 0) {
        return 0;
    }
    ERR_clear_error();
    return SSL_write_ex(tls->ssl, data, length, &written) == 1 ? 0 : fail(tls);
}

void peri_tls_finish(peri_tls *tls)
{
    if (tls->failed || tls->finished || !SSL_is_init_finished(tls->ssl)) {
        return;
    }
    tls->finished = true;
    ERR_clear_error();
    SSL_shutdown(tls->ssl);
}

peri_slice peri_tls_output(const peri_tls *tls)
{
    return peri_buf_slice(&tls->context->out);
}

void peri_tls_sent(peri_tls *tls)
{
    peri_buf *out = &tls->context->out;

    if (out->capacity > OUT_KEEP_BYTES) {
        peri_buf_fini(out);
        peri_buf_init(out, OUT_MAX_BYTES);
    } else {
        peri_buf_clear(out);
    }
}

bool peri_tls_is_ready(const peri_tls *tls)
{
    return SSL_is_init_finished(tls->ssl) && !tls->failed;
}

const char *peri_tls_reason(const peri_tls *tls)
{
    return tls->reason;
}

/* ---- what was agreed on ---- */

void peri_tls_get_info(const peri_tls *tls, peri_tls_info *out)
{
    const char *name = SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name);
    const char *cipher = SSL_get_cipher_name(tls->ssl);

    *out = (peri_tls_info){
        .version = SSL_get_version(tls->ssl),
        .cipher = cipher != NULL ? cipher : "",
        .server_name = name != NULL ? name : "",
        .resumed = SSL_session_reused(tls->ssl) == 1,
        .peer_verified = SSL_get0_peer_certificate(tls->ssl) != NULL &&
                         SSL_get_verify_result(tls->ssl) == X509_V_OK,
    };
}

bool peri_tls_peer(const peri_tls *tls, char *subject, size_t subject_bytes,
                   char fingerprint[65])
{
    const X509 *cert = SSL_get0_peer_certificate(tls->ssl);
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    BIO *text;
    int n = 0;

    if (cert == NULL || X509_digest(cert, EVP_sha256(), hash, &length) != 1) {
        return false;
    }
    text = BIO_new(BIO_s_mem());
    if (text != NULL) {
        X509_NAME_print_ex(text, X509_get_subject_name(cert), 0,
                           XN_FLAG_RFC2253);
        n = BIO_read(text, subject, (int)subject_bytes - 1);
        BIO_free(text);
    }
    subject[n > 0 ? n : 0] = '\0';
    peri_hex_encode(hash, length, fingerprint); /* SHA-256 fills it */
    fingerprint[64] = '\0';
    return true;
}

/* ---- sessions ---- */

peri_tls_sessions *peri_tls_sessions_create(void)
{
    return peri_calloc(1, sizeof(peri_tls_sessions));
}

void peri_tls_sessions_destroy(peri_tls_sessions *sessions)
{
    if (sessions == NULL) {
        return;
    }
    for (unsigned i = 0; i < sessions->count; i++) {
        SSL_SESSION_free(sessions->list[i]);
    }
    free(sessions);
}

int peri_tls_on_session(SSL *ssl, SSL_SESSION *session)
{
    peri_tls *tls = SSL_get_app_data(ssl);
    peri_tls_sessions *sessions = tls->sessions;

    if (sessions == NULL || SSL_SESSION_is_resumable(session) != 1) {
        return 0;
    }
    if (sessions->count == SESSIONS_MAX) {
        SSL_SESSION_free(sessions->list[0]);
        sessions->count--;
        memmove(sessions->list, sessions->list + 1,
                sessions->count * sizeof sessions->list[0]);
    }
    sessions->list[sessions->count++] = session;
    return 1; /* it is ours now */
}
