/*
 * The migration that is under way: its record in mpirun, and what every phase does with it.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef SNAPC_LPM_MOVE_H
#define SNAPC_LPM_MOVE_H

#include "snapc_lpm.h"

#include "snapc_lpm_secret.h"

/** What has been done to the job and must be undone, or not, by a rollback. */
typedef struct {
    bool source_open, target_open; /* a helper may be running there */
    bool held, torn, detached;     /* the ranks' channels, the mover's PMIx client */
} snapc_lpm_done_t;

typedef struct {
    lpm_state_t state;
    int64_t id;
    lpm_conn_t *tool; /* NULL: it has gone, the move goes on */
    json_t *request;  /* of the tool */
    unsigned tries;   /* of it before this one */
    bool again;       /* it has failed because of something that is soon over */
    orte_process_name_t name;
    orte_vpid_t source, target;
    json_t *process, *source_ifaces, *target_ifaces;
    char secret[SNAPC_LPM_SECRET_TEXT];
    snapc_lpm_done_t done;
    size_t near_waiting; /* neighbours of the mover that have not taken in where it is */
    size_t waiting;      /* answers of ranks or daemons still to come in this step */
    const char *step;    /* the event they are */
    bool frozen, received, restored, filled;
    bool lazy;     /* memory may follow later */
    bool missing;  /* and some does */
    json_t *pages; /* what became of the memory: "mode", "kept", what the target's helper counts */
    json_t *phases, *channels;
    json_t *failure;       /* what the tool is told after the rollback */
    const char *failed_in; /* name of the phase */
    bool secondhand;       /* a broken connection between the helpers: the other end knows why */
    double began_ms, phase_began_ms, blackout_began_ms, blackout_ms;
    json_int_t image_bytes, pid;
} snapc_lpm_move_t;

/** The one migration; its state is IDLE when there is none. orte_event_base's thread only, as all of this file. */
extern snapc_lpm_move_t snapc_lpm_move;

int snapc_lpm_move_init(void);
void snapc_lpm_move_finalize(void);

/** Milliseconds of the monotonic clock. */
double snapc_lpm_move_now_ms(void);

/** A line to the tool, if it is still there. The reference is stolen. */
void snapc_lpm_move_tell(json_t *message);

/** A message about this move: "op", "move", "job", "rank". A new reference. */
json_t *snapc_lpm_move_command(const char *op);

/**
 * All ranks, each of which answers with one @p event; the step is complete with the last. The message is stolen.
 * @param mover_too  or all but the mover.
 */
void snapc_lpm_move_ask_ranks(json_t *message, const char *event, bool mover_too);

/** The mover, whose agent is connected to @p daemon; a daemon. As snapc_lpm_move_ask_ranks(). */
void snapc_lpm_move_ask_mover(orte_vpid_t daemon, json_t *message, const char *event);
void snapc_lpm_move_ask_daemon(orte_vpid_t daemon, json_t *command, const char *event);

/** Go to a state, to the successor in the table. */
void snapc_lpm_move_enter(lpm_state_t state);
void snapc_lpm_move_next(void);

/** Nothing is left to wait for that could go wrong: no time limit any more in this phase. */
void snapc_lpm_move_no_limit(void);

/**
 * It has gone wrong: roll back, or end the job when it is committed. Later causes are ignored.
 * @param remedy  NULL for the general one.
 */
void snapc_lpm_move_fail(const char *message, const char *remedy);

/** What the tool is told in the end; for a cause that turns out to be the deeper one. */
void snapc_lpm_move_set_failure(const char *message, const char *remedy);

/** The end, good or bad: tell the tool, let the daemons forget, be idle. */
void snapc_lpm_move_finish(void);

/** A rank may go into MPI_Finalize: now, or when the move is over. */
void snapc_lpm_move_let_leave(const orte_process_name_t *name);
void snapc_lpm_move_leave_later(const orte_process_name_t *name);

/* ---- snapc_lpm_phases.c ---- */

/** Begin what the state that has just been entered has to do. */
void snapc_lpm_phase_begin(lpm_state_t state);

/** A rank has taken in where the mover is now: the mover may use its channel to it. */
void snapc_lpm_phase_attached(const snapc_lpm_rank_t *rank);

/** An event of a rank or daemon; completes the current step when it is the last that the step waits for. */
void snapc_lpm_move_event(const char *event, json_t *message);

/** Where ranks that have moved listen, for a rank that has just started: messages to relay to it. Borrowed. */
json_t *snapc_lpm_phase_tables(void);
/** Causes for which ranks cannot move, as keys, that the user has been warned of. Borrowed. */
json_t *snapc_lpm_phase_warned(void);
void snapc_lpm_phase_init(void);
void snapc_lpm_phase_finalize(void);

#endif /* SNAPC_LPM_MOVE_H */
