/* Regex sets: ranges of characters, and the classes with a name. */
#include <stdlib.h>

#include "core/base/alloc.h"
#include "core/base/regex_parse.h"
#include "core/base/unicode_category.h"

#define CATEGORY_RUNS                                                          \
    (sizeof peri_unicode_category / sizeof peri_unicode_category[0])

typedef struct category_name {
    const char *name;
    uint32_t categories; /* a bit each, numbered as in unicode_category.h */
} category_name;

static const category_name category_names[] = {
    {"L", 0x1f},
    {"Letter", 0x1f},
    {"Lu", 1},
    {"Uppercase_Letter", 1},
    {"Ll", 2},
    {"Lowercase_Letter", 2},
    {"Lt", 4},
    {"Titlecase_Letter", 4},
    {"LC", 7},
    {"Cased_Letter", 7},
    {"Lm", 8},
    {"Modifier_Letter", 8},
    {"Lo", 0x10},
    {"Other_Letter", 0x10},
    {"M", 0xe0},
    {"Mark", 0xe0},
    {"Combining_Mark", 0xe0},
    {"Mn", 0x20},
    {"Nonspacing_Mark", 0x20},
    {"Mc", 0x40},
    {"Spacing_Mark", 0x40},
    {"Me", 0x80},
    {"Enclosing_Mark", 0x80},
    {"N", 0x700},
    {"Number", 0x700},
    {"Nd", 0x100},
    {"Decimal_Number", 0x100},
    {"digit", 0x100},
    {"Nl", 0x200},
    {"Letter_Number", 0x200},
    {"No", 0x400},
    {"Other_Number", 0x400},
    {"P", 0x3f800},
    {"Punctuation", 0x3f800},
    {"punct", 0x3f800},
    {"Pc", 0x800},
    {"Connector_Punctuation", 0x800},
    {"Pd", 0x1000},
    {"Dash_Punctuation", 0x1000},
    {"Ps", 0x2000},
    {"Open_Punctuation", 0x2000},
    {"Pe", 0x4000},
    {"Close_Punctuation", 0x4000},
    {"Pi", 0x8000},
    {"Initial_Punctuation", 0x8000},
    {"Pf", 0x10000},
    {"Final_Punctuation", 0x10000},
    {"Po", 0x20000},
    {"Other_Punctuation", 0x20000},
    {"S", 0x3c0000},
    {"Symbol", 0x3c0000},
    {"Sm", 0x40000},
    {"Math_Symbol", 0x40000},
    {"Sc", 0x80000},
    {"Currency_Symbol", 0x80000},
    {"Sk", 0x100000},
    {"Modifier_Symbol", 0x100000},
    {"So", 0x200000},
    {"Other_Symbol", 0x200000},
    {"Z", 0x1c00000},
    {"Separator", 0x1c00000},
    {"Zs", 0x400000},
    {"Space_Separator", 0x400000},
    {"Zl", 0x800000},
    {"Line_Separator", 0x800000},
    {"Zp", 0x1000000},
    {"Paragraph_Separator", 0x1000000},
    {"C", 0x3e000000},
    {"Other", 0x3e000000},
    {"Cc", 0x2000000},
    {"Control", 0x2000000},
    {"cntrl", 0x2000000},
    {"Cf", 0x4000000},
    {"Format", 0x4000000},
    {"Cs", 0x8000000},
    {"Surrogate", 0x8000000},
    {"Co", 0x10000000},
    {"Private_Use", 0x10000000},
    {"Cn", 0x20000000},
    {"Unassigned", 0x20000000},
    {"Any", 0x3fffffff},
};

void peri_regex_set_add(peri_regex_set *set, uint32_t low, uint32_t high)
{
    if (set->count == set->capacity) {
        set->capacity = set->capacity == 0 ? 8 : set->capacity * 2;
        set->ranges =
            peri_realloc(set->ranges, set->capacity * sizeof *set->ranges);
    }
    set->ranges[set->count++] = (peri_regex_range){low, high};
}

void peri_regex_set_add_set(peri_regex_set *set, const peri_regex_set *other)
{
    for (uint32_t i = 0; i < other->count; i++) {
        peri_regex_set_add(set, other->ranges[i].low, other->ranges[i].high);
    }
}

void peri_regex_set_fini(peri_regex_set *set)
{
    free(set->ranges);
    *set = (peri_regex_set){0};
}

