/*
 * crcp/lpm: the MPI channels of a rank, held, emptied, closed and connected again around a move.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef CRCP_LPM_H
#define CRCP_LPM_H

#include "ompi_config.h"

#include <jansson.h>
#include <stdatomic.h>

#include "lpm_channels.h"

#include "ompi/mca/crcp/crcp.h"
#include "ompi/proc/proc.h"
#include "opal/mca/btl/btl.h"
#include "opal/util/proc.h"

/** The component, extended by what the rank's app coordinator calls. */
typedef struct {
    ompi_crcp_base_component_t super;
    const lpm_channel_ops_t *channels;
} mca_crcp_lpm_component_t;

OMPI_MODULE_DECLSPEC extern mca_crcp_lpm_component_t mca_crcp_lpm_component;

typedef struct mca_btl_base_endpoint_t crcp_lpm_endpoint_t;

/** A connection of this rank to a peer through one module of btl/tcp, or through btl/vader. */
typedef struct {
    crcp_lpm_endpoint_t *endpoint;
    unsigned module; /* as of crcp_lpm_btls_module() */
    opal_process_name_t peer;
} crcp_lpm_channel_t;

typedef void (*crcp_lpm_channel_fn_t)(const crcp_lpm_channel_t *channel, void *arg);

/** What waits in the PML for a peer that cannot be sent to. */
typedef struct {
    size_t messages, bytes;
} crcp_lpm_queued_t;

static inline bool crcp_lpm_same_name(const opal_process_name_t *a, const opal_process_name_t *b)
{
    return a->jobid == b->jobid && a->vpid == b->vpid;
}

/* ---- crcp_lpm_protocol.c: the rank's part of the protocol. It runs on the MPI thread, or in its place while that is
 * parked outside MPI; so does all that follows. ---- */

extern const lpm_channel_ops_t crcp_lpm_channel_ops;

/**
 * Before a call of libpmix that waits for other processes: a call in which the mover takes part begins only when the
 * move is over. While one is under way the mover is not ready, and a hold is refused.
 */
void crcp_lpm_attend_begin(void);

/** Carry out commands until @p done, which crcp_lpm_attend_wake() sets, on any thread. */
void crcp_lpm_attend(const atomic_bool *done);
void crcp_lpm_attend_wake(atomic_bool *done);

/**
 * The call is over, and a move that has waited for it goes on.
 * @param spawned  it is to be asked for anew: the ranks of the new job do not take part in it, and mpirun refuses moves
 *                 until they can.
 */
void crcp_lpm_attend_end(bool spawned);

/* ---- crcp_lpm_calls.c: calls that wait inside libpmix ---- */

void crcp_lpm_calls_init(void);
void crcp_lpm_calls_fini(void);

/** Is there a call under way in which @p name takes part? */
bool crcp_lpm_calls_involve(const opal_process_name_t *name);

/* ---- crcp_lpm_link.c: the channels of one move, and the marks that say they are empty ---- */

/** Register the active message of the mark. Once, after the PML is up. */
int crcp_lpm_link_init(void);

/**
 * Hold every channel to and from @p mover. Idempotent for one move.
 * @param self  this rank is the mover: all its channels are held.
 */
void crcp_lpm_link_hold(int64_t move, const opal_process_name_t *mover, bool self);

/** Drive the drain: send the marks that are due. @return true while nothing is in flight on any held channel. */
bool crcp_lpm_link_drained(void);

/** Close the drained channels. */
void crcp_lpm_link_close(void);

/** The mover, arrived: @p peer is ready, so is its channel if it is not one of btl/vader. */
void crcp_lpm_link_open_peer(const opal_process_name_t *peer);

/** The mover, arrived: all its new neighbours are ready. */
void crcp_lpm_link_open_vader(void);

/** This move's marks are over: connections that were not closed are listened to again. The gate stays closed. */
void crcp_lpm_link_settle(int64_t move);

/** The gate lets everything through, or refuses again. For what has waited, before anything newer. */
void crcp_lpm_link_let_through(bool yes);

/** After crcp_lpm_link_settle(): the gate opens. */
void crcp_lpm_link_release(void);

/** Fragments that the BTL still has to send to the mover. */
size_t crcp_lpm_link_backlog(void);

/** Print each held channel that is not empty, for whoever looks why a drain does not end. */
void crcp_lpm_link_explain(void);

