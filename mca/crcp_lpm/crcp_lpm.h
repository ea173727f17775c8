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

#include "lpm_channels.h"

#include "ompi/mca/crcp/crcp.h"
#include "opal/mca/btl/btl.h"
#include "opal/util/proc.h"

/** The component, extended by what the rank's app coordinator calls. */
typedef struct {
    ompi_crcp_base_component_t super;
    const lpm_channel_ops_t *channels;
} mca_crcp_lpm_component_t;

OMPI_MODULE_DECLSPEC extern mca_crcp_lpm_component_t mca_crcp_lpm_component;

/* ---- crcp_lpm_channel.c: the rank's part of the protocol; all of it runs on the MPI thread ---- */

extern const lpm_channel_ops_t crcp_lpm_channel_ops;

/* ---- crcp_lpm_link.c: the connections of one move, and the marks that say they are empty; MPI thread ---- */

/** Register the active message of the mark. Once, after the PML is up. */
int crcp_lpm_link_init(void);

/**
 * Hold every channel to and from @p mover. Idempotent for one move.
 * @param self  this rank is the mover: all its channels are held.
 */
void crcp_lpm_link_hold(int64_t move, const opal_process_name_t *mover, bool self);

/** Drive the drain: send the marks that are due. @return true while nothing is in flight on any held channel. */
bool crcp_lpm_link_drained(void);

/** Close the drained connections. */
void crcp_lpm_link_close(void);

/** End the hold of this move: the gate opens, connections that were not closed are listened to again. */
void crcp_lpm_link_release(int64_t move);

/** Print each held channel that is not closed, for whoever looks why a drain does not end. */
void crcp_lpm_link_explain(void);

/** Connections drained in this move. */
unsigned crcp_lpm_link_count(void);

/* ---- crcp_lpm_ob1.c: what the PML has queued meanwhile (adapter for one Open MPI version) ---- */

/** Find pml/ob1. @param why set to a static text when the answer is not OMPI_SUCCESS. */
int crcp_lpm_ob1_init(const char **why);

/** Let ob1 retry everything on its pending lists. MPI thread. */
void crcp_lpm_ob1_kick(void);

/* ---- crcp_lpm_place.c: what a rank knows of its node and its clock; MPI thread ---- */

/** Remember the clocks, right before the rank may be frozen. */
void crcp_lpm_place_leave(void);

/** Name of the node, and MPI_Wtime going on from where it was, after the rank may have moved. */
void crcp_lpm_place_arrive(const char *node);

/** Locality of one peer changed; of all peers, given those on this node: [{"job":,"rank":}]. */
void crcp_lpm_place_peer(const opal_process_name_t *peer, bool local);
void crcp_lpm_place_peers(const json_t *local);

/* ---- crcp_lpm_gate.c: the function tables of the BTL modules ---- */

/** Does the gate refuse new fragments for this endpoint? Answered by the channel code. MPI thread. */
bool crcp_lpm_is_held(struct mca_btl_base_endpoint_t *endpoint);

/** Put the gate into the tables of all tcp modules, or take it out again. Idempotent. MPI thread. */
void crcp_lpm_gate_close(void);
void crcp_lpm_gate_open(void);

/** The original functions of the module with this index; valid while the gate is closed. */
const mca_btl_base_module_t *crcp_lpm_gate_original(unsigned module);

/** How often the gate has refused a fragment since it was last closed. */
unsigned long crcp_lpm_gate_refused(void);

/* ---- crcp_lpm_tcp.c: everything that knows the inside of btl/tcp (adapter for one Open MPI version) ---- */

typedef struct mca_btl_base_endpoint_t crcp_lpm_endpoint_t;

/**
 * Look up btl/tcp in this process and check that it is the one we were compiled for.
 * @param why set to a static text when the answer is not OMPI_SUCCESS.
 */
int crcp_lpm_tcp_init(const char **why);

unsigned crcp_lpm_tcp_num_modules(void);
mca_btl_base_module_t *crcp_lpm_tcp_module(unsigned index);

/** Call @p fn for every endpoint of every module, until it answers something else than 0; that is returned. */
int crcp_lpm_tcp_foreach(int (*fn)(crcp_lpm_endpoint_t *endpoint, unsigned module, void *arg), void *arg);

opal_process_name_t crcp_lpm_tcp_peer(const crcp_lpm_endpoint_t *endpoint);

/** A connection exists, is being made, or fragments wait for one. */
bool crcp_lpm_tcp_active(crcp_lpm_endpoint_t *endpoint);

/** Nothing is half sent, half received or queued. */
bool crcp_lpm_tcp_empty(crcp_lpm_endpoint_t *endpoint);

/** One line on the state of an endpoint. */
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

/* ---- crcp_lpm_modex.c: addresses of moved ranks for endpoints that are made later ---- */

/** Put an overlay in front of the modex. Once, from init. */
int crcp_lpm_modex_init(void);

/** The bytes that later lookups of @p key for @p name return; copied. Any thread. */
int crcp_lpm_modex_set(const opal_process_name_t *name, const char *key, const void *bytes, size_t size);

void crcp_lpm_modex_finalize(void);

#endif /* CRCP_LPM_H */
