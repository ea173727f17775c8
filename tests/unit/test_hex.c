/*
 * lpm_hex: there and back, and what is no hexadecimal text.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lpm_hex.h"

static void there_and_back(void **state)
{
    unsigned char all[256], *back = NULL;
    size_t size = 0;
    char *text;

    (void)state;
    for (unsigned i = 0; i < sizeof(all); ++i) {
        all[i] = (unsigned char)i;
    }
    text = lpm_hex_encode(all, sizeof(all));
    assert_non_null(text);
    assert_int_equal(0, lpm_hex_decode(text, &back, &size));
    assert_int_equal(sizeof(all), size);
    assert_memory_equal(all, back, sizeof(all));
    free(back);
    free(text);
}

static void known_text(void **state)
{
    unsigned char *bytes = NULL;
    size_t size = 0;
    char *text = lpm_hex_encode("\x00\x9f\xA0", 3);

    (void)state;
    assert_string_equal("009fa0", text);
    free(text);
    assert_int_equal(0, lpm_hex_decode("0AfF", &bytes, &size));
    assert_int_equal(2, size);
    assert_int_equal(0x0a, bytes[0]);
    assert_int_equal(0xff, bytes[1]);
    free(bytes);
    assert_int_equal(0, lpm_hex_decode("", &bytes, &size));
    assert_int_equal(0, size);
    free(bytes);
}

static void no_hexadecimal_text(void **state)
{
    static const char *const bad[] = {NULL, "0", "123", "0g", "g0", " 0", "-1", "0x12"};
    unsigned char mark, *bytes = &mark;
    size_t size = 77;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); ++i) {
        assert_int_equal(-1, lpm_hex_decode(bad[i], &bytes, &size));
        assert_ptr_equal(&mark, bytes);
        assert_int_equal(77, size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(known_text),
        cmocka_unit_test(no_hexadecimal_text),
    };

    return cmocka_run_group_tests_name("hex", tests, NULL, NULL);
}
