/*
 * Ranges of pages: order, numbers, look-ups, and their form as JSON, also when that is no such thing.
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

#include "pages_ranges.h"

#include <stdlib.h>
#include <string.h>

#define PAGE ((uint64_t)PAGE_BYTES)
#define END  ((uint64_t)1 << 56) /* of what may be named */

static void add(pages_ranges_t *list, uint64_t start, uint64_t end)
{
    assert_int_equal(0, pages_ranges_add(list, start, end));
}

static void numbers_go_on(void **state)
{
    pages_ranges_t list = {NULL, 0, 0};

    (void)state;
    add(&list, 2 * PAGE, 5 * PAGE);
    add(&list, 5 * PAGE, 6 * PAGE); /* touching */
    add(&list, 100 * PAGE, 300 * PAGE);
    add(&list, END - PAGE, END);
    assert_int_equal(4, list.n);
    assert_int_equal(205, list.pages);
    assert_int_equal(0, list.r[0].first);
    assert_int_equal(3, list.r[1].first);
    assert_int_equal(4, list.r[2].first);
    assert_int_equal(204, list.r[3].first);
    pages_ranges_free(&list);
    assert_int_equal(0, list.n + list.pages);
    pages_ranges_free(&list);
}

static void what_is_not_behind_is_refused(void **state)
{
    static const struct {
        uint64_t start, end;
    } bad[] = {{9 * PAGE, 11 * PAGE},
               {0, PAGE},
               {19 * PAGE, 21 * PAGE},
               {30 * PAGE, 30 * PAGE},
               {31 * PAGE, 30 * PAGE},
               {30 * PAGE, 30 * PAGE + 1},
               {30 * PAGE + 1, 31 * PAGE},
               {END - PAGE, END + PAGE},
               {UINT64_MAX - PAGE + 1, UINT64_MAX},
               {UINT64_MAX - PAGE + 1, 0}};
    pages_ranges_t list = {NULL, 0, 0};

    (void)state;
    add(&list, 10 * PAGE, 20 * PAGE);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(-1, pages_ranges_add(&list, bad[i].start, bad[i].end));
        assert_int_equal(1, list.n);
        assert_int_equal(10, list.pages);
    }
    add(&list, 20 * PAGE, 21 * PAGE);
    pages_ranges_free(&list);
}

static void most_ranges(pages_ranges_t *list)
{
    *list = (pages_ranges_t){NULL, 0, 0};
    for (uint64_t i = 0; i < RANGES_MAX; i++) { /* of 1, 2, 3, 1, ... pages, every fourth touching the next one */
        const uint64_t start = (10 + 4 * i) * PAGE + (0 == i % 4 ? PAGE : 0);

        add(list, start, start + (1 + i % 3) * PAGE);
    }
}

/* Found by looking at every page of all. */
static void look_ups(void **state)
{
    pages_ranges_t list;
    uint64_t number = 0;

    (void)state;
    most_ranges(&list);
    assert_int_equal(-1, pages_ranges_add(&list, END - PAGE, END)); /* one too many */
    for (size_t i = 0; i < list.n; i++) {
        const pages_range_t *r = &list.r[i];

        for (uint64_t at = r->start; at < r->end; at += PAGE, number++) {
            assert_ptr_equal(r, pages_ranges_find(&list, at));
            assert_ptr_equal(r, pages_ranges_find(&list, at + PAGE - 1));
            assert_ptr_equal(r, pages_ranges_of(&list, number));
            assert_int_equal(number, pages_number(r, at));
        }
        if (i + 1 == list.n || r->end < list.r[i + 1].start) {
            assert_null(pages_ranges_find(&list, r->end));
        }
    }
    assert_int_equal(list.pages, number);
    assert_null(pages_ranges_find(&list, list.r[0].start - 1));
    assert_null(pages_ranges_find(&list, UINT64_MAX));
    pages_ranges_free(&list);
    assert_null(pages_ranges_find(&list, PAGE));
}

static void assert_equal_lists(const pages_ranges_t *a, const pages_ranges_t *b)
{
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->pages, b->pages);
    for (size_t i = 0; i < a->n; i++) {
        assert_true(a->r[i].start == b->r[i].start && a->r[i].end == b->r[i].end && a->r[i].first == b->r[i].first);
    }
}

static void there_and_back(void **state)
{
    pages_ranges_t list = {NULL, 0, 0}, again;
    json_t *json;

    (void)state;
    for (int i = 0; i < 3; i++) {
        if (1 == i) {
            add(&list, 0, END); /* all there is */
        } else if (2 == i) {
            pages_ranges_free(&list);
            most_ranges(&list);
        }
        json = pages_ranges_json(&list);
        assert_int_equal(list.n, json_array_size(json));
        assert_int_equal(0, pages_ranges_parse(json, &again));
        assert_equal_lists(&list, &again);
        pages_ranges_free(&again);
        json_decref(json);
    }
    pages_ranges_free(&list);
}

static void bad_json(void **state)
{
    static const char *const bad[] = {
        "{}",
        "7",
        "null",
        "\"[]\"",
        "[7]",
        "[null]",
        "[[]]",
        "[[4096]]",
        "[{\"0\":4096,\"1\":8192}]",
        "[[\"4096\",\"8192\"]]",
        "[[4096,8192.0]]",
        "[[4096.0,8192]]",
        "[[4096,null]]",
        "[[true,8192]]",
        "[[-4096,4096]]",
        "[[-8192,-4096]]",
        "[[4096,-1]]",
        "[[4096,4096]]",
        "[[8192,4096]]",
        "[[4096,8193]]",
        "[[4095,8192]]",
        "[[4096,12288],[8192,16384]]",
        "[[8192,12288],[4096,8192]]",
        "[[4096,8192],7]",
        "[[4096,8192],[]]",
        "[4096,8192]",
        "[[[4096,8192]]]",
        "[[0,72057594037931008]]",
        "[[4096,9223372036854775807]]",
        "[[4096,8192,12288]]",
    };
    pages_ranges_t list;

    (void)state;
    assert_int_equal(-1, pages_ranges_parse(NULL, &list));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        json_t *json = json_loads(bad[i], JSON_DECODE_ANY, NULL);

        assert_non_null(json);
        memset(&list, 0xa5, sizeof(list));
        if (-1 != pages_ranges_parse(json, &list)) {
            fail_msg("%s is taken", bad[i]);
        }
        assert_true(NULL == list.r && 0 == list.n && 0 == list.pages);
        json_decref(json);
    }
}

/* One more than fits, and what would be right if there were one less. */
static void too_many(void **state)
{
    pages_ranges_t list;
    json_t *json = json_array();

    (void)state;
    for (json_int_t i = 0; i <= RANGES_MAX; i++) {
        json_array_append_new(json, json_pack("[I,I]", 2 * i * PAGE_BYTES, (2 * i + 1) * PAGE_BYTES));
    }
    assert_int_equal(-1, pages_ranges_parse(json, &list));
    assert_int_equal(0, list.n);
    json_array_remove(json, 0);
    assert_int_equal(0, pages_ranges_parse(json, &list));
    assert_int_equal(RANGES_MAX, list.n);
    pages_ranges_free(&list);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_go_on), cmocka_unit_test(what_is_not_behind_is_refused),
        cmocka_unit_test(look_ups),      cmocka_unit_test(there_and_back),
        cmocka_unit_test(bad_json),      cmocka_unit_test(too_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
