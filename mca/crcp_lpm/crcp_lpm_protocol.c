/*
 * The rank's part of a move: commands come from the agent thread, the work is done on the MPI thread.
 *
 * Without MPI_THREAD_MULTIPLE Open MPI's locks are no-ops, so nobody but the thread inside MPI may touch a BTL. A
 * command therefore waits for the next call of the progress engine; the callback is registered only while there is
 * something to do, so a job that is not being moved pays nothing.
 *
 * A rank that computes calls no progress engine. Then the agent parks the MPI thread outside MPI (crcp_lpm_park.c) and
 * works in its place: nobody else is inside MPI meanwhile, so the rules of a single thread still hold.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lpm_msg.h"

#include "ompi/constants.h"
#include "ompi/runtime/mpiruntime.h"
#include "opal/runtime/opal_progress.h"
#include "opal/util/output.h"
#include "orte/util/name_fns.h"

/* A drain that takes longer than this is worth a look: a peer computes, a link is slow, or something is wrong. */
#define EXPLAIN_AFTER_MS 10000
/* After a hold, sends that have waited are started so many at a time, while fewer than the other wait in the BTL. */
#define FLUSH_AT_ONCE 16
#define BACKLOG_MAX   256
/* The progress engine does what is not urgent in every eighth call; so do we. */
#define SELDOM 8
/* For connections to be made again after the last command of a move. */
#define SETTLE_MS 100
/* Calls of the progress callback from one look for messages of old BTLs to the next. */
#define KICK_EVERY 256
/* How long a thread that computes is stopped at a time while channels get empty, and how long it then runs on. */
#define BURST_MS 2
#define PAUSE_MS 1
/* How long the mover's part in a call of libpmix may take before the move is refused. */
#define CALL_MS 5000
/* Between two looks of a thread that waits for such a call and has nothing to do. */
#define ATTEND_MS 10
/* A thread that cannot be parked is tried again so soon, later more seldom. */
#define PARK_AGAIN_MS     1
#define PARK_AGAIN_MAX_MS 20

/*
 * ARRIVED is the mover's: it runs on its new node, its channels open one by one. FLUSHING is a peer's: the channel to
 * the mover is open, for what has waited first.
 */
typedef enum { IDLE, HELD, DRAINED, DOWN, ARRIVED, FLUSHING } phase_t;

/* shared with the agent thread, under the lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t arrived = PTHREAD_COND_INITIALIZER;
static json_t *queue;
static atomic_bool queued; /* whether there is something in it, without the lock */
static bool registered, stopped;
static lpm_channel_answer_fn_t answer_fn;
static void *answer_arg;

/* of the thread that does the work */
static _Atomic(phase_t) phase = IDLE; /* the agent looks at it, too */
static bool is_mover, explained;
static atomic_bool tear_asked;
static atomic_bool driven; /* the agent works in the place of the parked MPI thread */
static atomic_bool stays;  /* the mover, all closed: it does not leave the progress callback until it has arrived */
static bool rewired;       /* BTLs have changed under messages that are not matched yet */
static int64_t move;
static opal_process_name_t mover;
static struct timespec held_since;
static double busy_until;
static const char *unmovable_why;
static json_t *put_off; /* the order to prepare, until a call of libpmix is over */
static double put_off_since;

static int progress(void);

/* ---- the progress engine ---- */

static int progress_seldom(void)
{
    static unsigned calls;

    return atomic_load_explicit(&queued, memory_order_relaxed) || HELD == phase || 0 == ++calls % SELDOM ? progress()
                                                                                                         : 0;
}

/*
 * With the lock. While nobody uses the event library, the engine looks at sockets every 10 ms only; connections are
 * closed and made again here, step by step.
 */
static int watch(void)
{
    if (registered || stopped) {
        return OPAL_SUCCESS;
    }
    registered = true;
    opal_progress_event_users_increment();
    return opal_progress_register(progress_seldom);
}

static void unwatch(void)
{
    if (registered) {
        opal_progress_unregister(progress_seldom);
        opal_progress_event_users_decrement();
        registered = false;
    }
}

/* ---- answers ---- */

static void answer(json_t *message)
{
    if (NULL != message && NULL != answer_fn) {
        json_object_set_new(message, "move", json_integer(move));
        answer_fn(message, answer_arg);
    }
}

static void answer_event(const char *event)
{
    answer(json_pack("{s:s}", "event", event));
}

