/*
 * snapc/lpm: the coordinators of a migration.
 *
 *   global  in mpirun: takes requests, owns the state machine, decides
 *   local   in mpirun and every orted: its node's ranks, their sockets, one end of a move
 *   app     in the rank: one agent thread between the daemon and the MPI thread
 *
 * Everything that global and local do runs on orte_event_base and never blocks.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef SNAPC_LPM_H
#define SNAPC_LPM_H

#include "orte_config.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lpm_channels.h"
#include "lpm_conn.h"
#include "lpm_states.h"

#include "opal/mca/event/event.h"
#include "orte/mca/rml/rml_types.h"
#include "orte/mca/snapc/snapc.h"
#include "orte/runtime/orte_globals.h"
#include "orte/types.h"

/** Between the daemons; 16-18 and 65-99 are unassigned in Open MPI 4.1. */
#define SNAPC_LPM_RML_TAG 77
/** The daemon's socket for the agents of its ranks, in the session directory. */
#define SNAPC_LPM_AGENT_SOCKET "lpm.agents"

/** The component, extended by what the rank's foothold (hook/lpm) calls. */
typedef struct {
    orte_snapc_base_component_t super;
    /**
     * MPI thread, end of MPI_Init: start the agent thread. @return ORTE_SUCCESS; ORTE_ERR_NOT_AVAILABLE when no daemon
     * offers a socket (the rank then runs as without LPM).
     */
    int (*app_start)(const lpm_channel_ops_t *channels);
    /**
     * MPI thread, start of MPI_Finalize: tell mpirun that this rank is leaving and take part in a move that is under
     * way until it is over; @p progress drives MPI meanwhile. Ends the agent thread.
     */
    void (*app_stop)(void (*progress)(void));
    /** Daemon: the value of LPM_MOVED_RANKS for ranks that are started now, to be freed; NULL: none has moved. */
    char *(*moved)(void);
} mca_snapc_lpm_component_t;

ORTE_MODULE_DECLSPEC extern mca_snapc_lpm_component_t mca_snapc_lpm_component;

/* ---- snapc_lpm_component.c: MCA parameters ---- */

extern char *snapc_lpm_agent_socket;       /* the rank's daemon listens here */
extern int snapc_lpm_limit[LPM_STATE_MAX]; /* seconds, 0: none */

/* ---- snapc_lpm_module.c ---- */

extern orte_snapc_base_module_t snapc_lpm_module;

/** What crs/lpm offers the daemons: process images. NULL when crs/lpm is not open in this process. */
struct crs_lpm_image_ops;
const struct crs_lpm_image_ops *snapc_lpm_image_ops(void);

/** Log at a verbosity of the framework (snapc_base_verbose); printf-like. */
#define SNAPC_LPM_LOG(level, ...) opal_output_verbose((level), orte_snapc_base_framework.framework_output, __VA_ARGS__)

/* ---- snapc_lpm_rml.c: messages between mpirun and the daemons ---- */

typedef void (*snapc_lpm_rml_fn_t)(orte_vpid_t sender, json_t *message);

/** Receive; messages with "to" = "global" go to the first function, all others to the second. */
void snapc_lpm_rml_start(snapc_lpm_rml_fn_t global, snapc_lpm_rml_fn_t local);
void snapc_lpm_rml_stop(void);

/** Send to one daemon (0 is mpirun). The reference is stolen, also on failure. */
int snapc_lpm_rml_send(orte_vpid_t daemon, json_t *message);

/** To the global coordinator. */
int snapc_lpm_rml_report(json_t *message);

/** To every daemon, mpirun's included. @return how many, or a negative ORTE error. */
int snapc_lpm_rml_broadcast(json_t *message);

/* ---- snapc_lpm_global.c, snapc_lpm_control.c: mpirun ---- */

int snapc_lpm_global_init(void);
void snapc_lpm_global_finalize(void);
void snapc_lpm_global_receive(orte_vpid_t sender, json_t *message);

