/* Until files are served: there are none. */
#include "core/base/alloc.h"
#include "core/http/file.h"
#include <stdlib.h>
struct peri_files {
    int x;
};
#pragma weak peri_files_create
#pragma weak peri_files_destroy
#pragma weak peri_file_serve
peri_files *peri_files_create(uv_loop_t *loop, const char *root)
{
    (void)loop;
    (void)root;
    return peri_calloc(1, sizeof(peri_files));
}
void peri_files_destroy(peri_files *f)
{
    free(f);
}
void peri_file_serve(peri_files *files, peri_exchange *exchange,
                     peri_slice path, const peri_field *fields,
                     size_t field_count,
                     void (*served)(void *, peri_exchange *),
                     void (*absent)(void *, peri_exchange *), void *data)
{
    (void)files;
    (void)path;
    (void)fields;
    (void)field_count;
    (void)served;
    absent(data, exchange);
}
