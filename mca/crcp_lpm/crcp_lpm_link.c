/*
 * The connections that a move empties and closes, and the mark that travels behind the last fragment of each.
 *
 * Every rank marks the connections it has towards the mover, or the mover towards everybody; whoever receives a mark
 * answers with its own. A connection is empty when both marks have passed. Who never had a connection has nothing
 * to do: a fragment that is still under way opens one, and its mark is answered. So no rank has to know what the
 * others have open, and when all have said "drained" nothing is in flight anywhere.
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
#include "opal/util/output.h"

/* Free in Open MPI 4.1: above MCA_BTL_TAG_USR, used by no component. */
#define MARK_TAG   0x8a
#define MARK_MAGIC 0x4c504d31u /* LPM1 */

typedef struct {
    uint32_t magic;
    uint32_t zero;
    int64_t move;
} mark_t;

typedef struct {
    opal_list_item_t super;
    crcp_lpm_endpoint_t *endpoint;
    unsigned module;
    bool sent;   /* our mark is queued */
    bool out;    /* our mark has left */
    bool in;     /* the peer's mark has come; we no longer listen */
    bool orphan; /* the hold ended before our mark left */
} link_t;

static OBJ_CLASS_INSTANCE(link_t, opal_list_item_t, NULL, NULL);

static opal_list_t links;
static opal_process_name_t held_mover;
static bool held, held_self;
static int64_t current_move, last_move;

bool crcp_lpm_is_held(struct mca_btl_base_endpoint_t *endpoint)
{
    opal_process_name_t peer;

    if (!held) {
        return false;
    }
    if (held_self) {
        return true;
    }
    peer = crcp_lpm_tcp_peer(endpoint);
    return peer.jobid == held_mover.jobid && peer.vpid == held_mover.vpid;
}

static link_t *link_of(crcp_lpm_endpoint_t *endpoint)
{
    link_t *link;

    OPAL_LIST_FOREACH(link, &links, link_t) {
        if (link->endpoint == endpoint) {
            return link;
        }
    }
    return NULL;
}

static link_t *link_add(crcp_lpm_endpoint_t *endpoint)
{
    link_t *link = OBJ_NEW(link_t);

    if (NULL == link) {
        abort(); /* a connection that is not emptied would lose messages */
    }
    link->endpoint = endpoint;
    link->module = 0;
    link->sent = link->out = link->in = link->orphan = false;
    opal_list_append(&links, &link->super);
    return link;
}

/* A mark may overtake the command to hold, which comes by way of the daemons. */
static void mark_received(mca_btl_base_module_t *btl, mca_btl_base_tag_t tag, mca_btl_base_descriptor_t *descriptor,
                          void *cbdata)
{
    crcp_lpm_endpoint_t *endpoint = crcp_lpm_tcp_receiver(descriptor);
    link_t *link;
    mark_t mark;

    (void)btl;
    (void)tag;
    (void)cbdata;
    if (1 > descriptor->des_segment_count || sizeof(mark) > descriptor->des_segments[0].seg_len) {
        return;
    }
    memcpy(&mark, descriptor->des_segments[0].seg_addr.pval, sizeof(mark));
    if (MARK_MAGIC != mark.magic || mark.move <= last_move) {
        return; /* of a hold that was given up */
    }
    if (NULL == (link = link_of(endpoint))) {
        link = link_add(endpoint);
    }
    link->in = true;
    crcp_lpm_tcp_deafen(endpoint);
}

static void mark_sent(mca_btl_base_module_t *btl, struct mca_btl_base_endpoint_t *endpoint,
                      mca_btl_base_descriptor_t *descriptor, int status)
{
    link_t *link = descriptor->des_cbdata;

    (void)btl;
    (void)endpoint;
    if (link->orphan) {
        OBJ_RELEASE(link);
        return;
    }
    link->out = (OPAL_SUCCESS == status);
}

