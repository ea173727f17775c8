/*
 * The global coordinator: mpirun's state machine of the one migration that is under way.
 *
 * Each phase has one function that begins it; events of ranks and daemons complete its steps, and the last one leads
 * to the phase that the table in core/lpm_states.c names. Whatever goes wrong before COMMIT leads to ROLLBACK.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lpm_msg.h"
#include "snapc_lpm_plan.h"
#include "snapc_lpm_secret.h"

#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/mca/snapc/base/base.h"
#include "orte/util/name_fns.h"
#include "orte/util/proc_info.h"

/** What has been done to the job and must be undone, or not, by a rollback. */
typedef struct {
    bool source_open, target_open; /* a helper may be running there */
    bool held, torn, detached;     /* the ranks' channels, the mover's PMIx client */
} done_t;

typedef struct {
    lpm_state_t state;
    int64_t id;
    lpm_conn_t *tool; /* NULL: it has gone, the move goes on */
    orte_process_name_t name;
    orte_vpid_t source, target;
    json_t *process, *source_ifaces, *target_ifaces;
    char secret[SNAPC_LPM_SECRET_TEXT];
    done_t done;
    size_t waiting;   /* answers of ranks or daemons still to come in this step */
    const char *step; /* the event they are */
    bool frozen, received, restored;
    json_t *phases, *channels;
    json_t *failure;       /* what the tool is told after the rollback */
    const char *failed_in; /* name of the phase */
    bool secondhand;       /* a broken connection between the helpers: the other end knows why */
    double began_ms, phase_began_ms, blackout_began_ms, blackout_ms;
    json_int_t image_bytes, pid;
} move_t;

static move_t move;
static int64_t last_id;
static opal_event_t *limit_timer;
static json_t *moved_tables; /* "attach" messages for ranks that start later */
static json_t *leavers;      /* ranks that want into MPI_Finalize while a move is on */

static void enter(lpm_state_t state);
static void tell(json_t *message);
static void fail(const char *message, const char *remedy);

/* ---- time ---- */

static double now_ms(void)
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
    if (LPM_STATE_ROLLBACK == move.state) {
        /* nothing more can be undone from here; the ranks go on when those that are missing answer */
        opal_output(0, "snapc/lpm: rollback of migration %lld still waits for \"%s\" (%zu missing)", (long long)move.id,
                    NULL == move.step ? "the nodes" : move.step, move.waiting);
        tell(json_incref(move.failure));
        move.tool = NULL; /* it has its answer; the job is busy until the rest has come */
        return;
    }
    snprintf(text, sizeof(text), "no end of phase %s within %d s; waiting for \"%s\" of %zu", lpm_state_name(move.state),
             snapc_lpm_limit[move.state], NULL == move.step ? "the nodes" : move.step, move.waiting);
    fail(text, "ranks must call MPI now and then; the limit is the MCA parameter snapc_lpm_limit_<phase>");
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

static void tell(json_t *message)
{
    if (NULL != move.tool) {
        (void)lpm_conn_send(move.tool, message);
    } else {
        json_decref(message);
    }
}

static void note_phase(void)
{
    double ms = now_ms() - move.phase_began_ms;
    const char *name = lpm_state_name(move.state);

    json_array_append_new(move.phases, json_pack("{s:s,s:f}", "phase", name, "ms", ms));
    tell(json_pack("{s:s,s:s,s:f}", "event", "phase", "phase", name, "ms", ms));
    SNAPC_LPM_LOG(2, "snapc/lpm: migration %lld of %s: %s %.1f ms", (long long)move.id, ORTE_NAME_PRINT(&move.name), name,
                  ms);
}

static void tell_done(void)
{
    tell(json_pack("{s:s,s:i,s:I,s:I,s:s,s:s,s:f,s:f,s:I,s:O,s:O}", "event", "done", "job",
                   (int)ORTE_LOCAL_JOBID(move.name.jobid), "rank", (json_int_t)move.name.vpid, "pid", move.pid, "from",
                   snapc_lpm_maps_node(move.source), "onto", snapc_lpm_maps_node(move.target), "blackout_ms",
                   move.blackout_ms, "total_ms", now_ms() - move.began_ms, "image_bytes", move.image_bytes, "phases",
                   move.phases, "channels", move.channels));
}

