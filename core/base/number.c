/* Number: Schubfach for writing (R. Giulietti, "The Schubfach way to render
 * doubles"), Clinger's exact cases and Eisel-Lemire for reading (D. Lemire,
 * "Number parsing at a gigabyte per second"). */
#include "core/base/number.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/alloc.h"
#include "core/base/pow10.h"

#define FRACTION_BITS 52
#define FRACTION_MASK (((uint64_t)1 << FRACTION_BITS) - 1)
#define EXPONENT_BIAS 1023
#define EXPONENT_SPECIAL 0x7ff
#define EXACT_MAX 9007199254740992.0 /* 2^53 */
#define DIGITS_MAX 19                /* decimal digits that fit uint64_t */

__extension__ typedef unsigned __int128 uint128;

typedef struct decimal {
    uint64_t digits; /* value = digits * 10^exponent */
    int exponent;
} decimal;

static const char digit_pairs[] =
    "00010203040506070809101112131415161718192021222324"
    "25262728293031323334353637383940414243444546474849"
    "50515253545556575859606162636465666768697071727374"
    "75767778798081828384858687888990919293949596979899";

/* Every power of ten that is a double. */
static const double exact_pow10[] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

#define EXACT_POW10_MAX 22

static int count_digits(uint64_t value)
{
    int count = 1;

    while (value >= 10000) {
        value /= 10000;
        count += 4;
    }
    if (value >= 1000) {
        return count + 3;
    }
    if (value >= 100) {
        return count + 2;
    }
    return value >= 10 ? count + 1 : count;
}

static void write_digits(uint64_t value, char *out, int count)
{
    char *at = out + count;

    while (value >= 100) {
        at -= 2;
        memcpy(at, digit_pairs + 2 * (value % 100), 2);
        value /= 100;
    }
    if (value >= 10) {
        memcpy(at - 2, digit_pairs + 2 * value, 2);
    } else {
        at[-1] = (char)('0' + value);
    }
}

size_t peri_number_write_u64(uint64_t value, char *out)
{
    int count;

    if (value < 10) {
        out[0] = (char)('0' + value);
        return 1;
    }
    count = count_digits(value);
    write_digits(value, out, count);
    return (size_t)count;
}

/* The high word of pow10 * scaled / 2^64, its last bit set when anything was
 * cut off ("round to odd"). */
static uint64_t mul_to_odd(uint64_t high, uint64_t low, uint64_t scaled)
{
    uint128 x = (uint128)scaled * low;
    uint128 y = (uint128)scaled * high + (uint64_t)(x >> 64);

    return (uint64_t)(y >> 64) | ((uint64_t)y > 1);
}

/* The shortest decimal within the rounding interval of significand *
 * 2^exponent; the nearest one among the shortest. at_edge: a power of two,
 * where the interval is narrower below than above. */
static decimal shortest(uint64_t significand, int exponent, bool at_edge)
{
    uint64_t odd = significand & 1;
    int k = (exponent * 315653 - (at_edge ? 131237 : 0)) >> 20;
    int shift = exponent + ((-k * 217707) >> 16) + 1;
    const uint64_t *power = peri_pow10[-k - PERI_POW10_MIN];
    uint64_t low = power[1] + (-k < 0 || -k > 55);
    uint64_t below = mul_to_odd(
        power[0], low, (4 * significand - 2 + (at_edge ? 1 : 0)) << shift);
    uint64_t value = mul_to_odd(power[0], low, (4 * significand) << shift);
    uint64_t above = mul_to_odd(power[0], low, (4 * significand + 2) << shift);
    uint64_t s = value / 4;
    uint64_t tens = s / 10 * 10;
    bool down;
    bool up;

    below += odd;
    above -= odd;
    if (s >= 10) {
        down = below <= 4 * tens;
        up = above >= 4 * tens + 40;
        if (down != up) {
            return (decimal){tens + (up ? 10 : 0), k};
        }
    }
    down = below <= 4 * s;
    up = above >= 4 * s + 4;
    if (down == up) {
        up = value > 4 * s + 2 || (value == 4 * s + 2 && (s & 1) != 0);
    }
    return (decimal){s + (up ? 1 : 0), k};
}

static size_t write_exponent(int exponent, char *out)
{
    size_t length = 2;

    out[0] = 'e';
    out[1] = exponent < 0 ? '-' : '+';
    length += peri_number_write_u64(
        (uint64_t)(exponent < 0 ? -exponent : exponent), out + length);
    return length;
}

