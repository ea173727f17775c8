/*
 * The phases of a migration: what begins each of them, and the steps inside.
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
#include "lpm_places.h"
#include "snapc_lpm_plan.h"

#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/mca/snapc/base/base.h"
#include "orte/util/name_fns.h"

static json_t *moved_tables; /* "attach" messages for ranks that start later */
static json_t *warned;       /* causes that have been told */

/* ---- the phases: what begins them ---- */

static void begin_prepare(void)
{
    json_t *command = snapc_lpm_move_command("source_inspect");

    snapc_lpm_move.done.source_open = true;
    snapc_lpm_move_ask_daemon(snapc_lpm_move.source, command, "inspected");
}

static void begin_quiesce(void)
{
    snapc_lpm_move.done.held = true;
    snapc_lpm_move_ask_ranks(snapc_lpm_move_command("hold"), "drained", true);
}

static void begin_freeze(void)
{
    snapc_lpm_move.step = "frozen";
    snapc_lpm_move.waiting = 1;
    (void)snapc_lpm_rml_send(snapc_lpm_move.source, json_pack("{s:s}", "op", "source_freeze"));
    (void)snapc_lpm_rml_send(snapc_lpm_move.target, json_pack("{s:s}", "op", "target_restore"));
}

/* All pages are where they belong, or some follow. */
static void begin_fill(void)
{
    if (!snapc_lpm_move.missing) {
        snapc_lpm_move_next();
    } else if (snapc_lpm_move.filled) {
        snapc_lpm_move_ask_daemon(snapc_lpm_move.source, json_pack("{s:s}", "op", "source_release"), "released");
    } else {
        snapc_lpm_move.step = "filled"; /* for messages: it comes by filled() */
        snapc_lpm_move.waiting = 1;
    }
}

static void begin_commit(void)
{
    snapc_lpm_move_ask_daemon(snapc_lpm_move.source, json_pack("{s:s}", "op", "source_commit"), "source_gone");
}

/* The mover, which stands still on the node of @p daemon, takes its place there. */
static void ask_to_relocate(orte_vpid_t daemon)
{
    orte_job_t *job = orte_get_job_data_object(snapc_lpm_move.name.jobid);
    json_t *command = snapc_lpm_move_command("relocate");

    json_object_set_new(command, "near", snapc_lpm_ranks_near(daemon));
    if (NULL != job) {
        json_object_set_new(command, "place", json_integer(lpm_place_moved(job->num_procs, snapc_lpm_move.name.vpid)));
    }
    snapc_lpm_move_ask_mover(daemon, command, "relocated");
}

static void begin_resume(void)
{
    ask_to_relocate(snapc_lpm_move.target);
}

/* Undo, in reverse: no copy at the target, the original thawed, its PMIx client and channels back. */
static void begin_rollback(void)
{
    if (snapc_lpm_move.done.target_open) {
        snapc_lpm_move_ask_daemon(snapc_lpm_move.target, json_pack("{s:s}", "op", "target_rollback"), "discarded");
    } else {
        snapc_lpm_move_ask_daemon(snapc_lpm_move.source, json_pack("{s:s}", "op", "source_rollback"), "thawed");
    }
}

void snapc_lpm_phase_begin(lpm_state_t state)
{
    static void (*const begin[LPM_STATE_MAX])(void) = {
        [LPM_STATE_PREPARE] = begin_prepare,   [LPM_STATE_QUIESCE] = begin_quiesce,
        [LPM_STATE_FREEZE] = begin_freeze,     [LPM_STATE_COMMIT] = begin_commit,
        [LPM_STATE_RESUME] = begin_resume,     [LPM_STATE_DONE] = snapc_lpm_move_finish,
        [LPM_STATE_ROLLBACK] = begin_rollback, [LPM_STATE_FILL] = begin_fill,
    };

    if (NULL != begin[state]) {
        begin[state]();
    }
}

/* ---- the steps inside the phases ---- */

