/* TLS: PEM from a file, or as it is given. */
#include "core/loop/tls_internal.h"

#include <errno.h>
#include <stdio.h>

#include "core/base/alloc.h"

#define PATH_MAX_BYTES 4096

bool peri_tls_is_path(peri_slice text)
{
    return text.length > 0 && text.length < PATH_MAX_BYTES &&
           memmem(text.data, text.length, "-----", 5) == NULL &&
           memchr(text.data, '\0', text.length) == NULL;
}

static int read_file(const char *path, peri_buf *out)
{
    FILE *file = fopen(path, "re");
    char piece[8192];
    size_t n;
    int rc = 0;

    if (file == NULL) {
        return -errno;
    }
    while (rc == 0 && (n = fread(piece, 1, sizeof piece, file)) > 0) {
        rc = peri_buf_append(out, piece, n);
    }
    if (ferror(file)) {
        rc = -EIO;
    }
    fclose(file);
    OPENSSL_cleanse(piece, sizeof piece); /* a key may have been in it */
    return rc;
}

int peri_tls_read_pem(peri_slice text, peri_buf *out)
{
    char path[PATH_MAX_BYTES];

    if (!peri_tls_is_path(text)) {
        return peri_buf_append_slice(out, text);
    }
    memcpy(path, text.data, text.length);
    path[text.length] = '\0';
    return read_file(path, out);
}

int peri_tls_client_context_from(const peri_tls_client_options *options,
                                 peri_tls_context **out, char *why,
                                 size_t why_bytes)
{
    static const char *const names[] = {"ca", "cert", "key"};
    peri_tls_client_options read = *options;
    peri_slice *parts[] = {&read.ca, &read.cert, &read.key};
    peri_buf texts[3];
    int rc = 0;

    *out = NULL;
    for (unsigned i = 0; i < 3; i++) {
        peri_buf_init(&texts[i], PERI_TLS_PEM_MAX_BYTES);
        if (rc == 0) {
            rc = peri_tls_read_pem(*parts[i], &texts[i]);
            if (rc < 0) {
                snprintf(why, why_bytes, "tls.%s: %.*s: %s", names[i],
                         (int)parts[i]->length, parts[i]->data,
                         peri_err_text(rc));
            }
        }
        *parts[i] = peri_buf_slice(&texts[i]);
    }
    if (rc == 0) {
        rc = peri_tls_client_context(&read, out, why, why_bytes);
    }
    for (unsigned i = 0; i < 3; i++) {
        if (texts[i].data != NULL) {
            OPENSSL_cleanse(texts[i].data, texts[i].length);
        }
        peri_buf_fini(&texts[i]);
    }
    return rc;
}