/* ---- to ranks and daemons ---- */

static json_t *of_move(const char *op)
{
    return json_pack("{s:s,s:I,s:I,s:I}", "op", op, "move", (json_int_t)move.id, "job", (json_int_t)move.name.jobid,
                     "rank", (json_int_t)move.name.vpid);
}

/* All ranks, all of which answer with one event; @p mover_too: or all but the mover. */
static void ask_ranks(json_t *message, const char *event, bool mover_too)
{
    json_t *command = json_pack("{s:s,s:o}", "op", "ranks", "message", message);

    if (!mover_too) {
        json_object_set_new(command, "job", json_integer((json_int_t)move.name.jobid));
        json_object_set_new(command, "rank", json_integer((json_int_t)move.name.vpid));
        json_object_set_new(command, "but", json_true());
    }
    move.waiting = snapc_lpm_ranks_count() - (mover_too ? 0 : 1);
    move.step = event;
    (void)snapc_lpm_rml_broadcast(command);
}

static void ask_mover(orte_vpid_t daemon, json_t *message, const char *event)
{
    move.waiting = 1;
    move.step = event;
    (void)snapc_lpm_rml_send(daemon, json_pack("{s:s,s:I,s:I,s:o}", "op", "ranks", "job", (json_int_t)move.name.jobid,
                                               "rank", (json_int_t)move.name.vpid, "message", message));
}

static void ask_daemon(orte_vpid_t daemon, json_t *command, const char *event)
{
    move.waiting = 1;
    move.step = event;
    (void)snapc_lpm_rml_send(daemon, command);
}

/* ---- the end of a move ---- */

static void let_leave(const orte_process_name_t *name)
{
    snapc_lpm_rank_t *rank = snapc_lpm_ranks_find(name);

    if (NULL == rank) {
        return;
    }
    rank->leaving = true;
    (void)snapc_lpm_rml_send(rank->daemon, json_pack("{s:s,s:I,s:I,s:{s:s}}", "op", "ranks", "job",
                                                     (json_int_t)name->jobid, "rank", (json_int_t)name->vpid, "message",
                                                     "op", "leave"));
}

static void let_all_leave(void)
{
    orte_process_name_t name;
    json_t *entry;
    size_t i;

    json_array_foreach(leavers, i, entry) {
        if (ORTE_SUCCESS == snapc_lpm_read_name(entry, &name)) {
            let_leave(&name);
        }
    }
    json_array_clear(leavers);
}

static void clear_move(void)
{
    opal_event_evtimer_del(limit_timer);
    json_decref(move.process);
    json_decref(move.source_ifaces);
    json_decref(move.target_ifaces);
    json_decref(move.phases);
    json_decref(move.channels);
    json_decref(move.failure);
    memset(&move, 0, sizeof(move)); /* the secret with it */
    let_all_leave();
}

static void finish(void)
{
    if (move.done.source_open) {
        (void)snapc_lpm_rml_send(move.source, json_pack("{s:s}", "op", "source_reset"));
    }
    if (move.done.target_open) {
        (void)snapc_lpm_rml_send(move.target, json_pack("{s:s}", "op", "target_reset"));
    }
    if (NULL != move.failure) {
        tell(json_incref(move.failure));
    } else {
        tell_done();
    }
    clear_move();
}

/* ---- failure ---- */

static void set_failure(const char *message, const char *remedy)
{
    const char *code = "failed";

    if (lpm_state_committed(move.state)) {
        code = "lost";
        remedy = "the migration was past its commit: look at the job's own messages";
    } else if (LPM_STATE_PREPARE == move.state) {
        code = "unmovable"; /* nothing of the job has been touched */
    }
    if (NULL == move.failed_in) {
        move.failed_in = lpm_state_name(move.state);
    }
    json_decref(move.failure);
    move.failure = lpm_msg_error(code, move.failed_in, message,
                                 NULL == remedy ? "the rank runs on where it was; see docs/debugging.md" : remedy);
    SNAPC_LPM_LOG(1, "snapc/lpm: migration of rank %s to %s failed in %s: %s", ORTE_VPID_PRINT(move.name.vpid),
                  snapc_lpm_maps_node(move.target), move.failed_in, message);
}

