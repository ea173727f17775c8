/*
 * What ompi-migrate prints, and with which status it exits.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_TOOLS_REPORT_H
#define LPM_TOOLS_REPORT_H

#include "fault.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/** Exit status; REPORT_MORE is none: the last answer has not come yet. */
typedef enum {
    REPORT_MORE = -1,
    REPORT_DONE = 0,   /**< moved, or listed */
    REPORT_FAILED = 1, /**< failed after it had begun */
    REPORT_USAGE = 2,
    REPORT_REFUSED = 3,     /**< nothing was touched */
    REPORT_UNREACHABLE = 4, /**< mpirun not reached, connection lost, or not understood */
    REPORT_TIMED_OUT = 5,
    REPORT_UNWRITTEN = 6 /**< all went well except that stdout did not take the output */
} report_status_t;

typedef struct {
    FILE *out;
    FILE *err;
    bool json;
    bool verbose;
    bool list;      /**< the answer to expect is "list", not "done" */
    char phase[32]; /**< the last phase that mpirun has named; empty before */
} report_t;

/**
 * Take one answer of mpirun, print it in the form asked for.
 * An answer that is not understood is itself reported as an error.
 * @return REPORT_MORE, or the exit status when this was the last one.
 */
report_status_t report_event(report_t *report, const json_t *event);

/** Print a failure found by the tool itself. @return @p status. */
report_status_t report_fault(report_t *report, const fault_t *fault, report_status_t status);

/** Flush stdout. @return @p status, or REPORT_UNWRITTEN when that was REPORT_DONE and output was lost. */
report_status_t report_close(report_t *report, report_status_t status);

#endif /* LPM_TOOLS_REPORT_H */