static void answer_refusal(const char *message, const char *remedy)
{
    answer(json_pack("{s:s,s:s,s:s}", "event", "refused", "message", message, "remedy", remedy));
}

/* @param again  it is soon over: mpirun is to try the move once more */
static void answer_call(bool again)
{
    answer(json_pack("{s:s,s:b,s:s,s:s}", "event", "refused", "again", again, "message",
                     "the mover takes part in a call that waits for other processes (MPI_Comm_accept, "
                     "MPI_Comm_connect, MPI_Comm_spawn, MPI_Comm_disconnect or the like)",
                     "remedy", "move it when the call is over"));
}

/* The wall clock: begin and end of the mover's hold lie on two nodes. */
static double ms_since(const struct timespec *start)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (double)(now.tv_sec - start->tv_sec) * 1e3 + (double)(now.tv_nsec - start->tv_nsec) / 1e6;
}

/* ---- commands ---- */

static int read_mover(const json_t *command)
{
    int64_t id, job, rank;

    if (0 != lpm_msg_int(command, "move", 1, INT64_MAX, &id) || 0 != lpm_msg_int(command, "job", 0, UINT32_MAX, &job) ||
        0 != lpm_msg_int(command, "rank", 0, UINT32_MAX, &rank)) {
        return OMPI_ERR_BAD_PARAM;
    }
    move = id;
    mover.jobid = (opal_jobid_t)job;
    mover.vpid = (opal_vpid_t)rank;
    is_mover = (OPAL_PROC_MY_NAME.jobid == mover.jobid && OPAL_PROC_MY_NAME.vpid == mover.vpid);
    return OMPI_SUCCESS;
}

static void do_prepare(const json_t *command)
{
    const json_t *ifaces = json_object_get(command, "ifaces");
    const char *window;
    char *why = NULL, *card;

    if (OMPI_SUCCESS != read_mover(command)) {
        return;
    }
    if (crcp_lpm_calls_involve(&mover)) {
        json_decref(put_off);
        put_off = json_incref((json_t *)command);
        put_off_since = crcp_lpm_now_ms();
        return;
    }
    if (is_mover && NULL != ifaces && OMPI_SUCCESS != crcp_lpm_tcp_plan(ifaces, &why)) {
        answer_refusal(NULL == why ? "the target's networks cannot be used" : why,
                       "choose a node with the same network interfaces, or set btl_tcp_if_include");
        free(why);
        return;
    }
    if (is_mover && NULL != (window = crcp_lpm_windows_check())) {
        answer_refusal(window, "free the window before the move, or start the job with --mca osc pt2pt");
        return;
    }
    card = crcp_lpm_vader_card();
    answer(json_pack("{s:s,s:s*,s:i}", "event", "ready", "vader", card, "place",
                     NULL == card ? -1 : crcp_lpm_vader_place()));
    free(card);
}

static void do_hold(const json_t *command)
{
    if (IDLE != phase || OMPI_SUCCESS != read_mover(command)) {
        return;
    }
    if (crcp_lpm_calls_involve(&mover)) { /* it has begun since the rank was ready */
        answer_call(true);
        return;
    }
    (void)clock_gettime(CLOCK_REALTIME, &held_since);
    tear_asked = false;
    explained = false;
    phase = HELD;
    crcp_lpm_link_hold(move, &mover, is_mover);
}

static json_t *held_report(const char *event)
{
    crcp_lpm_queued_t queued = {0, 0};

    crcp_lpm_ob1_queued(is_mover ? NULL : &mover, &queued);
    return json_pack("{s:s,s:f,s:I,s:I,s:I}", "event", event, "held_ms", (IDLE == phase) ? 0 : ms_since(&held_since),
                     "refused", (json_int_t)crcp_lpm_gate_refused(), "queued_messages", (json_int_t)queued.messages,
                     "queued_bytes", (json_int_t)queued.bytes);
}

/* What has waited goes first: of two messages the later one must not be ahead by more than ob1 can put in order. */
static void flush(void)
{
    bool done;

    if (BACKLOG_MAX < crcp_lpm_link_backlog()) {
        return;
    }
    crcp_lpm_link_let_through(true);
    done = crcp_lpm_ob1_flush(&mover, FLUSH_AT_ONCE);
    crcp_lpm_link_let_through(false);
    if (done) {
        crcp_lpm_link_release();
        phase = IDLE;
        crcp_lpm_ob1_kick();
    }
}

