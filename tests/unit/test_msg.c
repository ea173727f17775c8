/*
 * Fields of a control message, and the one form of an error.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above */
#include <cmocka.h>

#include "lpm_msg.h"

static int set_up(void **state)
{
    *state = json_loads("{\"s\":\"text\",\"i\":5,\"r\":5.0,\"t\":true,\"f\":false,\"z\":null,"
                        "\"min\":-9223372036854775808,\"max\":9223372036854775807}",
                        0, NULL);
    return (NULL == *state) ? -1 : 0;
}

static int tear_down(void **state)
{
    json_decref(*state);
    return 0;
}

static void strings(void **state)
{
    assert_string_equal("text", lpm_msg_str(*state, "s"));
    assert_null(lpm_msg_str(*state, "i"));
    assert_null(lpm_msg_str(*state, "z"));
    assert_null(lpm_msg_str(*state, "missing"));
    assert_null(lpm_msg_str(NULL, "s"));
}

static void integers(void **state)
{
    int64_t value = 77;

    assert_int_equal(0, lpm_msg_int(*state, "i", 5, 5, &value));
    assert_int_equal(5, value);
    value = 77;
    assert_int_equal(-1, lpm_msg_int(*state, "i", 6, 100, &value));
    assert_int_equal(-1, lpm_msg_int(*state, "i", -100, 4, &value));
    assert_int_equal(-1, lpm_msg_int(*state, "r", 0, 100, &value));
    assert_int_equal(-1, lpm_msg_int(*state, "s", 0, 100, &value));
    assert_int_equal(-1, lpm_msg_int(*state, "t", 0, 100, &value));
    assert_int_equal(-1, lpm_msg_int(*state, "missing", 0, 100, &value));
    assert_int_equal(77, value);
    assert_int_equal(0, lpm_msg_int(*state, "min", INT64_MIN, INT64_MAX, &value));
    assert_true(INT64_MIN == value);
    assert_int_equal(0, lpm_msg_int(*state, "max", INT64_MIN, INT64_MAX, &value));
    assert_true(INT64_MAX == value);
}

static void truth(void **state)
{
    assert_true(lpm_msg_true(*state, "t"));
    assert_false(lpm_msg_true(*state, "f"));
    assert_false(lpm_msg_true(*state, "i"));
    assert_false(lpm_msg_true(*state, "missing"));
}

static void whole_error(void **state)
{
    json_t *error = lpm_msg_error("unknown-rank", "PLAN", "no rank 9", "use --list");

    (void)state;
    assert_non_null(error);
    assert_string_equal("error", lpm_msg_str(error, "event"));
    assert_string_equal("unknown-rank", lpm_msg_str(error, "code"));
    assert_string_equal("PLAN", lpm_msg_str(error, "phase"));
    assert_string_equal("no rank 9", lpm_msg_str(error, "message"));
    assert_string_equal("use --list", lpm_msg_str(error, "remedy"));
    json_decref(error);
}

static void error_without_phase_and_remedy(void **state)
{
    json_t *error = lpm_msg_error("busy", NULL, "another move is under way", NULL);

    (void)state;
    assert_non_null(error);
    assert_int_equal(3, json_object_size(error));
    assert_null(json_object_get(error, "phase"));
    assert_null(json_object_get(error, "remedy"));
    json_decref(error);
}

static void text_that_is_no_utf8_gives_no_error_object(void **state)
{
    (void)state;
    assert_null(lpm_msg_error("internal", NULL, "\xff", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(strings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(integers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(truth, set_up, tear_down),
        cmocka_unit_test(whole_error),
        cmocka_unit_test(error_without_phase_and_remedy),
        cmocka_unit_test(text_that_is_no_utf8_gives_no_error_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
