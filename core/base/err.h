/* Error codes: 0 or a count is success, negative is failure.
 *
 * libuv's statuses (negated errno, and UV_EOF and its kin down to -4095) pass
 * through unchanged; ours lie below that range. */
#ifndef PERI_BASE_ERR_H
#define PERI_BASE_ERR_H

#define PERI_ELIMIT (-5000)   /* a maximum was reached */
#define PERI_EFORMAT (-5001)  /* malformed input */
#define PERI_EAGAIN (-5002)   /* accepted, wait before the next */
#define PERI_EGONE (-5003)    /* the peer or the owner has gone */
#define PERI_ETIMEOUT (-5004) /* a deadline passed */
#define PERI_ESTATE (-5005)   /* not possible in this state */
#define PERI_ENOTFOUND (-5006)
#define PERI_EEXISTS (-5007)
#define PERI_EPROXY                                                            \
    (-5008) /* a proxy does not pass on what it was asked to                   \
             */

/* TLS: what about the other side was not as it must be. */
#define PERI_ETLS (-5100) /* any other failure of the protocol */
#define PERI_ETLS_EXPIRED (-5101)
#define PERI_ETLS_NOT_YET (-5102)
#define PERI_ETLS_NAME (-5103)    /* the certificate is for another host */
#define PERI_ETLS_ISSUER (-5104)  /* nobody we trust has issued it */
#define PERI_ETLS_SELF (-5105)    /* it was issued by itself */
#define PERI_ETLS_CERT (-5106)    /* otherwise bad */
#define PERI_ETLS_VERSION (-5107) /* no version in common */
#define PERI_ETLS_CIPHER (-5108)  /* no cipher in common */
#define PERI_ETLS_PLAIN (-5109)   /* it does not speak TLS */
#define PERI_ETLS_OWN (-5110)     /* it refused our certificate, or wants one */

/* A short name such as "ELIMIT" or "ECONNRESET". Static storage. */
const char *peri_err_name(int rc);

/* A sentence without a full stop. Static storage. */
const char *peri_err_text(int rc);

#endif
