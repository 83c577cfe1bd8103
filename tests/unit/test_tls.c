/* TLS as a machine between bytes: two of them, face to face. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <uv.h>

#include "core/loop/tls.h"

#define TEST(name) static void name(void **state)
#define DAY 86400

typedef struct pem {
    char cert[4096];
    char key[4096];
} pem;

static void to_text(BIO *bio, char *out, size_t size)
{
    int n = BIO_read(bio, out, (int)size - 1);

    assert_true(n > 0);
    out[n] = '\0';
    BIO_free(bio);
}

/* A certificate that has issued itself, for that name. */
static void make(pem *out, const char *name, long from_s, long to_s)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_NAME *subject = X509_get_subject_name(cert);
    char alt[128];
    X509_EXTENSION *extension;
    BIO *bio = BIO_new(BIO_s_mem());

    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), from_s);
    X509_gmtime_adj(X509_getm_notAfter(cert), to_s);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(cert, subject);
    snprintf(alt, sizeof alt, "DNS:%s", name);
    extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, alt);
    X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    PEM_write_bio_X509(bio, cert);
    to_text(bio, out->cert, sizeof out->cert);
    bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    to_text(bio, out->key, sizeof out->key);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static pem good;

static int make_good(void **state)
{
    (void)state;
    make(&good, "localhost", -DAY, DAY);
    return 0;
}

static peri_tls_context *server_with(const pem *id, peri_tls_tickets *tickets)
{
    peri_tls_identity identity = {.cert = peri_slice_str(id->cert),
                                  .key = peri_slice_str(id->key),
                                  .what = "http.tls"};
    peri_tls_server_options options = {.identities = &identity,
                                       .count = 1,
                                       .tickets = true,
                                       .ticket_keys = tickets};
    peri_tls_context *context;
    char why[256] = "";

    assert_int_equal(
        peri_tls_server_context(&options, &context, why, sizeof why), 0);
    return context;
}

static peri_tls_context *client_with(const char *ca)
{
    peri_tls_client_options options = {.ca = peri_slice_str(ca)};
    peri_tls_context *context;
    char why[256] = "";

    assert_int_equal(
        peri_tls_client_context(&options, &context, why, sizeof why), 0);
    return context;
}

/* One side: what it has read, and the first thing that went wrong. */
typedef struct side {
    peri_tls *tls;
    peri_buf in; /* on its way here */
    peri_buf got;
    int rc;
} side;

static void open_side(side *s, peri_tls *tls)
{
    *s = (side){.tls = tls};
    peri_buf_init(&s->in, SIZE_MAX / 2);
    peri_buf_init(&s->got, SIZE_MAX / 2);
}

static void close_side(side *s)
{
    peri_tls_destroy(s->tls);
    peri_buf_fini(&s->in);
    peri_buf_fini(&s->got);
}

static void deliver(side *from, side *to)
{
    peri_buf_append_slice(&to->in, peri_tls_output(from->tls));
    peri_tls_sent(from->tls);
}

static void turn(side *s, side *other, size_t step)
{
    static char buffer[65536];
    size_t length = s->in.length < step ? s->in.length : step;
    peri_buf piece = s->in;
    ssize_t n;

    peri_tls_feed(s->tls, piece.data, length);
    do {
        n = peri_tls_read(s->tls, buffer, sizeof buffer);
        deliver(s, other);
        if (n > 0) {
            peri_buf_append(&s->got, buffer, (size_t)n);
        } else if (n < 0 && s->rc == 0) {
            s->rc = (int)n;
        }
    } while (n > 0 && peri_tls_has_more(s->tls));
    peri_buf_consume(&s->in, length);
}

/* Until nothing moves any more; step bytes at a time. */
static void run(side *a, side *b, size_t step)
{
    turn(a, b, step);
    while (a->in.length > 0 || b->in.length > 0) {
        if (b->in.length > 0) {
            turn(b, a, step);
        }
        if (a->in.length > 0) {
            turn(a, b, step);
        }
    }
}

typedef struct pair {
    peri_tls_context *server_context;
    peri_tls_context *client_context;
    side server;
    side client;
} pair;

static void open_pair(pair *p, const pem *id, const char *ca, const char *name)
{
    p->server_context = server_with(id, NULL);
    p->client_context = client_with(ca);
    open_side(&p->server, peri_tls_server(p->server_context));
    open_side(&p->client, peri_tls_client(p->client_context, name, NULL));
}

static void close_pair(pair *p)
{
    close_side(&p->server);
    close_side(&p->client);
    peri_tls_context_unref(p->server_context);
    peri_tls_context_unref(p->client_context);
}

