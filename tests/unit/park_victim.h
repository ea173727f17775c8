/*
 * For the tests of parking: a thread that can be parked, and does what a test gives it to do.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef PARK_VICTIM_H
#define PARK_VICTIM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lpm_park.h"

/* for what has to happen at some time; tests that pass do not take it */
#define VICTIM_LIMIT_S 60

typedef struct victim {
    void (*body)(struct victim *);
    const char *const *forbidden;
    pthread_t thread;
    const char *init_error;
    const char *error; /* what the body found wrong */
    atomic_bool ready, stop, done;
    atomic_ulong count; /* of whatever the body counts */
    int number;         /* whatever the test wants */
} victim_t;

static inline double victim_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static inline void *victim_main(void *arg)
{
    static const char *const nothing[] = {NULL};
    victim_t *victim = arg;

    if (0 == lpm_park_init(NULL == victim->forbidden ? nothing : victim->forbidden, &victim->init_error)) {
        atomic_store(&victim->ready, true);
        victim->body(victim);
        lpm_park_fini();
    }
    atomic_store(&victim->ready, true);
    atomic_store(&victim->done, true);
    return NULL;
}

static inline void victim_start(victim_t *victim, void (*body)(victim_t *))
{
    victim->body = body;
    assert_int_equal(0, pthread_create(&victim->thread, NULL, victim_main, victim));
    while (!atomic_load(&victim->ready)) {
        sched_yield();
    }
    assert_null(victim->init_error);
}

static inline void victim_end(victim_t *victim)
{
    atomic_store(&victim->stop, true);
    assert_int_equal(0, pthread_join(victim->thread, NULL));
    if (NULL != victim->error) {
        fail_msg("%s", victim->error);
    }
}

/* Until the body has counted on. */
static inline void victim_await(victim_t *victim, unsigned long more)
{
    unsigned long until = atomic_load(&victim->count) + more;
    double limit = victim_clock() + VICTIM_LIMIT_S;

    while (atomic_load(&victim->count) < until && !atomic_load(&victim->done)) {
        assert_true(victim_clock() < limit);
        sched_yield();
    }
}

/* Try until the answer is the one wanted. @return how many tries that took */
static inline unsigned victim_try_until(lpm_park_result_t wanted, const char **why)
{
    double limit = victim_clock() + VICTIM_LIMIT_S;
    lpm_park_result_t result;
    unsigned tries = 0;

    while (wanted != (result = lpm_park_try(VICTIM_LIMIT_S * 1000, why))) {
        ++tries;
        if (LPM_PARK_PARKED == result) {
            lpm_park_release();
        }
        if (limit < victim_clock() || (LPM_PARK_OFF == result && LPM_PARK_OFF != wanted)) {
            fail_msg("%d instead of %d, %s", (int)result, (int)wanted, NULL == why ? "" : *why);
        }
        sched_yield();
    }
    return tries + 1;
}

/* It comes to a place where the answer is always the same. */
static inline void victim_answers_for_good(lpm_park_result_t wanted)
{
    double limit = victim_clock() + VICTIM_LIMIT_S;

    for (int in_a_row = 0; in_a_row < 50; ++in_a_row) {
        lpm_park_result_t result = lpm_park_try(VICTIM_LIMIT_S * 1000, NULL);

        if (LPM_PARK_PARKED == result) {
            lpm_park_release();
        }
        in_a_row = (wanted == result) ? in_a_row : -1;
        assert_true(victim_clock() < limit);
    }
}

static inline void victim_park(void)
{
    const char *why = "";

    (void)victim_try_until(LPM_PARK_PARKED, &why);
}

#endif /* PARK_VICTIM_H */
