/*
 * The phases of a migration: one table with names, time limits, successors and what undoes them.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_STATES_H
#define LPM_STATES_H

#include <stdbool.h>

typedef enum {
    LPM_STATE_IDLE,
    LPM_STATE_PLAN,
    LPM_STATE_PREPARE,
    LPM_STATE_QUIESCE,
    LPM_STATE_FREEZE,
    LPM_STATE_TRANSFER,
    LPM_STATE_RESTORE,
    LPM_STATE_COMMIT,
    LPM_STATE_RESUME,
    LPM_STATE_FILL,
    LPM_STATE_DONE,
    LPM_STATE_ROLLBACK,
    LPM_STATE_MAX
} lpm_state_t;

typedef struct {
    lpm_state_t state;
    const char *name;     /**< as ompi-migrate prints it */
    lpm_state_t next;     /**< the successor when all goes well */
    lpm_state_t on_error; /**< IDLE: refused, nothing touched; ROLLBACK: the source runs on; DONE: no way back */
    int limit;            /**< default time limit in seconds, 0: none (nothing is waited for) */
    bool blackout;        /**< the rank does not run */
    const char *about;    /**< one line for help texts and logs */
} lpm_state_info_t;

/** The table row of a state; never NULL (an unknown state gives the row of IDLE). Any thread. */
const lpm_state_info_t *lpm_state_info(lpm_state_t state);

/** The name of a state, static. Any thread. */
const char *lpm_state_name(lpm_state_t state);

/**
 * May a migration go from one state to another? Only to the successor or to the state that the row names for errors;
 * ROLLBACK and DONE lead to IDLE.
 */
bool lpm_state_may_follow(lpm_state_t from, lpm_state_t to);

/** true from COMMIT on: the source copy never runs again. */
bool lpm_state_committed(lpm_state_t state);

#endif /* LPM_STATES_H */
