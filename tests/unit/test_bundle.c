/* Bundle: freezing files, reading them back, refusing what is damaged. */
#include "core/base/bundle.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/err.h"

static peri_bundle *finish_and_open(peri_bundle_builder *builder, int *out_fd)
{
    peri_bundle *bundle = NULL;

    assert_int_equal(peri_bundle_finish(builder, out_fd), 0);
    peri_bundle_builder_destroy(builder);
    assert_int_equal(peri_bundle_open(*out_fd, &bundle), 0);
    return bundle;
}

static void assert_entry(const peri_bundle *bundle, const char *name,
                         const char *text)
{
    peri_slice data = peri_bundle_find(bundle, name);

    assert_non_null(data.data);
    assert_int_equal(data.length, strlen(text));
    assert_string_equal(data.data, text);
}

static void entries_come_back_sorted_and_whole(void **state)
{
    peri_bundle_builder *builder = peri_bundle_builder_create();
    peri_bundle *bundle;
    int fd;

    (void)state;
    assert_int_equal(
        peri_bundle_add(builder, "scripts/b.lua", PERI_SLICE("return 2")), 0);
    assert_int_equal(peri_bundle_add(builder, "@env", PERI_SLICE("test")), 0);
    assert_int_equal(peri_bundle_add(builder, "empty", PERI_SLICE("")), 0);
    assert_int_equal(peri_bundle_add(builder, "nul", PERI_SLICE("a\0b")), 0);
    assert_int_equal(peri_bundle_add(builder, "@env", PERI_SLICE("x")),
                     PERI_EEXISTS);
    bundle = finish_and_open(builder, &fd);
    assert_int_equal(peri_bundle_count(bundle), 4);
    assert_string_equal(peri_bundle_name(bundle, 0), "@env");
    assert_string_equal(peri_bundle_name(bundle, 3), "scripts/b.lua");
    assert_entry(bundle, "scripts/b.lua", "return 2");
    assert_entry(bundle, "empty", "");
    assert_int_equal(peri_bundle_find(bundle, "nul").length, 3);
    assert_null(peri_bundle_find(bundle, "scripts/a.lua").data);
    assert_null(peri_bundle_find(bundle, "").data);
    peri_bundle_close(bundle);
    close(fd);
}

static void an_empty_bundle_is_a_bundle(void **state)
{
    int fd;
    peri_bundle *bundle = finish_and_open(peri_bundle_builder_create(), &fd);

    (void)state;
    assert_int_equal(peri_bundle_count(bundle), 0);
    assert_null(peri_bundle_find(bundle, "x").data);
    peri_bundle_close(bundle);
    close(fd);
}

static void a_finished_bundle_cannot_be_written(void **state)
{
    int fd;
    peri_bundle *bundle = finish_and_open(peri_bundle_builder_create(), &fd);

    (void)state;
    assert_true(pwrite(fd, "x", 1, 0) < 0);
    assert_true(ftruncate(fd, 0) < 0);
    peri_bundle_close(bundle);
    close(fd);
}

