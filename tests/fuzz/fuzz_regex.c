/* Fuzz: regular expressions. The pattern ends at the first line feed, the text
 * follows. Any pattern is refused or searched for in bounded time. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/regex.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char fault[PERI_REGEX_FAULT_BYTES];
    const uint8_t *end = memchr(data, '\n', size);
    size_t length = end != NULL ? (size_t)(end - data) : size;
    size_t rest = end != NULL ? size - length - 1 : 0;
    char *pattern = malloc(length + 1);
    char *text = malloc(rest + 1);
    peri_regex *regex;

    memcpy(pattern, data, length);
    memcpy(text, data + size - rest, rest);
    regex = peri_regex_create(peri_slice_of(pattern, length), fault);
    if (regex != NULL) {
        int found = peri_regex_search(regex, text, rest);

        assert(found == 0 || found == 1 || found == PERI_ELIMIT);
        assert(peri_regex_search(regex, text, rest) == found);
        peri_regex_destroy(regex);
    } else {
        assert(strlen(fault) > 0 && strlen(fault) < sizeof fault);
    }
    free(text);
    free(pattern);
    return 0;
}
