/*
 * bml/r2: which BTL leads to a peer. After a move it may be another one.
 *
 * Requests of ob1 that are under way point to the peer's BML endpoint and to the entries of its arrays, so both stay
 * where they are and get new contents. What these are to be is bml/r2's business: it makes a fresh endpoint for the
 * peer's new place, whose contents are taken over.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include <stdlib.h>
#include <string.h>

#include "ompi/constants.h"
#include "ompi/mca/bml/base/base.h"
#include "ompi/mca/bml/bml.h"

static mca_bml_base_endpoint_t *endpoint_of(const ompi_proc_t *proc)
{
    return (mca_bml_base_endpoint_t *)proc->proc_endpoints[OMPI_PROC_ENDPOINT_TAG_BML];
}

const char *crcp_lpm_bml_check(void)
{
    const mca_base_component_t *component = &mca_bml_component.bml_version;

    if (0 != strcmp("r2", component->mca_component_name) ||
        OMPI_MAJOR_VERSION != component->mca_component_major_version ||
        OMPI_MINOR_VERSION != component->mca_component_minor_version ||
        OMPI_RELEASE_VERSION != component->mca_component_release_version) {
        return "the BML in use is not r2 of the Open MPI version that LPM was built for";
    }
    return NULL;
}

crcp_lpm_endpoint_t *crcp_lpm_bml_endpoint(const ompi_proc_t *proc, const mca_btl_base_module_t *btl)
{
    mca_bml_base_endpoint_t *endpoint = endpoint_of(proc);
    mca_bml_base_btl_t *entry = NULL;

    if (NULL != endpoint && NULL != btl) {
        entry = mca_bml_base_btl_array_find(&endpoint->btl_send, (mca_btl_base_module_t *)btl);
    }
    return (NULL == entry) ? NULL : entry->btl_endpoint;
}

/* Requests may hold any entry that has ever been in use, so those beyond the size lead to the peer as well. */
static void take_over(mca_bml_base_btl_array_t *array, const mca_bml_base_btl_array_t *fresh)
{
    for (size_t i = 0; i < array->arr_reserve && 0 < fresh->arr_size; ++i) {
        array->bml_btls[i] = fresh->bml_btls[i < fresh->arr_size ? i : 0];
    }
    array->arr_size = fresh->arr_size;
    array->arr_index = 0;
}

/*
 * The peer's message may have come by btl/vader and not be matched yet; ob1 looks up the module in this array when it
 * is, and gives up the job when it is not there. The gate answers the get that follows.
 */
static void keep_vader_known(mca_bml_base_btl_array_t *rdma)
{
    mca_btl_base_module_t *vader = crcp_lpm_vader_module();

    if (NULL == vader || NULL != mca_bml_base_btl_array_find(rdma, vader)) {
        return;
    }
    for (size_t i = rdma->arr_size; i < rdma->arr_reserve; ++i) {
        rdma->bml_btls[i] = (mca_bml_base_btl_t){.btl = vader, .btl_endpoint = crcp_lpm_vader_nobody()};
    }
    if (rdma->arr_size < rdma->arr_reserve) {
        ++rdma->arr_size;
    }
}

static void adopt(mca_bml_base_endpoint_t *endpoint, mca_bml_base_endpoint_t *fresh)
{
    take_over(&endpoint->btl_eager, &fresh->btl_eager);
    take_over(&endpoint->btl_send, &fresh->btl_send);
    take_over(&endpoint->btl_rdma, &fresh->btl_rdma);
    keep_vader_known(&endpoint->btl_rdma);
    endpoint->btl_rdma_index = 0;
    endpoint->btl_max_send_size = fresh->btl_max_send_size;
    endpoint->btl_pipeline_send_length = fresh->btl_pipeline_send_length;
    endpoint->btl_send_limit = fresh->btl_send_limit;
    endpoint->btl_flags_or = fresh->btl_flags_or;
}

int crcp_lpm_bml_rewire(ompi_proc_t *proc, bool near)
{
    mca_bml_base_endpoint_t *endpoint = endpoint_of(proc), *fresh;
    const uint16_t flags = crcp_lpm_place_pretend(proc, near);
    int rc;

    proc->proc_endpoints[OMPI_PROC_ENDPOINT_TAG_BML] = NULL;
    rc = mca_bml.bml_add_proc(proc);
    proc->super.proc_flags = flags;
    fresh = endpoint_of(proc);
    if (NULL == endpoint) {
        return rc;
    }
    proc->proc_endpoints[OMPI_PROC_ENDPOINT_TAG_BML] = endpoint;
    if (OMPI_SUCCESS != rc || NULL == fresh) {
        return (OMPI_SUCCESS == rc) ? OMPI_ERR_UNREACH : rc;
    }
    adopt(endpoint, fresh);
    OBJ_RELEASE(fresh);
    return OMPI_SUCCESS;
}

void crcp_lpm_bml_forget(void)
{
    size_t count = 0;
    ompi_proc_t **procs = ompi_proc_get_allocated(&count);

    for (size_t i = 0; NULL != procs && i < count; ++i) {
        mca_bml_base_endpoint_t *endpoint = endpoint_of(procs[i]);
        mca_bml_base_btl_array_t *rdma = (NULL == endpoint) ? NULL : &endpoint->btl_rdma;

        if (NULL != rdma && 0 < rdma->arr_size &&
            crcp_lpm_vader_nobody() == rdma->bml_btls[rdma->arr_size - 1].btl_endpoint) {
            --rdma->arr_size;
            rdma->arr_index = 0;
            endpoint->btl_rdma_index = 0;
        }
    }
    free(procs);
}
