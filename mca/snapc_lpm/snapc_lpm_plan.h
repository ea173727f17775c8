/*
 * PLAN: is the request possible at all? Looks at mpirun's tables only, changes nothing.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef SNAPC_LPM_PLAN_H
#define SNAPC_LPM_PLAN_H

#include "snapc_lpm.h"

typedef struct {
    orte_process_name_t name;
    orte_vpid_t source, target;
} snapc_lpm_plan_t;

/** @return NULL and *plan set, or the refusal to send (a new reference). */
json_t *snapc_lpm_plan_check(const json_t *request, snapc_lpm_plan_t *plan);

/** The answer to "list". @param moving the rank that is on its way, or NULL. */
json_t *snapc_lpm_plan_list(const orte_process_name_t *moving);

/** Where the helpers put the image of a migration; the same path on both nodes. A new reference. */
json_t *snapc_lpm_plan_directory(int64_t id);

/** The target's addresses in the order in which the source should try them: its own networks first. */
json_t *snapc_lpm_plan_addresses(const json_t *source_ifaces, const json_t *target_ifaces);

/** Past the commit and broken: end the job with a message. */
void snapc_lpm_plan_abort(const orte_process_name_t *name, const char *why);

#endif /* SNAPC_LPM_PLAN_H */
