/* Command: how a command is written on the wire. */
#ifndef PERI_REDIS_COMMAND_H
#define PERI_REDIS_COMMAND_H

#include "core/base/buf.h"

/* "*3": so many arguments follow. 0 or PERI_ELIMIT. */
int peri_redis_put_count(peri_buf *buf, size_t count);

/* One argument, any bytes. 0 or PERI_ELIMIT. */
int peri_redis_put(peri_buf *buf, peri_slice argument);

#endif