static void prepare_step(const char *event, json_t *message)
{
    json_t *command;
    int64_t port;

    if (0 == strcmp("inspected", event)) {
        snapc_lpm_move.process = json_incref(json_object_get(message, "process"));
        snapc_lpm_move.source_ifaces = json_incref(json_object_get(message, "ifaces"));
        command = snapc_lpm_move_command("target_open");
        json_object_set(command, "process", snapc_lpm_move.process);
        json_object_set_new(command, "secret", json_string(snapc_lpm_move.secret));
        json_object_set_new(command, "dir", snapc_lpm_plan_directory(snapc_lpm_move.id));
        json_object_set_new(command, "listen_addrs", json_array());
        json_object_set_new(command, "lazy", json_boolean(snapc_lpm_move.lazy));
        snapc_lpm_move.done.target_open = true;
        snapc_lpm_move_ask_daemon(snapc_lpm_move.target, command, "listening");
    } else if (0 == strcmp("listening", event) && 0 == lpm_msg_int(message, "port", 1, UINT16_MAX, &port)) {
        snapc_lpm_move.target_ifaces = json_incref(json_object_get(message, "ifaces"));
        command = snapc_lpm_move_command("source_open");
        json_object_set_new(command, "secret", json_string(snapc_lpm_move.secret));
        json_object_set_new(command, "dir", snapc_lpm_plan_directory(snapc_lpm_move.id));
        json_object_set_new(command, "peer_addrs",
                            snapc_lpm_plan_addresses(snapc_lpm_move.source_ifaces, snapc_lpm_move.target_ifaces));
        json_object_set_new(command, "peer_port", json_integer(port));
        if (snapc_lpm_move.lazy) {
            json_object_set(command, "pages_port", json_object_get(message, "pages_port"));
        }
        snapc_lpm_move_ask_daemon(snapc_lpm_move.source, command, "opened");
        snapc_lpm_move.waiting = 2; /* both ends say so */
    } else if (0 == strcmp("opened", event)) {
        command = snapc_lpm_move_command("prepare");
        json_object_set(command, "ifaces", snapc_lpm_move.target_ifaces);
        snapc_lpm_move_ask_ranks(command, "ready", true);
    } else if (0 == strcmp("ready", event)) {
        snapc_lpm_move_next();
    }
}

static void quiesce_step(const char *event)
{
    if (0 == strcmp("drained", event)) {
        snapc_lpm_move.done.torn = true;
        snapc_lpm_move_ask_ranks(snapc_lpm_move_command("tear"), "down", true);
    } else if (0 == strcmp("down", event)) {
        snapc_lpm_move.done.detached = true;
        snapc_lpm_move_ask_daemon(snapc_lpm_move.source, json_pack("{s:s}", "op", "source_detach"), "detached");
    } else if (0 == strcmp("detached", event)) {
        snapc_lpm_move_next();
    }
}

/* The rank has lost the memory that is to follow: the target learns what will be missing. */
static void emptied(json_t *message)
{
    json_t *ranges = json_object_get(message, "ranges");

    snapc_lpm_move.missing = 0 < json_array_size(ranges);
    json_object_set_new(snapc_lpm_move.pages, "ranges", json_integer((json_int_t)json_array_size(ranges)));
    json_object_set(snapc_lpm_move.pages, "kept", json_object_get(message, "kept"));
    json_object_set(snapc_lpm_move.pages, "empty_ms", json_object_get(message, "ms"));
    if (NULL != lpm_msg_str(message, "why")) {
        json_object_set(snapc_lpm_move.pages, "why_none", json_object_get(message, "why"));
    }
    (void)snapc_lpm_rml_send(snapc_lpm_move.target, json_pack("{s:s,s:O,s:O}", "op", "target_pages", "ranges", ranges,
                                                              "stopped", json_object_get(message, "stopped")));
}

/* Freezing, sending and rebuilding overlap; what has come decides which phase it is. */
static void image_step(const char *event, json_t *message)
{
    int64_t value;

    if (0 == strcmp("emptied", event)) {
        emptied(message);
    } else if (0 == strcmp("frozen", event)) {
        snapc_lpm_move.frozen = true;
    } else if (0 == strcmp("received", event)) {
        snapc_lpm_move.received = true;
        if (0 == lpm_msg_int(message, "bytes", 0, INT64_MAX, &value)) {
            snapc_lpm_move.image_bytes = value;
        }
    } else if (0 == strcmp("restored", event) && 0 == lpm_msg_int(message, "pid", 1, INT32_MAX, &value)) {
        snapc_lpm_move.restored = true;
        snapc_lpm_move.pid = value;
        if (NULL != json_object_get(message, "missing_pages")) {
            json_object_set(snapc_lpm_move.pages, "missing_pages", json_object_get(message, "missing_pages"));
        }
    }
    if (LPM_STATE_FREEZE == snapc_lpm_move.state && snapc_lpm_move.frozen) {
        snapc_lpm_move_next();
        snapc_lpm_move.step = "received";
        snapc_lpm_move.waiting = 1;
    }
    if (LPM_STATE_TRANSFER == snapc_lpm_move.state && snapc_lpm_move.received) {
        snapc_lpm_move_next();
        snapc_lpm_move.step = "restored";
        snapc_lpm_move.waiting = 1;
    }
    if (LPM_STATE_RESTORE == snapc_lpm_move.state && snapc_lpm_move.restored) {
        snapc_lpm_move_next();
    }
}

