/*
 * The phases of a migration.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_states.h"

#include <stddef.h>

#define S(x) LPM_STATE_##x

/* clang-format off */
static const lpm_state_info_t table[LPM_STATE_MAX] = {
    /* state        name        next         on_error     limit blackout about */
    {S(IDLE),     "IDLE",     S(PLAN),     S(IDLE),     0,   false, "no migration"},
    {S(PLAN),     "PLAN",     S(PREPARE),  S(IDLE),     0,   false, "the request is checked"},
    {S(PREPARE),  "PREPARE",  S(QUIESCE),  S(ROLLBACK), 60,  false, "both nodes get ready, the rank computes on"},
    {S(QUIESCE),  "QUIESCE",  S(FREEZE),   S(ROLLBACK), 60,  true,  "the rank's channels are held, emptied, closed"},
    {S(FREEZE),   "FREEZE",   S(TRANSFER), S(ROLLBACK), 600, true,  "the process image is taken"},
    {S(TRANSFER), "TRANSFER", S(RESTORE),  S(ROLLBACK), 600, true,  "the image goes to the target node"},
    {S(RESTORE),  "RESTORE",  S(COMMIT),   S(ROLLBACK), 600, true,  "the process is rebuilt there, parked"},
    {S(COMMIT),   "COMMIT",   S(RESUME),   S(DONE),     300, true,  "the source copy ends, the target copy starts"},
    {S(RESUME),   "RESUME",   S(FILL),     S(DONE),     300, true,  "runtime and channels are connected again"},
    {S(FILL),     "FILL",     S(DONE),     S(DONE),     0,   false, "pages that are missing follow"},
    {S(DONE),     "DONE",     S(IDLE),     S(IDLE),     0,   false, "the rank runs on the target node"},
    {S(ROLLBACK), "ROLLBACK", S(IDLE),     S(IDLE),     120, true,  "the rank goes on where it was"},
};
/* clang-format on */

const lpm_state_info_t *lpm_state_info(lpm_state_t state)
{
    return ((unsigned)state < LPM_STATE_MAX) ? &table[state] : &table[LPM_STATE_IDLE];
}

const char *lpm_state_name(lpm_state_t state)
{
    return lpm_state_info(state)->name;
}

bool lpm_state_may_follow(lpm_state_t from, lpm_state_t to)
{
    const lpm_state_info_t *row = lpm_state_info(from);

    return to == row->next || to == row->on_error;
}

bool lpm_state_committed(lpm_state_t state)
{
    return LPM_STATE_COMMIT <= state && LPM_STATE_DONE >= state;
}
