/* Log head. */
#include "core/base/log_head.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/log.h"

#define TEXT_BYTES 40 /* the longest form of either, and its end */

/* Copies a value without its quotes; false: it is too long to be one. */
static bool copy_text(peri_slice value, char *out)
{
    if (value.length >= 2 && value.data[0] == '"') {
        value = peri_slice_of(value.data + 1, value.length - 2);
    }
    if (value.length == 0 || value.length >= TEXT_BYTES) {
        return false;
    }
    memcpy(out, value.data, value.length);
    out[value.length] = '\0';
    return true;
}

int peri_log_level_of(peri_slice value)
{
    char text[TEXT_BYTES];
    char *end;
    double number;

    if (!copy_text(value, text)) {
        return 0;
    }
    for (char *at = text; *at != '\0'; at++) {
        *at = (char)tolower((unsigned char)*at);
    }
    if (peri_log_level_is_name(text)) {
        return peri_log_level_parse(text);
    }
    number = strtod(text, &end);
    return *end == '\0' && number > 0 && number < 1e6 ? (int)number : 0;
}

/* "Z", "+02:00" or nothing -> the seconds that local time is ahead. */
static bool read_zone(const char *text, int *ahead_s)
{
    int hours;
    int minutes;

    *ahead_s = 0;
    if (text[0] == '\0' || strcmp(text, "Z") == 0) {
        return true;
    }
    if ((text[0] != '+' && text[0] != '-') ||
        sscanf(text + 1, "%2d:%2d", &hours, &minutes) != 2) {
        return false;
    }
    *ahead_s = (hours * 60 + minutes) * (text[0] == '-' ? -60 : 60);
    return true;
}

static bool read_iso(const char *text, int64_t *unix_ms)
{
    struct tm parts = {.tm_year = 0};
    const char *rest;
    int at = 0;
    int ms = 0;
    int ahead_s;

    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &parts.tm_year, &parts.tm_mon,
               &parts.tm_mday, &parts.tm_hour, &parts.tm_min, &parts.tm_sec,
               &at) != 6) {
        return false;
    }
    rest = text + at;
    if (*rest == '.') {
        int unit = 100;

        for (rest++; *rest >= '0' && *rest <= '9'; rest++, unit /= 10) {
            ms += (*rest - '0') * unit;
        }
    }
    if (!read_zone(rest, &ahead_s)) {
        return false;
    }
    parts.tm_year -= 1900;
    parts.tm_mon -= 1;
    *unix_ms = ((int64_t)timegm(&parts) - ahead_s) * 1000 + ms;
    return *unix_ms > 0;
}

bool peri_log_time_of(peri_slice value, int64_t *unix_ms)
{
    char text[TEXT_BYTES];
    char *end;
    double number;

    if (!copy_text(value, text)) {
        return false;
    }
    if (value.data[0] == '"') {
        return read_iso(text, unix_ms);
    }
    number = strtod(text, &end);
    if (*end != '\0' || !(number > 0 && number < 1e15)) {
        return false;
    }
    *unix_ms = (int64_t)number;
    return true;
}