static void commit_step(const char *event, const json_t *message)
{
    snapc_lpm_rank_t *rank = snapc_lpm_ranks_find(&snapc_lpm_move.name);
    json_t *map;
    int daemons;

    if (NULL == rank) {
        snapc_lpm_move_fail("the rank is not known any more", NULL);
        return;
    }
    if (0 == strcmp("source_gone", event)) {
        map = snapc_lpm_move_command("map");
        json_object_set_new(map, "onto", json_integer((json_int_t)snapc_lpm_move.target));
        daemons = snapc_lpm_rml_broadcast(map);
        snapc_lpm_move.waiting = (0 < daemons) ? (size_t)daemons : 1;
        snapc_lpm_move.step = "mapped";
    } else if (0 == strcmp("mapped", event)) {
        if (!lpm_msg_true(message, "ok")) {
            snapc_lpm_move_fail("a daemon could not enter the rank's new place in its tables", NULL);
            return;
        }
        rank->daemon = snapc_lpm_move.target;
        snapc_lpm_move_ask_daemon(snapc_lpm_move.target, json_pack("{s:s}", "op", "target_commit"), "reattached");
    } else if (0 == strcmp("reattached", event)) {
        snapc_lpm_move_next();
    }
}

/* A rank that starts later learns of this move, and of none before it of the same rank. */
static void remember_place(json_t *attach)
{
    orte_process_name_t name;
    json_t *entry;
    size_t i;

    json_array_foreach(moved_tables, i, entry) {
        if (ORTE_SUCCESS == snapc_lpm_read_name(entry, &name) && name.jobid == snapc_lpm_move.name.jobid &&
            name.vpid == snapc_lpm_move.name.vpid) {
            json_array_remove(moved_tables, i);
            break;
        }
    }
    json_array_append(moved_tables, attach);
}

static bool is_near(const snapc_lpm_rank_t *rank, const snapc_lpm_rank_t *mover)
{
    return rank != mover && rank->daemon == mover->daemon && rank->move == snapc_lpm_move.id;
}

/* The mover runs. Its peers are told where; each channel opens as soon as its peer knows. */
static void tell_peers(const json_t *relocated)
{
    const snapc_lpm_rank_t *mover = snapc_lpm_ranks_find(&snapc_lpm_move.name);
    json_t *attach = snapc_lpm_move_command("attach");

    json_object_set(attach, "table", json_object_get(relocated, "table"));
    json_object_set(attach, "place", json_object_get(relocated, "place"));
    if (NULL != json_object_get(relocated, "vader")) {
        json_object_set(attach, "vader", json_object_get(relocated, "vader"));
    }
    remember_place(attach);
    snapc_lpm_move.near_waiting = 0;
    for (size_t i = 0; NULL != mover && i < snapc_lpm_ranks_count(); ++i) {
        snapc_lpm_move.near_waiting += is_near(snapc_lpm_ranks_at(i), mover) ? 1 : 0;
    }
    snapc_lpm_move_ask_ranks(attach, "attached", false);
    if (1 == snapc_lpm_ranks_enlisted(snapc_lpm_move.id)) { /* nobody to wait for */
        snapc_lpm_move_ask_ranks(snapc_lpm_move_command("resume"), "resumed", true);
    }
}

/*
 * Channels of btl/vader open together: a neighbour that finds the mover's fragment at the end of a third rank's FIFO
 * writes into the mover's segment.
 */
void snapc_lpm_phase_attached(const snapc_lpm_rank_t *rank)
{
    const snapc_lpm_rank_t *mover = snapc_lpm_ranks_find(&snapc_lpm_move.name);
    json_t *open = snapc_lpm_move_command("open");

    if (NULL == mover || NULL == open) {
        json_decref(open);
        return;
    }
    json_object_set_new(open, "peer_job", json_integer((json_int_t)rank->name.jobid));
    json_object_set_new(open, "peer_rank", json_integer((json_int_t)rank->name.vpid));
    if (is_near(rank, mover) && 0 < snapc_lpm_move.near_waiting && 0 == --snapc_lpm_move.near_waiting) {
        json_object_set_new(open, "near", json_true());
    }
    (void)snapc_lpm_rml_send(mover->daemon,
                             json_pack("{s:s,s:I,s:I,s:o}", "op", "ranks", "job", (json_int_t)mover->name.jobid, "rank",
                                       (json_int_t)mover->name.vpid, "message", open));
}

