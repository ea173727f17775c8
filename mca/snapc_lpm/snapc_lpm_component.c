/*
 * The snapc component and its MCA parameters.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "lpm_config.h"
#include "lpm_selected.h"

#include "opal/mca/base/mca_base_var.h"
#include "orte/constants.h"

char *snapc_lpm_agent_socket = NULL;
int snapc_lpm_limit[LPM_STATE_MAX];
static int priority = 50;

static int snapc_lpm_register(void);
static int snapc_lpm_open(void);
static int snapc_lpm_query(mca_base_module_t **module, int *module_priority);

mca_snapc_lpm_component_t mca_snapc_lpm_component = {
    .super =
        {
            .base_version =
                {
                    ORTE_SNAPC_BASE_VERSION_2_0_0,
                    .mca_component_name = "lpm",
                    .mca_component_major_version = LPM_MAJOR_VERSION,
                    .mca_component_minor_version = LPM_MINOR_VERSION,
                    .mca_component_release_version = LPM_RELEASE_VERSION,
                    .mca_open_component = snapc_lpm_open,
                    .mca_query_component = snapc_lpm_query,
                    .mca_register_component_params = snapc_lpm_register,
                },
            .base_data = {MCA_BASE_METADATA_PARAM_CHECKPOINT},
            .verbose = 0,
            .output_handle = -1,
            .priority = 50,
        },
    .app_start = snapc_lpm_app_start,
    .app_stop = snapc_lpm_app_stop,
    .moved = snapc_lpm_local_moved,
};

static int register_limit(const lpm_state_info_t *state)
{
    char name[32], *help = NULL;
    int rc;

    snprintf(name, sizeof(name), "limit_%s", state->name);
    for (char *c = name; '\0' != *c; ++c) {
        *c = (char)tolower((unsigned char)*c);
    }
    if (0 > asprintf(&help, "Seconds a migration may spend in %s (%s); 0: no limit", state->name, state->about)) {
        return ORTE_ERR_OUT_OF_RESOURCE;
    }
    snapc_lpm_limit[state->state] = state->limit;
    rc = mca_base_component_var_register(&mca_snapc_lpm_component.super.base_version, name, help, MCA_BASE_VAR_TYPE_INT,
                                         NULL, 0, 0, OPAL_INFO_LVL_5, MCA_BASE_VAR_SCOPE_READONLY,
                                         &snapc_lpm_limit[state->state]);
    free(help);
    return (0 > rc) ? rc : ORTE_SUCCESS;
}

static int snapc_lpm_register(void)
{
    const mca_base_component_t *component = &mca_snapc_lpm_component.super.base_version;
    int rc;

    rc = mca_base_component_var_register(component, "priority", "Priority of the snapc lpm component",
                                         MCA_BASE_VAR_TYPE_INT, NULL, 0, 0, OPAL_INFO_LVL_9,
                                         MCA_BASE_VAR_SCOPE_READONLY, &priority);
    if (0 > rc) {
        return rc;
    }
    rc = mca_base_component_var_register(component, "agent_socket",
                                         "UNIX socket of the daemon for its ranks; set by the daemon",
                                         MCA_BASE_VAR_TYPE_STRING, NULL, 0, MCA_BASE_VAR_FLAG_INTERNAL, OPAL_INFO_LVL_9,
                                         MCA_BASE_VAR_SCOPE_READONLY, &snapc_lpm_agent_socket);
    if (0 > rc) {
        return rc;
    }
    for (int state = 0; state < LPM_STATE_MAX; ++state) {
        const lpm_state_info_t *info = lpm_state_info((lpm_state_t)state);

        if (0 < info->limit && ORTE_SUCCESS != (rc = register_limit(info))) {
            return rc;
        }
    }
    return ORTE_SUCCESS;
}

static int snapc_lpm_open(void)
{
    return lpm_selected() ? ORTE_SUCCESS : ORTE_ERR_NOT_AVAILABLE;
}

static int snapc_lpm_query(mca_base_module_t **module, int *module_priority)
{
    *module = (mca_base_module_t *)&snapc_lpm_module;
    *module_priority = priority;
    return ORTE_SUCCESS;
}