static void fail(const char *message, const char *remedy)
{
    if (LPM_STATE_IDLE == move.state || LPM_STATE_ROLLBACK == move.state) {
        return; /* already on the way back: the first cause is the one to tell */
    }
    set_failure(message, remedy);
    if (lpm_state_committed(move.state)) {
        snapc_lpm_plan_abort(&move.name, message);
        finish();
        return;
    }
    enter(LPM_STATE_ROLLBACK);
}

/* ---- the phases: what begins them ---- */

static void begin_prepare(void)
{
    json_t *command = of_move("source_inspect");

    move.done.source_open = true;
    ask_daemon(move.source, command, "inspected");
}

static void begin_quiesce(void)
{
    move.done.held = true;
    ask_ranks(of_move("hold"), "drained", true);
}

static void begin_freeze(void)
{
    move.step = "frozen";
    move.waiting = 1;
    (void)snapc_lpm_rml_send(move.source, json_pack("{s:s}", "op", "source_freeze"));
    (void)snapc_lpm_rml_send(move.target, json_pack("{s:s}", "op", "target_restore"));
}

static void begin_commit(void)
{
    ask_daemon(move.source, json_pack("{s:s}", "op", "source_commit"), "source_gone");
}

static void begin_resume(void)
{
    ask_mover(move.target, of_move("relocate"), "relocated");
}

/* Undo, in reverse: no copy at the target, the original thawed, its PMIx client and channels back. */
static void begin_rollback(void)
{
    if (move.done.target_open) {
        ask_daemon(move.target, json_pack("{s:s}", "op", "target_rollback"), "discarded");
    } else {
        ask_daemon(move.source, json_pack("{s:s}", "op", "source_rollback"), "thawed");
    }
}

static void enter(lpm_state_t state)
{
    static void (*const begin[LPM_STATE_MAX])(void) = {
        [LPM_STATE_PREPARE] = begin_prepare, [LPM_STATE_QUIESCE] = begin_quiesce, [LPM_STATE_FREEZE] = begin_freeze,
        [LPM_STATE_COMMIT] = begin_commit,   [LPM_STATE_RESUME] = begin_resume,   [LPM_STATE_DONE] = finish,
        [LPM_STATE_ROLLBACK] = begin_rollback,
    };

    if (!lpm_state_may_follow(move.state, state)) {
        opal_output(0, "snapc/lpm: no way from %s to %s", lpm_state_name(move.state), lpm_state_name(state));
        return;
    }
    note_phase();
    if (lpm_state_info(state)->blackout && 0 == move.blackout_began_ms) {
        move.blackout_began_ms = now_ms();
    }
    move.state = state;
    move.phase_began_ms = now_ms();
    move.step = NULL;
    move.waiting = 0;
    arm_limit(state);
    if (NULL != begin[state]) {
        begin[state]();
    }
}

static void next(void)
{
    enter(lpm_state_info(move.state)->next);
}

/* ---- the steps inside the phases ---- */

static void prepare_step(const char *event, json_t *message)
{
    json_t *command;
    int64_t port;

    if (0 == strcmp("inspected", event)) {
        move.process = json_incref(json_object_get(message, "process"));
        move.source_ifaces = json_incref(json_object_get(message, "ifaces"));
        command = of_move("target_open");
        json_object_set(command, "process", move.process);
        json_object_set_new(command, "secret", json_string(move.secret));
        json_object_set_new(command, "dir", snapc_lpm_plan_directory(move.id));
        json_object_set_new(command, "listen_addrs", json_array());
        move.done.target_open = true;
        ask_daemon(move.target, command, "listening");
    } else if (0 == strcmp("listening", event) && 0 == lpm_msg_int(message, "port", 1, UINT16_MAX, &port)) {
        move.target_ifaces = json_incref(json_object_get(message, "ifaces"));
        command = of_move("source_open");
        json_object_set_new(command, "secret", json_string(move.secret));
        json_object_set_new(command, "dir", snapc_lpm_plan_directory(move.id));
        json_object_set_new(command, "peer_addrs", snapc_lpm_plan_addresses(move.source_ifaces, move.target_ifaces));
        json_object_set_new(command, "peer_port", json_integer(port));
        ask_daemon(move.source, command, "opened");
        move.waiting = 2; /* both ends say so */
    } else if (0 == strcmp("opened", event)) {
        command = of_move("prepare");
        json_object_set(command, "ifaces", move.target_ifaces);
        ask_ranks(command, "ready", true);
    } else if (0 == strcmp("ready", event)) {
        next();
    }
}

