/*
 * The table of phases: complete, consistent, and with the way back that each phase promises.
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

#include "lpm_states.h"

static void every_state_has_its_row(void **state)
{
    (void)state;
    for (int i = 0; i < LPM_STATE_MAX; ++i) {
        const lpm_state_info_t *row = lpm_state_info((lpm_state_t)i);

        assert_int_equal(i, row->state);
        assert_non_null(row->name);
        assert_non_null(row->about);
        for (int k = 0; k < i; ++k) {
            assert_string_not_equal(row->name, lpm_state_name((lpm_state_t)k));
        }
    }
}

static void the_way_forward_leads_through_all_phases(void **state)
{
    static const lpm_state_t way[] = {LPM_STATE_IDLE,   LPM_STATE_PLAN,     LPM_STATE_PREPARE, LPM_STATE_QUIESCE,
                                      LPM_STATE_FREEZE, LPM_STATE_TRANSFER, LPM_STATE_RESTORE, LPM_STATE_COMMIT,
                                      LPM_STATE_RESUME, LPM_STATE_FILL,     LPM_STATE_DONE,    LPM_STATE_IDLE};

    (void)state;
    for (size_t i = 0; i + 1 < sizeof(way) / sizeof(way[0]); ++i) {
        assert_int_equal(way[i + 1], lpm_state_info(way[i])->next);
        assert_true(lpm_state_may_follow(way[i], way[i + 1]));
    }
}

static void only_before_the_commit_there_is_a_way_back(void **state)
{
    (void)state;
    for (int i = LPM_STATE_PREPARE; i <= LPM_STATE_RESTORE; ++i) {
        assert_false(lpm_state_committed((lpm_state_t)i));
        assert_true(lpm_state_may_follow((lpm_state_t)i, LPM_STATE_ROLLBACK));
    }
    for (int i = LPM_STATE_COMMIT; i <= LPM_STATE_DONE; ++i) {
        assert_true(lpm_state_committed((lpm_state_t)i));
        assert_false(lpm_state_may_follow((lpm_state_t)i, LPM_STATE_ROLLBACK));
    }
    assert_false(lpm_state_committed(LPM_STATE_ROLLBACK));
    assert_false(lpm_state_may_follow(LPM_STATE_ROLLBACK, LPM_STATE_COMMIT));
}

static void what_waits_for_others_has_a_limit(void **state)
{
    (void)state;
    for (int i = LPM_STATE_PREPARE; i <= LPM_STATE_RESUME; ++i) {
        assert_true(0 < lpm_state_info((lpm_state_t)i)->limit);
    }
    assert_true(0 < lpm_state_info(LPM_STATE_ROLLBACK)->limit);
}

static void an_unknown_state_is_idle(void **state)
{
    (void)state;
    assert_int_equal(LPM_STATE_IDLE, lpm_state_info(LPM_STATE_MAX)->state);
    assert_int_equal(LPM_STATE_IDLE, lpm_state_info((lpm_state_t)-1)->state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_state_has_its_row),
        cmocka_unit_test(the_way_forward_leads_through_all_phases),
        cmocka_unit_test(only_before_the_commit_there_is_a_way_back),
        cmocka_unit_test(what_waits_for_others_has_a_limit),
        cmocka_unit_test(an_unknown_state_is_idle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
