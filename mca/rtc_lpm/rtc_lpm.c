/*
 * rtc/lpm: the foothold in mpirun and the daemons. It opens crs and snapc there and sees every launch.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "orte_config.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "lpm_config.h"
#include "lpm_selected.h"

#include "opal/mca/crs/base/base.h"
#include "opal/runtime/opal_cr.h"
#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/mca/rtc/base/base.h"
#include "orte/mca/rtc/rtc.h"
#include "orte/mca/snapc/base/base.h"
#include "orte/runtime/orte_globals.h"
#include "orte/types.h"
#include "orte/util/name_fns.h"
#include "orte/util/proc_info.h"

static int rtc_lpm_open(void);
static int rtc_lpm_query(mca_base_module_t **module, int *priority);
static int rtc_lpm_init(void);
static void rtc_lpm_finalize(void);
static void rtc_lpm_assign(orte_job_t *jdata);

static bool frameworks_open = false;

ORTE_MODULE_DECLSPEC extern orte_rtc_base_component_t mca_rtc_lpm_component;

orte_rtc_base_component_t mca_rtc_lpm_component = {
    .base_version =
        {
            ORTE_RTC_BASE_VERSION_1_0_0,
            .mca_component_name = "lpm",
            .mca_component_major_version = LPM_MAJOR_VERSION,
            .mca_component_minor_version = LPM_MINOR_VERSION,
            .mca_component_release_version = LPM_RELEASE_VERSION,
            .mca_open_component = rtc_lpm_open,
            .mca_query_component = rtc_lpm_query,
        },
    .base_data = {MCA_BASE_METADATA_PARAM_CHECKPOINT},
};

static orte_rtc_base_module_t rtc_lpm_module = {
    .init = rtc_lpm_init,
    .finalize = rtc_lpm_finalize,
    .assign = rtc_lpm_assign,
};

static int rtc_lpm_open(void)
{
    return lpm_selected() ? ORTE_SUCCESS : ORTE_ERR_NOT_AVAILABLE;
}

static int rtc_lpm_query(mca_base_module_t **module, int *priority)
{
    *module = (mca_base_module_t *)&rtc_lpm_module;
    *priority = 5;
    return ORTE_SUCCESS;
}

/* The module's init is called on every daemon once RML, PMIx server and event base are up. */
static int rtc_lpm_init(void)
{
    int rc;

    opal_cr_set_enabled(true); /* the bases do nothing while this is off; nothing else may see it on */
    if (OPAL_SUCCESS != (rc = mca_base_framework_open(&opal_crs_base_framework, 0))) {
        goto err_disable;
    }
    if (OPAL_SUCCESS != (rc = opal_crs_base_select())) {
        goto err_close_crs;
    }
    if (OPAL_SUCCESS != (rc = mca_base_framework_open(&orte_snapc_base_framework, 0))) {
        goto err_close_crs;
    }
    if (ORTE_SUCCESS != (rc = orte_snapc_base_select(ORTE_PROC_IS_HNP, false))) {
        goto err_close_snapc;
    }
    frameworks_open = true;
    opal_cr_set_enabled(false);
    return ORTE_SUCCESS;

err_close_snapc:
    (void)mca_base_framework_close(&orte_snapc_base_framework);
err_close_crs:
    (void)mca_base_framework_close(&opal_crs_base_framework);
err_disable:
    opal_cr_set_enabled(false);
    opal_output(0, "rtc/lpm: crs and snapc cannot be opened on %s (%d): ranks of this node cannot be moved",
                orte_process_info.nodename, rc);
    return ORTE_SUCCESS; /* the job runs on without us */
}

static void rtc_lpm_finalize(void)
{
    if (!frameworks_open) {
        return;
    }
    frameworks_open = false;
    opal_cr_set_enabled(true);
    (void)mca_base_framework_close(&orte_snapc_base_framework);
    (void)mca_base_framework_close(&opal_crs_base_framework);
    opal_cr_set_enabled(false);
}

static long read_pid_max(void)
{
    long pid_max = 0;
    FILE *file = fopen("/proc/sys/kernel/pid_max", "re");

    if (NULL != file) {
        if (1 != fscanf(file, "%ld", &pid_max)) {
            pid_max = 0;
        }
        fclose(file);
    }
    return pid_max;
}

/*
 * A rank keeps its pid and tids when it moves, so they must be free on the target. Each daemon starts the pids of its
 * ranks in a range of its own, and each mpirun somewhere else in it: the same node may be a different daemon in another
 * job. Without the privilege to do so the preflight still finds a collision.
 */
static void rtc_lpm_assign(orte_job_t *jdata)
{
    long pid_max = read_pid_max(), daemons = orte_process_info.num_procs, range, base, last = 0;
    uint32_t spread = ORTE_JOB_FAMILY(jdata->jobid) * 2654435761u; /* Knuth's multiplicative hash */
    FILE *file;

    if (4096 > pid_max || 1 > daemons || NULL == (file = fopen("/proc/sys/kernel/ns_last_pid", "r+e"))) {
        return;
    }
    range = (pid_max - 1024) / (daemons + 1);
    base = 1024 + range * (1 + (long)ORTE_PROC_MY_NAME->vpid % daemons);
    if (1 == fscanf(file, "%ld", &last) && (last < base || last >= base + range)) {
        rewind(file);
        fprintf(file, "%ld", base + (long)(spread % (uint32_t)(range / 2)));
    }
    fclose(file);
}
