/* Error codes: names and texts. */
#include "core/base/err.h"

#include <string.h>

static const struct {
    int rc;
    const char *name;
    const char *text;
} own_errors[] = {
    {PERI_ELIMIT, "ELIMIT", "a limit was reached"},
    {PERI_EFORMAT, "EFORMAT", "malformed input"},
    {PERI_EAGAIN, "EAGAIN", "wait before sending more"},
    {PERI_EGONE, "EGONE", "the other side has gone"},
    {PERI_ETIMEOUT, "ETIMEOUT", "the deadline has passed"},
    {PERI_ESTATE, "ESTATE", "not possible in this state"},
    {PERI_ENOTFOUND, "ENOTFOUND", "not found"},
    {PERI_EEXISTS, "EEXISTS", "exists already"},
    {PERI_EPROXY, "proxy_refused", "the proxy refuses to connect"},
    {PERI_ETLS, "tls_failed", "TLS failed"},
    {PERI_ETLS_EXPIRED, "tls_expired", "the certificate has expired"},
    {PERI_ETLS_NOT_YET, "tls_not_yet_valid",
     "the certificate is not valid yet"},
    {PERI_ETLS_NAME, "tls_host_mismatch",
     "the certificate is for another host name"},
    {PERI_ETLS_ISSUER, "tls_unknown_issuer",
     "the certificate's issuer is not trusted"},
    {PERI_ETLS_SELF, "tls_self_signed",
     "the certificate is self-signed and not trusted"},
    {PERI_ETLS_CERT, "tls_bad_certificate", "the certificate is not accepted"},
    {PERI_ETLS_VERSION, "tls_protocol_version", "no version of TLS in common"},
    {PERI_ETLS_CIPHER, "tls_no_common_cipher",
     "the handshake was refused: no cipher or parameters in common"},
    {PERI_ETLS_PLAIN, "tls_not_tls", "the other side does not speak TLS"},
    {PERI_ETLS_OWN, "tls_client_certificate",
     "the other side asks for a certificate, or refused ours"},
};

#define OWN_ERRORS (sizeof own_errors / sizeof own_errors[0])

const char *peri_err_name(int rc)
{
    const char *name;

    for (size_t i = 0; i < OWN_ERRORS; i++) {
        if (own_errors[i].rc == rc) {
            return own_errors[i].name;
        }
    }
    if (rc == -4095) {
        return "EOF"; /* UV_EOF, without libuv's header */
    }
    name = rc < 0 ? strerrorname_np(-rc) : "OK";
    return name != NULL ? name : "EUNKNOWN";
}

const char *peri_err_text(int rc)
{
    const char *text;

    for (size_t i = 0; i < OWN_ERRORS; i++) {
        if (own_errors[i].rc == rc) {
            return own_errors[i].text;
        }
    }
    if (rc == -4095) {
        return "the other side closed the connection";
    }
    text = rc < 0 ? strerrordesc_np(-rc) : "success";
    return text != NULL ? text : "unknown error";
}
