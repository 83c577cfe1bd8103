/* Crypto sign: EVP_DigestSign and EVP_DigestVerify on keys read from PEM.
 *
 * Ed25519 signatures are 64 bytes, RSA's are PKCS #1 v1.5, ECDSA's are DER. */
#include "bindings/crypto_sign.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "bindings/bind.h"

#define KEY_MAX_BYTES (64 * 1024)
#define SIGNATURE_MAX_BYTES 2048 /* RSA keys of 16384 bits */
#define RSA_BITS_MIN 2048

static const char *const algorithms[] = {"ed25519", "rsa-sha256",
                                         "ecdsa-p256-sha256", NULL};
enum { ED25519, RSA_SHA256, ECDSA_P256_SHA256 };

/* A key under a password is refused: asking on the terminal, as OpenSSL does
 * by itself, would hang the worker. */
static int no_password(char *out, int size, int writing, void *data)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)data;
    return -1;
}

static EVP_PKEY *read_private(BIO *bio)
{
    return PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
}

static EVP_PKEY *read_certificate(BIO *bio)
{
    X509 *certificate = PEM_read_bio_X509(bio, NULL, no_password, NULL);
    EVP_PKEY *key = certificate != NULL ? X509_get_pubkey(certificate) : NULL;

    X509_free(certificate);
    return key;
}

static EVP_PKEY *read_key(peri_slice pem, bool to_sign)
{
    BIO *bio;
    EVP_PKEY *key = NULL;

    if (pem.length > KEY_MAX_BYTES) {
        return NULL;
    }
    bio = BIO_new_mem_buf(pem.data, (int)pem.length);
    if (bio == NULL) {
        return NULL;
    }
    if (to_sign) {
        key = read_private(bio);
    } else {
        key = PEM_read_bio_PUBKEY(bio, NULL, no_password, NULL);
        if (key == NULL) {
            (void)BIO_reset(bio);
            key = read_certificate(bio);
        }
        if (key == NULL) {
            (void)BIO_reset(bio);
            key = read_private(bio);
        }
    }
    BIO_free(bio);
    ERR_clear_error();
    return key;
}

/* NULL when the key is fit for the algorithm, else what is wrong. */
static const char *misfit(const EVP_PKEY *key, int algorithm)
{
    char group[32];

    switch (algorithm) {
    case ED25519:
        return EVP_PKEY_is_a(key, "ED25519") ? NULL : "not an Ed25519 key";
    case RSA_SHA256:
        if (!EVP_PKEY_is_a(key, "RSA")) {
            return "not an RSA key";
        }
        return EVP_PKEY_get_bits(key) < RSA_BITS_MIN
                   ? "an RSA key of less than 2048 bits"
                   : NULL;
    default:
        if (!EVP_PKEY_is_a(key, "EC") ||
            EVP_PKEY_get_group_name(key, group, sizeof group, NULL) != 1 ||
            strcmp(group, "prime256v1") != 0) {
            return "not an EC key on P-256";
        }
        return NULL;
    }
}

/* Pushes nil and an error when the key can't be used: *out is NULL then. */
static int check_key(lua_State *L, peri_slice pem, int algorithm, bool to_sign,
                     EVP_PKEY **out)
{
    EVP_PKEY *key = read_key(pem, to_sign);
    const char *fault;

    *out = NULL;
    if (key == NULL) {
        return perilua_fail(L, "invalid", NULL, "no %s key in this PEM text",
                            to_sign ? "private" : "public");
    }
    fault = misfit(key, algorithm);
    if (fault != NULL) {
        EVP_PKEY_free(key);
        return perilua_fail(L, "invalid", NULL, "%s", fault);
    }
    *out = key;
    return 0;
}

static const char *digest_of(int algorithm)
{
    return algorithm == ED25519 ? NULL : "SHA256";
}

int perilua_crypto_sign(lua_State *L)
{
    int algorithm = luaL_checkoption(L, 1, NULL, algorithms);
    peri_slice pem = perilua_check_slice(L, 2);
    peri_slice data = perilua_check_slice(L, 3);
    unsigned char signature[SIGNATURE_MAX_BYTES];
    size_t length = sizeof signature;
    EVP_PKEY *key;
    EVP_MD_CTX *context;
    bool signed_;
    int results = check_key(L, pem, algorithm, true, &key);

    if (key == NULL) {
        return results;
    }
    context = EVP_MD_CTX_new();
    signed_ =
        context != NULL &&
        EVP_DigestSignInit_ex(context, NULL, digest_of(algorithm), NULL, NULL,
                              key, NULL) == 1 &&
        EVP_DigestSign(context, signature, &length,
                       (const unsigned char *)data.data, data.length) == 1;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    ERR_clear_error();
    if (!signed_) {
        return perilua_fail(L, "internal", NULL, "signing failed");
    }
    lua_pushlstring(L, (const char *)signature, length);
    return 1;
}

int perilua_crypto_verify(lua_State *L)
{
    int algorithm = luaL_checkoption(L, 1, NULL, algorithms);
    peri_slice pem = perilua_check_slice(L, 2);
    peri_slice data = perilua_check_slice(L, 3);
    peri_slice signature = perilua_check_slice(L, 4);
    EVP_PKEY *key;
    EVP_MD_CTX *context;
    bool valid;
    int results = check_key(L, pem, algorithm, false, &key);

    if (key == NULL) {
        return results;
    }
    context = EVP_MD_CTX_new();
    valid = context != NULL &&
            EVP_DigestVerifyInit_ex(context, NULL, digest_of(algorithm), NULL,
                                    NULL, key, NULL) == 1 &&
            EVP_DigestVerify(context, (const unsigned char *)signature.data,
                             signature.length, (const unsigned char *)data.data,
                             data.length) == 1;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    ERR_clear_error();
    lua_pushboolean(L, valid);
    return 1;
}