/** [{"peer":,"btl":,"ms":,"queued":,"received":}]: how the held channels were emptied; a new reference. */
json_t *crcp_lpm_link_report(void);

/** A fragment has come on a channel of btl/tcp. */
void crcp_lpm_link_received(crcp_lpm_endpoint_t *endpoint);

/** Does the gate refuse new fragments for this endpoint? */
bool crcp_lpm_is_held(const mca_btl_base_module_t *btl, crcp_lpm_endpoint_t *endpoint);

/* ---- crcp_lpm_tally.c: fragments that come while channels are emptied ---- */

/** Count what the PML receives over btl/tcp (crcp_lpm_link_received()), or stop it. Idempotent. */
void crcp_lpm_tally_start(void);
void crcp_lpm_tally_stop(void);

/* ---- crcp_lpm_park.c: the MPI thread outside MPI ---- */

/** MPI thread, at the end of MPI_Init: this is the thread. */
void crcp_lpm_park_init(void);
void crcp_lpm_park_fini(void);

/** Agent thread: true when the MPI thread stands still outside MPI; false: it does not, for now. */
bool crcp_lpm_park(void);
void crcp_lpm_unpark(void);

/* ---- crcp_lpm_gate.c: the function tables of the BTL modules ---- */

/** Put the gate into the tables of all modules, or take it out again. Idempotent. */
void crcp_lpm_gate_close(void);
void crcp_lpm_gate_open(void);

/** From the first move on: a get from a peer that can no longer be read from fails in a way that the PML survives. */
void crcp_lpm_gate_first_move(void);

/** The original functions of the module with this index; valid while the gate is closed. */
const mca_btl_base_module_t *crcp_lpm_gate_original(unsigned module);

/** How often the gate has refused a fragment since it was last closed. */
unsigned long crcp_lpm_gate_refused(void);

/* ---- crcp_lpm_btls.c: both BTLs as one ---- */

/**
 * Look up the BTLs of this process and check that they are those we were compiled for.
 * @param why set to a static text when the answer is not OMPI_SUCCESS.
 */
int crcp_lpm_btls_init(const char **why);

/** Modules of btl/tcp, then that of btl/vader if there is one. */
unsigned crcp_lpm_btls_count(void);
mca_btl_base_module_t *crcp_lpm_btls_module(unsigned index);

/** All channels of btl/tcp; all those of btl/vader. */
void crcp_lpm_btls_foreach_tcp(crcp_lpm_channel_fn_t fn, void *arg);
void crcp_lpm_btls_foreach_vader(crcp_lpm_channel_fn_t fn, void *arg);

bool crcp_lpm_channel_is_vader(const crcp_lpm_channel_t *channel);

/** "tcp" or "vader". */
const char *crcp_lpm_channel_btl(const crcp_lpm_channel_t *channel);

/** A connection exists, is being made, or fragments wait for one. */
bool crcp_lpm_channel_active(const crcp_lpm_channel_t *channel);

/** Nothing is half sent, half received or queued. */
bool crcp_lpm_channel_empty(const crcp_lpm_channel_t *channel);

/** Fragments that wait in the BTL to be sent. */
size_t crcp_lpm_channel_queued(const crcp_lpm_channel_t *channel);

/** One line on its state. */
void crcp_lpm_channel_describe(const crcp_lpm_channel_t *channel, char *text, size_t size);

/* ---- crcp_lpm_bml.c: which BTL leads to a peer (adapter for one Open MPI version) ---- */

/** NULL, or why the BML cannot be used; static. */
const char *crcp_lpm_bml_check(void);

/** The endpoint through which @p btl leads to the peer; NULL when it does not. */
crcp_lpm_endpoint_t *crcp_lpm_bml_endpoint(const ompi_proc_t *proc, const mca_btl_base_module_t *btl);

/**
 * Choose the BTLs to a peer anew, by its locality; its old channel is closed, or was never made. An endpoint of
 * btl/vader gets the place of crcp_lpm_vader_next_place().
 */
int crcp_lpm_bml_rewire(ompi_proc_t *proc, bool near);

/** No message can ask for a BTL any more that does not lead to its sender. */
void crcp_lpm_bml_forget(void);

/* ---- crcp_lpm_ob1.c: pml/ob1 (adapter for one Open MPI version) ---- */

