/*
 * crs/lpm: the framework's module interface.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crs_lpm.h"

#include "opal/constants.h"

/*
 * The framework's interface is for checkpoints of whole jobs, taken by the process itself. A migration is none: the
 * daemons do it from outside, through crs_lpm_image_ops. So there is little to do here, and what cannot be done says
 * so.
 */

static int crs_lpm_init(void)
{
    return OPAL_SUCCESS;
}

static int crs_lpm_finalize(void)
{
    return OPAL_SUCCESS;
}

static int crs_lpm_checkpoint(pid_t pid, opal_crs_base_snapshot_t *snapshot, opal_crs_base_ckpt_options_t *options,
                              opal_crs_state_type_t *state)
{
    (void)pid;
    (void)snapshot;
    (void)options;
    *state = OPAL_CRS_ERROR;
    return OPAL_ERR_NOT_SUPPORTED;
}

static int crs_lpm_restart(opal_crs_base_snapshot_t *snapshot, bool spawn_child, pid_t *child_pid)
{
    (void)snapshot;
    (void)spawn_child;
    (void)child_pid;
    return OPAL_ERR_NOT_SUPPORTED;
}

static int crs_lpm_disable_checkpoint(void)
{
    return OPAL_ERR_NOT_SUPPORTED;
}

static int crs_lpm_enable_checkpoint(void)
{
    return OPAL_ERR_NOT_SUPPORTED;
}

static int crs_lpm_prelaunch(int32_t rank, char *base_snapshot_dir, char **app, char **cwd, char ***argv, char ***env)
{
    (void)rank;
    (void)base_snapshot_dir;
    (void)app;
    (void)cwd;
    (void)argv;
    (void)env;
    return OPAL_ERR_NOT_SUPPORTED;
}

static int crs_lpm_reg_thread(void)
{
    return OPAL_SUCCESS; /* threads need no registration: CRIU finds them */
}

opal_crs_base_module_t crs_lpm_module = {
    .crs_init = crs_lpm_init,
    .crs_finalize = crs_lpm_finalize,
    .crs_checkpoint = crs_lpm_checkpoint,
    .crs_restart = crs_lpm_restart,
    .crs_disable_checkpoint = crs_lpm_disable_checkpoint,
    .crs_enable_checkpoint = crs_lpm_enable_checkpoint,
    .crs_prelaunch = crs_lpm_prelaunch,
    .crs_reg_thread = crs_lpm_reg_thread,
};
