/*
 * allocator/lpm: a foothold in the rank between the start of the runtime and the choice of the BTLs. It allocates
 * nothing; its framework is opened just then, and opens every component there is.
 *
 * btl/vader turns itself off in a rank that has its node for itself, and sizes its table of neighbours by those that
 * there are at the start. A rank that moves in later would find neither the BTL nor a place. So the number of
 * neighbours is made out larger than it is, before btl/vader looks: places 0 to n-1 are taken as in a stock run, place
 * n + r is for rank r of the job once it has moved. A place costs 352 bytes that nobody touches before.
 *
 * It is also the time to learn where ranks of other jobs have moved: allocator_lpm_moved.c.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "allocator_lpm.h"

#include "lpm_config.h"
#include "lpm_places.h"
#include "lpm_selected.h"

#include "opal/constants.h"
#include "opal/mca/allocator/allocator.h"
#include "opal/util/proc.h"
#include "orte/util/proc_info.h"

static int allocator_lpm_open(void)
{
    if (!lpm_selected() || !ORTE_PROC_IS_APP) {
        return OPAL_ERR_NOT_AVAILABLE;
    }
    allocator_lpm_moved();
    if (0 <= opal_process_info.num_local_peers) { /* it does not count this rank itself */
        opal_process_info.num_local_peers = (int32_t)lpm_places(orte_process_info.num_procs) - 1;
    }
    return OPAL_ERR_NOT_AVAILABLE; /* nobody is to find an allocator here */
}

OMPI_MODULE_DECLSPEC extern mca_allocator_base_component_t mca_allocator_lpm_component;

mca_allocator_base_component_t mca_allocator_lpm_component = {
    .allocator_version =
        {
            MCA_ALLOCATOR_BASE_VERSION_2_0_0,
            .mca_component_name = "lpm",
            .mca_component_major_version = LPM_MAJOR_VERSION,
            .mca_component_minor_version = LPM_MINOR_VERSION,
            .mca_component_release_version = LPM_RELEASE_VERSION,
            .mca_open_component = allocator_lpm_open,
        },
    .allocator_data = {MCA_BASE_METADATA_PARAM_CHECKPOINT},
};
