/* Command: RESP arrays of bulk strings. */
#include "core/redis/command.h"

#include "core/base/number.h"

static int put_number(peri_buf *buf, char mark, size_t number)
{
    char text[PERI_NUMBER_TEXT_BYTES + 3];
    size_t length = 1;

    text[0] = mark;
    length += peri_number_write_u64(number, text + 1);
    text[length++] = '\r';
    text[length++] = '\n';
    return peri_buf_append(buf, text, length);
}

int peri_redis_put_count(peri_buf *buf, size_t count)
{
    return put_number(buf, '*', count);
}

int peri_redis_put(peri_buf *buf, peri_slice argument)
{
    if (put_number(buf, '$', argument.length) < 0 ||
        peri_buf_append_slice(buf, argument) < 0) {
        return PERI_ELIMIT;
    }
    return peri_buf_append(buf, "\r\n", 2);
}
