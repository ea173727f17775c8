/*
 * The rank's part of a move: commands come from the agent thread, the work is done on the MPI thread.
 *
 * Without MPI_THREAD_MULTIPLE Open MPI's locks are no-ops, so nobody but the thread inside MPI may touch a BTL. A
 * command therefore waits for the next call of the progress engine; the callback is registered only while there is
 * something to do, so a job that is not being moved pays nothing.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include <pthread.h>
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

typedef enum { IDLE, HELD, DRAINED, DOWN } phase_t;

/* shared with the agent thread, under the lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t arrived = PTHREAD_COND_INITIALIZER;
static json_t *queue;
static bool registered, stopped;
static lpm_channel_answer_fn_t answer_fn;
static void *answer_arg;

/* the MPI thread's own */
static phase_t phase = IDLE;
static bool is_mover, parked, tear_asked, explained;
static int64_t move;
static opal_process_name_t mover;
static struct timespec held_since;
static const char *unmovable_why;

static int progress(void);

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
    char *why = NULL;

    if (OMPI_SUCCESS != read_mover(command)) {
        return;
    }
    if (is_mover && NULL != ifaces && OMPI_SUCCESS != crcp_lpm_tcp_plan(ifaces, &why)) {
        answer_refusal(NULL == why ? "the target's networks cannot be used" : why,
                       "choose a node with the same network interfaces, or set btl_tcp_if_include");
        free(why);
        return;
    }
    answer_event("ready");
}

static void do_hold(const json_t *command)
{
    if (OMPI_SUCCESS != read_mover(command) || IDLE != phase) {
        return;
    }
    (void)clock_gettime(CLOCK_REALTIME, &held_since);
    tear_asked = explained = false;
    phase = HELD;
    crcp_lpm_link_hold(move, &mover, is_mover);
}

static int unhex(const char *text, unsigned char **bytes, size_t *size)
{
    size_t length = (NULL == text) ? 1 : strlen(text);
    unsigned value;

    if (0 != length % 2 || NULL == (*bytes = malloc(length / 2 + 1))) {
        return OMPI_ERR_BAD_PARAM;
    }
    for (size_t i = 0; i < length / 2; ++i) {
        if (1 != sscanf(text + 2 * i, "%2x", &value)) {
            free(*bytes);
            return OMPI_ERR_BAD_PARAM;
        }
        (*bytes)[i] = (unsigned char)value;
    }
    *size = length / 2;
    return OMPI_SUCCESS;
}

/* A peer learns where the mover listens now. Also a rank that was not held, having started meanwhile. */
static void do_attach(const json_t *command)
{
    unsigned char *table = NULL;
    size_t size = 0;

    if (OMPI_SUCCESS != read_mover(command)) {
        return;
    }
    if (OMPI_SUCCESS != unhex(lpm_msg_str(command, "table"), &table, &size) ||
        OMPI_SUCCESS != crcp_lpm_modex_set(&mover, crcp_lpm_tcp_modex_key(), table, size) ||
        0 > crcp_lpm_tcp_readdress(&mover, table, size)) {
        answer(json_pack("{s:s,s:s}", "event", "failed", "message", "the mover's new addresses cannot be used"));
    } else {
        crcp_lpm_place_peer(&mover, lpm_msg_true(command, "local"));
        answer_event("attached");
    }
    free(table);
}

/* The mover, on its new node (or again on the old one after a rollback). */
static void do_relocate(const json_t *command)
{
    char *table = NULL;

    crcp_lpm_place_arrive(lpm_msg_str(command, "node"));
    if (OMPI_SUCCESS != crcp_lpm_tcp_relocate(json_object_get(command, "ifaces"), &table)) {
        answer(json_pack("{s:s,s:s}", "event", "failed", "message", "btl/tcp cannot listen on the new node"));
        return;
    }
    crcp_lpm_place_peers(json_object_get(command, "local"));
    answer(json_pack("{s:s,s:s}", "event", "relocated", "table", table));
    free(table);
    parked = false;
}