/**
 * A request of a tool. The answers go to @p tool until it closes; snapc_lpm_global_forget() tells that it did.
 * @param tries  how often it has been tried before.
 */
void snapc_lpm_global_migrate(lpm_conn_t *tool, json_t *request, unsigned tries);
void snapc_lpm_global_forget(lpm_conn_t *tool);
json_t *snapc_lpm_global_list(void);

int snapc_lpm_control_init(void);
void snapc_lpm_control_finalize(void);

/* ---- snapc_lpm_ranks.c: mpirun's table of the ranks that have reported ---- */

typedef struct {
    orte_process_name_t name;
    orte_vpid_t daemon; /* where its agent is connected */
    pid_t pid;
    int64_t move; /* the last migration in which it takes part */
    bool leaving;
    char *unmovable; /* why, or NULL */
    int place;       /* in the shared memory of its node, -1: none; see lpm_places.h */
    char *vader;     /* what its neighbours need to share memory with it, or NULL */
} snapc_lpm_rank_t;

void snapc_lpm_ranks_init(void);
void snapc_lpm_ranks_finalize(void);
snapc_lpm_rank_t *snapc_lpm_ranks_find(const orte_process_name_t *name);
/** Add or replace. @param unmovable copied, may be NULL. */
int snapc_lpm_ranks_up(const orte_process_name_t *name, orte_vpid_t daemon, pid_t pid, const char *unmovable);
void snapc_lpm_ranks_down(const orte_process_name_t *name);
size_t snapc_lpm_ranks_count(void);
/** What an answer of a rank says of its shared memory: members "place" and "vader". */
void snapc_lpm_ranks_card(snapc_lpm_rank_t *rank, const json_t *answer);
/** Ranks on the node of a daemon: [{"job":,"rank":,"place":[,"vader":]}]; a new reference. */
json_t *snapc_lpm_ranks_near(orte_vpid_t daemon);
/** All ranks that are there now take part in a migration; ranks that start later do not. */
void snapc_lpm_ranks_enlist(int64_t move);
size_t snapc_lpm_ranks_enlisted(int64_t move);
snapc_lpm_rank_t *snapc_lpm_ranks_at(size_t index);

/* ---- snapc_lpm_local.c: every daemon ---- */

typedef struct {
    opal_list_item_t super;
    lpm_conn_t *conn; /* NULL while the rank is moving away */
    orte_process_name_t name;
    pid_t pid;
    uint64_t socket_inode; /* of the rank's end */
    bool known;            /* it has said hello */
} snapc_lpm_agent_t;

OBJ_CLASS_DECLARATION(snapc_lpm_agent_t);

int snapc_lpm_local_init(void);
char *snapc_lpm_local_moved(void);
void snapc_lpm_local_finalize(void);
void snapc_lpm_local_receive(orte_vpid_t sender, json_t *message);
snapc_lpm_agent_t *snapc_lpm_local_agent(const orte_process_name_t *name);
/** A rank that was restored here: its agent is at the other end of @p fd (owned from success on). */
int snapc_lpm_local_adopt_agent(const orte_process_name_t *name, pid_t pid, int fd, uint64_t inode);
void snapc_lpm_local_forget_agent(const orte_process_name_t *name);

/* ---- snapc_lpm_source.c, snapc_lpm_target.c: the two ends of the move; commands as in docs/protocol.md ---- */

void snapc_lpm_source_command(const char *op, json_t *message);
void snapc_lpm_source_reset(void);
void snapc_lpm_target_command(const char *op, json_t *message);

/** A rank of this node has said something; it may be the one that has arrived. @param message  borrowed */
void snapc_lpm_target_heard(const orte_process_name_t *name, const json_t *message);

void snapc_lpm_target_reset(void);

/** The path in a command to open, to be freed; removing it with what is in it, should the helper have left it. */
char *snapc_lpm_image_directory(const json_t *message);
void snapc_lpm_remove_image(char **directory);

/** Read "job" and "rank". */
int snapc_lpm_read_name(const json_t *message, orte_process_name_t *name);

/* ---- snapc_lpm_inspect.c: what /proc and the kernel say; no ORTE inside ---- */

