/* CPUs: how many this process may use, for `workers = auto`. */
#ifndef PERI_CLUSTER_CPUS_H
#define PERI_CLUSTER_CPUS_H

/* The least of what the affinity mask and the quotas of the control groups (v2
 * cpu.max, v1 cfs_quota) allow, rounded up; at least 1. */
int peri_cpus_allowed(void);

/* For tests: the same quota below another root directory; 0: no quota. */
int peri_cpus_quota(const char *root);

/* "150000 100000" is 2, "max 100000" is 0: none. */
int peri_cpus_parse_max(const char *text);

#endif