TEST(bytes_travel_both_ways_whatever_the_pieces)
{
    static const size_t steps[] = {1, 7, 1000, SIZE_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        pair p;

        open_pair(&p, &good, good.cert, "localhost");
        run(&p.client, &p.server, steps[i]);
        assert_true(peri_tls_is_ready(p.client.tls));
        assert_true(peri_tls_is_ready(p.server.tls));
        assert_int_equal(peri_tls_write(p.client.tls, "question", 8), 0);
        deliver(&p.client, &p.server);
        run(&p.client, &p.server, steps[i]);
        assert_int_equal(peri_tls_write(p.server.tls, "answer", 6), 0);
        deliver(&p.server, &p.client);
        run(&p.client, &p.server, steps[i]);
        assert_int_equal(p.server.got.length, 8);
        assert_memory_equal(p.server.got.data, "question", 8);
        assert_int_equal(p.client.got.length, 6);
        assert_memory_equal(p.client.got.data, "answer", 6);
        close_pair(&p);
    }
}

TEST(a_large_write_becomes_many_records)
{
    size_t length = 3000000;
    char *data = malloc(length);
    pair p;

    (void)state;
    memset(data, 'x', length);
    open_pair(&p, &good, good.cert, "localhost");
    run(&p.client, &p.server, SIZE_MAX);
    assert_int_equal(peri_tls_write(p.server.tls, data, length), 0);
    deliver(&p.server, &p.client);
    run(&p.client, &p.server, 65536);
    assert_int_equal(p.client.got.length, length);
    assert_memory_equal(p.client.got.data, data, length);
    free(data);
    close_pair(&p);
}

TEST(an_end_is_told_and_writing_behind_it_fails)
{
    pair p;

    (void)state;
    open_pair(&p, &good, good.cert, "localhost");
    run(&p.client, &p.server, SIZE_MAX);
    peri_tls_finish(p.client.tls);
    peri_tls_finish(p.client.tls);
    deliver(&p.client, &p.server);
    run(&p.server, &p.client, SIZE_MAX);
    assert_int_equal(p.server.rc, UV_EOF);
    assert_int_equal(peri_tls_write(p.client.tls, "x", 1), PERI_EGONE);
    assert_int_equal(peri_tls_write(p.server.tls, "last", 4), 0);
    close_pair(&p);
}

static int refusal(const pem *id, const char *ca, const char *name)
{
    pair p;
    int rc;

    open_pair(&p, id, ca, name);
    run(&p.client, &p.server, SIZE_MAX);
    rc = p.client.rc;
    assert_true(rc == 0 || *peri_tls_reason(p.client.tls) != '\0');
    close_pair(&p);
    return rc;
}

TEST(a_bad_certificate_is_named)
{
    pem other;
    pem expired;
    pem early;

    (void)state;
    make(&other, "localhost", -DAY, DAY);
    make(&expired, "localhost", -2 * DAY, -DAY);
    make(&early, "localhost", DAY, 2 * DAY);
    assert_int_equal(refusal(&good, good.cert, "localhost"), 0);
    assert_int_equal(refusal(&good, good.cert, "elsewhere"), PERI_ETLS_NAME);
    assert_int_equal(refusal(&good, good.cert, "127.0.0.1"), PERI_ETLS_NAME);
    assert_int_equal(refusal(&good, other.cert, "localhost"), PERI_ETLS_SELF);
    assert_int_equal(refusal(&expired, expired.cert, "localhost"),
                     PERI_ETLS_EXPIRED);
    assert_int_equal(refusal(&early, early.cert, "localhost"),
                     PERI_ETLS_NOT_YET);
}

TEST(what_is_no_tls_is_told_and_stays_told)
{
    static const char *const texts[] = {"HTTP/1.1 400 Bad Request\r\n\r\n",
                                        "-ERR Protocol error\r\n",
                                        "SSH-2.0-OpenSSH\r\n"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        peri_tls_context *context = client_with(good.cert);
        char buffer[64];
        side client;

        open_side(&client, peri_tls_client(context, "localhost", NULL));
        assert_int_equal(peri_tls_read(client.tls, buffer, sizeof buffer), 0);
        peri_tls_sent(client.tls);
        peri_tls_feed(client.tls, texts[i], strlen(texts[i]));
        assert_int_equal(peri_tls_read(client.tls, buffer, sizeof buffer),
                         PERI_ETLS_PLAIN);
        assert_int_equal(peri_tls_read(client.tls, buffer, sizeof buffer),
                         PERI_ETLS);
        assert_int_equal(peri_tls_write(client.tls, "x", 1), PERI_EGONE);
        assert_false(peri_tls_is_ready(client.tls));
        close_side(&client);
        peri_tls_context_unref(context);
    }
}

