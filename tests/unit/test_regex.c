/* Regex: what matches, what does not, what is refused, and that nothing runs
 * away. */
#include "core/base/regex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static int search(const char *pattern, peri_slice text)
{
    char fault[PERI_REGEX_FAULT_BYTES];
    peri_regex *regex = peri_regex_create(peri_slice_str(pattern), fault);
    int found;

    if (regex == NULL) {
        fail_msg("%s: %s", pattern, fault);
    }
    found = peri_regex_search(regex, text.data, text.length);
    assert_int_equal(peri_regex_search(regex, text.data, text.length), found);
    peri_regex_destroy(regex);
    return found;
}

typedef struct example {
    const char *pattern;
    const char *matching[6];
    const char *other[6];
} example;

static const example examples[] = {
    {"", {"", "a"}, {NULL}},
    {"^$", {""}, {"a", "\n"}},
    {"abc", {"abc", "xabcx"}, {"ab", "axbc"}},
    {"^abc$", {"abc"}, {"abc\n", "xabc"}},
    {"a|b|", {"", "a", "c"}, {NULL}},
    {"^(?:a|bc)$", {"a", "bc"}, {"ab", "b"}},
    {"^a*$", {"", "aaa"}, {"ab"}},
    {"^a+?b$", {"ab", "aab"}, {"b"}},
    {"^a{2,3}$", {"aa", "aaa"}, {"a", "aaaa"}},
    {"^a{2,}$", {"aa", "aaaaa"}, {"a"}},
    {"^a{0}b$", {"b"}, {"ab"}},
    {"^(a{1,2}){2}$", {"aa", "aaa", "aaaa"}, {"a", "aaaaa"}},
    {"^(a*)*$", {"", "aa"}, {"b"}},
    {"^(|a)+$", {"", "aa"}, {"b"}},
    {"^[a-c]$", {"a", "c"}, {"d", "-"}},
    {"^[^a-c]$", {"d", "-", "\xc3\xa9"}, {"a"}},
    {"^[\\]\\-\\\\a]$", {"]", "-", "\\", "a"}, {"b"}},
    {"^[a-]$", {"a", "-"}, {"b"}},
    {"^[]$", {NULL}, {"a", ""}},
    {"^[^]$", {"a", "\n"}, {""}},
    {"^.$", {"a", "\xf0\x9f\x90\xb2"}, {"\n", "\r", "\xe2\x80\xa8", ""}},
    {"^\\d\\D$", {"1a"}, {"a1", "12"}},
    {"^\\w\\W$", {"a-", "_\xc3\xa9"}, {"ab"}},
    {"^\\s\\S$", {" a", "\xc2\xa0x", "\xef\xbb\xbfx"}, {"aa", "  "}},
    {"^[\\d_]+$", {"1_2"}, {"a"}},
    {"^\\u0041\\x42\\u{43}\\cA\\0$", {NULL}, {"ABC"}},
    {"^\\ud83d\\udc32$", {"\xf0\x9f\x90\xb2"}, {"x"}},
    {"^\\t\\n\\v\\f\\r$", {"\t\n\v\f\r"}, {"tnvfr"}},
    {"^\\p{Lu}\\P{L}$",
     {"\xc3\x84"
      "1"},
     {"a1", "AA"}},
    {"^\\p{Letter}+$", {"caf\xc3\xa9"}, {"a1"}},
    {"^\\p{gc=Nd}+$", {"1\xd9\xa3"}, {"a"}},
    {"^[\\p{L}\\d]+$", {"a1"}, {"a-"}},
    {"\\bcat\\b", {"cat", "a cat."}, {"concat", "cats"}},
    {"\\Bcat", {"concat"}, {"cat", "a cat"}},
    {"^(?=.*\\d)(?=.*[a-z])\\w{4,}$", {"abc1", "1abc"}, {"abcd", "1234"}},
    {"^(?!foo)\\w+$", {"bar", "fo"}, {"foo", "foobar"}},
    {"a(?!b(?=c))", {"ab", "aa"}, {"abc"}},
    {"^(?<year>\\d{4})$", {"2024"}, {"24"}},
    {"}]", {"}]"}, {"]"}},
};

