/*
 * The gate: while a channel is held, the modules of btl/tcp and btl/vader take no new fragment for it, and ob1 queues
 * instead.
 *
 * alloc, prepare_src and put may refuse, since ob1 then keeps the request on one of its pending lists; send may not,
 * because some of ob1's callers have changed their state by then. Without MPI_THREAD_MULTIPLE an allocated descriptor
 * is sent before the progress engine runs again, so nothing is sent between the hold and the end of the drain.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include <dlfcn.h>
#include <stdlib.h>

#include "ompi/constants.h"

typedef struct {
    mca_btl_base_module_t *module;
    mca_btl_base_module_t original;
} gated_module_t;

static gated_module_t *gated;
static unsigned num_gated;
static unsigned long refused;

static const mca_btl_base_module_t *original_of(const struct mca_btl_base_module_t *module)
{
    for (unsigned i = 0; i < num_gated; ++i) {
        if (gated[i].module == module) {
            return &gated[i].original;
        }
    }
    return module; /* not reached: the gate is only in gated modules */
}

static bool refuse(const struct mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint)
{
    if (!crcp_lpm_is_held(btl, endpoint)) {
        return false;
    }
    ++refused;
    return true;
}

static mca_btl_base_descriptor_t *gate_alloc(struct mca_btl_base_module_t *btl,
                                             struct mca_btl_base_endpoint_t *endpoint, uint8_t order, size_t size,
                                             uint32_t flags)
{
    return refuse(btl, endpoint) ? NULL : original_of(btl)->btl_alloc(btl, endpoint, order, size, flags);
}

static mca_btl_base_descriptor_t *gate_prepare_src(struct mca_btl_base_module_t *btl,
                                                   struct mca_btl_base_endpoint_t *endpoint,
                                                   struct opal_convertor_t *convertor, uint8_t order, size_t reserve,
                                                   size_t *size, uint32_t flags)
{
    if (refuse(btl, endpoint)) {
        return NULL;
    }
    return original_of(btl)->btl_prepare_src(btl, endpoint, convertor, order, reserve, size, flags);
}

static int gate_sendi(struct mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint,
                      struct opal_convertor_t *convertor, void *header, size_t header_size, size_t payload_size,
                      uint8_t order, uint32_t flags, mca_btl_base_tag_t tag, mca_btl_base_descriptor_t **descriptor)
{
    if (refuse(btl, endpoint)) {
        if (NULL != descriptor) {
            *descriptor = NULL;
        }
        return OPAL_ERR_OUT_OF_RESOURCE;
    }
    return original_of(btl)->btl_sendi(btl, endpoint, convertor, header, header_size, payload_size, order, flags, tag,
                                       descriptor);
}

static int gate_put(struct mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint, void *local_address,
                    uint64_t remote_address, struct mca_btl_base_registration_handle_t *local_handle,
                    struct mca_btl_base_registration_handle_t *remote_handle, size_t size, int flags, int order,
                    mca_btl_base_rdma_completion_fn_t cbfunc, void *cbcontext, void *cbdata)
{
    if (refuse(btl, endpoint)) {
        return OPAL_ERR_OUT_OF_RESOURCE;
    }
    return original_of(btl)->btl_put(btl, endpoint, local_address, remote_address, local_handle, remote_handle, size,
                                     flags, order, cbfunc, cbcontext, cbdata);
}

static int gate_get(struct mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint, void *local_address,
                    uint64_t remote_address, struct mca_btl_base_registration_handle_t *local_handle,
                    struct mca_btl_base_registration_handle_t *remote_handle, size_t size, int flags, int order,
                    mca_btl_base_rdma_completion_fn_t cbfunc, void *cbcontext, void *cbdata)
{
    if (refuse(btl, endpoint)) {
        return OPAL_ERR_OUT_OF_RESOURCE;
    }
    return original_of(btl)->btl_get(btl, endpoint, local_address, remote_address, local_handle, remote_handle, size,
                                     flags, order, cbfunc, cbcontext, cbdata);
}

/* ---- gets that can never be, for as long as the process lives ---- */

static mca_btl_base_module_get_fn_t vader_get;

