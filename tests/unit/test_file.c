/* Files: found, typed, conditional, and nothing outside of the root. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/err.h"
#include "core/http/date.h"
#include "core/http/file.h"
#include "core/http/file_open.h"
#include "core/http/local.h"

#define TEST(name) static void name(void **state)
#define BIG_BYTES 300000

typedef struct rig {
    uv_loop_t loop;
    peri_http_app app;
    peri_files *files;
    char dir[64];
    char root[80];
    int status;
    int served;
    int absent;
    char fields[2000];
    char *body;
    size_t body_bytes;
} rig;

static void write_file(const char *dir, const char *name, const char *data,
                       size_t length)
{
    char path[200];
    int fd;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, length), length);
    close(fd);
}

static void on_served(void *data, peri_exchange *ex)
{
    (void)ex;
    ((rig *)data)->served++;
}

static void on_absent(void *data, peri_exchange *ex)
{
    ((rig *)data)->absent++;
    peri_exchange_problem(ex, 404, PERI_SLICE(""), NULL, 0);
}

static void on_request(void *data, peri_exchange *ex)
{
    rig *r = data;
    peri_field field = {PERI_SLICE("Cache-Control"), PERI_SLICE("no-cache")};

    peri_file_serve(r->files, ex, peri_exchange_text(ex, ex->path),
                    &(peri_file_extra){200, &field, 1}, on_served, on_absent,
                    r);
}

static void on_gone(void *data, peri_exchange *ex)
{
    (void)data;
    (void)ex;
}

static void on_answer(void *data, const peri_local_answer *a)
{
    rig *r = data;

    r->status = a->status;
    r->fields[0] = '\0';
    for (size_t i = 0; i < a->field_count; i++) {
        snprintf(r->fields + strlen(r->fields),
                 sizeof r->fields - strlen(r->fields), "%.*s: %.*s\n",
                 (int)a->fields[i].name.length, a->fields[i].name.data,
                 (int)a->fields[i].value.length, a->fields[i].value.data);
    }
    free(r->body);
    r->body = malloc(a->body.length + 1);
    r->body_bytes = a->body.length;
    if (a->body.length != 0) {
        memcpy(r->body, a->body.data, a->body.length);
    }
    r->body[a->body.length] = '\0';
}

static void make_link(const rig *r, const char *to, const char *name)
{
    char path[200];

    snprintf(path, sizeof path, "%s/%s", r->root, name);
    assert_int_equal(symlink(to, path), 0);
}

static void make_folder(const char *dir, const char *name)
{
    char path[200];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(mkdir(path, 0755), 0);
}

static rig *rig_create(void)
{
    rig *r = calloc(1, sizeof *r);
    char *big = malloc(BIG_BYTES);

    for (size_t i = 0; i < BIG_BYTES; i++) {
        big[i] = (char)(i * 7 + i / 251);
    }
    strcpy(r->dir, "/tmp/perigee-file-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    snprintf(r->root, sizeof r->root, "%s/public", r->dir);
    make_folder(r->dir, "public");
    make_folder(r->root, "docs");
    make_folder(r->root, "bare");
    write_file(r->dir, "secret", "secret", 6);
    write_file(r->root, "index.html", "<p>", 3);
    write_file(r->root, "docs/index.html", "<h1>", 4);
    write_file(r->root, "a b.txt", "space", 5);
    write_file(r->root, "empty.css", "", 0);
    write_file(r->root, ".hidden", "hidden", 6);
    write_file(r->root, "big.bin", big, BIG_BYTES);
    make_link(r, "../secret", "link");
    make_link(r, "..", "up");
    make_link(r, "a b.txt", "inner");
    free(big);
    uv_loop_init(&r->loop);
    r->app = (peri_http_app){r, on_request, on_gone, NULL};
    r->files = peri_files_create(&r->loop, r->root);
    return r;
}

static void rig_destroy(rig *r)
{
    char command[100];

    peri_files_destroy(r->files);
    assert_int_equal(uv_loop_close(&r->loop), 0);
    snprintf(command, sizeof command, "rm -r %s", r->dir);
    assert_int_equal(system(command), 0);
    free(r->body);
    free(r);
}

static int ask(rig *r, const char *method, const char *target, const char *name,
               const char *value)
{
    peri_field field = {peri_slice_str(name), peri_slice_str(value)};
    peri_local_request request = {
        .method = peri_slice_str(method),
        .target = peri_slice_str(target),
        .fields = &field,
        .field_count = name != NULL ? 1 : 0,
    };

    r->served = 0;
    r->absent = 0;
    assert_int_equal(
        peri_local_start(&r->loop, &r->app, &request, on_answer, r), 0);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    assert_int_equal(r->served + r->absent, 1);
    assert_int_equal(r->absent, r->status == 404);
    return r->status;
}

static int get(rig *r, const char *target)
{
    return ask(r, "GET", target, NULL, NULL);
}

/* The value of a field of the answer. */
static char *value(const rig *r, const char *name, char out[100])
{
    const char *at = strstr(r->fields, name);

    assert_non_null(at);
    at += strlen(name) + 2;
    snprintf(out, 100, "%.*s", (int)strcspn(at, "\n"), at);
    return out;
}

