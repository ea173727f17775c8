/*
 * The crcp component.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include "crcp_lpm_module.h"
#include "lpm_config.h"
#include "lpm_selected.h"

#include "ompi/constants.h"

static int crcp_lpm_open(void)
{
    return lpm_selected() ? OMPI_SUCCESS : OMPI_ERR_NOT_AVAILABLE;
}

static int crcp_lpm_query(mca_base_module_t **module, int *priority)
{
    *module = (mca_base_module_t *)&crcp_lpm_module;
    *priority = 50;
    return OMPI_SUCCESS;
}

mca_crcp_lpm_component_t mca_crcp_lpm_component = {
    .super =
        {
            .base_version =
                {
                    OMPI_CRCP_BASE_VERSION_2_0_0,
                    .mca_component_name = "lpm",
                    .mca_component_major_version = LPM_MAJOR_VERSION,
                    .mca_component_minor_version = LPM_MINOR_VERSION,
                    .mca_component_release_version = LPM_RELEASE_VERSION,
                    .mca_open_component = crcp_lpm_open,
                    .mca_query_component = crcp_lpm_query,
                },
            .base_data = {MCA_BASE_METADATA_PARAM_CHECKPOINT},
            .verbose = 0,
            .output_handle = -1,
            .priority = 50,
        },
    .channels = &crcp_lpm_channel_ops,
};
