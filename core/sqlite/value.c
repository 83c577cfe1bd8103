/* Value: packing. Numbers are copied bytewise: nothing here is aligned. */
#include "core/sqlite/value.h"

static int pack(peri_buf *buf, peri_sqlite_type type, const void *data,
                size_t length)
{
    if (peri_buf_reserve(buf, length + 1) < 0) {
        return PERI_ELIMIT;
    }
    buf->data[buf->length] = (char)type;
    if (length != 0) {
        memcpy(buf->data + buf->length + 1, data, length);
    }
    buf->length += length + 1;
    return 0;
}

int peri_sqlite_pack_null(peri_buf *buf)
{
    return pack(buf, PERI_SQLITE_NULL, NULL, 0);
}

int peri_sqlite_pack_int(peri_buf *buf, int64_t value)
{
    return pack(buf, PERI_SQLITE_INT, &value, sizeof value);
}

int peri_sqlite_pack_real(peri_buf *buf, double value)
{
    return pack(buf, PERI_SQLITE_REAL, &value, sizeof value);
}

int peri_sqlite_pack_bytes(peri_buf *buf, peri_sqlite_type type,
                           peri_slice bytes)
{
    size_t length = bytes.length;

    if (length > buf->max_bytes ||
        peri_buf_reserve(buf, length + 1 + sizeof length) < 0) {
        return PERI_ELIMIT;
    }
    pack(buf, type, &length, sizeof length);
    return peri_buf_append_slice(buf, bytes);
}

static void take(peri_slice *packed, void *out, size_t length)
{
    memcpy(out, packed->data, length);
    packed->data += length;
    packed->length -= length;
}

bool peri_sqlite_unpack(peri_slice *packed, peri_sqlite_value *out)
{
    char type;
    size_t length;

    if (packed->length == 0) {
        return false;
    }
    take(packed, &type, 1);
    *out = (peri_sqlite_value){.type = (peri_sqlite_type)type};
    switch (out->type) {
    case PERI_SQLITE_INT:
        take(packed, &out->integer, sizeof out->integer);
        break;
    case PERI_SQLITE_REAL:
        take(packed, &out->real, sizeof out->real);
        break;
    case PERI_SQLITE_TEXT:
    case PERI_SQLITE_BLOB:
        take(packed, &length, sizeof length);
        out->bytes = peri_slice_of(packed->data, length);
        packed->data += length;
        packed->length -= length;
        break;
    case PERI_SQLITE_NULL:
    default:
        break;
    }
    return true;
}

bool peri_sqlite_unpack_result(peri_slice *packed, peri_sqlite_result *out)
{
    if (packed->length < sizeof *out) {
        return false;
    }
    take(packed, out, sizeof *out);
    return true;
}
