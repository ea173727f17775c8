/*
 * The crcp module: LPM quiesces by commands of its own protocol, so the framework's wrappers stay the base's no-ops.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include "crcp_lpm_module.h"

#include "ompi/constants.h"
#include "ompi/mca/crcp/base/base.h"

static int crcp_lpm_module_init(void)
{
    return OMPI_SUCCESS;
}

static int crcp_lpm_module_finalize(void)
{
    crcp_lpm_channel_ops.stop();
    return OMPI_SUCCESS;
}

/* The framework's own quiesce calls come from whole-job checkpoints, which LPM does not make. */
static int crcp_lpm_quiesce_start(MPI_Info *info)
{
    (void)info;
    return OMPI_ERR_NOT_SUPPORTED;
}

static int crcp_lpm_quiesce_end(MPI_Info *info)
{
    (void)info;
    return OMPI_ERR_NOT_SUPPORTED;
}

ompi_crcp_base_module_t crcp_lpm_module = {
    .crcp_init = crcp_lpm_module_init,
    .crcp_finalize = crcp_lpm_module_finalize,
    .quiesce_start = crcp_lpm_quiesce_start,
    .quiesce_end = crcp_lpm_quiesce_end,
    .pml_enable = ompi_crcp_base_none_pml_enable,
    .pml_add_comm = ompi_crcp_base_none_pml_add_comm,
    .pml_del_comm = ompi_crcp_base_none_pml_del_comm,
    .pml_add_procs = ompi_crcp_base_none_pml_add_procs,
    .pml_del_procs = ompi_crcp_base_none_pml_del_procs,
    .pml_progress = ompi_crcp_base_none_pml_progress,
    .pml_iprobe = ompi_crcp_base_none_pml_iprobe,
    .pml_probe = ompi_crcp_base_none_pml_probe,
    .pml_isend_init = ompi_crcp_base_none_pml_isend_init,
    .pml_isend = ompi_crcp_base_none_pml_isend,
    .pml_send = ompi_crcp_base_none_pml_send,
    .pml_irecv_init = ompi_crcp_base_none_pml_irecv_init,
    .pml_irecv = ompi_crcp_base_none_pml_irecv,
    .pml_recv = ompi_crcp_base_none_pml_recv,
    .pml_dump = ompi_crcp_base_none_pml_dump,
    .pml_start = ompi_crcp_base_none_pml_start,
    .pml_ft_event = ompi_crcp_base_none_pml_ft_event,
    .request_complete = ompi_crcp_base_none_request_complete,
};