/** Find pml/ob1. @param why set to a static text when the answer is not OMPI_SUCCESS. */
int crcp_lpm_ob1_init(const char **why);

/** Persistent buffered sends that wait can be started again later. To be called before any of them may go on. */
void crcp_lpm_ob1_mend(void);

/** Let ob1 retry everything on its pending lists. */
void crcp_lpm_ob1_kick(void);

/** Is there anything that ob1 may have to be kicked for later, since BTLs have changed under it? */
bool crcp_lpm_ob1_stale(void);

/** Keep the sends that wait for a held peer away from ob1, in their order. */
void crcp_lpm_ob1_spool(const opal_process_name_t *peer);

/** Start the next @p most of them, the gate being open for the peer. @return true when none is left. */
bool crcp_lpm_ob1_flush(const opal_process_name_t *peer, size_t most);

/** Add what waits for @p peer, or for anybody when NULL. */
void crcp_lpm_ob1_queued(const opal_process_name_t *peer, crcp_lpm_queued_t *queued);

/** What a BTL's get answers to ob1 when there is no way to get: ob1 then has the data sent. */
int crcp_lpm_ob1_get_impossible(void *cbdata);

/* ---- crcp_lpm_place.c: what a rank knows of its node and its clock ---- */

/** Milliseconds of the monotonic clock. Any thread. */
double crcp_lpm_now_ms(void);

/** Remember the clocks, right before the rank may be frozen. */
void crcp_lpm_place_leave(void);

/** Name of the node, and MPI_Wtime going on from where it was, after the rank may have moved. */
void crcp_lpm_place_arrive(const char *node);

/** A peer is on the node of this rank, or not, from now on. */
int crcp_lpm_place_peer(const ompi_proc_t *proc, bool near);

/** Is it? */
bool crcp_lpm_place_is_near(const ompi_proc_t *proc);

/** What Open MPI is to think meanwhile. @return proc_flags, to be put back. */
uint16_t crcp_lpm_place_pretend(ompi_proc_t *proc, bool near);

/* ---- crcp_lpm_peers.c: channels to peers that are in another place now, or seen from another place ---- */

/** The mover, arrived: [{"job":,"rank":,"place":[,"vader":]}] are on its node; all others are not. */
int crcp_lpm_peers_arrive(const json_t *near);

/** A peer: where the mover is now ("table", "near"[, "vader", "place"]). */
int crcp_lpm_peers_follow(const opal_process_name_t *mover, const json_t *where);

/* ---- crcp_lpm_windows.c: one-sided windows ---- */

/** See to it that later windows are made of components that fit where the ranks are then. Once, on all ranks. */
void crcp_lpm_windows_init(void);
void crcp_lpm_windows_fini(void);

/** NULL, or why a window of this rank keeps it here; static. */
const char *crcp_lpm_windows_check(void);

/* ---- crcp_lpm_tcp.c: everything that knows the inside of btl/tcp (adapter for one Open MPI version) ---- */

/** @param why set to a static text when the answer is not OMPI_SUCCESS. */
int crcp_lpm_tcp_init(mca_btl_base_component_t *component, const char **why);

unsigned crcp_lpm_tcp_num_modules(void);
mca_btl_base_module_t *crcp_lpm_tcp_module(unsigned index);

/** Call @p fn for every endpoint of every module. */
void crcp_lpm_tcp_foreach(void (*fn)(crcp_lpm_endpoint_t *endpoint, unsigned module, void *arg), void *arg);

opal_process_name_t crcp_lpm_tcp_peer(const crcp_lpm_endpoint_t *endpoint);

/** As the crcp_lpm_channel_ functions of the same names. */
bool crcp_lpm_tcp_active(crcp_lpm_endpoint_t *endpoint);
bool crcp_lpm_tcp_empty(crcp_lpm_endpoint_t *endpoint);
size_t crcp_lpm_tcp_queued(const crcp_lpm_endpoint_t *endpoint);
void crcp_lpm_tcp_describe(crcp_lpm_endpoint_t *endpoint, char *text, size_t size);

/** The endpoint on which an active message has come (valid inside its callback). */
crcp_lpm_endpoint_t *crcp_lpm_tcp_receiver(const mca_btl_base_descriptor_t *descriptor);

