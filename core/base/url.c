/* URL text: percent-decoding. */
#include "core/base/url.h"

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

size_t peri_url_decode(peri_slice text, bool plus, char *out)
{
    size_t length = 0;

    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];

        if (c == '+' && plus) {
            c = ' ';
        } else if (c == '%' && i + 2 < text.length) {
            int high = hex_value(text.data[i + 1]);
            int low = hex_value(text.data[i + 2]);

            if (high >= 0 && low >= 0) {
                c = (char)(high * 16 + low);
                i += 2;
            }
        }
        out[length++] = c;
    }
    return length;
}
