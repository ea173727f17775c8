/*
 * One failure found by the tool itself: code, message and remedy.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_TOOLS_FAULT_H
#define LPM_TOOLS_FAULT_H

/** Filled by whoever decides the error; reported once, by main. */
typedef struct {
    const char *code; /**< static text, one word with dashes */
    char message[512];
    char remedy[512]; /**< empty: none is known */
} fault_t;

/** Fill all three fields. @param remedy NULL when none is known. @param format of the message, as in printf. */
void fault_set(fault_t *fault, const char *code, const char *remedy, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif /* LPM_TOOLS_FAULT_H */
