/* File serving: one answer from a folder under way. Private to file.c, which
 * finds and reads in a thread, and file_send.c, which answers. */
#ifndef PERI_HTTP_FILE_SERVING_H
#define PERI_HTTP_FILE_SERVING_H

#include <sys/stat.h>

#include "core/http/coding.h"
#include "core/http/date.h"
#include "core/http/encoder.h"
#include "core/http/file.h"
#include "core/http/file_cache.h"
#include "core/http/range.h"

#define PERI_FILE_PIECE_BYTES 65536
/* Content-Type, ETag, Last-Modified, Accept-Ranges, Vary, Content-Encoding,
 * Content-Range. */
#define PERI_FILE_OWN_FIELDS 7

/* What is sent: some text, then a part of the file. */
typedef struct peri_file_part {
    peri_slice text;
    int64_t offset;
    int64_t end;
} peri_file_part;

struct peri_files {
    uv_loop_t *loop;
    char *root;
    peri_file_cache *cache;
};

typedef struct peri_serving {
    peri_files *files;
    peri_exchange *exchange;
    void (*served)(void *data, peri_exchange *exchange);
    void (*absent)(void *data, peri_exchange *exchange);
    void *data;
    int status;
    peri_field *fields; /* PERI_FILE_OWN_FIELDS are free at the end */
    size_t field_count;
    peri_slice content_type;
    char *path;      /* with room for what is put behind it */
    bool only_looks; /* for whether it is there */
    bool head_only;
    bool own_tag;     /* the application gave one */
    bool may_vary;    /* by Accept-Encoding */
    peri_slice range; /* the field, or length 0 */
    const peri_compression *compression;
    peri_coding accepted[PERI_CODINGS_MAX];
    size_t accepted_count;

    uv_work_t work;
    uv_fs_t read;
    int fd; /* or -errno */
    bool is_folder;
    struct stat stat;      /* of the file that was asked for */
    struct stat sent_stat; /* of the one that is sent */
    peri_coding coding;    /* of what is sent */
    bool coded_before;     /* it lay there coded */
    char *piece;
    bool is_whole;       /* the body is all of it */
    peri_slice body;     /* in piece, in coded, or in the cache */
    ssize_t piece_bytes; /* or -errno */
    peri_buf coded;      /* all of it, or a piece */
    peri_encoder *encoder;

    peri_file_part *parts;
    size_t part_count;
    size_t part;
    char tag[56];
    char modified[PERI_DATE_BYTES];
} peri_serving;

/* file_send.c */

/* A file changed a moment ago may change again within its time stamp. */
bool peri_file_is_fresh(const struct stat *stat);
/* Found, or not; in the loop. */
void peri_file_found(peri_serving *s);

/* file.c */
void peri_file_finish(peri_serving *s, bool found);

#endif
