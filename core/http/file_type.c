/* File types: what browsers and feeds ask for; text is UTF-8. */
#include "core/http/file_type.h"

/* clang-format off */
static const struct {
    const char *ending;
    const char *type;
} types[] = {
    {"html", "text/html; charset=utf-8"},
    {"htm", "text/html; charset=utf-8"},
    {"css", "text/css; charset=utf-8"},
    {"js", "text/javascript; charset=utf-8"},
    {"mjs", "text/javascript; charset=utf-8"},
    {"json", "application/json"},
    {"map", "application/json"},
    {"webmanifest", "application/manifest+json"},
    {"txt", "text/plain; charset=utf-8"},
    {"md", "text/markdown; charset=utf-8"},
    {"csv", "text/csv; charset=utf-8"},
    {"ics", "text/calendar; charset=utf-8"},
    {"xml", "application/xml"},
    {"rss", "application/rss+xml"},
    {"atom", "application/atom+xml"},
    {"svg", "image/svg+xml"},
    {"png", "image/png"},
    {"jpg", "image/jpeg"},
    {"jpeg", "image/jpeg"},
    {"gif", "image/gif"},
    {"webp", "image/webp"},
    {"avif", "image/avif"},
    {"ico", "image/vnd.microsoft.icon"},
    {"bmp", "image/bmp"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"ttf", "font/ttf"},
    {"otf", "font/otf"},
    {"mp3", "audio/mpeg"},
    {"ogg", "audio/ogg"},
    {"wav", "audio/wav"},
    {"flac", "audio/flac"},
    {"mp4", "video/mp4"},
    {"webm", "video/webm"},
    {"wasm", "application/wasm"},
    {"pdf", "application/pdf"},
    {"zip", "application/zip"},
    {"gz", "application/gzip"},
    {"tar", "application/x-tar"},
    {"yaml", "application/yaml"},
    {"yml", "application/yaml"},
};
/* clang-format on */

peri_slice peri_file_type(peri_slice name)
{
    size_t dot = name.length;
    peri_slice ending;

    while (dot > 0 && name.data[dot - 1] != '.' && name.data[dot - 1] != '/') {
        dot--;
    }
    if (dot > 0 && name.data[dot - 1] == '.') {
        ending = peri_slice_of(name.data + dot, name.length - dot);
        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
            if (peri_slice_equal_nocase(ending,
                                        peri_slice_str(types[i].ending))) {
                return peri_slice_str(types[i].type);
            }
        }
    }
    return PERI_SLICE("application/octet-stream");
}
