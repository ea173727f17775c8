/*
 * Which CRIU a kernel needs.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_criu_rule.h"

#include <stdbool.h>
#include <stdio.h>

typedef struct {
    int kernel_major, kernel_minor;
    int criu_major, criu_minor;
    const char *reason;
} rule_t;

/* Newest kernel first: the first row whose kernel is not newer than ours decides. */
static const rule_t rules[] = {
    {6, 16, 4, 2, "older ones cannot dump a process that holds a TCP socket there"},
    {6, 13, 4, 1, "older ones do not find the vDSO there"},
    {0, 0, 3, 17, "older ones were never tried"},
};

static bool at_least(int major, int minor, int want_major, int want_minor)
{
    return major > want_major || (major == want_major && minor >= want_minor);
}

int lpm_criu_rule_check(int criu_major, int criu_minor, int criu_sub, const char *kernel_release, char *why, size_t n)
{
    int kmajor, kminor;

    if (NULL == kernel_release || 2 != sscanf(kernel_release, "%d.%d", &kmajor, &kminor) || 0 > kmajor || 0 > kminor) {
        snprintf(why, n, "cannot read the kernel's version from \"%s\"", NULL == kernel_release ? "" : kernel_release);
        return -1;
    }
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        const rule_t *r = &rules[i];

        if (!at_least(kmajor, kminor, r->kernel_major, r->kernel_minor)) {
            continue;
        }
        if (at_least(criu_major, criu_minor, r->criu_major, r->criu_minor)) {
            return 0;
        }
        snprintf(why, n,
                 "CRIU %d.%d.%d is here, Linux %s needs CRIU %d.%d or newer (%s); install one and name it with the "
                 "MCA parameter crs_lpm_criu",
                 criu_major, criu_minor, criu_sub, kernel_release, r->criu_major, r->criu_minor, r->reason);
        return -1;
    }
    return -1; /* not reached: the last row takes every kernel */
}