static void resume_step(const char *event, json_t *message)
{
    const snapc_lpm_rank_t *mover = snapc_lpm_ranks_find(&snapc_lpm_move.name);

    if (0 == strcmp("relocated", event) && NULL != lpm_msg_str(message, "table")) {
        /* The rank runs. What is left is for peers that may compute for long, which is no failure of the move. */
        snapc_lpm_move_no_limit();
        snapc_lpm_move.blackout_ms = snapc_lpm_move_now_ms() - snapc_lpm_move.blackout_began_ms;
        tell_peers(message);
    } else if (0 == strcmp("attached", event) && NULL != mover) {
        snapc_lpm_move_ask_mover(mover->daemon, snapc_lpm_move_command("resume"), "resumed");
    } else if (0 == strcmp("resumed", event)) {
        if (LPM_STATE_ROLLBACK == snapc_lpm_move.state) {
            snapc_lpm_move_finish();
            return;
        }
        snapc_lpm_move_next();
    }
}

/* All pages are there, perhaps before the rank has gone on. The copy that they came from may go. */
static void filled(json_t *message)
{
    json_object_del(message, "event");
    json_object_del(message, "side");
    json_object_del(message, "to");
    json_object_update(snapc_lpm_move.pages, message);
    snapc_lpm_move.filled = true;
    if (LPM_STATE_FILL == snapc_lpm_move.state) {
        begin_fill();
    }
}

static void rollback_step(const char *event, json_t *message)
{
    if (0 == strcmp("discarded", event)) {
        snapc_lpm_move_ask_daemon(snapc_lpm_move.source, json_pack("{s:s}", "op", "source_rollback"), "thawed");
    } else if (0 == strcmp("thawed", event)) {
        if (snapc_lpm_move.done.detached) {
            snapc_lpm_move_ask_daemon(snapc_lpm_move.source, json_pack("{s:s}", "op", "source_reattach"), "reattached");
        } else if (snapc_lpm_move.done.torn) {
            ask_to_relocate(snapc_lpm_move.source);
        } else if (snapc_lpm_move.done.held) {
            snapc_lpm_move_ask_ranks(snapc_lpm_move_command("resume"), "resumed", true);
        } else {
            snapc_lpm_move_finish();
        }
    } else if (0 == strcmp("reattached", event)) {
        ask_to_relocate(snapc_lpm_move.source);
    } else {
        resume_step(event, message);
    }
}

static void step(const char *event, json_t *message)
{
    switch (snapc_lpm_move.state) {
    case LPM_STATE_PREPARE: prepare_step(event, message); break;
    case LPM_STATE_QUIESCE: quiesce_step(event); break;
    case LPM_STATE_FREEZE:
    case LPM_STATE_TRANSFER:
    case LPM_STATE_RESTORE: image_step(event, message); break;
    case LPM_STATE_COMMIT: commit_step(event, message); break;
    case LPM_STATE_RESUME: resume_step(event, message); break;
    case LPM_STATE_FILL: snapc_lpm_move_next(); break; /* released */
    case LPM_STATE_ROLLBACK: rollback_step(event, message); break;
    default: break;
    }
}

/* An event that the current step waits for; the last one completes it. */
void snapc_lpm_move_event(const char *event, json_t *message)
{
    if (0 == strcmp("filled", event)) {
        filled(message);
        return;
    }
    if (NULL == snapc_lpm_move.step || 0 != strcmp(snapc_lpm_move.step, event)) {
        if (LPM_STATE_FREEZE <= snapc_lpm_move.state && LPM_STATE_RESTORE >= snapc_lpm_move.state) {
            image_step(event, message); /* these may come early */
        }
        return;
    }
    if (0 == strcmp("mapped", event) && !lpm_msg_true(message, "ok")) {
        snapc_lpm_move.waiting = 1; /* one is enough to fail */
    }
    if (0 < snapc_lpm_move.waiting && 0 == --snapc_lpm_move.waiting) {
        step(event, message);
    }
}

/* ---- what is remembered from move to move ---- */

json_t *snapc_lpm_phase_tables(void)
{
    return moved_tables;
}

json_t *snapc_lpm_phase_warned(void)
{
    return warned;
}

void snapc_lpm_phase_init(void)
{
    warned = json_object();
    moved_tables = json_array();
}

void snapc_lpm_phase_finalize(void)
{
    json_decref(moved_tables);
    json_decref(warned);
    moved_tables = warned = NULL;
}
