/*
 * The global coordinator: what ranks and daemons report to mpirun, and what tools ask of it.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm_move.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../crs_lpm/crs_lpm.h"
#include "lpm_msg.h"
#include "snapc_lpm_plan.h"

#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/mca/snapc/base/base.h"
#include "orte/util/name_fns.h"

static int64_t last_id;

/* ---- what ranks and daemons report ---- */

/* Once for a cause: a job of many ranks has it many times. */
static void warn_unmovable(const orte_process_name_t *name, const char *why)
{
    json_t *warned = snapc_lpm_phase_warned();

    if (NULL == why || NULL != json_object_get(warned, why)) {
        return;
    }
    json_object_set_new(warned, why, json_true());
    opal_output(0,
                "snapc/lpm: ranks of this job cannot be moved. The job runs normally; requests to move a rank will be "
                "refused.\n    the first rank that says so: %s of job %d\n    why: %s",
                ORTE_VPID_PRINT(name->vpid), (int)ORTE_LOCAL_JOBID(name->jobid), why);
}

static void rank_up(orte_vpid_t daemon, const json_t *message)
{
    orte_process_name_t name;
    int64_t pid;
    json_t *entry;
    size_t i;

    if (ORTE_SUCCESS != snapc_lpm_read_name(message, &name) || 0 != lpm_msg_int(message, "pid", 1, INT32_MAX, &pid) ||
        ORTE_SUCCESS != snapc_lpm_ranks_up(&name, daemon, (pid_t)pid, lpm_msg_str(message, "unmovable"))) {
        return;
    }
    warn_unmovable(&name, lpm_msg_str(message, "unmovable"));
    json_array_foreach(snapc_lpm_phase_tables(), i, entry) {
        (void)snapc_lpm_rml_send(daemon, json_pack("{s:s,s:I,s:I,s:O}", "op", "ranks", "job", (json_int_t)name.jobid,
                                                   "rank", (json_int_t)name.vpid, "message", entry));
    }
}

static void rank_down(const json_t *message)
{
    orte_process_name_t name;
    snapc_lpm_rank_t *rank;

    if (ORTE_SUCCESS != snapc_lpm_read_name(message, &name) || NULL == (rank = snapc_lpm_ranks_find(&name))) {
        return;
    }
    if (LPM_STATE_IDLE != snapc_lpm_move.state && !rank->leaving) {
        snapc_lpm_move_fail("a rank of the job has ended", "look at the job's own messages");
    }
    if (!rank->leaving) { /* a rank that has left stays known as such until it has ended: the job is ending */
        snapc_lpm_ranks_down(&name);
    }
}

/* While pages follow nothing is left to do with channels: a rank may go, and then they need not follow any more. */
static void rank_leaves(const orte_process_name_t *name)
{
    if (LPM_STATE_IDLE == snapc_lpm_move.state || LPM_STATE_FILL == snapc_lpm_move.state) {
        snapc_lpm_move_let_leave(name);
    } else {
        snapc_lpm_move_leave_later(name);
    }
}

/* How channels were emptied, and what has waited for them: the tool is told in the end. */
static void note_channels(const orte_process_name_t *name, const char *event, const json_t *answer)
{
    json_t *entry;

    if (NULL == snapc_lpm_move.channels ||
        (0 != strcmp("drained", event) && 0 != strcmp("attached", event) && 0 != strcmp("resumed", event))) {
        return;
    }
    entry = json_copy((json_t *)answer);
    json_object_set_new(entry, "job", json_integer((json_int_t)ORTE_LOCAL_JOBID(name->jobid)));
    json_object_set_new(entry, "rank", json_integer((json_int_t)name->vpid));
    json_array_append_new(snapc_lpm_move.channels, entry);
}

