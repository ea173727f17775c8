/*
 * pml/ob1: kicking its pending lists when a hold ends. Only completions do it otherwise, and none may be due.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include <dlfcn.h>
#include <string.h>

#include "ompi/constants.h"
#include "ompi/mca/bml/bml.h"
#include "ompi/mca/pml/base/base.h"
#include "ompi/mca/pml/pml.h"

static void (*process_packets)(mca_bml_base_btl_t *bml_btl);
static void (*process_sends)(mca_bml_base_btl_t *bml_btl);
static void (*process_recvs)(void);
static void (*process_rdma)(void);

int crcp_lpm_ob1_init(const char **why)
{
    Dl_info info;
    void *handle;

    if (0 != strcmp("ob1", mca_pml_base_selected_component.pmlm_version.mca_component_name)) {
        *why = "the PML in use is not ob1 (start the job with --mca pml ob1)";
        return OMPI_ERR_NOT_SUPPORTED;
    }
    if (OMPI_MAJOR_VERSION != mca_pml_base_selected_component.pmlm_version.mca_component_major_version ||
        OMPI_MINOR_VERSION != mca_pml_base_selected_component.pmlm_version.mca_component_minor_version ||
        OMPI_RELEASE_VERSION != mca_pml_base_selected_component.pmlm_version.mca_component_release_version) {
        *why = "pml/ob1 is of another Open MPI version than the one LPM was built for";
        return OMPI_ERR_NOT_SUPPORTED;
    }
    if (0 == dladdr((void *)mca_pml.pml_send, &info) ||
        NULL == (handle = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD))) {
        *why = "pml/ob1 is loaded in a way LPM does not know";
        return OMPI_ERR_NOT_SUPPORTED;
    }
    process_packets = (void (*)(mca_bml_base_btl_t *))dlsym(handle, "mca_pml_ob1_process_pending_packets");
    process_sends = (void (*)(mca_bml_base_btl_t *))dlsym(handle, "mca_pml_ob1_send_request_process_pending");
    process_recvs = (void (*)(void))dlsym(handle, "mca_pml_ob1_recv_request_process_pending");
    process_rdma = (void (*)(void))dlsym(handle, "mca_pml_ob1_process_pending_rdma");
    dlclose(handle); /* the PML framework holds it */
    if (NULL == process_packets || NULL == process_sends || NULL == process_recvs || NULL == process_rdma) {
        *why = "pml/ob1 does not export what LPM needs";
        return OMPI_ERR_NOT_SUPPORTED;
    }
    return OMPI_SUCCESS;
}

void crcp_lpm_ob1_kick(void)
{
    /* ob1 looks only at the module: it finds each request's own entry for it */
    for (unsigned i = 0; i < crcp_lpm_tcp_num_modules(); ++i) {
        mca_bml_base_btl_t entry = {.btl = crcp_lpm_tcp_module(i)};

        process_packets(&entry);
        process_recvs();
        process_sends(&entry);
        process_rdma();
    }
}
