/* File types: from a name's ending to a Content-Type. */
#ifndef PERI_HTTP_FILE_TYPE_H
#define PERI_HTTP_FILE_TYPE_H

#include "core/base/slice.h"

/* Static storage; application/octet-stream when the ending is not known. */
peri_slice peri_file_type(peri_slice name);

#endif
