/*
 * The snapc module: which coordinators this process has.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm.h"

#include "../crs_lpm/crs_lpm.h"
#include "lpm_selected.h"

#include "opal/mca/crs/base/base.h"
#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/mca/snapc/base/base.h"
#include "orte/util/proc_info.h"

static bool have_global, have_local;

const struct crs_lpm_image_ops *snapc_lpm_image_ops(void)
{
    const mca_crs_lpm_component_t *crs = lpm_component_of(&opal_crs_base_framework);

    return (NULL == crs) ? NULL : crs->image;
}

static int snapc_lpm_module_init(bool seed, bool app)
{
    const char *untested = snapc_lpm_pmix_untested();

    if (app) {
        return ORTE_SUCCESS; /* started by hook/lpm, when the rank's channels are known */
    }
    if (NULL != untested) {
        opal_output(0, "snapc/lpm on %s: %s; ranks cannot be moved", orte_process_info.nodename, untested);
        return ORTE_ERR_NOT_SUPPORTED;
    }
    if (NULL == snapc_lpm_image_ops()) {
        opal_output(0, "snapc/lpm on %s: crs/lpm is not there; ranks cannot be moved", orte_process_info.nodename);
        return ORTE_ERR_NOT_SUPPORTED;
    }
    snapc_lpm_rml_start(seed ? snapc_lpm_global_receive : NULL, snapc_lpm_local_receive);
    if (ORTE_SUCCESS != snapc_lpm_local_init()) {
        goto err_stop_rml;
    }
    have_local = true;
    if (seed) {
        if (ORTE_SUCCESS != snapc_lpm_global_init()) {
            goto err_finalize_local;
        }
        have_global = true;
        if (ORTE_SUCCESS != snapc_lpm_control_init()) {
            goto err_finalize_global;
        }
    }
    return ORTE_SUCCESS;

err_finalize_global:
    snapc_lpm_global_finalize();
    have_global = false;
err_finalize_local:
    snapc_lpm_local_finalize();
    have_local = false;
err_stop_rml:
    snapc_lpm_rml_stop();
    return ORTE_ERROR;
}

static int snapc_lpm_module_finalize(void)
{
    if (have_global) {
        snapc_lpm_control_finalize();
        snapc_lpm_global_finalize();
    }
    if (have_local) {
        snapc_lpm_local_finalize();
        snapc_lpm_rml_stop();
    }
    have_global = have_local = false;
    return ORTE_SUCCESS;
}

static int snapc_lpm_setup_job(orte_jobid_t jobid)
{
    (void)jobid;
    return ORTE_SUCCESS;
}

static int snapc_lpm_release_job(orte_jobid_t jobid)
{
    (void)jobid;
    return ORTE_SUCCESS;
}

static int snapc_lpm_ft_event(int state)
{
    (void)state;
    return ORTE_SUCCESS;
}

/* Checkpoints of a whole job are not what LPM does. */
static int snapc_lpm_start_ckpt(orte_snapc_base_quiesce_t *datum)
{
    (void)datum;
    return ORTE_ERR_NOT_SUPPORTED;
}

static int snapc_lpm_end_ckpt(orte_snapc_base_quiesce_t *datum)
{
    (void)datum;
    return ORTE_ERR_NOT_SUPPORTED;
}

static int snapc_lpm_request_op(orte_snapc_base_request_op_t *datum)
{
    (void)datum;
    return ORTE_ERR_NOT_SUPPORTED;
}

orte_snapc_base_module_t snapc_lpm_module = {
    .snapc_init = snapc_lpm_module_init,
    .snapc_finalize = snapc_lpm_module_finalize,
    .setup_job = snapc_lpm_setup_job,
    .release_job = snapc_lpm_release_job,
    .ft_event = snapc_lpm_ft_event,
    .start_ckpt = snapc_lpm_start_ckpt,
    .end_ckpt = snapc_lpm_end_ckpt,
    .request_op = snapc_lpm_request_op,
};