static int no_get(struct mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint, void *local_address,
                  uint64_t remote_address, struct mca_btl_base_registration_handle_t *local_handle,
                  struct mca_btl_base_registration_handle_t *remote_handle, size_t size, int flags, int order,
                  mca_btl_base_rdma_completion_fn_t cbfunc, void *cbcontext, void *cbdata)
{
    (void)btl;
    (void)endpoint;
    (void)local_address;
    (void)remote_address;
    (void)local_handle;
    (void)remote_handle;
    (void)size;
    (void)flags;
    (void)order;
    (void)cbfunc;
    (void)cbcontext;
    return crcp_lpm_ob1_get_impossible(cbdata);
}

static int get_or_not(struct mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint, void *local_address,
                      uint64_t remote_address, struct mca_btl_base_registration_handle_t *local_handle,
                      struct mca_btl_base_registration_handle_t *remote_handle, size_t size, int flags, int order,
                      mca_btl_base_rdma_completion_fn_t cbfunc, void *cbcontext, void *cbdata)
{
    if (endpoint == crcp_lpm_vader_nobody()) {
        return crcp_lpm_ob1_get_impossible(cbdata);
    }
    return vader_get(btl, endpoint, local_address, remote_address, local_handle, remote_handle, size, flags, order,
                     cbfunc, cbcontext, cbdata);
}

/* What the first move puts into Open MPI's tables is in use until the end, which is after that of this component. */
static void stay_loaded(void)
{
    Dl_info info;

    if (0 == dladdr((void *)no_get, &info) || NULL == dlopen(info.dli_fname, RTLD_NOW | RTLD_NODELETE)) {
        abort(); /* MPI_Finalize would call what is not there any more */
    }
}

static void catch_gets(void)
{
    mca_btl_base_module_t *vader = crcp_lpm_vader_module();

    if (NULL == vader || NULL == vader->btl_get) {
        return;
    }
    vader_get = vader->btl_get;
    vader->btl_get = get_or_not;
    for (unsigned i = 0; i < crcp_lpm_tcp_num_modules(); ++i) {
        if (NULL == crcp_lpm_tcp_module(i)->btl_get) { /* its flags go on saying that it cannot */
            crcp_lpm_tcp_module(i)->btl_get = no_get;
        }
    }
}

void crcp_lpm_gate_first_move(void)
{
    static bool done;

    if (!done) {
        done = true;
        stay_loaded();
        catch_gets();
    }
}

/* ---- closing and opening ---- */

void crcp_lpm_gate_close(void)
{
    const unsigned modules = crcp_lpm_btls_count();

    if (0 < num_gated || 0 == modules) {
        return;
    }
    if (NULL == (gated = calloc(modules, sizeof(*gated)))) {
        abort(); /* without the gate a message would be lost */
    }
    refused = 0;
    for (unsigned i = 0; i < modules; ++i) {
        mca_btl_base_module_t *btl = crcp_lpm_btls_module(i);

        gated[i] = (gated_module_t){.module = btl, .original = *btl};
        btl->btl_alloc = gate_alloc;
        btl->btl_prepare_src = gate_prepare_src;
        btl->btl_sendi = (NULL == btl->btl_sendi) ? NULL : gate_sendi;
        btl->btl_put = (NULL == btl->btl_put) ? NULL : gate_put;
        btl->btl_get = (NULL == btl->btl_get) ? NULL : gate_get;
    }
    num_gated = modules;
}

void crcp_lpm_gate_open(void)
{
    for (unsigned i = 0; i < num_gated; ++i) {
        mca_btl_base_module_t *btl = gated[i].module;

        btl->btl_alloc = gated[i].original.btl_alloc;
        btl->btl_prepare_src = gated[i].original.btl_prepare_src;
        btl->btl_sendi = gated[i].original.btl_sendi;
        btl->btl_put = gated[i].original.btl_put;
        btl->btl_get = gated[i].original.btl_get;
    }
    num_gated = 0;
    free(gated);
    gated = NULL;
}

const mca_btl_base_module_t *crcp_lpm_gate_original(unsigned module)
{
    return (module < num_gated) ? &gated[module].original : NULL;
}

unsigned long crcp_lpm_gate_refused(void)
{
    return refused;
}