static void from_rank(json_t *message)
{
    json_t *inner = json_object_get(message, "message");
    const char *event = lpm_msg_str(inner, "event"), *text = lpm_msg_str(inner, "message");
    snapc_lpm_rank_t *rank;
    orte_process_name_t name;
    char line[512];
    int64_t id;

    if (NULL == event || ORTE_SUCCESS != snapc_lpm_read_name(message, &name)) {
        return;
    }
    if (0 == strcmp("leaving", event)) {
        rank_leaves(&name);
        return;
    }
    if (NULL == (rank = snapc_lpm_ranks_find(&name)) || rank->move != snapc_lpm_move.id ||
        (0 == lpm_msg_int(inner, "move", 0, INT64_MAX, &id) && id != snapc_lpm_move.id)) {
        return; /* of a rank that has started meanwhile, or late, of a move that is over */
    }
    if (0 == strcmp("refused", event) || 0 == strcmp("failed", event)) {
        snprintf(line, sizeof(line), "rank %s: %s", ORTE_VPID_PRINT(name.vpid), NULL == text ? event : text);
        if (LPM_STATE_PREPARE == snapc_lpm_move.state || LPM_STATE_QUIESCE == snapc_lpm_move.state) {
            snapc_lpm_move.again = lpm_msg_true(inner, "again");
        }
        snapc_lpm_move_fail(line, lpm_msg_str(inner, "remedy"));
        return;
    }
    if (0 == strcmp("ready", event) || 0 == strcmp("relocated", event)) {
        snapc_lpm_ranks_card(rank, inner);
    }
    note_channels(&name, event, inner);
    if (0 == strcmp("attached", event)) {
        snapc_lpm_phase_attached(rank);
    }
    snapc_lpm_move_event(event, inner);
}

/* What is in the way of a process image, in the user's terms. */
static const char *remedy_of(const json_t *message, const char *text)
{
    static const struct {
        const char *sign, *remedy;
    } known[] = {
        {"shares memory", "free the window first; MPI_Win_allocate needs no shared memory with --mca osc pt2pt"},
        {"forked", "move the rank when the process has ended; one that calls exec() leaves the connections behind"},
        {"tcp", "the program has a TCP connection of its own, which cannot move: close it first"},
        {"unix", "the program has a UNIX socket to another process, which cannot move: close it first"},
        {"No such file", "all files that the rank has open must be at the same path on both nodes"},
        {"Can't open file", "all files that the rank has open must be at the same path on both nodes"},
        {"no room for the images", "make room in /dev/shm of the target: the rank's memory passes through it"},
        {"No space left", "the image needs room in /dev/shm of both nodes"},
    };

    if (NULL != lpm_msg_str(message, "remedy")) {
        return lpm_msg_str(message, "remedy");
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); ++i) {
        if (NULL != strcasestr(text, known[i].sign)) {
            return known[i].remedy;
        }
    }
    return NULL;
}

static void node_failed(orte_vpid_t daemon, const json_t *message)
{
    const char *stage = lpm_msg_str(message, "stage"), *text = lpm_msg_str(message, "message");
    const char *detail = lpm_msg_str(message, "detail"), *side = lpm_msg_str(message, "side");
    bool secondhand;
    char line[1024];

    stage = (NULL == stage) ? "?" : stage;
    secondhand = (NULL != text && NULL != strstr(text, "connection lost")); /* the other end knows why */
    snprintf(line, sizeof(line), "%s on %s: %s%s%s", stage, snapc_lpm_maps_node(daemon), NULL == text ? "failed" : text,
             (NULL == detail || '\0' == detail[0]) ? "" : ": ", NULL == detail ? "" : detail);
    for (char *c = line; '\0' != *c; ++c) { /* messages are one line */
        *c = ('\n' == *c) ? ';' : *c;
    }
    if (LPM_STATE_ROLLBACK == snapc_lpm_move.state) {
        if (snapc_lpm_move.secondhand && !secondhand) {
            snapc_lpm_move.secondhand = false;
            snapc_lpm_move.again = lpm_msg_true(message, "again");
            snapc_lpm_move_set_failure(line, remedy_of(message, line));
        }
        /* a helper that has failed has cleaned up behind itself */
        snapc_lpm_move_event(NULL != side && 0 == strcmp("target", side) ? "discarded" : "thawed", (json_t *)message);
        return;
    }
    if (0 == strcmp("detach", stage)) {
        snapc_lpm_move.done.detached = false; /* refused before anything was done */
    }
    snapc_lpm_move.secondhand = secondhand;
    snapc_lpm_move.again = lpm_msg_true(message, "again");
    snapc_lpm_move_fail(line, remedy_of(message, line));
}