/* The channels can be used again, here. */
static void end_hold(void)
{
    crcp_lpm_link_settle(move); /* a rank that has refused the hold may have got marks as well */
    if (IDLE == phase) {
        return;
    }
    tear_asked = false;
    phase = FLUSHING;
    flush();
}

/* A peer learns where the mover is now; its side is then open. Also a rank that was not held, having started meanwhile.
 */
static void do_attach(const json_t *command)
{
    json_t *report;

    if (OMPI_SUCCESS != read_mover(command)) {
        return;
    }
    if (OMPI_SUCCESS != crcp_lpm_peers_follow(&mover, command)) {
        answer(json_pack("{s:s,s:s}", "event", "failed", "message", "the mover's new addresses cannot be used"));
        return;
    }
    rewired = true;
    report = held_report("attached");
    end_hold();
    answer(report);
}

/* The mover, on its new node (or again on the old one after a rollback). */
static void do_relocate(const json_t *command)
{
    const char *node = lpm_msg_str(command, "node");
    char *table = NULL, *card;
    int64_t place;

    crcp_lpm_place_arrive(node);
    if (OMPI_SUCCESS != crcp_lpm_tcp_relocate(json_object_get(command, "ifaces"), &table)) {
        answer(json_pack("{s:s,s:s}", "event", "failed", "message", "btl/tcp cannot listen on the new node"));
        return;
    }
    if (NULL != crcp_lpm_vader_module() && NULL != node &&
        0 == lpm_msg_int(command, "place", 0, crcp_lpm_vader_places() - 1, &place)) {
        (void)crcp_lpm_vader_publish((int)place, node); /* without it the rank talks to its neighbours over btl/tcp */
    }
    if (OMPI_SUCCESS != crcp_lpm_peers_arrive(json_object_get(command, "near"))) {
        answer(json_pack("{s:s,s:s}", "event", "failed", "message", "no BTL leads to a peer from the new node"));
    } else {
        card = crcp_lpm_vader_card();
        answer(json_pack("{s:s,s:s,s:s*,s:i}", "event", "relocated", "table", table, "vader", card, "place",
                         NULL == card ? -1 : crcp_lpm_vader_place()));
        free(card);
    }
    free(table);
    rewired = true;
    stays = false;
    phase = ARRIVED;
}

/* A peer has taken in where the mover is; the channels of btl/vader open together ("near"). */
static void do_open(const json_t *command)
{
    opal_process_name_t peer;
    int64_t job, rank;

    if (ARRIVED != phase) {
        return;
    }
    crcp_lpm_ob1_mend();
    if (lpm_msg_true(command, "near")) {
        crcp_lpm_link_open_vader();
    }
    if (0 == lpm_msg_int(command, "peer_job", 0, UINT32_MAX, &job) &&
        0 == lpm_msg_int(command, "peer_rank", 0, UINT32_MAX, &rank)) {
        peer.jobid = (opal_jobid_t)job;
        peer.vpid = (opal_vpid_t)rank;
        crcp_lpm_link_open_peer(&peer);
    }
    crcp_lpm_ob1_kick();
}

static void do_resume(void)
{
    json_t *report = held_report("resumed");

    end_hold();
    answer(report);
}

static void execute(const json_t *command)
{
    const char *op = lpm_msg_str(command, "op");

    if (NULL == op) {
        return;
    }
    busy_until = crcp_lpm_now_ms() + SETTLE_MS;
    if (0 == strcmp(op, "prepare")) {
        do_prepare(command);
    } else if (0 == strcmp(op, "hold")) {
        do_hold(command);
    } else if (0 == strcmp(op, "tear")) {
        tear_asked = (IDLE != phase);
    } else if (0 == strcmp(op, "relocate")) {
        do_relocate(command);
    } else if (0 == strcmp(op, "attach")) {
        do_attach(command);
    } else if (0 == strcmp(op, "open")) {
        do_open(command);
    } else if (0 == strcmp(op, "resume")) {
        do_resume();
    }
}

/* ---- the MPI thread ---- */

/* Messages that are not matched yet may need ob1 to be kicked when they are; looked at now and then, as it costs. */
static bool kicking(void)
{
    static unsigned calls;

    if (rewired && 0 == ++calls % KICK_EVERY) {
        crcp_lpm_ob1_kick();
        if (!(rewired = crcp_lpm_ob1_stale())) {
            crcp_lpm_bml_forget();
        }
    }
    return rewired;
}

