/* File: answering from a folder.
 *
 * Nothing outside of the root is ever read, not by "..", not by links. Reading
 * happens off the loop. Belongs to the loop thread. */
#ifndef PERI_HTTP_FILE_H
#define PERI_HTTP_FILE_H

#include <uv.h>

#include "core/http/exchange.h"

typedef struct peri_files peri_files;

/* root need not exist (yet); it is opened when first asked for. Caller owns;
 * copies root. */
peri_files *peri_files_create(uv_loop_t *loop, const char *root);

/* No exchange may be in its care any more. NULL is allowed. */
void peri_files_destroy(peri_files *files);

/* What the application says about the answer. */
typedef struct peri_file_extra {
    int status; /* with any but 200, conditions are not looked at */
    const peri_field *fields; /* copied */
    size_t field_count;
} peri_file_extra;

/* Answers GET or HEAD with the file at path (raw, as in the request: it is
 * decoded here; always relative to the root), with type, ETag, Last-Modified,
 * conditions, and what extra adds (NULL: nothing). A folder is served by its
 * index.html.
 * Exactly one of the two is called, once, later or at once: served when the
 * answer is complete (or the client has gone), absent when there is no such
 * file and nothing has been sent. Holds a reference on the exchange until then.
 */
void peri_file_serve(peri_files *files, peri_exchange *exchange,
                     peri_slice path, const peri_file_extra *extra,
                     void (*served)(void *data, peri_exchange *exchange),
                     void (*absent)(void *data, peri_exchange *exchange),
                     void *data);

/* Whether there is a file (or a folder with its index) at path; answers
 * nothing. Calls as serve does, there where served would be, also when the
 * client has gone. */
void peri_file_find(peri_files *files, peri_exchange *exchange, peri_slice path,
                    void (*there)(void *data, peri_exchange *exchange),
                    void (*absent)(void *data, peri_exchange *exchange),
                    void *data);

#endif
