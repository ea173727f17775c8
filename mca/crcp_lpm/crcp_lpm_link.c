/*
 * The channels that a move empties and closes, and the mark that travels behind the last fragment of each.
 *
 * Every rank marks the channels it has towards the mover, or the mover towards everybody; whoever receives a mark
 * answers with its own. A channel is empty when both marks have passed. Who never had a connection has nothing to do: a
 * fragment that is still under way opens one, and its mark is answered. So no rank has to know what the others have
 * open, and when all have said "drained" nothing is in flight anywhere.
 *
 * Channels of btl/vader are there from the start and cannot be made during a move. Their marks come back to the sender
 * like any fragment, behind all others.
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
#include "opal/class/opal_hash_table.h"
#include "opal/util/output.h"

/* Free in Open MPI 4.1: above MCA_BTL_TAG_USR, used by no component. */
#define MARK_TAG   0x8a
#define MARK_MAGIC 0x4c504d32u /* LPM2 */

typedef struct {
    uint32_t magic;
    opal_process_name_t from; /* btl/vader does not tell its callbacks who has sent a fragment */
    uint32_t zero;
    int64_t move;
} mark_t;

typedef struct {
    opal_list_item_t super;
    crcp_lpm_channel_t channel;
    bool sent;   /* our mark is queued */
    bool out;    /* our mark has left, or has come back */
    bool in;     /* the peer's mark has come; we no longer listen */
    bool orphan; /* the hold ended before our mark left */
    bool empty;  /* it has been seen empty, after `ms` */
    double ms;
    size_t queued; /* fragments that the BTL still had to send at the hold */
    size_t received;
    uint16_t box_at_hold; /* btl/vader: what had been received until then */
} link_t;

static OBJ_CLASS_INSTANCE(link_t, opal_list_item_t, NULL, NULL);

static opal_list_t links;
static opal_process_name_t held_mover;
static bool held, held_self, vader_open, letting_through;
static crcp_lpm_endpoint_t *held_vader; /* towards the mover */
static opal_hash_table_t *opened;       /* the mover's: names of peers that are ready */
static int64_t current_move, last_move;
static double held_since_ms;

/* ---- who is held ---- */

static uint64_t key_of(const opal_process_name_t *name)
{
    return (uint64_t)name->jobid << 32 | name->vpid;
}

static bool is_open(const opal_process_name_t *peer)
{
    void *there = NULL;

    return NULL != opened && OPAL_SUCCESS == opal_hash_table_get_value_uint64(opened, key_of(peer), &there);
}

bool crcp_lpm_is_held(const mca_btl_base_module_t *btl, crcp_lpm_endpoint_t *endpoint)
{
    opal_process_name_t peer;

    if (!held || letting_through) {
        return false;
    }
    if (btl == crcp_lpm_vader_module()) {
        return held_self ? !vader_open : endpoint == held_vader;
    }
    peer = crcp_lpm_tcp_peer(endpoint);
    return held_self ? !is_open(&peer) : crcp_lpm_same_name(&peer, &held_mover);
}

/* ---- the links of this move ---- */

static link_t *link_of(const crcp_lpm_endpoint_t *endpoint)
{
    link_t *link;

    OPAL_LIST_FOREACH(link, &links, link_t) {
        if (link->channel.endpoint == endpoint) {
            return link;
        }
    }
    return NULL;
}

static link_t *link_add(const crcp_lpm_channel_t *channel)
{
    link_t *link = OBJ_NEW(link_t);

    if (NULL == link) {
        abort(); /* a channel that is not emptied would lose messages */
    }
    link->channel = *channel;
    link->sent = link->out = link->in = link->orphan = link->empty = false;
    link->ms = 0;
    link->queued = crcp_lpm_channel_queued(channel);
    link->received = 0;
    link->box_at_hold = crcp_lpm_channel_is_vader(channel) ? crcp_lpm_vader_received(channel->endpoint) : 0;
    opal_list_append(&links, &link->super);
    return link;
}

/* ---- marks ---- */

/* The channel on which a mark has come. */
static bool channel_of_mark(mca_btl_base_module_t *btl, const mca_btl_base_descriptor_t *descriptor, const mark_t *mark,
                            crcp_lpm_channel_t *channel)
{
    const ompi_proc_t *proc;

    channel->peer = mark->from;
    channel->module = 0; /* of btl/tcp: entered when the link is driven */
    if (btl != crcp_lpm_vader_module()) {
        channel->endpoint = crcp_lpm_tcp_receiver(descriptor);
        return true;
    }
    channel->module = crcp_lpm_tcp_num_modules();
    proc = ompi_proc_find(&mark->from);
    return NULL != proc && NULL != (channel->endpoint = crcp_lpm_bml_endpoint(proc, btl));
}