void snapc_lpm_global_receive(orte_vpid_t sender, json_t *message)
{
    const char *event = lpm_msg_str(message, "event");

    if (NULL == event) {
        return;
    }
    if (0 == strcmp("rank_up", event)) {
        rank_up(sender, message);
    } else if (0 == strcmp("rank_down", event)) {
        rank_down(message);
    } else if (0 == strcmp("from_rank", event)) {
        from_rank(message);
    } else if (0 == strcmp("failed", event)) {
        if (sender == snapc_lpm_move.source || sender == snapc_lpm_move.target) {
            node_failed(sender, message);
        }
    } else {
        snapc_lpm_move_event(event, message);
    }
}

/* ---- requests ---- */

void snapc_lpm_global_migrate(lpm_conn_t *tool, json_t *request, unsigned tries)
{
    snapc_lpm_plan_t plan;
    json_t *refusal;

    if (LPM_STATE_IDLE != snapc_lpm_move.state) {
        (void)lpm_conn_send(tool, lpm_msg_error("busy", "PLAN", "another migration is under way in this job",
                                                "wait until it has ended, then try again"));
        return;
    }
    if (NULL != (refusal = snapc_lpm_plan_check(request, &plan))) {
        (void)lpm_conn_send(tool, refusal);
        return;
    }
    if (ORTE_SUCCESS != snapc_lpm_secret(snapc_lpm_move.secret)) {
        (void)lpm_conn_send(tool, lpm_msg_error("failed", "PLAN", "no random bytes for the secret of the migration",
                                                "try again later"));
        return;
    }
    snapc_lpm_move.tool = tool;
    snapc_lpm_move.request = json_incref(request);
    snapc_lpm_move.tries = tries;
    snapc_lpm_move.id = ++last_id;
    snapc_lpm_move.name = plan.name;
    snapc_lpm_move.source = plan.source;
    snapc_lpm_move.target = plan.target;
    snapc_lpm_move.phases = json_array();
    snapc_lpm_move.channels = json_array();
    snapc_lpm_move.lazy = snapc_lpm_image_ops()->lazy();
    snapc_lpm_move.pages = json_pack("{s:s}", "mode", snapc_lpm_move.lazy ? "lazy" : "eager");
    snapc_lpm_move.began_ms = snapc_lpm_move.phase_began_ms = snapc_lpm_move_now_ms();
    snapc_lpm_move.state = LPM_STATE_PLAN;
    snapc_lpm_ranks_enlist(snapc_lpm_move.id);
    snapc_lpm_move_next();
}

void snapc_lpm_global_forget(lpm_conn_t *tool)
{
    if (snapc_lpm_move.tool == tool) {
        snapc_lpm_move.tool = NULL;
    }
}

json_t *snapc_lpm_global_list(void)
{
    return snapc_lpm_plan_list(LPM_STATE_IDLE == snapc_lpm_move.state ? NULL : &snapc_lpm_move.name);
}

int snapc_lpm_global_init(void)
{
    snapc_lpm_ranks_init();
    snapc_lpm_phase_init();
    return snapc_lpm_move_init();
}

void snapc_lpm_global_finalize(void)
{
    snapc_lpm_move_finalize();
    snapc_lpm_phase_finalize();
    snapc_lpm_ranks_finalize();
}
