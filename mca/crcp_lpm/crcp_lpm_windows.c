/*
 * One-sided windows. Those of osc/pt2pt talk through the PML; other components have channels of their own.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include <dlfcn.h>
#include <mpi.h>
#include <string.h>

#include "ompi/communicator/communicator.h"
#include "ompi/constants.h"
#include "ompi/group/group.h"
#include "ompi/mca/coll/coll.h"
#include "ompi/mca/osc/base/base.h"
#include "ompi/mca/osc/osc.h"
#include "ompi/win/win.h"

/* The module tells its component by the shared object of its functions. */
static bool through_pml(const ompi_osc_base_module_t *module)
{
    Dl_info info;

    return 0 != dladdr((void *)module->osc_put, &info) && NULL != strstr(info.dli_fname, "mca_osc_pt2pt");
}

const char *crcp_lpm_windows_check(void)
{
    const int count = opal_pointer_array_get_size(&ompi_mpi_windows);

    for (int i = 0; i < count; ++i) {
        const ompi_win_t *win = opal_pointer_array_get_item(&ompi_mpi_windows, i);

        if (NULL != win && NULL != win->w_osc_module && !through_pml(win->w_osc_module)) {
            return "a one-sided window of the rank has channels of its own (a component other than osc/pt2pt)";
        }
    }
    return NULL;
}

/* ---- which component a new window gets ---- */

static ompi_osc_base_component_query_fn_t sm_query, rdma_query;

static bool all_near(ompi_communicator_t *comm)
{
    ompi_group_t *group = comm->c_local_group;

    if (ompi_group_have_remote_peers(group)) {
        return false;
    }
    for (int i = 0; i < ompi_group_size(group); ++i) {
        const ompi_proc_t *proc = ompi_group_peer_lookup(group, i);

        if (proc != ompi_proc_local() && !crcp_lpm_place_is_near(proc)) {
            return false;
        }
    }
    return true;
}

/*
 * Open MPI goes by where the ranks were at the start. All ranks of the communicator are here, so they decide together:
 * in the midst of a move one knows more than the other.
 */
static int sm_query_or_not(struct ompi_win_t *win, void **base, size_t size, int disp_unit, ompi_communicator_t *comm,
                           struct opal_info_t *info, int flavor)
{
    int near = all_near(comm) ? 1 : 0, all = 0;

    if (MPI_WIN_FLAVOR_SHARED != flavor && MPI_WIN_FLAVOR_ALLOCATE != flavor) {
        return sm_query(win, base, size, disp_unit, comm, info, flavor);
    }
    if (OMPI_SUCCESS !=
            comm->c_coll->coll_allreduce(&near, &all, 1, MPI_INT, MPI_MIN, comm, comm->c_coll->coll_allreduce_module) ||
        0 == all) {
        return OMPI_ERR_RMA_SHARED;
    }
    return sm_query(win, base, size, disp_unit, comm, info, flavor);
}

/* osc/rdma keeps pointers to endpoints of btl/vader. */
static int rdma_query_not(struct ompi_win_t *win, void **base, size_t size, int disp_unit, ompi_communicator_t *comm,
                          struct opal_info_t *info, int flavor)
{
    (void)win;
    (void)base;
    (void)size;
    (void)disp_unit;
    (void)comm;
    (void)info;
    (void)flavor;
    return -1;
}

static ompi_osc_base_component_t *component_of(const char *name)
{
    mca_base_component_list_item_t *item;

    OPAL_LIST_FOREACH(item, &ompi_osc_base_framework.framework_components, mca_base_component_list_item_t) {
        if (0 == strcmp(name, item->cli_component->mca_component_name)) {
            return (ompi_osc_base_component_t *)item->cli_component;
        }
    }
    return NULL;
}

void crcp_lpm_windows_init(void)
{
    ompi_osc_base_component_t *sm = component_of("sm"), *rdma = component_of("rdma");

    if (NULL != sm && sm_query_or_not != sm->osc_query) {
        sm_query = sm->osc_query;
        sm->osc_query = sm_query_or_not;
    }
    if (NULL != rdma && NULL != component_of("pt2pt")) { /* else it was chosen on purpose: no move while it is in use */
        rdma_query = rdma->osc_query;
        rdma->osc_query = rdma_query_not;
    }
}

void crcp_lpm_windows_fini(void)
{
    ompi_osc_base_component_t *sm = component_of("sm"), *rdma = component_of("rdma");

    if (NULL != sm && sm_query_or_not == sm->osc_query) {
        sm->osc_query = sm_query;
    }
    if (NULL != rdma && rdma_query_not == rdma->osc_query) {
        rdma->osc_query = rdma_query;
    }
}
