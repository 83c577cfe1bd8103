/* Attributes: packed records. */
#include "core/base/attributes.h"

#include "core/base/utf8.h"

/* In front of each: then the key, then the value. */
typedef struct record {
    uint32_t text_length;
    uint8_t type;
    uint8_t key_length;
} record;

void peri_attributes_init(peri_attributes *attributes)
{
    peri_buf_init(&attributes->packed, PERI_ATTRIBUTES_BYTES);
    attributes->count_max = PERI_ATTRIBUTES_MAX;
    attributes->value_max = PERI_ATTRIBUTE_VALUE_MAX;
    attributes->count = 0;
    attributes->dropped = 0;
}

void peri_attributes_fini(peri_attributes *attributes)
{
    peri_buf_fini(&attributes->packed);
}

void peri_attributes_clear(peri_attributes *attributes)
{
    peri_buf_clear(&attributes->packed);
    attributes->count = 0;
    attributes->dropped = 0;
}

/* How many bytes from the start on are ASCII. */
static size_t ascii_span(peri_slice text)
{
    size_t at = 0;

    while (at + sizeof(uint64_t) <= text.length) {
        uint64_t eight;

        memcpy(&eight, text.data + at, sizeof eight);
        if ((eight & 0x8080808080808080u) != 0) {
            break;
        }
        at += sizeof eight;
    }
    while (at < text.length && (unsigned char)text.data[at] < 0x80) {
        at++;
    }
    return at;
}

int peri_utf8_append(peri_buf *out, peri_slice text, size_t max_bytes)
{
    size_t before = out->length;
    size_t at = ascii_span(text);
    int rc;

    if (at > max_bytes) {
        at = max_bytes;
    }
    rc = peri_buf_append(out, text.data, at);
    while (rc == 0 && at < text.length) {
        size_t width = peri_utf8_width(text.data + at, text.length - at);

        if (out->length - before + (width == 0 ? 3 : width) > max_bytes) {
            break;
        }
        rc = width == 0 ? peri_buf_append(out, "\xef\xbf\xbd", 3)
                        : peri_buf_append(out, text.data + at, width);
        at += width == 0 ? 1 : width;
    }
    return rc;
}

static int append_key(peri_buf *out, peri_slice key)
{
    return peri_utf8_append(out, key, PERI_ATTRIBUTE_KEY_MAX);
}

void peri_attributes_add(peri_attributes *attributes, const peri_attribute *one)
{
    peri_buf *out = &attributes->packed;
    size_t start = out->length;
    record head = {.type = (uint8_t)one->type};
    size_t mark;
    int rc;

    if (attributes->count >= attributes->count_max || one->key.length == 0) {
        attributes->dropped++;
        return;
    }
    rc = peri_buf_append(out, &head, sizeof head);
    rc = rc || append_key(out, one->key);
    mark = out->length;
    if (rc == 0 && one->type == PERI_ATTRIBUTE_STRING) {
        head.key_length = (uint8_t)(mark - start - sizeof head);
        rc = peri_utf8_append(out, one->text, attributes->value_max);
        head.text_length = (uint32_t)(out->length - mark);
    } else if (rc == 0) {
        head.key_length = (uint8_t)(mark - start - sizeof head);
        rc = peri_buf_append(out, &one->value, sizeof one->value);
        head.text_length = sizeof one->value;
    }
    if (rc != 0) {
        out->length = start;
        attributes->dropped++;
        return;
    }
    memcpy(out->data + start, &head, sizeof head);
    attributes->count++;
}

void peri_attributes_add_text(peri_attributes *attributes, const char *key,
                              peri_slice text)
{
    peri_attribute one = {.type = PERI_ATTRIBUTE_STRING,
                          .key = peri_slice_str(key),
                          .text = text};

    peri_attributes_add(attributes, &one);
}

void peri_attributes_add_int(peri_attributes *attributes, const char *key,
                             int64_t value)
{
    peri_attribute one = {.type = PERI_ATTRIBUTE_INT,
                          .key = peri_slice_str(key)};

    one.value.integer = value;
    peri_attributes_add(attributes, &one);
}

bool peri_attributes_next(peri_slice *packed, peri_attribute *out)
{
    record head;
    const char *at;

    if (packed->length < sizeof head) {
        return false;
    }
    memcpy(&head, packed->data, sizeof head);
    at = packed->data + sizeof head;
    out->type = (peri_attribute_type)head.type;
    out->key = peri_slice_of(at, head.key_length);
    at += head.key_length;
    out->text = peri_slice_of(at, head.text_length);
    if (out->type != PERI_ATTRIBUTE_STRING) {
        memcpy(&out->value, at, sizeof out->value);
    }
    packed->length -= sizeof head + head.key_length + head.text_length;
    packed->data = at + head.text_length;
    return true;
}

static void drop(peri_attributes *attributes, peri_slice key)
{
    peri_buf *packed = &attributes->packed;
    peri_slice rest = peri_buf_slice(packed);
    peri_attribute one;
    const char *from = rest.data;

    while (peri_attributes_next(&rest, &one)) {
        if (peri_slice_equal(one.key, key)) {
            size_t offset = (size_t)(from - packed->data);

            memmove(packed->data + offset, rest.data, rest.length);
            packed->length = offset + rest.length;
            attributes->count--;
            return;
        }
        from = rest.data;
    }
}

void peri_attributes_set(peri_attributes *attributes, const peri_attribute *one)
{
    char storage[PERI_ATTRIBUTE_KEY_MAX];
    peri_buf key = {.data = storage,
                    .capacity = sizeof storage,
                    .max_bytes = sizeof storage};

    append_key(&key, one->key);
    drop(attributes, peri_buf_slice(&key));
    peri_attributes_add(attributes, one);
}
