/* Number: doubles as text and back, exactly.
 *
 * Writes the shortest decimal that reads back as the same double, in the form
 * JavaScript gives it; reads the double nearest to a decimal. Independent of
 * the process's locale. */
#ifndef PERI_BASE_NUMBER_H
#define PERI_BASE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Enough for every result of the functions below, without a NUL. */
#define PERI_NUMBER_TEXT_BYTES 32

/* Decimal digits of value; how many were written. No NUL follows. */
size_t peri_number_write_u64(uint64_t value, char *out);

/* The shortest text of a finite double: 100, 0.1, 1e+21, 5e-324, -0. How many
 * bytes were written. No NUL follows. */
size_t peri_number_write(double value, char *out);

/* Reads a number as RFC 8259 spells it at the start of text. How many bytes
 * it takes, 0 when there is none. What is beyond the doubles is infinite; what
 * is too small is 0. */
size_t peri_number_read(const char *text, size_t length, double *out);

#endif
