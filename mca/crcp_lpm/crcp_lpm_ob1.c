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
#include "opal/runtime/opal_progress.h"

static mca_pml_ob1_t *ob1;
static void (*process_packets)(mca_bml_base_btl_t *bml_btl);
static void (*process_recvs)(void);
static void (*process_rdma)(void);
static int (*ob1_progress)(void);
static int (*enable_progress)(int32_t count);
static opal_list_t spool; /* sends that wait for the held peer, taken off ob1's list */

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
    process_recvs = (void (*)(void))dlsym(object, "mca_pml_ob1_recv_request_process_pending");
    process_rdma = (void (*)(void))dlsym(object, "mca_pml_ob1_process_pending_rdma");
    ob1_progress = (int (*)(void))dlsym(object, "mca_pml_ob1_progress");
    enable_progress = (int (*)(int32_t))dlsym(object, "mca_pml_ob1_enable_progress");
    if (NULL == ob1 || NULL == process_packets || NULL == process_recvs || NULL == process_rdma ||
        NULL == ob1_progress || NULL == enable_progress) {
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
    OBJ_CONSTRUCT(&spool, opal_list_t);
    return OMPI_SUCCESS;
}

/* ob1 stops at the first of a list that cannot go and makes it the last, so it has to be asked once for each. */
static void for_each(opal_list_t *list, void (*process)(void))
{
    for (size_t n = opal_list_get_size(list); 0 < n; --n) {
        process();
    }
}

static void process_packets_of_all(void)
{
    for (unsigned i = 0; i < crcp_lpm_btls_count(); ++i) {
        mca_bml_base_btl_t entry = {.btl = crcp_lpm_btls_module(i)}; /* all that ob1 looks at */

        process_packets(&entry);
    }
}

/*
 * Control packets first: when data overtakes the packet that says that a put has failed, the receiver does not ask for
 * the rest.
 */
void crcp_lpm_ob1_kick(void)
{
    for_each(&ob1->pckt_pending, process_packets_of_all);
    for_each(&ob1->rdma_pending, process_rdma);
    for_each(&ob1->recv_pending, process_recvs);
    (void)ob1_progress(); /* the sends; it does not stop at one that is held */
}

/* ---- persistent buffered sends ---- */

static ompi_request_start_fn_t start;

static bool is_complete_send(const ompi_request_t *request)
{
    const mca_pml_base_send_request_t *send = (const mca_pml_base_send_request_t *)request;

    return NULL != request && OMPI_REQUEST_PML == request->req_type &&
           MCA_PML_REQUEST_SEND == send->req_base.req_type && send->req_base.req_pml_complete &&
           0 < send->req_bytes_packed;
}

/*
 * A buffered send that had to wait was packed into the attached buffer, and its convertor reads from there. When the
 * buffer has been given back and the request is started again, ob1 leaves the convertor as it is.
 */
static int start_from_user_buffer(size_t count, ompi_request_t **requests)
{
    for (size_t i = 0; i < count; ++i) {
        mca_pml_base_send_request_t *send = (mca_pml_base_send_request_t *)requests[i];

        if (is_complete_send(requests[i])) {
            opal_convertor_cleanup(&send->req_base.req_convertor);
            (void)opal_convertor_copy_and_prepare_for_send(
                send->req_base.req_proc->super.proc_convertor, &send->req_base.req_datatype->super,
                (int32_t)send->req_base.req_count, send->req_base.req_addr, 0, &send->req_base.req_convertor);
        }
    }
    return start(count, requests);
}

void crcp_lpm_ob1_mend(void)
{
    mca_pml_ob1_send_request_t *request;

    OPAL_LIST_FOREACH(request, &ob1->send_pending, mca_pml_ob1_send_request_t) {
        ompi_request_t *base = &request->req_send.req_base.req_ompi;

        if (MCA_PML_BASE_SEND_BUFFERED == request->req_send.req_send_mode && base->req_persistent &&
            start_from_user_buffer != base->req_start) {
            start = base->req_start;
            base->req_start = start_from_user_buffer;
        }
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

/* ---- sends that wait for the held peer ---- */

static bool waits_for(const mca_pml_ob1_send_request_t *request, const opal_process_name_t *peer)
{
    return MCA_PML_OB1_SEND_PENDING_START == request->req_pending &&
           crcp_lpm_same_name(&request->req_send.req_base.req_proc->super.proc_name, peer);
}

/* In the order in which they were started: that of their sequence numbers. */
static void take_off(const opal_process_name_t *peer, opal_list_t *to)
{
    mca_pml_ob1_send_request_t *request, *next;

    OPAL_LIST_FOREACH_SAFE(request, next, &ob1->send_pending, mca_pml_ob1_send_request_t) {
        if (waits_for(request, peer)) {
            opal_list_remove_item(&ob1->send_pending, (opal_list_item_t *)request);
            opal_list_append(to, (opal_list_item_t *)request);
        }
    }
}

/*
 * ob1 tries all sends of its list again whenever MPI makes progress; with many to a held peer, talking to anybody else
 * would get slow.
 */
void crcp_lpm_ob1_spool(const opal_process_name_t *peer)
{
    take_off(peer, &spool);
}

/*
 * ob1 counts the sends on its list up, but not always down again, and would go on looking at an empty list for good.
 */
static void settle_progress(void)
{
    if (0 < opal_list_get_size(&ob1->send_pending)) {
        return;
    }
    if (0 == enable_progress(1)) {         /* the count is above 1 */
        while (0 == enable_progress(-1)) { /* 1: it is 1 now */
        }
    }
    (void)enable_progress(-1);
    opal_progress_unregister(ob1_progress);
}

bool crcp_lpm_ob1_flush(const opal_process_name_t *peer, size_t most)
{
    opal_list_t left;
    opal_list_item_t *item;

    take_off(peer, &spool); /* those that have come meanwhile are behind the others */
    for (; 0 < most && NULL != (item = opal_list_remove_first(&spool)); --most) {
        opal_list_append(&ob1->send_pending, item);
        (void)enable_progress(1); /* ob1 counts them down when they are started */
    }
    crcp_lpm_ob1_mend();
    crcp_lpm_ob1_kick();
    OBJ_CONSTRUCT(&left, opal_list_t);
    take_off(peer, &left);
    opal_list_join(&spool, opal_list_get_first(&spool), &left); /* in front */
    OBJ_DESTRUCT(&left);
    if (0 < opal_list_get_size(&spool)) {
        return false;
    }
    settle_progress();
    return true;
}

static void count(opal_list_t *list, const opal_process_name_t *peer, crcp_lpm_queued_t *queued)
{
    mca_pml_ob1_send_request_t *request;

    OPAL_LIST_FOREACH(request, list, mca_pml_ob1_send_request_t) {
        if (NULL == peer || crcp_lpm_same_name(&request->req_send.req_base.req_proc->super.proc_name, peer)) {
            ++queued->messages;
            queued->bytes += request->req_send.req_bytes_packed - request->req_bytes_delivered;
        }
    }
}

void crcp_lpm_ob1_queued(const opal_process_name_t *peer, crcp_lpm_queued_t *queued)
{
    count(&spool, peer, queued);
    count(&ob1->send_pending, peer, queued);
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
