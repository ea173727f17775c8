/*
 * The one file that knows the inside of pml/ob1: its pending lists, and what becomes of a transfer whose BTL has
 * changed.
 *
 * Built against the private headers of one Open MPI version; crcp_lpm_ob1_init() refuses any other.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include <dlfcn.h>
#include <limits.h>
#include <string.h>

#include "crcp_lpm_component_of.h"

#include "pml_ob1.h"
#include "pml_ob1_comm.h"
#include "pml_ob1_rdmafrag.h"
#include "pml_ob1_recvfrag.h"
#include "pml_ob1_sendreq.h"

#include "ompi/constants.h"
#include "ompi/mca/bml/bml.h"
#include "ompi/mca/pml/base/base.h"
#include "ompi/mca/pml/pml.h"
#include "ompi/message/message.h"

static mca_pml_ob1_t *ob1;
static void (*process_packets)(mca_bml_base_btl_t *bml_btl);
static void (*process_sends)(mca_bml_base_btl_t *bml_btl);
static void (*process_recvs)(void);
static void (*process_rdma)(void);

int crcp_lpm_ob1_init(const char **why)
{
    const mca_base_component_t *component = &mca_pml_base_selected_component.pmlm_version;
    void *object;

    if (0 != strcmp("ob1", component->mca_component_name)) {
        *why = "the PML in use is not ob1 (start the job with --mca pml ob1)";
        return OMPI_ERR_NOT_SUPPORTED;
    }
    if (NULL == (object = crcp_lpm_object_of((void *)mca_pml.pml_send))) {
        *why = "pml/ob1 is loaded in a way LPM does not know";
        return OMPI_ERR_NOT_SUPPORTED;
    }
    ob1 = dlsym(object, "mca_pml_ob1");
    process_packets = (void (*)(mca_bml_base_btl_t *))dlsym(object, "mca_pml_ob1_process_pending_packets");
    process_sends = (void (*)(mca_bml_base_btl_t *))dlsym(object, "mca_pml_ob1_send_request_process_pending");
    process_recvs = (void (*)(void))dlsym(object, "mca_pml_ob1_recv_request_process_pending");
    process_rdma = (void (*)(void))dlsym(object, "mca_pml_ob1_process_pending_rdma");
    if (NULL == ob1 || NULL == process_packets || NULL == process_sends || NULL == process_recvs ||
        NULL == process_rdma) {
        *why = "pml/ob1 does not export what LPM needs";
        return OMPI_ERR_NOT_SUPPORTED;
    }
    if (!crcp_lpm_same_version(component) || sizeof(*ob1) != crcp_lpm_symbol_size(ob1) ||
        !crcp_lpm_class_has_size(object, "mca_pml_ob1_rdma_frag_t_class", sizeof(mca_pml_ob1_rdma_frag_t)) ||
        !crcp_lpm_class_has_size(object, "mca_pml_ob1_recv_frag_t_class", sizeof(mca_pml_ob1_recv_frag_t)) ||
        !crcp_lpm_class_has_size(object, "mca_pml_ob1_comm_proc_t_class", sizeof(mca_pml_ob1_comm_proc_t)) ||
        !crcp_lpm_class_has_size(object, "mca_pml_ob1_send_request_t_class", sizeof(mca_pml_ob1_send_request_t))) {
        *why = "pml/ob1 is of another Open MPI version than the one LPM was built for";
        return OMPI_ERR_NOT_SUPPORTED;
    }
    if (ob1->use_all_rdma) {
        *why = "pml/ob1 uses BTLs for RDMA only (leave pml_ob1_use_all_rdma unset)";
        return OMPI_ERR_NOT_SUPPORTED;
    }
    return OMPI_SUCCESS;
}

void crcp_lpm_ob1_kick(void)
{
    /* ob1 looks only at the module: it finds each request's own entry for it */
    for (unsigned i = 0; i < crcp_lpm_btls_count(); ++i) {
        mca_bml_base_btl_t entry = {.btl = crcp_lpm_btls_module(i)};

        process_packets(&entry);
        process_recvs();
        process_sends(&entry);
        process_rdma();
    }
}