static void examples_match_or_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        const example *e = &examples[i];

        for (int n = 0; n < 6 && e->matching[n] != NULL; n++) {
            assert_int_equal(search(e->pattern, peri_slice_str(e->matching[n])),
                             1);
        }
        for (int n = 0; n < 6 && e->other[n] != NULL; n++) {
            assert_int_equal(search(e->pattern, peri_slice_str(e->other[n])),
                             0);
        }
    }
    assert_int_equal(
        search("^\\u0041\\x42\\u{43}\\cA\\0$", PERI_SLICE("ABC\x01\0")), 1);
}

static void bytes_that_are_not_utf8_count_as_one_character(void **state)
{
    (void)state;
    assert_int_equal(search("^..$", PERI_SLICE("\xff\xc3")), 1);
    assert_int_equal(search("^\\ufffd$", PERI_SLICE("\xff")), 1);
}

static void malformed_patterns_are_refused(void **state)
{
    static const char *const wrong[] = {
        "(",     ")",      "[",        "a)",      "*",       "a**",
        "+a",    "?",      "{1}",      "a{2,1}",  "a{x}",    "a{1",
        "\\",    "\\a",    "\\1",      "\\k<a>",  "(?<=a)b", "(?<!a)b",
        "(?i)a", "(?#x)",  "[b-a]",    "[\\d-x]", "\\u12",   "\\u{110000}",
        "\\x1",  "\\c1",   "\\p{X}",   "\\pL",    "\\p{L",   "^*",
        "\\b+",  "(?=a)*", "a{10001}", "\\01",    "\xff",    "(?<a"};
    char fault[PERI_REGEX_FAULT_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        fault[0] = '\0';
        assert_null(peri_regex_create(peri_slice_str(wrong[i]), fault));
        assert_string_not_equal(fault, "");
    }
}

static void programs_have_a_largest_size(void **state)
{
    char fault[PERI_REGEX_FAULT_BYTES];
    char deep[500];
    peri_regex *regex;

    (void)state;
    assert_null(peri_regex_create(PERI_SLICE("((a{100}){100}){100}"), fault));
    assert_null(peri_regex_create(
        PERI_SLICE("((((a?){10000}){10000}){10000}){10000}"), fault));
    regex = peri_regex_create(
        PERI_SLICE("(((((){10000}){10000}){10000}){10000}){10000}"), fault);
    assert_non_null(regex);
    peri_regex_destroy(regex);
    memset(deep, '(', sizeof deep);
    assert_null(peri_regex_create(peri_slice_of(deep, sizeof deep), fault));
}

/* Each of these takes a backtracking engine longer than the universe has. */
static void nothing_runs_away(void **state)
{
    static const char *const patterns[] = {"^(a+)+$",
                                           "^(a|a)*$",
                                           "^(a|aa)+$",
                                           "(.*)*x",
                                           "^(([a-z])+.)+[A-Z]$",
                                           "(x+x+)+y",
                                           "^(a?){50}a{50}$"};
    size_t length = 20000;
    char *text = malloc(length);
    clock_t start = clock();

    (void)state;
    memset(text, 'a', length);
    text[length - 1] = '!';
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        assert_int_equal(search(patterns[i], peri_slice_of(text, length)), 0);
    }
    assert_true(clock() - start < 10 * CLOCKS_PER_SEC);
    free(text);
}

static void too_much_work_is_a_limit(void **state)
{
    char fault[PERI_REGEX_FAULT_BYTES];
    size_t length = 1 << 20;
    char *text = malloc(length);
    peri_regex *regex = peri_regex_create(PERI_SLICE("(?=.*x)a*b"), fault);

    (void)state;
    memset(text, 'a', length);
    assert_int_equal(peri_regex_search(regex, text, length), PERI_ELIMIT);
    assert_int_equal(peri_regex_search(regex, "aabx", 4), 1);
    peri_regex_destroy(regex);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_match_or_not),
        cmocka_unit_test(bytes_that_are_not_utf8_count_as_one_character),
        cmocka_unit_test(malformed_patterns_are_refused),
        cmocka_unit_test(programs_have_a_largest_size),
        cmocka_unit_test(nothing_runs_away),
        cmocka_unit_test(too_much_work_is_a_limit),
    };

    return cmocka_run_group_tests_name("regex", tests, NULL, NULL);
}