static int compare_ranges(const void *a, const void *b)
{
    uint32_t x = ((const peri_regex_range *)a)->low;
    uint32_t y = ((const peri_regex_range *)b)->low;

    return (x > y) - (x < y);
}

static void merge(peri_regex_set *set)
{
    uint32_t kept = 0;

    if (set->count == 0) {
        return;
    }
    qsort(set->ranges, set->count, sizeof *set->ranges, compare_ranges);
    for (uint32_t i = 1; i < set->count; i++) {
        peri_regex_range range = set->ranges[i];

        if (range.low <= set->ranges[kept].high + 1) {
            if (range.high > set->ranges[kept].high) {
                set->ranges[kept].high = range.high;
            }
        } else {
            set->ranges[++kept] = range;
        }
    }
    set->count = kept + 1;
}

static void invert(peri_regex_set *set)
{
    peri_regex_set other = {0};
    uint32_t low = 0;

    for (uint32_t i = 0; i < set->count; i++) {
        if (set->ranges[i].low > low) {
            peri_regex_set_add(&other, low, set->ranges[i].low - 1);
        }
        low = set->ranges[i].high + 1;
    }
    if (low <= PERI_REGEX_CHAR_MAX) {
        peri_regex_set_add(&other, low, PERI_REGEX_CHAR_MAX);
    }
    free(set->ranges);
    *set = other;
}

void peri_regex_set_seal(peri_regex_set *set, bool inverted)
{
    merge(set);
    if (inverted) {
        invert(set);
    }
    set->ascii[0] = 0;
    set->ascii[1] = 0;
    for (uint32_t i = 0; i < set->count; i++) {
        for (uint32_t c = set->ranges[i].low;
             c <= set->ranges[i].high && c < 128; c++) {
            set->ascii[c >> 6] |= (uint64_t)1 << (c & 63);
        }
    }
}

/* Adds what part has, or has not, and frees it. */
static void take(peri_regex_set *set, peri_regex_set *part, bool inverted)
{
    peri_regex_set_seal(part, inverted);
    peri_regex_set_add_set(set, part);
    peri_regex_set_fini(part);
}

bool peri_regex_set_add_class(peri_regex_set *set, char letter)
{
    peri_regex_set part = {0};

    switch (letter | 0x20) {
    case 'd':
        peri_regex_set_add(&part, '0', '9');
        break;
    case 'w':
        peri_regex_set_add(&part, '0', '9');
        peri_regex_set_add(&part, 'A', 'Z');
        peri_regex_set_add(&part, '_', '_');
        peri_regex_set_add(&part, 'a', 'z');
        break;
    case 's':
        peri_regex_set_add(&part, '\t', '\r');
        peri_regex_set_add(&part, 0x2028, 0x2029);
        peri_regex_set_add(&part, 0xfeff, 0xfeff);
        peri_regex_set_add_property(&part, PERI_SLICE("Zs"), false);
        break;
    default:
        return false;
    }
    take(set, &part, letter < 'a');
    return true;
}

static uint32_t categories_of(peri_slice name)
{
    static const char *const prefixes[] = {"General_Category=", "gc="};

    for (size_t i = 0; i < 2; i++) {
        peri_slice prefix = peri_slice_str(prefixes[i]);

        if (peri_slice_starts(name, prefix)) {
            name.data += prefix.length;
            name.length -= prefix.length;
        }
    }
    for (size_t i = 0; i < sizeof category_names / sizeof *category_names;
         i++) {
        if (peri_slice_equal(name, peri_slice_str(category_names[i].name))) {
            return category_names[i].categories;
        }
    }
    return 0;
}

bool peri_regex_set_add_property(peri_regex_set *set, peri_slice name,
                                 bool inverted)
{
    peri_regex_set part = {0};
    uint32_t wanted = categories_of(name);

    if (peri_slice_equal(name, PERI_SLICE("ASCII"))) {
        peri_regex_set_add(&part, 0, 127);
        take(set, &part, inverted);
        return true;
    }
    if (wanted == 0) {
        return false;
    }
    for (size_t i = 0; i < CATEGORY_RUNS; i++) {
        uint32_t run = peri_unicode_category[i];
        uint32_t end = i + 1 < CATEGORY_RUNS
                           ? (peri_unicode_category[i + 1] >> 5) - 1
                           : PERI_REGEX_CHAR_MAX;

        if ((wanted >> (run & 31) & 1) != 0) {
            peri_regex_set_add(&part, run >> 5, end);
        }
    }
    take(set, &part, inverted);
    return true;
}
