/*
 * hook/lpm: the foothold in the rank. It opens crs, snapc and crcp at the end of MPI_Init and closes them again.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "ompi_config.h"

#include "lpm_config.h"
#include "lpm_selected.h"

#include "../crcp_lpm/crcp_lpm.h"
#include "../snapc_lpm/snapc_lpm.h"

#include "ompi/constants.h"
#include "ompi/mca/crcp/base/base.h"
#include "ompi/mca/hook/base/base.h"
#include "ompi/mca/hook/hook.h"
#include "opal/mca/crs/base/base.h"
#include "opal/runtime/opal_cr.h"
#include "opal/runtime/opal_progress.h"
#include "opal/util/output.h"
#include "orte/mca/snapc/base/base.h"
#include "orte/util/proc_info.h"

static int hook_lpm_open(void);
static void hook_lpm_init_bottom(int argc, char **argv, int requested, int *provided);
static void hook_lpm_finalize_top(void);

static bool frameworks_open = false;

OMPI_MODULE_DECLSPEC extern ompi_hook_base_component_t mca_hook_lpm_component;

ompi_hook_base_component_t mca_hook_lpm_component = {
    .hookm_version =
        {
            OMPI_HOOK_BASE_VERSION_1_0_0,
            .mca_component_name = "lpm",
            .mca_component_major_version = LPM_MAJOR_VERSION,
            .mca_component_minor_version = LPM_MINOR_VERSION,
            .mca_component_release_version = LPM_RELEASE_VERSION,
            .mca_open_component = hook_lpm_open,
        },
    .hookm_data = {MCA_BASE_METADATA_PARAM_CHECKPOINT},
    .hookm_mpi_init_bottom = hook_lpm_init_bottom,
    .hookm_mpi_finalize_top = hook_lpm_finalize_top,
};

static int hook_lpm_open(void)
{
    return lpm_selected() ? OMPI_SUCCESS : OMPI_ERR_NOT_AVAILABLE;
}

static void close_frameworks(void)
{
    frameworks_open = false;
    opal_cr_set_enabled(true);
    (void)mca_base_framework_close(&ompi_crcp_base_framework);
    (void)mca_base_framework_close(&orte_snapc_base_framework);
    (void)mca_base_framework_close(&opal_crs_base_framework);
    opal_cr_set_enabled(false);
}

static int open_frameworks(void)
{
    int rc;

    opal_cr_set_enabled(true); /* the bases do nothing while this is off; nothing else may see it on */
    if (OPAL_SUCCESS == (rc = mca_base_framework_open(&opal_crs_base_framework, 0)) &&
        OPAL_SUCCESS == (rc = opal_crs_base_select()) &&
        OPAL_SUCCESS == (rc = mca_base_framework_open(&orte_snapc_base_framework, 0)) &&
        OPAL_SUCCESS == (rc = orte_snapc_base_select(false, true)) &&
        OPAL_SUCCESS == (rc = mca_base_framework_open(&ompi_crcp_base_framework, 0))) {
        rc = ompi_crcp_base_select();
    }
    opal_cr_set_enabled(false);
    frameworks_open = true;
    return rc;
}

/* Without a daemon that has LPM (a singleton, another launcher) the rank runs as if LPM were not there. */
static void hook_lpm_init_bottom(int argc, char **argv, int requested, int *provided)
{
    const mca_snapc_lpm_component_t *snapc;
    mca_crcp_lpm_component_t *crcp;
    int rc;

    (void)argc;
    (void)argv;
    (void)requested;
    (void)provided;
    rc = open_frameworks();
    snapc = lpm_component_of(&orte_snapc_base_framework);
    crcp = lpm_component_of(&ompi_crcp_base_framework);
    if (OPAL_SUCCESS != rc || NULL == snapc || NULL == crcp) {
        opal_output(0, "hook/lpm on %s: crs, snapc and crcp cannot be opened (%d); this rank cannot be moved",
                    orte_process_info.nodename, rc);
        close_frameworks();
        return;
    }
    (void)snapc->app_start(crcp->channels);
}

static void progress_once(void)
{
    opal_progress();
}

static void hook_lpm_finalize_top(void)
{
    const mca_snapc_lpm_component_t *snapc;

    if (!frameworks_open) {
        return;
    }
    if (NULL != (snapc = lpm_component_of(&orte_snapc_base_framework))) {
        snapc->app_stop(progress_once);
    }
    close_frameworks();
}
