/* Slot: CRC16 (XMODEM), four bits at a time. */
#include "core/redis/slot.h"

static uint32_t crc16(peri_slice text)
{
    static const uint16_t table[16] = {
        0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
        0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef,
    };
    uint32_t crc = 0;

    for (size_t i = 0; i < text.length; i++) {
        uint32_t byte = (unsigned char)text.data[i];

        crc = ((crc << 4) & 0xffff) ^ table[(crc >> 12) ^ (byte >> 4)];
        crc = ((crc << 4) & 0xffff) ^ table[(crc >> 12) ^ (byte & 15)];
    }
    return crc;
}

uint32_t peri_redis_slot(peri_slice key)
{
    const char *open =
        key.length > 0 ? memchr(key.data, '{', key.length) : NULL;

    if (open != NULL) {
        size_t left = key.length - (size_t)(open + 1 - key.data);
        const char *end = left > 0 ? memchr(open + 1, '}', left) : NULL;

        if (end != NULL && end != open + 1) {
            key = peri_slice_of(open + 1, (size_t)(end - open - 1));
        }
    }
    return crc16(key) % PERI_REDIS_SLOTS;
}