/** {"fds":{"0":key,…},"tids":[…],"exe":path,"cwd":path}; NULL with *why (static) set when it cannot be moved. */
json_t *snapc_lpm_inspect_process(pid_t pid, const char **why);
/** Can a process with these tids, program and directory be built here? NULL, or why not (to be freed). */
char *snapc_lpm_inspect_room(const json_t *process);
/** [{"name":,"index":,"family":,"addr":}]: interfaces that are up, loopback and link-local addresses left out. */
json_t *snapc_lpm_inspect_interfaces(void);

/* ---- snapc_lpm_maps.c: ORTE's bookkeeping of who is where (adapter for one Open MPI version) ---- */

/** Every daemon: the rank belongs to the daemon @p onto from now on. Idempotent. */
int snapc_lpm_maps_move(const orte_process_name_t *name, orte_vpid_t onto);
/** Source: the original is about to be killed; its end must not be taken for the rank's. @p gone is called then. */
int snapc_lpm_maps_disown(const orte_process_name_t *name, void (*gone)(void));
/** Source, after the commit: the rank is no longer a local child. */
int snapc_lpm_maps_forget(const orte_process_name_t *name);
/** Target: it is one now; its exit counts. @p pid is our child. */
int snapc_lpm_maps_adopt(const orte_process_name_t *name, pid_t pid);
/** Target, after the commit: the rank is lost; the job is told as of any rank killed by a signal. */
void snapc_lpm_maps_lost(const orte_process_name_t *name);
/** The node's name as ORTE knows it, static; NULL when there is no such daemon. */
const char *snapc_lpm_maps_node(orte_vpid_t daemon);

/* ---- snapc_lpm_iof.c: standard streams ---- */

typedef struct {
    int fds[3];     /* the rank's ends, -1: /dev/null or not ours; closed by snapc_lpm_iof_close() */
    int parents[3]; /* the daemon's ends until snapc_lpm_iof_connect() */
    bool pty;
} snapc_lpm_iof_t;

/** Streams like those in @p fds of snapc_lpm_inspect_process(). */
int snapc_lpm_iof_open(const json_t *fds, snapc_lpm_iof_t *iof);
/** The daemon forwards them for this rank from now on. */
int snapc_lpm_iof_connect(const orte_process_name_t *name, snapc_lpm_iof_t *iof);
/** Close what is still open of both sides. */
void snapc_lpm_iof_close(snapc_lpm_iof_t *iof);
/** Source, after the original's end: everything it had written has been forwarded, or nothing can come any more. */
bool snapc_lpm_iof_drained(const orte_process_name_t *name);

/* ---- snapc_lpm_pmix_*.c: libpmix (adapters for one libpmix version) ---- */

/** NULL when this libpmix was tested, else a static text. */
const char *snapc_lpm_pmix_untested(void);
/** Server: the client will go without a word; that is no failure. Answers when done (PMIx's thread). */
void snapc_lpm_pmix_server_expect_leave(const char *nspace, uint32_t rank);
/** Server: one local participant more in the collectives under way. */
void snapc_lpm_pmix_server_fix_collectives(const char *nspace, int delta);
/** Server: (de)register the rank as a client of this daemon and set the job's number of local ranks. */
int snapc_lpm_pmix_register(const orte_process_name_t *name);
int snapc_lpm_pmix_deregister(const orte_process_name_t *name);
/** Server: where a client connects; to be freed. */
char *snapc_lpm_pmix_uri(const orte_process_name_t *name);

/** Client (agent thread): leave the server. @return NULL, or why it is not possible now. */
const char *snapc_lpm_pmix_client_detach(void);
/** Client (agent thread): connect to the server at @p uri. @return NULL, or why it failed. */
const char *snapc_lpm_pmix_client_attach(const char *uri);

/* ---- snapc_lpm_app.c ---- */

int snapc_lpm_app_start(const lpm_channel_ops_t *channels);
void snapc_lpm_app_stop(void (*progress)(void));

#endif /* SNAPC_LPM_H */