/** Stop and start listening to the peer's end: after the last fragment its close must not read as a failure. */
void crcp_lpm_tcp_deafen(crcp_lpm_endpoint_t *endpoint);
void crcp_lpm_tcp_undeafen(crcp_lpm_endpoint_t *endpoint);

/** Close an emptied connection; the endpoint stays, the next fragment connects again. */
void crcp_lpm_tcp_close(crcp_lpm_endpoint_t *endpoint);

/** Accepted sockets whose handshake has not been read yet. */
bool crcp_lpm_tcp_handshakes_pending(void);

/** The mover, everything closed: no listening socket is left. */
void crcp_lpm_tcp_unlisten(void);

/**
 * The mover: can its addresses be mapped to interfaces of a node?
 * @param ifaces [{"name":,"index":,"family":4|6,"addr":text}], as the target's daemon lists them.
 * @param why text for the user, to be freed, set when the answer is not OMPI_SUCCESS.
 */
int crcp_lpm_tcp_plan(const json_t *ifaces, char **why);

/**
 * The mover, on its new node: listen anew and take the new addresses.
 * @param blob what peers need (the published address table), hexadecimal, to be freed by the caller.
 */
int crcp_lpm_tcp_relocate(const json_t *ifaces, char **blob);

/** A peer: existing endpoints towards the mover get its new addresses. @return bytes of the table, or -1. */
int crcp_lpm_tcp_readdress(const opal_process_name_t *mover, const void *table, size_t size);

/** Name of the modex entry that holds the address table; static storage. */
const char *crcp_lpm_tcp_modex_key(void);

/* ---- crcp_lpm_vader.c: everything that knows the inside of btl/vader (adapter for one Open MPI version) ---- */

/** @param why set to a static text when the answer is not OMPI_SUCCESS. */
int crcp_lpm_vader_init(mca_btl_base_component_t *component, const char **why);

/** NULL when the rank does not use btl/vader. */
mca_btl_base_module_t *crcp_lpm_vader_module(void);

/** As the crcp_lpm_channel_ functions of the same names. */
bool crcp_lpm_vader_empty(crcp_lpm_endpoint_t *endpoint);
size_t crcp_lpm_vader_queued(const crcp_lpm_endpoint_t *endpoint);
void crcp_lpm_vader_describe(crcp_lpm_endpoint_t *endpoint, char *text, size_t size);

/** Messages received through the fast box, modulo 2^16. */
uint16_t crcp_lpm_vader_received(const crcp_lpm_endpoint_t *endpoint);

/** Nothing is in this rank's FIFO. */
bool crcp_lpm_vader_fifo_empty(void);

/**
 * Let go of a peer's segment. Only when all channels of the mover are empty: the FIFOs of third ranks chain fragments
 * of several owners.
 */
void crcp_lpm_vader_close(crcp_lpm_endpoint_t *endpoint);

/** Places in the table of neighbours; this rank's own, see lpm_places.h. */
int crcp_lpm_vader_places(void);
int crcp_lpm_vader_place(void);

/** Where the endpoint goes that is added next. */
void crcp_lpm_vader_next_place(int place);

/** An endpoint that leads to nobody. */
crcp_lpm_endpoint_t *crcp_lpm_vader_nobody(void);

/** The mover, everything closed: its segment becomes private memory at the same address. */
int crcp_lpm_vader_withdraw(void);

/** The mover, arrived: the segment is shared again, this rank's place is @p place. */
int crcp_lpm_vader_publish(int place, const char *node);

/** What neighbours need (as in the modex), hexadecimal, to be freed; NULL when there is nothing to be shared. */
char *crcp_lpm_vader_card(void);

/** Name of the modex entry that holds the card; static storage. */
const char *crcp_lpm_vader_modex_key(void);

/* ---- crcp_lpm_modex.c: addresses of moved ranks for endpoints that are made later ---- */

/** Put an overlay in front of the modex. Once, from init. */
int crcp_lpm_modex_init(void);

/** The bytes that later lookups of @p key for @p name return; copied. Any thread. */
int crcp_lpm_modex_set(const opal_process_name_t *name, const char *key, const void *bytes, size_t size);

/** The same, from hexadecimal text. */
int crcp_lpm_modex_set_hex(const opal_process_name_t *name, const char *key, const char *text);

void crcp_lpm_modex_finalize(void);

#endif /* CRCP_LPM_H */
