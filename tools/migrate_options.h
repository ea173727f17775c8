/*
 * The command line of ompi-migrate.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_TOOLS_MIGRATE_OPTIONS_H
#define LPM_TOOLS_MIGRATE_OPTIONS_H

#include "fault.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef enum { MIGRATE_MOVE, MIGRATE_LIST, MIGRATE_HELP, MIGRATE_VERSION } migrate_action_t;

typedef struct {
    migrate_action_t action;
    pid_t pid;        /**< of mpirun */
    int64_t job;      /**< -1: not given */
    int64_t rank;     /**< for MIGRATE_MOVE */
    const char *onto; /**< for MIGRATE_MOVE: node name, borrowed from argv */
    double timeout;   /**< seconds; 0: wait without limit */
    bool json;
    bool verbose;
} migrate_options_t;

/** Time limit in seconds when none is given. */
#define MIGRATE_TIMEOUT_DEFAULT 120

/**
 * Read the command line.
 * @return 0 with *out set, or -1 with *fault set (code "usage") and *out untouched.
 */
int migrate_options_parse(int argc, char **argv, migrate_options_t *out, fault_t *fault);

/** The text of --help. */
const char *migrate_options_help(void);

/**
 * Read "RANK" or "JOB.RANK".
 * @return 0 with both set (*job is -1 when not given), or -1 with *fault set; a list of ranks has its own message.
 */
int migrate_options_rank(const char *text, int64_t *job, int64_t *rank, fault_t *fault);

#endif /* LPM_TOOLS_MIGRATE_OPTIONS_H */
