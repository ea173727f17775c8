/*
 * Parking threads outside of MPI: the thread that has initialised it, and the beginning and the end.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_park_thread.h"

#ifdef LPM_PARK_SUPPORTED

#include <pthread.h>
#include <stddef.h>
#include <unistd.h>

lpm_park_result_t lpm_park_try(int timeout_ms, const char **why)
{
    const char *problem = lpm_park_check();

    if (NULL != problem) {
        return lpm_park_tell(LPM_PARK_OFF, problem, why);
    }
    return lpm_park_tell(lpm_park_ask_and_wait(&lpm_park.first, LPM_PARK_ASK, lpm_park_now_ms() + timeout_ms),
                         lpm_park.first.stack.where, why);
}

void lpm_park_release(void)
{
    for (lpm_park_thread_t *thread = &lpm_park.first; NULL != thread; thread = lpm_park_after(thread)) {
        lpm_park_let_go(thread);
    }
}

/* ---- starting and stopping ---- */

static const char *find_stack(void)
{
    pthread_attr_t attributes;
    void *low;
    size_t size;

    if (0 != pthread_getattr_np(pthread_self(), &attributes)) {
        return "the bounds of the stack are not known";
    }
    (void)pthread_attr_getstack(&attributes, &low, &size);
    (void)pthread_attr_destroy(&attributes);
    lpm_park.first.stack.bounds = (lpm_range_t){.low = (uintptr_t)low, .high = (uintptr_t)low + size};
    return NULL;
}

/* The whole way once, on this thread. It also makes the dynamic linker do its part, which it could not later. */
static const char *rehearse(void)
{
    lpm_park_thread_t *thread = &lpm_park.first;
    unsigned base = ++thread->number * LPM_PARK_STATES;
    bool answered;

    thread->seen.known = false;
    atomic_store(&thread->word, base + LPM_PARK_LEARN);
    answered = lpm_park_ring(atomic_load(&thread->tid)) && base + LPM_PARK_REFUSED == atomic_load(&thread->word);
    atomic_store(&thread->word, base + LPM_PARK_IDLE);
    if (!answered) {
        return "a signal to the thread does not arrive";
    }
    return (LPM_PARK_PARKED == thread->said) ? NULL : "the stack cannot be followed to its end";
}

int lpm_park_init(const char *const *forbidden, const char **why)
{
    const char *problem = NULL;

    if (lpm_park.on) {
        problem = "parking is in use already";
    } else {
        lpm_park.pid = getpid();
        lpm_park.first.pointer = lpm_park_thread_pointer();
        lpm_park.first.kind = LPM_PARK_APPLICANT;
        atomic_store(&lpm_park.first.tid, gettid());
        if (NULL == (problem = lpm_park_stack_init(forbidden)) && NULL == (problem = find_stack()) &&
            NULL == (problem = lpm_park_take_signal())) {
            problem = rehearse();
            if (NULL != problem) {
                lpm_park_return_signal();
            }
        }
        lpm_park.on = (NULL == problem);
    }
    (void)lpm_park_tell(LPM_PARK_OFF, problem, why);
    return (NULL == problem) ? 0 : -1;
}

void lpm_park_fini(void)
{
    if (lpm_park.on) {
        lpm_park.on = false;
        lpm_park_return_signal();
    }
}

#else /* LPM_PARK_SUPPORTED */

#include <stddef.h>

int lpm_park_init(const char *const *forbidden, const char **why)
{
    (void)forbidden;
    if (NULL != why) {
        *why = "not supported on this platform";
    }
    return -1;
}

lpm_park_result_t lpm_park_try(int timeout_ms, const char **why)
{
    (void)timeout_ms;
    if (NULL != why) {
        *why = "not supported on this platform";
    }
    return LPM_PARK_OFF;
}

lpm_park_result_t lpm_park_try_all(int timeout_ms, const char **why)
{
    return lpm_park_try(timeout_ms, why);
}

void lpm_park_release(void)
{
}

void lpm_park_fini(void)
{
}

#endif