/* A mark may overtake the command to hold, which comes by way of the daemons. */
static void mark_received(mca_btl_base_module_t *btl, mca_btl_base_tag_t tag, mca_btl_base_descriptor_t *descriptor,
                          void *cbdata)
{
    crcp_lpm_channel_t channel;
    link_t *link;
    mark_t mark;

    (void)tag;
    (void)cbdata;
    if (1 > descriptor->des_segment_count || sizeof(mark) > descriptor->des_segments[0].seg_len) {
        return;
    }
    memcpy(&mark, descriptor->des_segments[0].seg_addr.pval, sizeof(mark));
    if (MARK_MAGIC != mark.magic || mark.move <= last_move || !channel_of_mark(btl, descriptor, &mark, &channel)) {
        return; /* of a hold that was given up */
    }
    if (NULL == (link = link_of(channel.endpoint))) {
        link = link_add(&channel);
    }
    link->in = true;
    if (!crcp_lpm_channel_is_vader(&channel)) {
        crcp_lpm_tcp_deafen(channel.endpoint);
    }
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
    const mca_btl_base_module_t *original = crcp_lpm_gate_original(link->channel.module);
    mca_btl_base_module_t *btl = crcp_lpm_btls_module(link->channel.module);
    mca_btl_base_descriptor_t *descriptor;
    mark_t mark = {.magic = MARK_MAGIC, .from = OPAL_PROC_MY_NAME, .move = current_move};

    descriptor = original->btl_alloc(btl, link->channel.endpoint, MCA_BTL_NO_ORDER, sizeof(mark),
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
    if (0 > original->btl_send(btl, link->channel.endpoint, descriptor, MARK_TAG)) {
        link->sent = false;
        original->btl_free(btl, descriptor);
    }
}

int crcp_lpm_link_init(void)
{
    OBJ_CONSTRUCT(&links, opal_list_t);
    return mca_bml.bml_register(MARK_TAG, mark_received, NULL);
}

/* ---- holding ---- */

static crcp_lpm_endpoint_t *vader_of(const opal_process_name_t *peer)
{
    const ompi_proc_t *proc = ompi_proc_find(peer);

    return (NULL == proc) ? NULL : crcp_lpm_bml_endpoint(proc, crcp_lpm_vader_module());
}

static void hold_vader_channel(const crcp_lpm_channel_t *channel, void *arg)
{
    (void)arg;
    if (held_self || crcp_lpm_same_name(&channel->peer, &held_mover)) {
        held_vader = channel->endpoint;
        if (NULL == link_of(channel->endpoint)) {
            (void)link_add(channel);
        }
    }
}

void crcp_lpm_link_hold(int64_t move, const opal_process_name_t *mover, bool self)
{
    if (held) {
        return;
    }
    current_move = move;
    held_mover = *mover;
    held_self = self;
    vader_open = false;
    held_vader = NULL;
    held_since_ms = crcp_lpm_now_ms();
    crcp_lpm_gate_first_move();
    crcp_lpm_gate_close();
    held = true;
    crcp_lpm_btls_foreach_vader(hold_vader_channel, NULL);
    crcp_lpm_tally_start();
}

void crcp_lpm_link_received(crcp_lpm_endpoint_t *endpoint)
{
    link_t *link = link_of(endpoint);

    if (NULL != link) {
        ++link->received;
    }
}

/* ---- draining ---- */

static bool drive(link_t *link)
{
    if (!link->sent) {
        mark_send(link);
    }
    if (!link->out || !link->in || !crcp_lpm_channel_empty(&link->channel)) {
        return false;
    }
    if (!link->empty) {
        link->empty = true;
        link->ms = crcp_lpm_now_ms() - held_since_ms;
        if (crcp_lpm_channel_is_vader(&link->channel)) {
            link->received = (uint16_t)(crcp_lpm_vader_received(link->channel.endpoint) - link->box_at_hold);
        }
    }
    return true;
}

static void drive_tcp(const crcp_lpm_channel_t *channel, void *arg)
{
    bool *empty = arg;
    link_t *link;

    if (!crcp_lpm_is_held(crcp_lpm_tcp_module(channel->module), channel->endpoint)) {
        return;
    }
    if (NULL == (link = link_of(channel->endpoint))) {
        if (!crcp_lpm_channel_active(channel)) {
            return;
        }
        link = link_add(channel);
    }
    link->channel = *channel; /* a link that a mark has made does not know its module */
    *empty = drive(link) && *empty;
}

bool crcp_lpm_link_drained(void)
{
    bool empty = true;
    link_t *link;

    crcp_lpm_btls_foreach_tcp(drive_tcp, &empty);
    OPAL_LIST_FOREACH(link, &links, link_t) {
        if (crcp_lpm_channel_is_vader(&link->channel)) {
            empty = drive(link) && empty;
        }
    }
    if (held_self && empty) {
        empty = !crcp_lpm_tcp_handshakes_pending() && (NULL == crcp_lpm_vader_module() || crcp_lpm_vader_fifo_empty());
    }
    return empty;
}

void crcp_lpm_link_explain(void)
{
    char text[256];
    link_t *link;

    OPAL_LIST_FOREACH(link, &links, link_t) {
        if (link->empty) {
            continue;
        }
        crcp_lpm_channel_describe(&link->channel, text, sizeof(text));
        opal_output(0, "crcp/lpm: migration %lld, channel to %u by %s: mark %s%s%s; %s", (long long)current_move,
                    link->channel.peer.vpid, crcp_lpm_channel_btl(&link->channel), link->sent ? "sent" : "not sent",
                    link->out ? ", gone" : "", link->in ? ", peer's has come" : "", text);
    }
}

json_t *crcp_lpm_link_report(void)
{
    json_t *report = json_array();
    link_t *link;

    OPAL_LIST_FOREACH(link, &links, link_t) {
        json_array_append_new(
            report, json_pack("{s:I,s:I,s:s,s:f,s:I,s:I}", "job", (json_int_t)link->channel.peer.jobid, "peer",
                              (json_int_t)link->channel.peer.vpid, "btl", crcp_lpm_channel_btl(&link->channel), "ms",
                              link->ms, "queued", (json_int_t)link->queued, "received", (json_int_t)link->received));
    }
    return report;
}

/* ---- closing and opening ---- */

static void close_tcp(const crcp_lpm_channel_t *channel, void *arg)
{
    (void)arg;
    if (crcp_lpm_is_held(crcp_lpm_tcp_module(channel->module), channel->endpoint)) {
        crcp_lpm_tcp_close(channel->endpoint);
    }
}

void crcp_lpm_link_close(void)
{
    link_t *link;

    crcp_lpm_tally_stop();
    crcp_lpm_btls_foreach_tcp(close_tcp, NULL);
    OPAL_LIST_FOREACH(link, &links, link_t) {
        if (crcp_lpm_channel_is_vader(&link->channel)) {
            crcp_lpm_vader_close(link->channel.endpoint);
        }
        link->in = false; /* nothing to listen to again */
    }
}

void crcp_lpm_link_open_peer(const opal_process_name_t *peer)
{
    if (NULL == opened) {
        opened = OBJ_NEW(opal_hash_table_t);
        (void)opal_hash_table_init(opened, 64);
    }
    (void)opal_hash_table_set_value_uint64(opened, key_of(peer), opened);
}

void crcp_lpm_link_open_vader(void)
{
    vader_open = true;
}

void crcp_lpm_link_settle(int64_t move)
{
    link_t *link;

    if (move > last_move) {
        last_move = move;
    }
    crcp_lpm_tally_stop();
    while (NULL != (link = (link_t *)opal_list_remove_first(&links))) {
        if (link->in && !crcp_lpm_channel_is_vader(&link->channel)) {
            crcp_lpm_tcp_undeafen(link->channel.endpoint);
        }
        if (link->sent && !link->out) {
            link->orphan = true;
        } else {
            OBJ_RELEASE(link);
        }
    }
    if (!held_self && held) {
        held_vader = vader_of(&held_mover); /* the mover may have another endpoint now */
    }
}

void crcp_lpm_link_let_through(bool yes)
{
    letting_through = yes;
}

static void add_backlog(const crcp_lpm_channel_t *channel, void *arg)
{
    if (crcp_lpm_same_name(&channel->peer, &held_mover)) {
        *(size_t *)arg += crcp_lpm_channel_queued(channel);
    }
}

size_t crcp_lpm_link_backlog(void)
{
    size_t backlog = 0;

    crcp_lpm_btls_foreach_tcp(add_backlog, &backlog);
    return backlog;
}

void crcp_lpm_link_release(void)
{
    if (NULL != opened) {
        OBJ_RELEASE(opened);
        opened = NULL;
    }
    held = held_self = false;
    crcp_lpm_gate_open();
}