/* Places the point as ECMA-262, Number::toString, says. */
static size_t write_decimal(decimal d, char *out)
{
    char digits[DIGITS_MAX + 1] = "0";
    int count;
    int point; /* value = 0.digits * 10^point */
    size_t length = 0;

    while (d.digits % 10 == 0) {
        d.digits /= 10;
        d.exponent++;
    }
    count = count_digits(d.digits);
    write_digits(d.digits, digits, count);
    point = count + d.exponent;
    if (point > 21 || point <= -6) {
        out[length++] = digits[0];
        if (count > 1) {
            out[length++] = '.';
            memcpy(out + length, digits + 1, (size_t)count - 1);
            length += (size_t)count - 1;
        }
        return length + write_exponent(point - 1, out + length);
    }
    if (point <= 0) {
        memcpy(out, "0.00000", 7);
        length = 2 + (size_t)-point;
        memcpy(out + length, digits, (size_t)count);
        return length + (size_t)count;
    }
    if (count <= point) {
        memcpy(out, digits, (size_t)count);
        memset(out + count, '0', (size_t)(point - count));
        return (size_t)point;
    }
    memcpy(out, digits, (size_t)point);
    out[point] = '.';
    memcpy(out + point + 1, digits + point, (size_t)(count - point));
    return (size_t)count + 1;
}

/* Prices and measures have few decimals: cheaper to try than to compute. Both
 * operands of the division are exact, so it gives the double nearest to the
 * decimal, and of at most 15 digits only one decimal has that double. */
static bool short_decimal(double value, decimal *out)
{
    for (int places = 1; places <= 4; places++) {
        double scaled = value * exact_pow10[places];
        uint64_t digits;

        if (scaled >= 1e15) {
            return false;
        }
        digits = (uint64_t)(scaled + 0.5);
        if ((double)digits / exact_pow10[places] == value) {
            *out = (decimal){digits, -places};
            return true;
        }
    }
    return false;
}

size_t peri_number_write(double value, char *out)
{
    size_t sign = 0;
    uint64_t bits;
    uint64_t fraction;
    int exponent;
    decimal d;

    memcpy(&bits, &value, sizeof bits);
    if (bits >> 63 != 0) {
        out[sign++] = '-';
        value = -value;
        bits &= ~((uint64_t)1 << 63);
    }
    if (value <= EXACT_MAX && value == (double)(uint64_t)value) {
        return sign + peri_number_write_u64((uint64_t)value, out + sign);
    }
    if (value >= 1e-3 && value < 1e15 && short_decimal(value, &d)) {
        return sign + write_decimal(d, out + sign);
    }
    fraction = bits & FRACTION_MASK;
    exponent = (int)(bits >> FRACTION_BITS);
    if (exponent != 0) {
        d = shortest(fraction | (FRACTION_MASK + 1),
                     exponent - EXPONENT_BIAS - FRACTION_BITS,
                     fraction == 0 && exponent > 1);
    } else {
        d = shortest(fraction, 1 - EXPONENT_BIAS - FRACTION_BITS, false);
    }
    return sign + write_decimal(d, out + sign);
}

