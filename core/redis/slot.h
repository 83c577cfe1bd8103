/* Slot: which of a cluster's 16,384 parts a key belongs to. */
#ifndef PERI_REDIS_SLOT_H
#define PERI_REDIS_SLOT_H

#include <stdint.h>

#include "core/base/slice.h"

#define PERI_REDIS_SLOTS 16384

/* Of the part between the first { and the next }, if there is one. */
uint32_t peri_redis_slot(peri_slice key);

#endif
