/*
 * The migration that is under way: time limits, the tool that asked, questions to ranks and daemons, the end.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm_move.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lpm_msg.h"
#include "snapc_lpm_plan.h"

#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/mca/snapc/base/base.h"
#include "orte/util/name_fns.h"

/* A request whose move comes upon calls such as MPI_Comm_connect. */
#define TRIES_MAX 20

snapc_lpm_move_t snapc_lpm_move;

static opal_event_t *limit_timer;
static json_t *leavers; /* ranks that want into MPI_Finalize while a move is on */

/* ---- time ---- */

double snapc_lpm_move_now_ms(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static void limit_expired(int fd, short events, void *arg)
{
    char text[160];

    (void)fd;
    (void)events;
    (void)arg;
    if (LPM_STATE_ROLLBACK == snapc_lpm_move.state) {
        /* nothing more can be undone from here; the ranks go on when those that are missing answer */
        opal_output(0, "snapc/lpm: rollback of migration %lld still waits for \"%s\" (%zu missing)",
                    (long long)snapc_lpm_move.id, NULL == snapc_lpm_move.step ? "the nodes" : snapc_lpm_move.step,
                    snapc_lpm_move.waiting);
        snapc_lpm_move_tell(json_incref(snapc_lpm_move.failure));
        snapc_lpm_move.tool = NULL; /* it has its answer; the job is busy until the rest has come */
        return;
    }
    snprintf(text, sizeof(text), "no end of phase %s within %d s; waiting for \"%s\" of %zu",
             lpm_state_name(snapc_lpm_move.state), snapc_lpm_limit[snapc_lpm_move.state],
             NULL == snapc_lpm_move.step ? "the nodes" : snapc_lpm_move.step, snapc_lpm_move.waiting);
    snapc_lpm_move_fail(text,
                        "ranks must call MPI now and then; the limit is the MCA parameter snapc_lpm_limit_<phase>");
}

static void arm_limit(lpm_state_t state)
{
    struct timeval limit = {snapc_lpm_limit[state], 0};

    opal_event_evtimer_del(limit_timer);
    if (0 < limit.tv_sec) {
        opal_event_evtimer_add(limit_timer, &limit);
    }
}

/* ---- the tool ---- */

void snapc_lpm_move_tell(json_t *message)
{
    if (NULL != snapc_lpm_move.tool) {
        (void)lpm_conn_send(snapc_lpm_move.tool, message);
    } else {
        json_decref(message);
    }
}

static void note_phase(void)
{
    double ms = snapc_lpm_move_now_ms() - snapc_lpm_move.phase_began_ms;
    const char *name = lpm_state_name(snapc_lpm_move.state);

    json_array_append_new(snapc_lpm_move.phases, json_pack("{s:s,s:f}", "phase", name, "ms", ms));
    snapc_lpm_move_tell(json_pack("{s:s,s:s,s:f}", "event", "phase", "phase", name, "ms", ms));
    SNAPC_LPM_LOG(2, "snapc/lpm: migration %lld of %s: %s %.1f ms", (long long)snapc_lpm_move.id,
                  ORTE_NAME_PRINT(&snapc_lpm_move.name), name, ms);
}

static void tell_done(void)
{
    snapc_lpm_move_tell(
        json_pack("{s:s,s:i,s:I,s:I,s:s,s:s,s:f,s:f,s:I,s:O,s:O,s:O}", "event", "done", "job",
                  (int)ORTE_LOCAL_JOBID(snapc_lpm_move.name.jobid), "rank", (json_int_t)snapc_lpm_move.name.vpid, "pid",
                  snapc_lpm_move.pid, "from", snapc_lpm_maps_node(snapc_lpm_move.source), "onto",
                  snapc_lpm_maps_node(snapc_lpm_move.target), "blackout_ms", snapc_lpm_move.blackout_ms, "total_ms",
                  snapc_lpm_move_now_ms() - snapc_lpm_move.began_ms, "image_bytes", snapc_lpm_move.image_bytes,
                  "phases", snapc_lpm_move.phases, "channels", snapc_lpm_move.channels, "pages", snapc_lpm_move.pages));
}

/* ---- to ranks and daemons ---- */

json_t *snapc_lpm_move_command(const char *op)
{
    return json_pack("{s:s,s:I,s:I,s:I}", "op", op, "move", (json_int_t)snapc_lpm_move.id, "job",
                     (json_int_t)snapc_lpm_move.name.jobid, "rank", (json_int_t)snapc_lpm_move.name.vpid);
}

/* All ranks, all of which answer with one event; @p mover_too: or all but the mover. */
void snapc_lpm_move_ask_ranks(json_t *message, const char *event, bool mover_too)
{
    json_t *command = json_pack("{s:s,s:o}", "op", "ranks", "message", message);

    if (!mover_too) {
        json_object_set_new(command, "job", json_integer((json_int_t)snapc_lpm_move.name.jobid));
        json_object_set_new(command, "rank", json_integer((json_int_t)snapc_lpm_move.name.vpid));
        json_object_set_new(command, "but", json_true());
    }
    snapc_lpm_move.waiting = snapc_lpm_ranks_enlisted(snapc_lpm_move.id) - (mover_too ? 0 : 1);
    snapc_lpm_move.step = event;
    (void)snapc_lpm_rml_broadcast(command);
}

void snapc_lpm_move_ask_mover(orte_vpid_t daemon, json_t *message, const char *event)
{
    snapc_lpm_move.waiting = 1;
    snapc_lpm_move.step = event;
    (void)snapc_lpm_rml_send(daemon,
                             json_pack("{s:s,s:I,s:I,s:o}", "op", "ranks", "job", (json_int_t)snapc_lpm_move.name.jobid,
                                       "rank", (json_int_t)snapc_lpm_move.name.vpid, "message", message));
}

void snapc_lpm_move_ask_daemon(orte_vpid_t daemon, json_t *command, const char *event)
{
    snapc_lpm_move.waiting = 1;
    snapc_lpm_move.step = event;
    (void)snapc_lpm_rml_send(daemon, command);
}

/* ---- the end of a move ---- */

void snapc_lpm_move_let_leave(const orte_process_name_t *name)
{
    snapc_lpm_rank_t *rank = snapc_lpm_ranks_find(name);

    if (NULL == rank) {
        return;
    }
    rank->leaving = true;
    (void)snapc_lpm_rml_send(rank->daemon,
                             json_pack("{s:s,s:I,s:I,s:{s:s}}", "op", "ranks", "job", (json_int_t)name->jobid, "rank",
                                       (json_int_t)name->vpid, "message", "op", "leave"));
}

static void let_all_leave(void)
{
    orte_process_name_t name;
    json_t *entry;
    size_t i;

    json_array_foreach(leavers, i, entry) {
        if (ORTE_SUCCESS == snapc_lpm_read_name(entry, &name)) {
            snapc_lpm_move_let_leave(&name);
        }
    }
    json_array_clear(leavers);
}

void snapc_lpm_move_leave_later(const orte_process_name_t *name)
{
    json_array_append_new(leavers,
                          json_pack("{s:I,s:I}", "job", (json_int_t)name->jobid, "rank", (json_int_t)name->vpid));
}

static void clear(void)
{
    opal_event_evtimer_del(limit_timer);
    json_decref(snapc_lpm_move.request);
    json_decref(snapc_lpm_move.process);
    json_decref(snapc_lpm_move.source_ifaces);
    json_decref(snapc_lpm_move.target_ifaces);
    json_decref(snapc_lpm_move.phases);
    json_decref(snapc_lpm_move.channels);
    json_decref(snapc_lpm_move.pages);
    json_decref(snapc_lpm_move.failure);
    memset(&snapc_lpm_move, 0, sizeof(snapc_lpm_move)); /* the secret with it */
    let_all_leave();
}

/* @return whether the tool's request is tried once more */
static bool try_again(void)
{
    lpm_conn_t *tool = snapc_lpm_move.tool;
    const unsigned tries = snapc_lpm_move.tries + 1;
    json_t *request;

    if (NULL == snapc_lpm_move.failure || !snapc_lpm_move.again || NULL == tool || TRIES_MAX <= tries) {
        return false;
    }
    request = json_incref(snapc_lpm_move.request);
    clear();
    snapc_lpm_global_migrate(tool, request, tries);
    json_decref(request);
    return true;
}

void snapc_lpm_move_finish(void)
{
    if (snapc_lpm_move.done.source_open) {
        (void)snapc_lpm_rml_send(snapc_lpm_move.source, json_pack("{s:s}", "op", "source_reset"));
    }
    if (snapc_lpm_move.done.target_open) {
        (void)snapc_lpm_rml_send(snapc_lpm_move.target, json_pack("{s:s}", "op", "target_reset"));
    }
    if (try_again()) {
        return;
    }
    if (NULL != snapc_lpm_move.failure) {
        snapc_lpm_move_tell(json_incref(snapc_lpm_move.failure));
    } else {
        tell_done();
    }
    clear();
}

/* ---- failure ---- */

void snapc_lpm_move_set_failure(const char *message, const char *remedy)
{
    const char *code = "failed";

    if (lpm_state_committed(snapc_lpm_move.state)) {
        code = "lost";
        remedy = "the migration was past its commit: look at the job's own messages";
    } else if (LPM_STATE_PREPARE == snapc_lpm_move.state) {
        code = "unmovable"; /* nothing of the job has been touched */
    }
    if (NULL == snapc_lpm_move.failed_in) {
        snapc_lpm_move.failed_in = lpm_state_name(snapc_lpm_move.state);
    }
    json_decref(snapc_lpm_move.failure);
    snapc_lpm_move.failure =
        lpm_msg_error(code, snapc_lpm_move.failed_in, message,
                      NULL == remedy ? "the rank runs on where it was; see docs/debugging.md" : remedy);
    SNAPC_LPM_LOG(1, "snapc/lpm: migration of rank %s to %s failed in %s: %s",
                  ORTE_VPID_PRINT(snapc_lpm_move.name.vpid), snapc_lpm_maps_node(snapc_lpm_move.target),
                  snapc_lpm_move.failed_in, message);
}

void snapc_lpm_move_fail(const char *message, const char *remedy)
{
    if (LPM_STATE_IDLE == snapc_lpm_move.state || LPM_STATE_ROLLBACK == snapc_lpm_move.state) {
        return; /* already on the way back: the first cause is the one to tell */
    }
    snapc_lpm_move_set_failure(message, remedy);
    if (lpm_state_committed(snapc_lpm_move.state)) {
        snapc_lpm_plan_abort(&snapc_lpm_move.name, message);
        snapc_lpm_move_finish();
        return;
    }
    snapc_lpm_move_enter(LPM_STATE_ROLLBACK);
}

/* ---- from state to state ---- */

void snapc_lpm_move_enter(lpm_state_t state)
{
    if (!lpm_state_may_follow(snapc_lpm_move.state, state)) {
        opal_output(0, "snapc/lpm: no way from %s to %s", lpm_state_name(snapc_lpm_move.state), lpm_state_name(state));
        return;
    }
    note_phase();
    if (lpm_state_info(state)->blackout && 0 == snapc_lpm_move.blackout_began_ms) {
        snapc_lpm_move.blackout_began_ms = snapc_lpm_move_now_ms();
    }
    snapc_lpm_move.state = state;
    snapc_lpm_move.phase_began_ms = snapc_lpm_move_now_ms();
    snapc_lpm_move.step = NULL;
    snapc_lpm_move.waiting = 0;
    arm_limit(state);
    snapc_lpm_phase_begin(state);
}

void snapc_lpm_move_next(void)
{
    snapc_lpm_move_enter(lpm_state_info(snapc_lpm_move.state)->next);
}

void snapc_lpm_move_no_limit(void)
{
    opal_event_evtimer_del(limit_timer);
}

/* ---- beginning and end of mpirun ---- */

int snapc_lpm_move_init(void)
{
    memset(&snapc_lpm_move, 0, sizeof(snapc_lpm_move));
    leavers = json_array();
    limit_timer = opal_event_alloc();
    if (NULL == leavers || NULL == limit_timer) {
        return ORTE_ERR_OUT_OF_RESOURCE;
    }
    opal_event_evtimer_set(orte_event_base, limit_timer, limit_expired, NULL);
    return ORTE_SUCCESS;
}

void snapc_lpm_move_finalize(void)
{
    snapc_lpm_move.tool = NULL; /* closed by the control socket */
    clear();
    opal_event_free(limit_timer);
    limit_timer = NULL;
    json_decref(leavers);
    leavers = NULL;
}
