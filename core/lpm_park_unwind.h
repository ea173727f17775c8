/*
 * Walking over the stack of an interrupted thread, from inside its signal handler.
 *
 * An unwinder of our own, because that of libgcc may not be used here: another library of the application can put its
 * own in front of it, it takes a lock once a JIT has registered code, and it follows wrong unwind information into
 * memory that does not exist. This one takes no lock, allocates nothing, calls nothing but _dl_find_object(), reads
 * registers only from the stacks that it was told about, and stops with an error where it does not understand.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_PARK_UNWIND_H
#define LPM_PARK_UNWIND_H

#include <features.h>

/* x86_64 with _dl_find_object(), which is async-signal-safe by its documentation. Elsewhere there is no parking. */
#if defined(__x86_64__) && defined(__LP64__) && defined(__GLIBC__) && __GLIBC_PREREQ(2, 35)
#define LPM_PARK_SUPPORTED 1

#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

/* Registers in DWARF's numbering: 0 to 15 the general ones, 16 where the frame goes on. */
#define LPM_UNWIND_REGS 17
#define LPM_UNWIND_RBX  3
#define LPM_UNWIND_SP   7
#define LPM_UNWIND_PC   16

/* DW_CFA_remember_state nests this deep at most; compilers use one level. */
#define LPM_UNWIND_SAVED 4

typedef struct {
    uintptr_t low, high; /* from low up to, not including, high */
} lpm_range_t;

/* How to compute the caller's registers, at one point of a function. */
typedef struct {
    int64_t value[LPM_UNWIND_REGS]; /* offset, number of a register, or address of an expression */
    uint8_t rule[LPM_UNWIND_REGS];
    bool cfa_is_expression;
    uint8_t cfa_register;
    int64_t cfa_value;
} lpm_unwind_row_t;

/* The unwind information of one function. */
typedef struct {
    uintptr_t begin;
    const uint8_t *common, *common_end, *own, *own_end; /* the programs of CIE and FDE */
    uint64_t code_align;
    int64_t data_align;
    uint8_t encoding;
    bool is_signal_frame;
} lpm_unwind_function_t;

/* A position on a stack. About 1.5 KiB, so not for the stack of a handler. */
typedef struct {
    uint64_t reg[LPM_UNWIND_REGS]; /* of the current frame */
    bool interrupted;              /* the frame stands before an instruction, not behind a call */
    lpm_range_t stacks[3];         /* what may be read; unused ones are empty */

    /* set by lpm_unwind_look() */
    struct dl_find_object object;   /* the shared object or program the code belongs to */
    lpm_unwind_function_t function; /* .begin identifies the function; .is_signal_frame: the return from a handler */

    /* internal */
    lpm_unwind_row_t row, initial, saved[LPM_UNWIND_SAVED];
    unsigned n_saved;
} lpm_unwind_t;

typedef enum {
    LPM_UNWIND_OK,
    LPM_UNWIND_END,       /* step: the outermost frame, by its own unwind information */
    LPM_UNWIND_NO_OBJECT, /* look: the code belongs to nothing that is loaded */
    LPM_UNWIND_NO_INFO,   /* look: there is no unwind information for the code */
    LPM_UNWIND_BROKEN     /* step: the information cannot be followed */
} lpm_unwind_result_t;

/**
 * Start at the frame that a signal interrupted. The caller sets .stacks itself, before or after.
 * Like all functions of this file async-signal-safe.
 */
void lpm_unwind_begin(lpm_unwind_t *cursor, const ucontext_t *context);

/** Find out what the current frame belongs to. With NO_INFO, .object is set. @return OK, NO_OBJECT or NO_INFO. */
lpm_unwind_result_t lpm_unwind_look(lpm_unwind_t *cursor);

/** Go to the caller. Only after lpm_unwind_look() gave OK. The stack only ever goes down. @return OK, END or BROKEN. */
lpm_unwind_result_t lpm_unwind_step(lpm_unwind_t *cursor);

/**
 * The start of the function that @p code lies in, as .function.begin would give it, or 0 without unwind information.
 * @param object what the code belongs to, may be NULL.
 */
uintptr_t lpm_unwind_function(const void *code, struct dl_find_object *object);

#endif
#endif /* LPM_PARK_UNWIND_H */
