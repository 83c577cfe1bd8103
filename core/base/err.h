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

/* A short name such as "ELIMIT" or "ECONNRESET". Static storage. */
const char *peri_err_name(int rc);

/* A sentence without a full stop. Static storage. */
const char *peri_err_text(int rc);

#endif
