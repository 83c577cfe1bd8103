/* Media type: what a request says its body is. */
#ifndef PERI_HTTP_MEDIA_TYPE_H
#define PERI_HTTP_MEDIA_TYPE_H

#include "core/http/exchange.h"

/* Whether a media type with or without parameters is JSON: application/json,
 * or one that ends in +json. */
bool peri_media_type_is_json(peri_slice media_type);

/* False when the request says that its body is anything but JSON. True without
 * a Content-Type; false with two, which could be read two ways. */
bool peri_exchange_may_be_json(const peri_exchange *ex);

#endif