TEST(a_file_comes_with_what_describes_it)
{
    rig *r = rig_create();
    char text[100];

    (void)state;
    assert_int_equal(get(r, "/a%20b.txt"), 200);
    assert_string_equal(r->body, "space");
    assert_string_equal(value(r, "Content-Type", text),
                        "text/plain; charset=utf-8");
    assert_string_equal(value(r, "Cache-Control", text), "no-cache");
    assert_non_null(strstr(r->fields, "ETag: "));
    assert_non_null(strstr(r->fields, "Last-Modified: "));
    assert_int_equal(get(r, "/"), 200);
    assert_string_equal(r->body, "<p>");
    assert_string_equal(value(r, "Content-Type", text),
                        "text/html; charset=utf-8");
    assert_int_equal(get(r, "/empty.css"), 200);
    assert_int_equal(r->body_bytes, 0);
    assert_int_equal(get(r, "/inner"), 200);
    assert_string_equal(r->body, "space");
    rig_destroy(r);
}

TEST(a_big_file_arrives_whole)
{
    rig *r = rig_create();
    char text[100];

    (void)state;
    assert_int_equal(get(r, "/big.bin"), 200);
    assert_int_equal(r->body_bytes, BIG_BYTES);
    for (size_t i = 0; i < BIG_BYTES; i++) {
        assert_int_equal(r->body[i], (char)(i * 7 + i / 251));
    }
    assert_string_equal(value(r, "Content-Length", text), "300000");
    rig_destroy(r);
}

TEST(head_tells_the_length_alone)
{
    rig *r = rig_create();
    char text[100];

    (void)state;
    assert_int_equal(ask(r, "HEAD", "/big.bin", NULL, NULL), 200);
    assert_int_equal(r->body_bytes, 0);
    assert_string_equal(value(r, "Content-Length", text), "300000");
    assert_int_equal(ask(r, "HEAD", "/nothing", NULL, NULL), 404);
    rig_destroy(r);
}

TEST(a_folder_is_its_index)
{
    rig *r = rig_create();
    char text[100];

    (void)state;
    assert_int_equal(get(r, "/docs/"), 200);
    assert_string_equal(r->body, "<h1>");
    assert_int_equal(get(r, "/docs?a=b"), 301);
    assert_string_equal(value(r, "Location", text), "/docs/?a=b");
    assert_int_equal(get(r, "/bare"), 404);
    assert_int_equal(get(r, "/bare/"), 404);
    assert_int_equal(get(r, "/big.bin/"), 404);
    rig_destroy(r);
}

TEST(nothing_leaves_the_root)
{
    static const char *const paths[] = {
        "/../secret",     "/%2e%2e/secret",     "/docs/../../secret",
        "/..%2fsecret",   "/docs%2findex.html", "/link",
        "/up/secret",     "/.hidden",           "/%2ehidden",
        "//secret",       "/docs//index.html",  "/./index.html",
        "/index.html%00", "/docs/%00",
    };
    rig *r = rig_create();

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        if (get(r, paths[i]) != 404) {
            fail_msg("%s: %d", paths[i], r->status);
        }
    }
    rig_destroy(r);
}