/* Every byte of the client's first flight is spoilt once. */
TEST(a_spoilt_greeting_harms_nobody)
{
    peri_tls_context *server = server_with(&good, NULL);
    peri_tls_context *client = client_with(good.cert);
    peri_tls *tls = peri_tls_client(client, "localhost", NULL);
    char buffer[1024];
    peri_slice hello;

    (void)state;
    peri_tls_read(tls, buffer, sizeof buffer);
    hello = peri_tls_output(tls);
    for (size_t i = 0; i < hello.length; i++) {
        char *copy = malloc(hello.length);
        peri_tls *one = peri_tls_server(server);

        memcpy(copy, hello.data, hello.length);
        copy[i] = (char)(copy[i] ^ 0xff);
        peri_tls_feed(one, copy, hello.length);
        assert_true(peri_tls_read(one, buffer, sizeof buffer) <= 0);
        assert_false(peri_tls_is_ready(one));
        peri_tls_sent(one);
        peri_tls_destroy(one);
        free(copy);
    }
    peri_tls_destroy(tls);
    peri_tls_context_unref(server);
    peri_tls_context_unref(client);
}

static bool connects(peri_tls_context *server, peri_tls_context *client,
                     peri_tls_sessions *sessions)
{
    side a;
    side b;
    peri_tls_info info;

    open_side(&a, peri_tls_client(client, "localhost", sessions));
    open_side(&b, peri_tls_server(server));
    run(&a, &b, SIZE_MAX);
    assert_true(peri_tls_is_ready(a.tls));
    peri_tls_get_info(a.tls, &info);
    assert_string_equal(info.version, "TLSv1.3");
    assert_true(info.peer_verified);
    close_side(&a);
    close_side(&b);
    return info.resumed;
}

TEST(workers_with_the_same_keys_take_up_each_others_sessions)
{
    peri_tls_tickets keys = {0};
    peri_tls_sessions *sessions = peri_tls_sessions_create();
    peri_tls_context *client = client_with(good.cert);
    peri_tls_context *one;
    peri_tls_context *two;
    peri_tls_context *stranger = server_with(&good, NULL);

    (void)state;
    assert_int_equal(peri_tls_tickets_rotate(&keys), 0);
    one = server_with(&good, &keys);
    two = server_with(&good, &keys);
    assert_false(connects(one, client, sessions));
    assert_true(connects(two, client, sessions));
    assert_true(connects(one, client, sessions));
    peri_tls_tickets_rotate(&keys);
    assert_true(connects(two, client, sessions));
    for (int i = 0; i < PERI_TLS_TICKET_KEYS; i++) {
        peri_tls_tickets_rotate(&keys);
    }
    assert_false(connects(one, client, sessions));
    assert_false(connects(stranger, client, sessions));
    peri_tls_context_unref(one);
    peri_tls_context_unref(two);
    peri_tls_context_unref(stranger);
    peri_tls_context_unref(client);
    peri_tls_sessions_destroy(sessions);
}

TEST(keys_and_certificates_that_do_not_fit_are_refused)
{
    pem other;
    peri_tls_identity identity = {.cert = peri_slice_str(good.cert),
                                  .what = "http.tls"};
    peri_tls_server_options options = {.identities = &identity, .count = 1};
    peri_tls_context *context;
    char why[256];

    (void)state;
    make(&other, "localhost", -DAY, DAY);
    identity.key = peri_slice_str(other.key);
    assert_int_equal(
        peri_tls_server_context(&options, &context, why, sizeof why),
        PERI_EFORMAT);
    assert_null(context);
    assert_string_equal(why,
                        "http.tls: key: it is not the key of the certificate");
    identity.key = peri_slice_str("");
    peri_tls_server_context(&options, &context, why, sizeof why);
    assert_string_equal(why, "http.tls: key: no private key in PEM form");
    identity.cert = peri_slice_str(good.key);
    peri_tls_server_context(&options, &context, why, sizeof why);
    assert_string_equal(why, "http.tls: cert: no certificate in PEM form");
    options.count = 0;
    assert_int_equal(
        peri_tls_server_context(&options, &context, why, sizeof why),
        PERI_ELIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_travel_both_ways_whatever_the_pieces),
        cmocka_unit_test(a_large_write_becomes_many_records),
        cmocka_unit_test(an_end_is_told_and_writing_behind_it_fails),
        cmocka_unit_test(a_bad_certificate_is_named),
        cmocka_unit_test(what_is_no_tls_is_told_and_stays_told),
        cmocka_unit_test(a_spoilt_greeting_harms_nobody),
        cmocka_unit_test(
            workers_with_the_same_keys_take_up_each_others_sessions),
        cmocka_unit_test(keys_and_certificates_that_do_not_fit_are_refused),
    };

    return cmocka_run_group_tests(tests, make_good, NULL);
}
