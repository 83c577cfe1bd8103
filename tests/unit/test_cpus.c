/* CPUs: what affinity and control groups leave of them. */
#include "core/cluster/cpus.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void put(const char *root, const char *name, const char *text)
{
    char command[1024];
    char path[512];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", root, name);
    snprintf(command, sizeof command, "mkdir -p \"$(dirname '%s')\"", path);
    assert_int_equal(system(command), 0);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void remove_root(const char *root)
{
    char command[256];

    snprintf(command, sizeof command, "rm -rf '%s'", root);
    assert_int_equal(system(command), 0);
}

static void a_quota_is_rounded_up(void **state)
{
    (void)state;
    assert_int_equal(peri_cpus_parse_max("max 100000\n"), 0);
    assert_int_equal(peri_cpus_parse_max("100000 100000\n"), 1);
    assert_int_equal(peri_cpus_parse_max("150000 100000\n"), 2);
    assert_int_equal(peri_cpus_parse_max("10000 100000\n"), 1);
    assert_int_equal(peri_cpus_parse_max(""), 0);
    assert_int_equal(peri_cpus_parse_max("100000 0"), 0);
    assert_int_equal(peri_cpus_parse_max("-1 100000"), 0);
}

static void the_least_quota_on_the_way_up_counts(void **state)
{
    char root[] = "/tmp/perigee-cpus-XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(root));
    put(root, "proc/self/cgroup", "0::/a/b\n");
    put(root, "sys/fs/cgroup/a/b/cpu.max", "800000 100000\n");
    assert_int_equal(peri_cpus_quota(root), 8);
    put(root, "sys/fs/cgroup/a/cpu.max", "300000 100000\n");
    assert_int_equal(peri_cpus_quota(root), 3);
    put(root, "sys/fs/cgroup/a/cpu.max", "max 100000\n");
    assert_int_equal(peri_cpus_quota(root), 8);
    remove_root(root);
}

static void a_container_sees_its_own_group_as_the_root(void **state)
{
    char root[] = "/tmp/perigee-cpus-XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(root));
    put(root, "proc/self/cgroup", "0::/somewhere/outside\n");
    put(root, "sys/fs/cgroup/cpu.max", "200000 100000\n");
    assert_int_equal(peri_cpus_quota(root), 2);
    remove_root(root);
}

static void version_one_is_read_too(void **state)
{
    char root[] = "/tmp/perigee-cpus-XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(root));
    put(root, "proc/self/cgroup",
        "9:name=systemd:/x\n4:cpu,cpuacct:/x\n3:cpuset:/y\n0::/\n");
    put(root, "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "250000\n");
    put(root, "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
    assert_int_equal(peri_cpus_quota(root), 3);
    put(root, "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "-1\n");
    assert_int_equal(peri_cpus_quota(root), 0);
    remove_root(root);
}

static void without_files_there_is_no_quota(void **state)
{
    (void)state;
    assert_int_equal(peri_cpus_quota("/nonexistent"), 0);
}

static void affinity_is_obeyed(void **state)
{
    cpu_set_t before;
    cpu_set_t one;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &before)) {
            CPU_SET(i, &one);
            break;
        }
    }
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(peri_cpus_allowed(), 1);
    sched_setaffinity(0, sizeof before, &before);
    assert_true(peri_cpus_allowed() >= 1);
    assert_true(peri_cpus_allowed() <= CPU_COUNT(&before));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quota_is_rounded_up),
        cmocka_unit_test(the_least_quota_on_the_way_up_counts),
        cmocka_unit_test(a_container_sees_its_own_group_as_the_root),
        cmocka_unit_test(version_one_is_read_too),
        cmocka_unit_test(without_files_there_is_no_quota),
        cmocka_unit_test(affinity_is_obeyed),
    };

    return cmocka_run_group_tests_name("cpus", tests, NULL, NULL);
}
