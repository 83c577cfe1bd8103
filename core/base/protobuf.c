/* Protobuf: fields. */
#include "core/base/protobuf.h"

/* Fields are many and short: they are written in place. */
static int put_varint(peri_buf *out, uint64_t value)
{
    char *end;

    if (peri_buf_reserve(out, PERI_PROTOBUF_VARINT_MAX) < 0) {
        return PERI_ELIMIT;
    }
    end = peri_protobuf_put_varint(out->data + out->length, value);
    out->length = (size_t)(end - out->data);
    return 0;
}

static int put_tag(peri_buf *out, unsigned field, peri_protobuf_type type)
{
    return put_varint(out, (uint64_t)field << 3 | type);
}

static int put_little_endian(peri_buf *out, uint64_t value, size_t count)
{
    char bytes[sizeof value];

    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)(value >> (8 * i));
    }
    if (peri_buf_reserve(out, sizeof bytes) < 0) {
        return PERI_ELIMIT;
    }
    memcpy(out->data + out->length, bytes, sizeof bytes);
    out->length += count;
    return 0;
}

int peri_protobuf_number(peri_buf *out, unsigned field, uint64_t value)
{
    return value != 0 && (put_tag(out, field, PERI_PROTOBUF_VARINT) ||
                          put_varint(out, value))
               ? PERI_ELIMIT
               : 0;
}

int peri_protobuf_fixed64(peri_buf *out, unsigned field, uint64_t value)
{
    return put_tag(out, field, PERI_PROTOBUF_FIXED64) ||
                   put_little_endian(out, value, sizeof value)
               ? PERI_ELIMIT
               : 0;
}

int peri_protobuf_fixed32(peri_buf *out, unsigned field, uint32_t value)
{
    return put_tag(out, field, PERI_PROTOBUF_FIXED32) ||
                   put_little_endian(out, value, sizeof value)
               ? PERI_ELIMIT
               : 0;
}

int peri_protobuf_double(peri_buf *out, unsigned field, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    return peri_protobuf_fixed64(out, field, bits);
}

int peri_protobuf_bytes(peri_buf *out, unsigned field, const void *data,
                        size_t length)
{
    return length != 0 && (put_tag(out, field, PERI_PROTOBUF_BYTES) ||
                           put_varint(out, length) ||
                           peri_buf_append(out, data, length))
               ? PERI_ELIMIT
               : 0;
}

int peri_protobuf_text(peri_buf *out, unsigned field, peri_slice text)
{
    return peri_protobuf_bytes(out, field, text.data, text.length);
}

size_t peri_protobuf_open_likely(peri_buf *out, unsigned field,
                                 size_t likely_bytes)
{
    size_t kept = peri_protobuf_varint_bytes(likely_bytes);

    if (put_tag(out, field, PERI_PROTOBUF_BYTES) ||
        peri_buf_reserve(out, kept)) {
        return 0;
    }
    out->length += kept;
    return out->length;
}

int peri_protobuf_close_likely(peri_buf *out, size_t start, size_t likely_bytes)
{
    size_t length = out->length - start;
    size_t kept = peri_protobuf_varint_bytes(likely_bytes);
    size_t needed = peri_protobuf_varint_bytes(length);

    if (start == 0 || (needed > kept && peri_buf_reserve(out, needed - kept))) {
        return PERI_ELIMIT;
    }
    if (needed != kept) {
        memmove(out->data + start - kept + needed, out->data + start, length);
    }
    peri_protobuf_put_varint(out->data + start - kept, length);
    out->length = start - kept + needed + length;
    return 0;
}

/* One byte of length is mostly enough. */
size_t peri_protobuf_open(peri_buf *out, unsigned field)
{
    return peri_protobuf_open_likely(out, field, 0);
}

int peri_protobuf_close(peri_buf *out, size_t start)
{
    return peri_protobuf_close_likely(out, start, 0);
}

/* ---- reading ---- */

static bool take_varint(peri_slice *rest, uint64_t *out)
{
    uint64_t value = 0;

    for (size_t i = 0; i < PERI_PROTOBUF_VARINT_MAX && i < rest->length; i++) {
        unsigned char byte = (unsigned char)rest->data[i];

        value |= (uint64_t)(byte & 127) << (7 * i);
        if (byte < 128) {
            *out = value;
            rest->data += i + 1;
            rest->length -= i + 1;
            return true;
        }
    }
    return false;
}

static bool take_little_endian(peri_slice *rest, size_t count, uint64_t *out)
{
    if (rest->length < count) {
        return false;
    }
    *out = 0;
    for (size_t i = 0; i < count; i++) {
        *out |= (uint64_t)(unsigned char)rest->data[i] << (8 * i);
    }
    rest->data += count;
    rest->length -= count;
    return true;
}

bool peri_protobuf_next(peri_slice *rest, peri_protobuf_field *out)
{
    uint64_t tag;

    *out = (peri_protobuf_field){.bytes = {NULL, 0}};
    if (!take_varint(rest, &tag) || tag > UINT32_MAX) {
        return false;
    }
    out->number = (uint32_t)(tag >> 3);
    out->type = (peri_protobuf_type)(tag & 7);
    switch (out->type) {
    case PERI_PROTOBUF_VARINT:
        return take_varint(rest, &out->value);
    case PERI_PROTOBUF_FIXED64:
        return take_little_endian(rest, 8, &out->value);
    case PERI_PROTOBUF_FIXED32:
        return take_little_endian(rest, 4, &out->value);
    case PERI_PROTOBUF_BYTES:
        if (!take_varint(rest, &out->value) || out->value > rest->length) {
            return false;
        }
        out->bytes = peri_slice_of(rest->data, (size_t)out->value);
        rest->data += out->bytes.length;
        rest->length -= out->bytes.length;
        return true;
    default:
        return false;
    }
}