static double from_bits(uint64_t mantissa, int exponent)
{
    uint64_t bits = mantissa | (uint64_t)exponent << FRACTION_BITS;
    double value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/* digits * 10^exponent, digits != 0; false when 128 bits do not tell which way
 * to round. */
static bool eisel_lemire(uint64_t digits, int exponent, double *out)
{
    int zeros = __builtin_clzll(digits);
    const uint64_t *power = peri_pow10[exponent - PERI_POW10_MIN];
    uint64_t low_word = power[1] + (exponent < 0 && exponent >= -27);
    uint128 product = (uint128)(digits << zeros) * power[0];
    uint64_t high = (uint64_t)(product >> 64);
    uint64_t low = (uint64_t)product;
    uint64_t mantissa;
    int upper;
    int binary;

    if ((high & 0x1ff) == 0x1ff) {
        uint64_t carry =
            (uint64_t)(((uint128)(digits << zeros) * low_word) >> 64);

        low += carry;
        high += carry > low;
    }
    if (low == UINT64_MAX && (exponent < -27 || exponent > 55)) {
        return false;
    }
    upper = (int)(high >> 63);
    mantissa = high >> (upper + 64 - FRACTION_BITS - 3);
    binary = ((217706 * exponent) >> 16) + 63 + upper - zeros + EXPONENT_BIAS;
    if (binary <= 0) {
        if (1 - binary >= 64) {
            *out = 0;
            return true;
        }
        mantissa >>= 1 - binary;
        mantissa = (mantissa + (mantissa & 1)) >> 1;
        /* A carry into bit 52 makes it the smallest normal by itself. */
        *out = from_bits(mantissa, 0);
        return true;
    }
    if (low <= 1 && exponent >= -4 && exponent <= 23 && (mantissa & 3) == 1 &&
        mantissa << (upper + 64 - FRACTION_BITS - 3) == high) {
        mantissa &= ~(uint64_t)1; /* exactly between two: to even */
    }
    mantissa = (mantissa + (mantissa & 1)) >> 1;
    if (mantissa >= (uint64_t)2 << FRACTION_BITS) {
        mantissa = (uint64_t)1 << FRACTION_BITS;
        binary++;
    }
    *out = binary >= EXPONENT_SPECIAL
               ? HUGE_VAL
               : from_bits(mantissa & FRACTION_MASK, binary);
    return true;
}

static bool near_double(uint64_t digits, int exponent, double *out)
{
    if (digits == 0 || exponent < -342) {
        *out = 0;
        return true;
    }
    if (exponent > 308) {
        *out = HUGE_VAL;
        return true;
    }
    if (digits <= (uint64_t)EXACT_MAX && exponent >= -EXACT_POW10_MAX &&
        exponent <= EXACT_POW10_MAX) {
        *out = exponent < 0 ? (double)digits / exact_pow10[-exponent]
                            : (double)digits * exact_pow10[exponent];
        return true;
    }
    return eisel_lemire(digits, exponent, out);
}

/* What the cases above can't decide, about one number in 10^15 and some of
 * those with more than 19 digits: libc's exact arithmetic. */
static double read_by_libc(const char *text, size_t length)
{
    char room[128];
    char *copy = length < sizeof room ? room : peri_alloc(length + 1);
    char *dot;
    double value;

    memcpy(copy, text, length);
    copy[length] = '\0';
    dot = memchr(copy, '.', length);
    if (dot != NULL) {
        *dot = localeconv()->decimal_point[0];
    }
    value = strtod(copy, NULL);
    if (copy != room) {
        free(copy);
    }
    return value;
}

typedef struct scan {
    const char *at;
    const char *end;
    uint64_t digits;  /* the first 19 that count */
    int kept;         /* how many those are */
    int64_t exponent; /* of digits */
    bool cut;         /* a digit other than 0 did not fit */
} scan;

static bool is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

/* 1 or more digits; step is what a digit kept adds to the exponent: 0 before
 * the point, -1 behind it. */
static bool scan_digits(scan *s, int step)
{
    const char *start = s->at;

    while (s->at < s->end && is_digit(*s->at)) {
        unsigned digit = (unsigned)(*s->at++ - '0');

        if (s->kept < DIGITS_MAX) {
            s->digits = s->digits * 10 + digit;
            s->kept += s->digits != 0;
            s->exponent += step;
        } else {
            s->cut |= digit != 0;
            s->exponent += step + 1;
        }
    }
    return s->at > start;
}

static bool scan_exponent(scan *s)
{
    int64_t exponent = 0;
    bool negative = false;
    const char *start;

    if (s->at < s->end && (*s->at == '+' || *s->at == '-')) {
        negative = *s->at++ == '-';
    }
    start = s->at;
    while (s->at < s->end && is_digit(*s->at)) {
        if (exponent < INT32_MAX / 16) {
            exponent = exponent * 10 + (*s->at - '0');
        }
        s->at++;
    }
    s->exponent += negative ? -exponent : exponent;
    return s->at > start;
}

static double scan_value(const scan *s, const char *text)
{
    /* Beyond these the result is infinite or 0 for any digits. */
    int64_t clamped = s->exponent > 400    ? 400
                      : s->exponent < -400 ? -400
                                           : s->exponent;
    double value;
    double next;

    if (near_double(s->digits, (int)clamped, &value) &&
        (!s->cut ||
         (near_double(s->digits + 1, (int)clamped, &next) && value == next))) {
        return value;
    }
    return read_by_libc(text, (size_t)(s->at - text));
}

size_t peri_number_read(const char *text, size_t length, double *out)
{
    scan s = {.at = text, .end = text + length};
    bool negative = length > 0 && *text == '-';
    const char *start;

    s.at += negative;
    start = s.at;
    if (!scan_digits(&s, 0) || (*start == '0' && s.at - start > 1)) {
        return 0;
    }
    if (s.at < s.end && *s.at == '.') {
        s.at++;
        if (!scan_digits(&s, -1)) {
            return 0;
        }
    }
    if (s.at < s.end && (*s.at == 'e' || *s.at == 'E')) {
        s.at++;
        if (!scan_exponent(&s)) {
            return 0;
        }
    }
    *out = scan_value(&s, start);
    if (negative) {
        *out = -*out;
    }
    return (size_t)(s.at - text);
}