/* ---- messages that came over a BTL which no longer leads to their sender ---- */

static bool leads_elsewhere(const mca_pml_ob1_recv_frag_t *frag, const ompi_proc_t *from)
{
    return NULL == crcp_lpm_bml_endpoint(from, frag->btl);
}

static bool peer_has_stale(const mca_pml_ob1_comm_proc_t *peer)
{
    mca_pml_ob1_recv_frag_t *frag;

    if (NULL != peer->frags_cant_match) {
        return true; /* out of order: it is soon in order, or unexpected */
    }
    OPAL_LIST_FOREACH(frag, &peer->unexpected_frags, mca_pml_ob1_recv_frag_t) {
        if (leads_elsewhere(frag, peer->ompi_proc)) {
            return true;
        }
    }
    return false;
}

static bool communicator_has_stale(const ompi_communicator_t *comm)
{
    const mca_pml_ob1_comm_t *queues = (const mca_pml_ob1_comm_t *)comm->c_pml_comm;

    for (size_t i = 0; NULL != queues && i < queues->num_procs; ++i) {
        if (NULL != queues->procs[i] && peer_has_stale(queues->procs[i])) {
            return true;
        }
    }
    return false;
}

/* Matched by MPI_Mprobe and not received yet: on no list that could be looked through. */
static bool probed_messages(void)
{
    size_t idle = 0;

    for (const opal_list_item_t *item = (opal_list_item_t *)ompi_message_free_list.super.opal_lifo_head.data.item;
         item != &ompi_message_free_list.super.opal_lifo_ghost; item = (opal_list_item_t *)item->opal_list_next) {
        ++idle;
    }
    return idle < ompi_message_free_list.fl_num_allocated;
}

/*
 * The acknowledgement of such a message waits for its BTL, and is sent elsewhere only by a completion or a kick.
 */
bool crcp_lpm_ob1_stale(void)
{
    const int count = opal_pointer_array_get_size(&ompi_mpi_communicators);

    if (0 < opal_list_get_size(&ob1->pckt_pending) || 0 < opal_list_get_size(&ob1->rdma_pending) ||
        0 < opal_list_get_size(&ob1->recv_pending) || 0 < opal_list_get_size(&ob1->non_existing_communicator_pending)) {
        return true;
    }
    for (int i = 0; i < count; ++i) {
        const ompi_communicator_t *comm = opal_pointer_array_get_item(&ompi_mpi_communicators, i);

        if (NULL != comm && communicator_has_stale(comm)) {
            return true;
        }
    }
    return probed_messages();
}

/* ---- what waits for a peer ---- */

void crcp_lpm_ob1_queued(const opal_process_name_t *peer, crcp_lpm_queued_t *queued)
{
    mca_pml_ob1_send_request_t *request;

    OPAL_LIST_FOREACH(request, &ob1->send_pending, mca_pml_ob1_send_request_t) {
        const opal_process_name_t *to = &request->req_send.req_base.req_proc->super.proc_name;

        if (NULL == peer || 0 == opal_compare_proc(*to, *peer)) {
            ++queued->messages;
            queued->bytes += request->req_send.req_bytes_packed - request->req_bytes_delivered;
        }
    }
}

/*
 * ob1 asks again up to a limit of times when a BTL has no resources for a get; then it asks the sender to send the
 * data. The limit is passed at once, since no get will ever be possible on this way.
 */
int crcp_lpm_ob1_get_impossible(void *cbdata)
{
    mca_pml_ob1_rdma_frag_t *frag = cbdata;

    frag->retries = INT_MAX;
    return OPAL_ERR_OUT_OF_RESOURCE;
}