static void mark_send(link_t *link)
{
    const mca_btl_base_module_t *original = crcp_lpm_gate_original(link->module);
    mca_btl_base_module_t *btl = crcp_lpm_tcp_module(link->module);
    mca_btl_base_descriptor_t *descriptor;
    mark_t mark = {.magic = MARK_MAGIC, .move = current_move};

    descriptor = original->btl_alloc(btl, link->endpoint, MCA_BTL_NO_ORDER, sizeof(mark),
                                     MCA_BTL_DES_FLAGS_BTL_OWNERSHIP | MCA_BTL_DES_SEND_ALWAYS_CALLBACK |
                                         MCA_BTL_DES_FLAGS_PRIORITY);
    if (NULL == descriptor) {
        return; /* tried again at the next progress */
    }
    memcpy(descriptor->des_segments[0].seg_addr.pval, &mark, sizeof(mark));
    descriptor->des_cbfunc = mark_sent;
    descriptor->des_cbdata = link;
    descriptor->des_context = NULL;
    link->sent = true;
    if (0 > original->btl_send(btl, link->endpoint, descriptor, MARK_TAG)) {
        link->sent = false;
        original->btl_free(btl, descriptor);
    }
}

int crcp_lpm_link_init(void)
{
    OBJ_CONSTRUCT(&links, opal_list_t);
    return mca_bml.bml_register(MARK_TAG, mark_received, NULL);
}

void crcp_lpm_link_hold(int64_t move, const opal_process_name_t *mover, bool self)
{
    if (held) {
        return;
    }
    current_move = move;
    held_mover = *mover;
    held_self = self;
    held = true;
    crcp_lpm_gate_close();
}

static int drive(crcp_lpm_endpoint_t *endpoint, unsigned module, void *arg)
{
    bool *empty = arg;
    link_t *link;

    if (!crcp_lpm_is_held(endpoint)) {
        return 0;
    }
    link = link_of(endpoint);
    if (NULL == link) {
        if (!crcp_lpm_tcp_active(endpoint)) {
            return 0;
        }
        link = link_add(endpoint);
    }
    link->module = module;
    if (!link->sent) {
        mark_send(link);
    }
    if (!link->out || !link->in || !crcp_lpm_tcp_empty(endpoint)) {
        *empty = false;
    }
    return 0;
}

static int explain(crcp_lpm_endpoint_t *endpoint, unsigned module, void *arg)
{
    const opal_process_name_t peer = crcp_lpm_tcp_peer(endpoint);
    const link_t *link = link_of(endpoint);
    char text[256];

    (void)arg;
    if (!crcp_lpm_is_held(endpoint) || (NULL == link && !crcp_lpm_tcp_active(endpoint))) {
        return 0;
    }
    crcp_lpm_tcp_describe(endpoint, text, sizeof(text));
    opal_output(0, "crcp/lpm: migration %lld, channel to %u on module %u: mark %s%s%s; %s", (long long)current_move,
                peer.vpid, module, (NULL == link || !link->sent) ? "not sent" : "sent",
                (NULL == link || !link->out) ? "" : ", gone", (NULL == link || !link->in) ? "" : ", peer's has come",
                text);
    return 0;
}

void crcp_lpm_link_explain(void)
{
    (void)crcp_lpm_tcp_foreach(explain, NULL);
}

bool crcp_lpm_link_drained(void)
{
    bool empty = true;

    (void)crcp_lpm_tcp_foreach(drive, &empty);
    return empty && !(held_self && crcp_lpm_tcp_handshakes_pending());
}

static int close_held(crcp_lpm_endpoint_t *endpoint, unsigned module, void *arg)
{
    (void)module;
    (void)arg;
    if (crcp_lpm_is_held(endpoint)) {
        crcp_lpm_tcp_close(endpoint);
    }
    return 0;
}

void crcp_lpm_link_close(void)
{
    link_t *link;

    (void)crcp_lpm_tcp_foreach(close_held, NULL);
    OPAL_LIST_FOREACH(link, &links, link_t) {
        link->in = false; /* nothing to listen to again */
    }
}

void crcp_lpm_link_release(int64_t move)
{
    link_t *link;

    if (move > last_move) {
        last_move = move;
    }
    while (NULL != (link = (link_t *)opal_list_remove_first(&links))) {
        if (link->in) {
            crcp_lpm_tcp_undeafen(link->endpoint);
        }
        if (link->sent && !link->out) {
            link->orphan = true;
        } else {
            OBJ_RELEASE(link);
        }
    }
    held = held_self = false;
    crcp_lpm_gate_open();
}

unsigned crcp_lpm_link_count(void)
{
    return (unsigned)opal_list_get_size(&links);
}