/* The call may have no end: a server waits for clients. */
static void look_at_put_off(void)
{
    if (NULL != put_off && CALL_MS < crcp_lpm_now_ms() - put_off_since) {
        json_decref(put_off);
        put_off = NULL;
        answer_call(false);
    }
}

static json_t *next_command(bool wait)
{
    json_t *command = NULL;

    pthread_mutex_lock(&lock);
    while (wait && 0 == json_array_size(queue)) {
        pthread_cond_wait(&arrived, &lock);
    }
    if (0 < json_array_size(queue)) {
        command = json_incref(json_array_get(queue, 0));
        json_array_remove(queue, 0);
        queued = 0 < json_array_size(queue);
    } else if (IDLE == phase && !kicking() && busy_until < crcp_lpm_now_ms()) {
        unwatch();
    }
    pthread_mutex_unlock(&lock);
    return command;
}

/* All channels are empty, here and at the other ends. */
static void tear(void)
{
    crcp_lpm_link_close();
    phase = DOWN;
    if (is_mover) {
        crcp_lpm_tcp_unlisten();
        stays = true;
        if (NULL != crcp_lpm_vader_module() && OMPI_SUCCESS != crcp_lpm_vader_withdraw()) {
            answer(json_pack("{s:s,s:s}", "event", "failed", "message", "no memory for the segment of btl/vader"));
            return;
        }
        crcp_lpm_place_leave();
    }
    answer_event("down");
}

static void drain(void)
{
    if (HELD != phase && DRAINED != phase) {
        return;
    }
    if (!crcp_lpm_link_drained()) {
        if (!explained && EXPLAIN_AFTER_MS < ms_since(&held_since)) {
            explained = true;
            crcp_lpm_link_explain();
        }
        return;
    }
    if (HELD == phase) {
        phase = DRAINED;
        answer(json_pack("{s:s,s:f,s:o}", "event", "drained", "ms", ms_since(&held_since), "channels",
                         crcp_lpm_link_report()));
    }
    if (tear_asked) {
        tear();
    }
}

/* A connection that is to be closed has to be closed before anything that comes after that may begin. */
static bool closing(void)
{
    return tear_asked && (HELD == phase || DRAINED == phase);
}

/*
 * Registered with the progress engine while a move is on. The mover stays in here from the closing of its last
 * channel until it has arrived: it is frozen and restored inside the wait for the next command. Where the agent does
 * the work, it is the parked thread that stays where it is.
 */
static int progress(void)
{
    static unsigned calls;
    json_t *command;

    if (stopped) {
        return 0;
    }
    do {
        if (FLUSHING == phase) {
            flush();
        }
        while (!closing() && FLUSHING != phase && NULL != (command = next_command(stays && !driven))) {
            execute(command);
            json_decref(command);
        }
        if (!is_mover && IDLE != phase && 0 == calls++ % SELDOM) { /* it looks at all sends that wait */
            crcp_lpm_ob1_spool(&mover);
        }
        drain();
    } while (stays && !driven);
    return 0;
}

/* ---- a thread that waits inside libpmix ---- */

/* Called with the lock. */
static void attend_once(void)
{
    struct timespec limit;

    if (0 == json_array_size(queue) && IDLE == phase) {
        if (!registered && NULL == put_off) {
            pthread_cond_wait(&arrived, &lock);
            return;
        }
        (void)clock_gettime(CLOCK_REALTIME, &limit);
        limit.tv_nsec += ATTEND_MS * 1000000;
        limit.tv_sec += limit.tv_nsec / 1000000000;
        limit.tv_nsec %= 1000000000;
        (void)pthread_cond_timedwait(&arrived, &lock, &limit);
    }
    pthread_mutex_unlock(&lock);
    opal_progress();
    look_at_put_off();
    pthread_mutex_lock(&lock);
}

void crcp_lpm_attend(const atomic_bool *done)
{
    pthread_mutex_lock(&lock);
    while (!atomic_load(done)) {
        attend_once();
    }
    pthread_mutex_unlock(&lock);
}

void crcp_lpm_attend_wake(atomic_bool *done)
{
    pthread_mutex_lock(&lock);
    atomic_store(done, true);
    pthread_cond_broadcast(&arrived);
    pthread_mutex_unlock(&lock);
}

void crcp_lpm_attend_begin(void)
{
    pthread_mutex_lock(&lock);
    while (IDLE != phase && crcp_lpm_calls_involve(&mover)) {
        attend_once();
    }
    pthread_mutex_unlock(&lock);
}

