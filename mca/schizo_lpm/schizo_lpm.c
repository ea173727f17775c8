/*
 * schizo/lpm: the foothold that gives daemons and ranks the settings a movable rank needs.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "orte_config.h"

#include <stdlib.h>

#include "lpm_config.h"
#include "lpm_moved.h"
#include "lpm_selected.h"

#include "../snapc_lpm/snapc_lpm.h"

#include "opal/util/opal_environ.h"
#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/mca/schizo/schizo.h"
#include "orte/mca/snapc/base/base.h"
#include "orte/runtime/orte_globals.h"
#include "orte/types.h"
#include "orte/util/proc_info.h"

static int schizo_lpm_open(void);
static int schizo_lpm_query(mca_base_module_t **module, int *priority);
static int schizo_lpm_setup_child(orte_job_t *jdata, orte_proc_t *child, orte_app_context_t *app, char ***env);

ORTE_MODULE_DECLSPEC extern orte_schizo_base_component_t mca_schizo_lpm_component;

orte_schizo_base_component_t mca_schizo_lpm_component = {
    .base_version =
        {
            MCA_SCHIZO_BASE_VERSION_1_0_0,
            .mca_component_name = "lpm",
            .mca_component_major_version = LPM_MAJOR_VERSION,
            .mca_component_minor_version = LPM_MINOR_VERSION,
            .mca_component_release_version = LPM_RELEASE_VERSION,
            .mca_open_component = schizo_lpm_open,
            .mca_query_component = schizo_lpm_query,
        },
    .base_data = {MCA_BASE_METADATA_PARAM_CHECKPOINT},
};

static orte_schizo_base_module_t schizo_lpm_module = {
    .setup_child = schizo_lpm_setup_child,
};

static int schizo_lpm_open(void)
{
    if (!lpm_selected()) {
        return ORTE_ERR_NOT_AVAILABLE;
    }
    if (ORTE_PROC_IS_HNP || ORTE_PROC_IS_DAEMON) {
        /* A rank that maps the daemon's shared topology cannot leave the node. Read when rtc/hwloc opens, later. */
        opal_setenv("OMPI_MCA_rtc_hwloc_vmhole", "none", false, &environ);
    }
    return ORTE_SUCCESS;
}

static int schizo_lpm_query(mca_base_module_t **module, int *priority)
{
    *module = (mca_base_module_t *)&schizo_lpm_module;
    *priority = 2; /* below every launcher's own component: their choices are already in the environment */
    return ORTE_SUCCESS;
}

/* Ranks of jobs that are spawned talk to others within MPI_Init. */
static void tell_moved(char ***env)
{
    const mca_snapc_lpm_component_t *snapc =
        mca_base_framework_is_open(&orte_snapc_base_framework) ? lpm_component_of(&orte_snapc_base_framework) : NULL;
    char *text = (NULL == snapc) ? NULL : snapc->moved();

    if (NULL != text) {
        opal_setenv(LPM_MOVED_RANKS, text, true, env);
        free(text);
    }
}

/*
 * Runs in the daemon for each rank it is about to fork. What the user has chosen stays (false: no overwrite), also
 * where it makes the rank immovable: the rank's guard then says so.
 */
static int schizo_lpm_setup_child(orte_job_t *jdata, orte_proc_t *child, orte_app_context_t *app, char ***env)
{
    char *path = NULL;

    (void)jdata;
    (void)child;
    (void)app;
    /* data of the dstore lives in segments shared with the daemon of the old node */
    opal_setenv("PMIX_MCA_gds", "hash", true, env);
    opal_setenv("OMPI_MCA_crcp", "lpm", true, env); /* the framework takes "none" unless it is told */
    opal_setenv("OMPI_MCA_pml", "ob1", false, env);
    opal_setenv("OMPI_MCA_btl", "self,vader,tcp", false, env);
    /* windows over UCX have connections of their own; osc/rdma keeps pointers into btl/vader */
    opal_setenv("OMPI_MCA_osc", "^ucx,rdma", false, env);
    tell_moved(env);
    if (NULL == orte_process_info.jobfam_session_dir) {
        return ORTE_SUCCESS;
    }
    if (0 > asprintf(&path, "%s/lpm.agents", orte_process_info.jobfam_session_dir)) {
        return ORTE_ERR_OUT_OF_RESOURCE;
    }
    opal_setenv("OMPI_MCA_snapc_lpm_agent_socket", path, true, env);
    free(path);
    return ORTE_SUCCESS;
}
