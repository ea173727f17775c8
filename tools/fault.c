/*
 * One failure found by the tool itself: code, message and remedy.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "fault.h"

#include <stdarg.h>
#include <stdio.h>

void fault_set(fault_t *fault, const char *code, const char *remedy, const char *format, ...)
{
    va_list args;

    fault->code = code;
    va_start(args, format);
    (void)vsnprintf(fault->message, sizeof(fault->message), format, args);
    va_end(args);
    (void)snprintf(fault->remedy, sizeof(fault->remedy), "%s", NULL == remedy ? "" : remedy);
}