void crcp_lpm_attend_end(bool spawned)
{
    pthread_mutex_lock(&lock);
    if (NULL != put_off && spawned) {
        json_decref(put_off);
        put_off = NULL;
        answer_call(true);
    } else if (NULL != put_off) {
        json_array_insert_new(queue, 0, put_off);
        queued = true;
        put_off = NULL;
        (void)watch();
    }
    pthread_mutex_unlock(&lock);
}

/* ---- the agent thread ---- */

static void init_once(void)
{
    if (ompi_mpi_thread_multiple) {
        unmovable_why = "the rank was initialised with MPI_THREAD_MULTIPLE, for which this version cannot quiesce the "
                        "channels (use MPI_Init, or MPI_THREAD_SERIALIZED or less)";
        return;
    }
    if (OMPI_SUCCESS != crcp_lpm_ob1_init(&unmovable_why) || OMPI_SUCCESS != crcp_lpm_btls_init(&unmovable_why) ||
        NULL != (unmovable_why = crcp_lpm_bml_check())) {
        return;
    }
    if (OMPI_SUCCESS != crcp_lpm_link_init() || OMPI_SUCCESS != crcp_lpm_modex_init()) {
        unmovable_why = "Open MPI did not accept LPM's active message or modex overlay";
        return;
    }
    crcp_lpm_windows_init();
    crcp_lpm_calls_init();
    crcp_lpm_park_init();
}

static const char *channels_unmovable(void)
{
    return unmovable_why;
}

static void channels_start(lpm_channel_answer_fn_t fn, void *arg)
{
    queue = json_array();
    answer_fn = fn;
    answer_arg = arg;
    init_once();
}

static int channels_command(json_t *command)
{
    int rc;

    pthread_mutex_lock(&lock);
    rc = json_array_append_new(queue, command);
    queued = true;
    if (0 == rc) {
        rc = watch();
    }
    pthread_cond_signal(&arrived);
    pthread_mutex_unlock(&lock);
    return rc;
}

/* Is there anything that cannot wait for the MPI thread to come by? */
static bool work_to_do(void)
{
    bool queued;

    pthread_mutex_lock(&lock);
    queued = !stopped && 0 < json_array_size(queue);
    pthread_mutex_unlock(&lock);
    return queued || HELD == phase || (DRAINED == phase && tear_asked);
}

/* In the place of the parked thread, for a while or until nothing is left to do. */
static void work(void)
{
    const double until = crcp_lpm_now_ms() + BURST_MS;

    do {
        (void)progress(); /* the engine would call it seldom */
        opal_progress();
    } while (work_to_do() && until > crcp_lpm_now_ms());
}

static int channels_drive(void)
{
    static int again = PARK_AGAIN_MS;

    if (!driven) {
        if (!work_to_do() || (stays && !driven)) {
            again = PARK_AGAIN_MS;
            return -1;
        }
        if (!crcp_lpm_park()) {
            again = (2 * again < PARK_AGAIN_MAX_MS) ? 2 * again : PARK_AGAIN_MAX_MS;
            return again;
        }
        again = PARK_AGAIN_MS;
        driven = true;
    }
    work();
    if (stays) {
        return work_to_do() ? PAUSE_MS : -1; /* the mover waits as it is for the next command */
    }
    driven = false;
    crcp_lpm_unpark();
    return work_to_do() ? PAUSE_MS : -1;
}

static bool channels_busy(void)
{
    bool busy;

    pthread_mutex_lock(&lock);
    busy = 0 < json_array_size(queue) || IDLE != phase;
    pthread_mutex_unlock(&lock);
    return busy;
}

static void channels_stop(void)
{
    pthread_mutex_lock(&lock);
    stopped = true;
    unwatch();
    pthread_mutex_unlock(&lock);
    if (NULL == unmovable_why) {
        crcp_lpm_calls_fini();
        crcp_lpm_modex_finalize();
        crcp_lpm_windows_fini();
        crcp_lpm_park_fini();
    }
    json_decref(put_off);
    json_decref(queue);
    put_off = queue = NULL;
}

const lpm_channel_ops_t crcp_lpm_channel_ops = {
    .unmovable = channels_unmovable,
    .start = channels_start,
    .command = channels_command,
    .drive = channels_drive,
    .busy = channels_busy,
    .stop = channels_stop,
};