static void quiesce_step(const char *event)
{
    if (0 == strcmp("drained", event)) {
        move.done.torn = true;
        ask_ranks(of_move("tear"), "down", true);
    } else if (0 == strcmp("down", event)) {
        move.done.detached = true;
        ask_daemon(move.source, json_pack("{s:s}", "op", "source_detach"), "detached");
    } else if (0 == strcmp("detached", event)) {
        next();
    }
}

/* Freezing, sending and rebuilding overlap; what has come decides which phase it is. */
static void image_step(const char *event, json_t *message)
{
    int64_t value;

    if (0 == strcmp("frozen", event)) {
        move.frozen = true;
    } else if (0 == strcmp("received", event)) {
        move.received = true;
        if (0 == lpm_msg_int(message, "bytes", 0, INT64_MAX, &value)) {
            move.image_bytes = value;
        }
    } else if (0 == strcmp("restored", event) && 0 == lpm_msg_int(message, "pid", 1, INT32_MAX, &value)) {
        move.restored = true;
        move.pid = value;
    }
    if (LPM_STATE_FREEZE == move.state && move.frozen) {
        next();
        move.step = "received";
        move.waiting = 1;
    }
    if (LPM_STATE_TRANSFER == move.state && move.received) {
        next();
        move.step = "restored";
        move.waiting = 1;
    }
    if (LPM_STATE_RESTORE == move.state && move.restored) {
        next();
    }
}

static void commit_step(const char *event, const json_t *message)
{
    snapc_lpm_rank_t *rank = snapc_lpm_ranks_find(&move.name);
    json_t *map;
    int daemons;

    if (NULL == rank) {
        fail("the rank is not known any more", NULL);
        return;
    }
    if (0 == strcmp("source_gone", event)) {
        map = of_move("map");
        json_object_set_new(map, "onto", json_integer((json_int_t)move.target));
        daemons = snapc_lpm_rml_broadcast(map);
        move.waiting = (0 < daemons) ? (size_t)daemons : 1;
        move.step = "mapped";
    } else if (0 == strcmp("mapped", event)) {
        if (!lpm_msg_true(message, "ok")) {
            fail("a daemon could not enter the rank's new place in its tables", NULL);
            return;
        }
        rank->daemon = move.target;
        ask_daemon(move.target, json_pack("{s:s}", "op", "target_commit"), "reattached");
    } else if (0 == strcmp("reattached", event)) {
        next();
    }
}

/* A rank that starts later learns of this move, and of none before it of the same rank. */
static void remember_table(const char *table)
{
    json_t *attach = of_move("attach"), *entry;
    orte_process_name_t name;
    size_t i;

    json_object_set_new(attach, "table", json_string(table));
    json_array_foreach(moved_tables, i, entry) {
        if (ORTE_SUCCESS == snapc_lpm_read_name(entry, &name) && name.jobid == move.name.jobid &&
            name.vpid == move.name.vpid) {
            json_array_remove(moved_tables, i);
            break;
        }
    }
    json_array_append(moved_tables, attach);
    if (1 == snapc_lpm_ranks_count()) { /* nobody to tell */
        json_decref(attach);
        ask_ranks(of_move("resume"), "resumed", true);
        return;
    }
    ask_ranks(attach, "attached", false);
}

static void resume_step(const char *event, json_t *message)
{
    const char *table = lpm_msg_str(message, "table");

    if (0 == strcmp("relocated", event) && NULL != table) {
        /* The rank runs. What is left is for peers that may compute for long, which is no failure of the move. */
        opal_event_evtimer_del(limit_timer);
        remember_table(table);
    } else if (0 == strcmp("attached", event)) {
        ask_ranks(of_move("resume"), "resumed", true);
    } else if (0 == strcmp("resumed", event)) {
        if (LPM_STATE_ROLLBACK == move.state) {
            finish();
            return;
        }
        move.blackout_ms = now_ms() - move.blackout_began_ms;
        next(); /* FILL: eager pages, nothing is missing */
        next();
    }
}