TEST(walking_finds_the_same_and_follows_no_link)
{
    rig *r = rig_create();
    int root = open(r->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd;

    (void)state;
    fd = peri_file_open_walking(root, "docs/index.html");
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(peri_file_open_walking(root, "nothing"), -ENOENT);
    assert_int_equal(peri_file_open_walking(root, "link"), -ELOOP);
    assert_int_equal(peri_file_open_walking(root, "up/secret"), -ENOTDIR);
    close(root);
    rig_destroy(r);
}

TEST(conditions_are_honoured)
{
    rig *r = rig_create();
    char tag[100];
    char weak[110];
    char modified[100];

    (void)state;
    get(r, "/index.html");
    value(r, "ETag", tag);
    value(r, "Last-Modified", modified);
    snprintf(weak, sizeof weak, "\"x\", %s%s", tag[0] == 'W' ? "" : "W/", tag);
    assert_int_equal(ask(r, "GET", "/index.html", "If-None-Match", tag), 304);
    assert_int_equal(r->body_bytes, 0);
    assert_non_null(strstr(r->fields, "ETag: "));
    assert_int_equal(ask(r, "GET", "/index.html", "If-None-Match", weak), 304);
    assert_int_equal(ask(r, "GET", "/index.html", "If-None-Match", "*"), 304);
    assert_int_equal(ask(r, "GET", "/index.html", "If-None-Match", "\"x\""),
                     200);
    assert_int_equal(
        ask(r, "GET", "/index.html", "If-Modified-Since", modified), 304);
    assert_int_equal(ask(r, "GET", "/index.html", "If-Modified-Since",
                         "Sun, 06 Nov 1994 08:49:37 GMT"),
                     200);
    assert_int_equal(ask(r, "GET", "/index.html", "If-Modified-Since", "junk"),
                     200);
    assert_int_equal(ask(r, "GET", "/index.html", "If-Match", "\"x\""), 412);
    assert_int_equal(ask(r, "GET", "/index.html", "If-Match", "*"), 200);
    assert_int_equal(ask(r, "GET", "/index.html", "If-Unmodified-Since",
                         "Sun, 06 Nov 1994 08:49:37 GMT"),
                     412);
    assert_int_equal(
        ask(r, "GET", "/index.html", "If-Unmodified-Since", modified), 200);
    rig_destroy(r);
}

TEST(a_root_may_be_missing)
{
    rig *r = rig_create();

    (void)state;
    peri_files_destroy(r->files);
    r->files = peri_files_create(&r->loop, "/nonexistent/public");
    assert_int_equal(get(r, "/"), 404);
    rig_destroy(r);
}

TEST(dates_are_read_in_three_forms)
{
    static const char *const forms[] = {
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    };
    static const char *const bad[] = {
        "",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 GMT+1",
        "Sun, 36 Nov 1994 08:49:37 GMT",
        "Sun, 06 Xyz 1994 08:49:37 GMT",
        "784111777",
    };
    char text[PERI_DATE_BYTES];
    int64_t seconds;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(peri_date_parse(peri_slice_str(forms[i]), &seconds),
                         0);
        assert_int_equal(seconds, 784111777);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(peri_date_parse(peri_slice_str(bad[i]), &seconds),
                         PERI_EFORMAT);
    }
    peri_date_write(text, 784111777);
    assert_memory_equal(text, forms[0], PERI_DATE_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_comes_with_what_describes_it),
        cmocka_unit_test(a_big_file_arrives_whole),
        cmocka_unit_test(head_tells_the_length_alone),
        cmocka_unit_test(a_folder_is_its_index),
        cmocka_unit_test(nothing_leaves_the_root),
        cmocka_unit_test(walking_finds_the_same_and_follows_no_link),
        cmocka_unit_test(conditions_are_honoured),
        cmocka_unit_test(a_root_may_be_missing),
        cmocka_unit_test(dates_are_read_in_three_forms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
