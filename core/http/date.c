/* Dates: written without locale, read in the three forms that RFC 9110 asks a
 * recipient to know. */
#include "core/http/date.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/err.h"

#define TEXT_MAX_BYTES 40

static const char days[] = "SunMonTueWedThuFriSat";
static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

static void two(char *out, int value)
{
    out[0] = (char)('0' + value / 10 % 10);
    out[1] = (char)('0' + value % 10);
}

void peri_date_write(char out[PERI_DATE_BYTES], int64_t seconds)
{
    time_t time = (time_t)seconds;
    struct tm t;

    gmtime_r(&time, &t);
    memcpy(out, "Day, 00 Mon 0000 00:00:00 GMT", PERI_DATE_BYTES);
    memcpy(out, days + t.tm_wday * 3, 3);
    two(out + 5, t.tm_mday);
    memcpy(out + 8, months + t.tm_mon * 3, 3);
    two(out + 12, (t.tm_year + 1900) / 100);
    two(out + 14, (t.tm_year + 1900) % 100);
    two(out + 17, t.tm_hour);
    two(out + 20, t.tm_min);
    two(out + 23, t.tm_sec);
}

static int month_of(const char *name)
{
    for (int i = 0; i < 12; i++) {
        if (memcmp(name, months + (size_t)i * 3, 3) == 0) {
            return i;
        }
    }
    return -1;
}

/* A year of two digits is the nearest one with those digits. */
static int full_year(int year)
{
    return year >= 100 ? year : year >= 70 ? 1900 + year : 2000 + year;
}

int peri_date_parse(peri_slice text, int64_t *seconds)
{
    char copy[TEXT_MAX_BYTES];
    char month[4] = "";
    struct tm t = {.tm_isdst = 0};
    int end = 0;

    if (text.length >= sizeof copy) {
        return PERI_EFORMAT;
    }
    memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    if ((sscanf(copy, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT%n",
                &t.tm_mday, month, &t.tm_year, &t.tm_hour, &t.tm_min, &t.tm_sec,
                &end) != 6 ||
         end == 0) &&
        (sscanf(copy, "%*9[A-Za-z], %2d-%3[A-Za-z]-%2d %2d:%2d:%2d GMT%n",
                &t.tm_mday, month, &t.tm_year, &t.tm_hour, &t.tm_min, &t.tm_sec,
                &end) != 6 ||
         end == 0) &&
        (sscanf(copy, "%*3[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d%n", month,
                &t.tm_mday, &t.tm_hour, &t.tm_min, &t.tm_sec, &t.tm_year,
                &end) != 6 ||
         end == 0)) {
        return PERI_EFORMAT;
    }
    t.tm_mon = month_of(month);
    if (t.tm_mon < 0 || copy[end] != '\0' || t.tm_mday < 1 || t.tm_mday > 31 ||
        t.tm_hour > 23 || t.tm_min > 59 || t.tm_sec > 60) {
        return PERI_EFORMAT;
    }
    t.tm_year = full_year(t.tm_year) - 1900;
    *seconds = timegm(&t);
    return 0;
}