static void rollback_step(const char *event, json_t *message)
{
    if (0 == strcmp("discarded", event)) {
        ask_daemon(move.source, json_pack("{s:s}", "op", "source_rollback"), "thawed");
    } else if (0 == strcmp("thawed", event)) {
        if (move.done.detached) {
            ask_daemon(move.source, json_pack("{s:s}", "op", "source_reattach"), "reattached");
        } else if (move.done.torn) {
            ask_mover(move.source, of_move("relocate"), "relocated");
        } else if (move.done.held) {
            ask_ranks(of_move("resume"), "resumed", true);
        } else {
            finish();
        }
    } else if (0 == strcmp("reattached", event)) {
        ask_mover(move.source, of_move("relocate"), "relocated");
    } else {
        resume_step(event, message);
    }
}

static void step(const char *event, json_t *message)
{
    switch (move.state) {
    case LPM_STATE_PREPARE:
        prepare_step(event, message);
        break;
    case LPM_STATE_QUIESCE:
        quiesce_step(event);
        break;
    case LPM_STATE_FREEZE:
    case LPM_STATE_TRANSFER:
    case LPM_STATE_RESTORE:
        image_step(event, message);
        break;
    case LPM_STATE_COMMIT:
        commit_step(event, message);
        break;
    case LPM_STATE_RESUME:
        resume_step(event, message);
        break;
    case LPM_STATE_ROLLBACK:
        rollback_step(event, message);
        break;
    default:
        break;
    }
}

/* An event that the current step waits for; the last one completes it. */
static void count_event(const char *event, json_t *message)
{
    if (NULL == move.step || 0 != strcmp(move.step, event)) {
        if (LPM_STATE_FREEZE <= move.state && LPM_STATE_RESTORE >= move.state) {
            image_step(event, message); /* these may come early */
        }
        return;
    }
    if (0 == strcmp("mapped", event) && !lpm_msg_true(message, "ok")) {
        move.waiting = 1; /* one is enough to fail */
    }
    if (0 < move.waiting && 0 == --move.waiting) {
        step(event, message);
    }
}

/* ---- what ranks and daemons report ---- */

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
    json_array_foreach(moved_tables, i, entry) {
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
    if (LPM_STATE_IDLE != move.state && !rank->leaving) {
        fail("a rank of the job has ended", "look at the job's own messages");
    }
    if (!rank->leaving) { /* a rank that has left stays known as such until it has ended: the job is ending */
        snapc_lpm_ranks_down(&name);
    }
}

static void rank_leaves(const orte_process_name_t *name)
{
    if (LPM_STATE_IDLE == move.state) {
        let_leave(name);
    } else {
        json_array_append_new(leavers, json_pack("{s:I,s:I}", "job", (json_int_t)name->jobid, "rank",
                                                 (json_int_t)name->vpid));
    }
}

static void from_rank(json_t *message)
{
    json_t *inner = json_object_get(message, "message");
    const char *event = lpm_msg_str(inner, "event"), *text = lpm_msg_str(inner, "message");
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
    if (0 == lpm_msg_int(inner, "move", 0, INT64_MAX, &id) && id != move.id) {
        return; /* late, of a move that is over */
    }
    if (0 == strcmp("refused", event) || 0 == strcmp("failed", event)) {
        snprintf(line, sizeof(line), "rank %s: %s", ORTE_VPID_PRINT(name.vpid), NULL == text ? event : text);
        fail(line, lpm_msg_str(inner, "remedy"));
        return;
    }
    if ((0 == strcmp("resumed", event) || 0 == strcmp("drained", event)) && NULL != move.channels) {
        json_t *entry = json_copy(inner);

        json_object_set_new(entry, "rank", json_integer((json_int_t)name.vpid));
        json_array_append_new(move.channels, entry);
    }
    count_event(event, inner);
}

