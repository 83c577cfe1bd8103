/* TLS: from OpenSSL's errors to ours. */
#include "core/loop/tls_internal.h"

#include <openssl/err.h>
#include <openssl/x509_vfy.h>

static int of_certificate(long result)
{
    switch (result) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return PERI_ETLS_EXPIRED;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return PERI_ETLS_NOT_YET;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return PERI_ETLS_NAME;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_UNTRUSTED:
        return PERI_ETLS_ISSUER;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return PERI_ETLS_SELF;
    default:
        return PERI_ETLS_CERT;
    }
}

/* What the other side says in an alert. */
static int of_alert(int alert)
{
    switch (alert) {
    case SSL_AD_PROTOCOL_VERSION:
        return PERI_ETLS_VERSION;
    case SSL_AD_HANDSHAKE_FAILURE:
    case SSL_AD_INSUFFICIENT_SECURITY:
        return PERI_ETLS_CIPHER;
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_CERTIFICATE_REQUIRED:
        return PERI_ETLS_OWN;
    default:
        return PERI_ETLS;
    }
}

static int of_reason(const peri_tls *tls, int reason)
{
    switch (reason) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
        return of_certificate(SSL_get_verify_result(tls->ssl));
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return PERI_ETLS_OWN;
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_BAD_RECORD_TYPE:
        return peri_tls_is_ready(tls) ? PERI_ETLS : PERI_ETLS_PLAIN;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_WRONG_SSL_VERSION:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
        return PERI_ETLS_VERSION;
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SHARED_GROUPS:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
        return PERI_ETLS_CIPHER;
    default:
        return reason > SSL_AD_REASON_OFFSET
                   ? of_alert(reason - SSL_AD_REASON_OFFSET)
                   : PERI_ETLS;
    }
}

int peri_tls_fault(peri_tls *tls)
{
    unsigned long first = ERR_peek_error();
    int reason = ERR_GET_REASON(first);
    const char *text = first != 0 ? ERR_reason_error_string(first) : NULL;
    int rc = PERI_ETLS;

    if (first != 0 && ERR_GET_LIB(first) == ERR_LIB_SSL) {
        rc = of_reason(tls, reason);
        if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
            text =
                X509_verify_cert_error_string(SSL_get_verify_result(tls->ssl));
        }
    }
    tls->reason = text != NULL ? text : "";
    ERR_clear_error();
    return rc;
}
