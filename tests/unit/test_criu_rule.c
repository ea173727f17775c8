/*
 * Unit test of core/lpm_criu_rule.c: which CRIU is accepted on which kernel.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lpm_criu_rule.h"

static void table(void **state)
{
    static const struct {
        int major, minor, sub;
        const char *kernel;
        int expect;
    } cases[] = {
        {4, 2, 1, "6.18.44-x", 0}, {4, 2, 0, "6.16.0", 0},   {4, 1, 1, "6.16.0", -1},  {4, 1, 0, "6.15.9", 0},
        {4, 1, 1, "6.13", 0},      {4, 0, 9, "6.13.0", -1},  {4, 0, 0, "6.12.99", 0},  {3, 17, 1, "6.1.0-28-amd64", 0},
        {3, 17, 1, "6.18.0", -1},  {3, 16, 9, "5.10.0", -1}, {5, 0, 0, "7.0.0", 0},    {4, 1, 0, "7.0.0", -1},
        {3, 18, 0, "4.9", 0},      {4, 9, 0, "6.16.0", 0},   {3, 99, 0, "6.14.0", -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char why[512] = "";

        assert_int_equal(cases[i].expect, lpm_criu_rule_check(cases[i].major, cases[i].minor, cases[i].sub,
                                                              cases[i].kernel, why, sizeof(why)));
        assert_int_equal(0 == cases[i].expect, '\0' == why[0]);
    }
}

static void text_says_what_is_there_needed_and_to_do(void **state)
{
    char why[512];

    (void)state;
    assert_int_equal(-1, lpm_criu_rule_check(3, 17, 1, "6.18.2", why, sizeof(why)));
    assert_non_null(strstr(why, "CRIU 3.17.1"));
    assert_non_null(strstr(why, "Linux 6.18.2"));
    assert_non_null(strstr(why, "4.2"));
    assert_non_null(strstr(why, "crs_lpm_criu"));
}

static void bad_release_and_short_buffer(void **state)
{
    char why[8];

    (void)state;
    assert_int_equal(-1, lpm_criu_rule_check(4, 2, 0, "", why, sizeof(why)));
    assert_int_equal(-1, lpm_criu_rule_check(4, 2, 0, "Linux", why, sizeof(why)));
    assert_int_equal(-1, lpm_criu_rule_check(4, 2, 0, "-6.1", why, sizeof(why)));
    assert_int_equal(-1, lpm_criu_rule_check(4, 2, 0, NULL, why, sizeof(why)));
    assert_int_equal(sizeof(why) - 1, strlen(why));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table),
        cmocka_unit_test(text_says_what_is_there_needed_and_to_do),
        cmocka_unit_test(bad_release_and_short_buffer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