static void do_resume(void)
{
    unsigned long refused = crcp_lpm_gate_refused();
    unsigned count = crcp_lpm_link_count();
    double ms = (IDLE == phase) ? 0 : ms_since(&held_since);

    if (IDLE != phase) {
        crcp_lpm_link_release(move);
        phase = IDLE;
        tear_asked = false;
        crcp_lpm_ob1_kick();
    }
    answer(json_pack("{s:s,s:f,s:i,s:I}", "event", "resumed", "held_ms", ms, "connections", (int)count, "refused",
                     (json_int_t)refused));
}

static void execute(const json_t *command)
{
    const char *op = lpm_msg_str(command, "op");

    if (NULL == op) {
        return;
    }
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
    } else if (0 == strcmp(op, "resume")) {
        do_resume();
    }
}

/* ---- the MPI thread ---- */

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
    } else if (IDLE == phase) {
        opal_progress_unregister(progress);
        registered = false;
    }
    pthread_mutex_unlock(&lock);
    return command;
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
        answer(json_pack("{s:s,s:f,s:i}", "event", "drained", "ms", ms_since(&held_since), "connections",
                         (int)crcp_lpm_link_count()));
    }
    if (tear_asked) {
        crcp_lpm_link_close();
        phase = DOWN;
        if (is_mover) {
            crcp_lpm_tcp_unlisten();
            crcp_lpm_place_leave();
            parked = true;
        }
        answer_event("down");
    }
}

/* A connection that is to be closed has to be closed before anything that comes after that may begin. */
static bool closing(void)
{
    return tear_asked && DOWN != phase;
}

/*
 * Registered with the progress engine while a move is on. The mover stays in here from the closing of its last
 * channel until it has arrived: it is frozen and restored inside the wait for the next command.
 */
static int progress(void)
{
    json_t *command;

    if (stopped) {
        return 0;
    }
    do {
        while (!closing() && NULL != (command = next_command(parked))) {
            execute(command);
            json_decref(command);
        }
        drain();
    } while (parked);
    return 0;
}

/* ---- the agent thread ---- */

static void init_once(void)
{
    if (ompi_mpi_thread_multiple) {
        unmovable_why = "the rank was initialised with MPI_THREAD_MULTIPLE, for which this version cannot quiesce the "
                        "channels (use MPI_Init, or MPI_THREAD_SERIALIZED or less)";
        return;
    }
    if (OMPI_SUCCESS != crcp_lpm_ob1_init(&unmovable_why) || OMPI_SUCCESS != crcp_lpm_tcp_init(&unmovable_why)) {
        return;
    }
    if (OMPI_SUCCESS != crcp_lpm_link_init() || OMPI_SUCCESS != crcp_lpm_modex_init()) {
        unmovable_why = "Open MPI did not accept LPM's active message or modex overlay";
    }
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
    if (0 == rc && !registered && !stopped) {
        registered = true;
        rc = opal_progress_register_lp(progress);
    }
    pthread_cond_signal(&arrived);
    pthread_mutex_unlock(&lock);
    return rc;
}

static bool channels_busy(void)
{
    bool busy;

    pthread_mutex_lock(&lock);
    busy = registered || IDLE != phase;
    pthread_mutex_unlock(&lock);
    return busy;
}

static void channels_stop(void)
{
    pthread_mutex_lock(&lock);
    stopped = true;
    if (registered) {
        opal_progress_unregister(progress);
        registered = false;
    }
    pthread_mutex_unlock(&lock);
    if (NULL == unmovable_why) {
        crcp_lpm_modex_finalize();
    }
    json_decref(queue);
    queue = NULL;
}

const lpm_channel_ops_t crcp_lpm_channel_ops = {
    .unmovable = channels_unmovable,
    .start = channels_start,
    .command = channels_command,
    .busy = channels_busy,
    .stop = channels_stop,
};