static void damaged_images_are_refused(void **state)
{
    peri_bundle_builder *builder = peri_bundle_builder_create();
    char image[512];
    ssize_t size;
    int fd;

    (void)state;
    peri_bundle_add(builder, "a", PERI_SLICE("1"));
    peri_bundle_add(builder, "b", PERI_SLICE("2"));
    assert_int_equal(peri_bundle_finish(builder, &fd), 0);
    peri_bundle_builder_destroy(builder);
    size = pread(fd, image, sizeof image, 0);
    close(fd);
    for (ssize_t cut = 0; cut < size; cut++) {
        peri_bundle *bundle = NULL;
        int other = memfd_create("t", MFD_CLOEXEC);

        assert_int_equal(write(other, image, (size_t)cut), cut);
        assert_int_equal(peri_bundle_open(other, &bundle), PERI_EFORMAT);
        close(other);
    }
    for (ssize_t at = 0; at < size; at++) {
        peri_bundle *bundle = NULL;
        int other = memfd_create("t", MFD_CLOEXEC);
        char kept = image[at];

        image[at] = (char)(kept ^ 0x5a);
        assert_int_equal(write(other, image, (size_t)size), size);
        if (peri_bundle_open(other, &bundle) == 0) {
            for (size_t i = 0; i < peri_bundle_count(bundle); i++) {
                assert_true(strlen(peri_bundle_name(bundle, i)) < 512);
                assert_true(peri_bundle_data(bundle, i).length < 512);
            }
            peri_bundle_close(bundle);
        }
        image[at] = kept;
        close(other);
    }
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[512];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void make_tree(char *dir)
{
    char path[512];

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/scripts", dir);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/scripts/routes", dir);
    mkdir(path, 0700);
    put(dir, "scripts/main.lua", "return {}");
    put(dir, "scripts/routes/a.lua", "a");
    put(dir, "scripts/routes/.a.lua.swp", "x");
    put(dir, "scripts/routes/a.lua~", "x");
    put(dir, "scripts/routes/4913", "x");
    put(dir, "scripts/routes/#a.lua#", "x");
    snprintf(path, sizeof path, "%s/scripts/linked.lua", dir);
    assert_int_equal(symlink("routes/a.lua", path), 0);
    snprintf(path, sizeof path, "%s/scripts/dangling.lua", dir);
    assert_int_equal(symlink("nowhere", path), 0);
    snprintf(path, sizeof path, "%s/scripts/pipe.lua", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
}

static void remove_tree(const char *dir)
{
    char command[600];

    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static void a_tree_is_taken_without_temporary_files(void **state)
{
    char dir[] = "/tmp/perigee-bundle-XXXXXX";
    char why[256] = "";
    peri_bundle_builder *builder = peri_bundle_builder_create();
    peri_bundle *bundle;
    int fd;

    (void)state;
    make_tree(dir);
    assert_int_equal(
        peri_bundle_add_tree(builder, dir, "scripts", why, sizeof why), 0);
    assert_int_equal(
        peri_bundle_add_tree(builder, dir, "config", why, sizeof why), 0);
    bundle = finish_and_open(builder, &fd);
    assert_int_equal(peri_bundle_count(bundle), 3);
    assert_entry(bundle, "scripts/linked.lua", "a");
    assert_entry(bundle, "scripts/routes/a.lua", "a");
    assert_entry(bundle, "scripts/main.lua", "return {}");
    peri_bundle_close(bundle);
    close(fd);
    remove_tree(dir);
}

static void a_circle_of_links_is_a_fault_that_names_it(void **state)
{
    char dir[] = "/tmp/perigee-bundle-XXXXXX";
    char path[512];
    char why[256] = "";
    peri_bundle_builder *builder = peri_bundle_builder_create();

    (void)state;
    make_tree(dir);
    snprintf(path, sizeof path, "%s/scripts/loop", dir);
    assert_int_equal(symlink("../scripts", path), 0);
    assert_int_equal(
        peri_bundle_add_tree(builder, dir, "scripts", why, sizeof why),
        PERI_ELIMIT);
    assert_non_null(strstr(why, "scripts/loop"));
    peri_bundle_builder_destroy(builder);
    remove_tree(dir);
}

static void names_of_editors_are_known(void **state)
{
    (void)state;
    assert_true(peri_bundle_skips(".#orders.lua"));
    assert_true(peri_bundle_skips("4913"));
    assert_true(peri_bundle_skips("orders.lua~"));
    assert_true(peri_bundle_skips("orders.lua.swp"));
    assert_true(peri_bundle_skips(".."));
    assert_false(peri_bundle_skips("orders.lua"));
    assert_false(peri_bundle_skips("001_first.sql"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_come_back_sorted_and_whole),
        cmocka_unit_test(an_empty_bundle_is_a_bundle),
        cmocka_unit_test(a_finished_bundle_cannot_be_written),
        cmocka_unit_test(damaged_images_are_refused),
        cmocka_unit_test(a_tree_is_taken_without_temporary_files),
        cmocka_unit_test(a_circle_of_links_is_a_fault_that_names_it),
        cmocka_unit_test(names_of_editors_are_known),
    };

    return cmocka_run_group_tests_name("bundle", tests, NULL, NULL);
}
