/* Pretty: what people see of a log line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/pretty.h"

#define TEST(name) static void name(void **state)
#define HEAD                                                                   \
    "{\"level\":30,\"time\":1522431328992,\"pid\":42,\"hostname\":\"foo\""

static void check(const char *line, bool colors, const char *expected)
{
    peri_buf out;

    peri_buf_init(&out, 65536);
    assert_int_equal(peri_pretty_line(&out, peri_slice_str(line), colors), 0);
    peri_buf_append_byte(&out, '\0');
    assert_string_equal(out.data, expected);
    peri_buf_fini(&out);
}

TEST(a_line_looks_as_pino_pretty_makes_it)
{
    (void)state;
    check(HEAD ",\"msg\":\"hello world\"}\n", false,
          "[17:35:28.992] INFO (42): hello world\n");
    check(HEAD ",\"a\":1,\"b\":\"x\\ny\",\"c\":{\"d\":[1,{}],\"e\":null},"
               "\"msg\":\"hi\"}",
          false,
          "[17:35:28.992] INFO (42): hi\n"
          "    a: 1\n"
          "    b: \"x\\ny\"\n"
          "    c: {\n"
          "      \"d\": [\n"
          "        1,\n"
          "        {}\n"
          "      ],\n"
          "      \"e\": null\n"
          "    }\n");
}

TEST(levels_by_name_and_times_in_iso_form_are_read)
{
    (void)state;
    check("{\"level\":\"warn\",\"msg\":\"a\"}", false, "WARN: a\n");
    check("{\"level\":\"ERROR\",\"msg\":\"a\"}", false, "ERROR: a\n");
    check("{\"level\":\"20\",\"msg\":\"a\"}", false, "DEBUG: a\n");
    check("{\"level\":\"loud\",\"msg\":\"a\"}", false, "USERLVL: a\n");
    check("{\"level\":30,\"time\":\"2020-01-01T10:20:30.456Z\",\"msg\":\"a\"}",
          false, "[10:20:30.456] INFO: a\n");
    check("{\"level\":30,\"time\":\"2020-01-01T10:20:30+02:00\"}", false,
          "[08:20:30.000] INFO: \n");
    check("{\"level\":30,\"time\":\"junk\",\"msg\":\"a\"}", false,
          "[junk] INFO: a\n");
    check("{\"level\":30,\"time\":null,\"msg\":\"a\"}", false, "INFO: a\n");
    check("{\"level\":30,\"time\":1e300,\"msg\":\"a\"}", false,
          "[1e300] INFO: a\n");
}

TEST(a_stack_is_shown_line_by_line)
{
    (void)state;
    check(
        "{\"level\":50,\"msg\":\"bad\",\"err\":{\"type\":\"E\",\"stack\":\"E: "
        "x\\n    at f\"}}",
        false,
        "ERROR: bad\n"
        "    err: {\n"
        "      \"type\": \"E\",\n"
        "      \"stack\":\n"
        "          E: x\n"
        "              at f\n"
        "    }\n");
}

TEST(a_request_takes_one_line)
{
    (void)state;
    check(HEAD
          ",\"req\":{\"id\":\"1\",\"method\":\"GET\",\"url\":\"/a?b=\\u00e9\"},"
          "\"res\":{\"statusCode\":200},\"responseTime\":1.5,"
          "\"msg\":\"request completed\"}",
          false,
          "[17:35:28.992] INFO (42): request completed: GET /a?b=\xc3\xa9 200 "
          "(1.5 ms)\n");
}

TEST(a_request_without_an_answer_keeps_its_fields)
{
    (void)state;
    check("{\"level\":30,\"req\":{\"id\":1},\"msg\":\"x\"}", false,
          "INFO: x\n    req: {\n      \"id\": 1\n    }\n");
}

TEST(other_lines_pass_through)
{
    static const char *const lines[] = {
        "plain text\n",
        "{\"no\":\"level\"}\n",
        "{\"level\":30\n",
        "\n",
        "{\"level\":30,\"msg\":\"x}\n",
        "[1,2]\n",
        "{}\n",
        "{\"level\":}\n",
        "{\"level\":30,}\n",
        "{\"level\":30} x\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        check(lines[i], true, lines[i]);
    }
}

TEST(colors_are_sequences_of_ansi)
{
    (void)state;
    check("{\"level\":40,\"msg\":\"m\",\"k\":1}", true,
          "\x1b[33mWARN\x1b[39m: \x1b[36mm\x1b[39m\n"
          "    \x1b[35mk\x1b[39m: 1\n");
}

TEST(control_characters_of_a_message_do_not_reach_the_terminal)
{
    (void)state;
    check("{\"level\":30,\"msg\":\"a\\u001b[2Jb\\ud83d\\ude00\\ud800\"}", false,
          "INFO: a\\u001b[2Jb\xf0\x9f\x98\x80\\ud800\n");
    check("{\"level\":30,\"msg\":\"\xc2\x9b"
          "2J\xc2\xa0\xc3\x9b\\\\\",\"a\xc2\x9d\":\"\xc2\x90\",\"b\":["
          "\"\xc2\x85\"]}",
          false,
          "INFO: \\u009b2J\xc2\xa0\xc3\x9b\\\n"
          "    a\\u009d: \"\\u0090\"\n"
          "    b: [\n"
          "      \"\\u0085\"\n"
          "    ]\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_looks_as_pino_pretty_makes_it),
        cmocka_unit_test(levels_by_name_and_times_in_iso_form_are_read),
        cmocka_unit_test(a_stack_is_shown_line_by_line),
        cmocka_unit_test(a_request_takes_one_line),
        cmocka_unit_test(a_request_without_an_answer_keeps_its_fields),
        cmocka_unit_test(other_lines_pass_through),
        cmocka_unit_test(colors_are_sequences_of_ansi),
        cmocka_unit_test(
            control_characters_of_a_message_do_not_reach_the_terminal),
    };

    setenv("TZ", "UTC", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
