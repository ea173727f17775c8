/*
 * What is on the stack of an interrupted thread, and may it stand still there?
 *
 * Frames of the C library are allowed by a list of functions: those that only compute, wait or make a system call.
 * Frames of the program and of any library that is not forbidden are allowed.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_PARK_STACK_H
#define LPM_PARK_STACK_H

#include "lpm_park.h"
#include "lpm_park_call.h"
#include "lpm_park_unwind.h"

#ifdef LPM_PARK_SUPPORTED

/* What is known of one thread's stack. */
typedef struct {
    lpm_range_t bounds;

    /* set by lpm_park_stack_learn(): where it ends */
    uintptr_t end_function;
    uint64_t end_sp;
    uintptr_t outer; /* the function of the C library that has called main(), or the thread's first function */
    const struct link_map *first; /* where main() is, or that function; NULL: none had been called */

    char where[96];      /* what the last judgement was about */
    lpm_unwind_t cursor; /* too big for the stack of a handler */
} lpm_park_stack_t;

/**
 * Find the C library and the allocator. Before all else, and not in a handler.
 * @param forbidden  as for lpm_park_init().
 * @return NULL, or what prevents parking.
 */
const char *lpm_park_stack_init(const char *const *forbidden);

/**
 * Remember where the stack ends, which lpm_park_stack_judge() compares. Async-signal-safe.
 * @param slots  of the same thread, as for all functions.
 * @return whether it could be followed to its end.
 */
bool lpm_park_stack_learn(lpm_park_stack_t *stack, const ucontext_t *context, const lpm_call_slots_t *slots);

/**
 * May the thread be parked where it is? Async-signal-safe.
 * @return PARKED, BUSY or UNSAFE; .where says why.
 */
lpm_park_result_t lpm_park_stack_judge(lpm_park_stack_t *stack, const ucontext_t *context,
                                       const lpm_call_slots_t *slots);

/** After lpm_park_stack_learn(): does the stack begin in a forbidden object, so that the thread belongs to that? */
bool lpm_park_stack_is_foreign(const lpm_park_stack_t *stack);

/** After lpm_park_stack_learn(): does the stack end in the C library, as that of a thread made by it does? */
bool lpm_park_stack_ends_in_libc(const lpm_park_stack_t *stack);

/** Set .where to @p text and @p more. Async-signal-safe. @return @p result */
lpm_park_result_t lpm_park_stack_say(lpm_park_stack_t *stack, lpm_park_result_t result, const char *text,
                                     const char *more);

#endif
#endif /* LPM_PARK_STACK_H */
