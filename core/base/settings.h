/* Settings: the effective configuration as C reads it.
 *
 * Text, one setting a line, "key<TAB>value": keys dotted ("http.port"), values
 * already checked and normalised by the configuration's schema: times in
 * milliseconds, sizes in bytes, booleans "true"/"false", lists and tables as
 * JSON. A value cannot hold a line break (its writer leaves such a setting
 * out); of a key that comes twice the last line counts. It lies in the bundle
 * as "@settings". */
#ifndef PERI_BASE_SETTINGS_H
#define PERI_BASE_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/slice.h"

typedef struct peri_settings peri_settings;

/* Copies text. Caller owns. */
peri_settings *peri_settings_create(peri_slice text);
void peri_settings_destroy(peri_settings *settings);

/* The fallback is given when the key is absent. Strings are borrowed. */
const char *peri_settings_str(const peri_settings *settings, const char *key,
                              const char *fallback);
int64_t peri_settings_int(const peri_settings *settings, const char *key,
                          int64_t fallback);
bool peri_settings_bool(const peri_settings *settings, const char *key,
                        bool fallback);

/* Tells all settings whose key begins with prefix, in the order of the keys;
 * of one that comes twice, the last line comes first. */
void peri_settings_each(const peri_settings *settings, const char *prefix,
                        void (*fn)(void *data, const char *key,
                                   const char *value),
                        void *data);

/* All of them whose key begins with one of the prefixes (the last is NULL), as
 * one text: two are the same when nothing has changed. NUL-ended; caller owns.
 */
char *peri_settings_text(const peri_settings *settings,
                         const char *const *prefixes);

#endif