/* What is in the way of a process image, in the user's terms. */
static const char *remedy_of(const json_t *message, const char *text)
{
    static const struct {
        const char *sign, *remedy;
    } known[] = {
        {"shares memory", "free the window first; MPI_Win_allocate needs no shared memory with --mca osc ^sm"},
        {"tcp", "the program has a TCP connection of its own, which cannot move: close it first"},
        {"unix", "the program has a UNIX socket to another process, which cannot move: close it first"},
        {"No such file", "all files that the rank has open must be at the same path on both nodes"},
        {"Can't open file", "all files that the rank has open must be at the same path on both nodes"},
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
    bool transfer;
    char line[1024];

    stage = (NULL == stage) ? "?" : stage;
    transfer = (0 == strcmp("send", stage) || 0 == strcmp("receive", stage));
    snprintf(line, sizeof(line), "%s on %s: %s%s%s", stage, snapc_lpm_maps_node(daemon), NULL == text ? "failed" : text,
             (NULL == detail || '\0' == detail[0]) ? "" : ": ", NULL == detail ? "" : detail);
    for (char *c = line; '\0' != *c; ++c) { /* messages are one line */
        *c = ('\n' == *c) ? ';' : *c;
    }
    if (LPM_STATE_ROLLBACK == move.state) {
        if (move.secondhand && !transfer) {
            move.secondhand = false;
            set_failure(line, remedy_of(message, line));
        }
        /* a helper that has failed has cleaned up behind itself */
        count_event(NULL != side && 0 == strcmp("target", side) ? "discarded" : "thawed", (json_t *)message);
        return;
    }
    move.secondhand = transfer;
    fail(line, remedy_of(message, line));
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
        if (sender == move.source || sender == move.target) {
            node_failed(sender, message);
        }
    } else {
        count_event(event, message);
    }
}

/* ---- requests ---- */

void snapc_lpm_global_migrate(lpm_conn_t *tool, const json_t *request)
{
    snapc_lpm_plan_t plan;
    json_t *refusal;

    if (LPM_STATE_IDLE != move.state) {
        (void)lpm_conn_send(tool, lpm_msg_error("busy", "PLAN", "another migration is under way in this job",
                                                "wait until it has ended, then try again"));
        return;
    }
    if (NULL != (refusal = snapc_lpm_plan_check(request, &plan))) {
        (void)lpm_conn_send(tool, refusal);
        return;
    }
    move.tool = tool;
    move.id = ++last_id;
    move.name = plan.name;
    move.source = plan.source;
    move.target = plan.target;
    move.phases = json_array();
    move.channels = json_array();
    move.began_ms = move.phase_began_ms = now_ms();
    move.state = LPM_STATE_PLAN;
    if (ORTE_SUCCESS != snapc_lpm_secret(move.secret)) {
        (void)lpm_conn_send(tool, lpm_msg_error("failed", "PLAN", "no random bytes for the secret of the migration",
                                                "try again later"));
        clear_move();
        return;
    }
    next();
}

void snapc_lpm_global_forget(lpm_conn_t *tool)
{
    if (move.tool == tool) {
        move.tool = NULL;
    }
}

json_t *snapc_lpm_global_list(void)
{
    return snapc_lpm_plan_list(LPM_STATE_IDLE == move.state ? NULL : &move.name);
}

int snapc_lpm_global_init(void)
{
    memset(&move, 0, sizeof(move));
    snapc_lpm_ranks_init();
    moved_tables = json_array();
    leavers = json_array();
    limit_timer = opal_event_alloc();
    if (NULL == moved_tables || NULL == leavers || NULL == limit_timer) {
        return ORTE_ERR_OUT_OF_RESOURCE;
    }
    opal_event_evtimer_set(orte_event_base, limit_timer, limit_expired, NULL);
    return ORTE_SUCCESS;
}

void snapc_lpm_global_finalize(void)
{
    move.tool = NULL; /* closed by the control socket */
    clear_move();
    opal_event_evtimer_del(limit_timer);
    opal_event_free(limit_timer);
    limit_timer = NULL;
    json_decref(moved_tables);
    json_decref(leavers);
    moved_tables = leavers = NULL;
    snapc_lpm_ranks_finalize();
}
