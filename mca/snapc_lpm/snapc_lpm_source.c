/*
 * The local coordinator as the source of a move. Commands of mpirun, in this order: inspect, open, detach, freeze,
 * and then either commit or rollback; rollback may come at any time before commit. After commit the pages that are
 * left are served until release.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "../crs_lpm/crs_lpm.h"
#include "lpm_children.h"
#include "lpm_msg.h"
#include "snapc_lpm_pages.h"

#include "opal/mca/pmix/pmix.h"
#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/mca/iof/iof.h"
#include "orte/mca/snapc/base/base.h"
#include "orte/util/name_fns.h"
#include "orte/util/proc_info.h"

/* How long output of the ended original may take to come out of its pipes. */
#define DRAIN_TRIES       25000
#define DRAIN_INTERVAL_US 100

static orte_process_name_t rank;
static pid_t pid;
static json_t *process; /* as inspected */
static crs_lpm_image_t *image;
static char *directory; /* of the image */
static bool detached, committed;
static int opening;                 /* helpers that have not said "opened" */
static json_t *emptied;             /* what the helper said of the rank's memory; NULL: nothing was done to it */
static crs_lpm_image_t *recovering; /* puts right what the helper has left that was killed */
static json_t *failure;             /* that it was; reported when this is done */
static json_t *unserved;            /* why the rank's pages cannot be served */
static opal_event_t *drain_timer;
static int drain_tries;

static void report(json_t *message)
{
    if (NULL != message) {
        json_object_set_new(message, "side", json_string("source"));
    }
    snapc_lpm_rml_report(message);
}

static void report_failure(const char *stage, const char *message)
{
    report(json_pack("{s:s,s:s,s:s}", "event", "failed", "stage", stage, "message", message));
}

void snapc_lpm_source_reset(void)
{
    if (NULL != image) {
        snapc_lpm_image_ops()->release(image);
        image = NULL;
    }
    if (NULL != drain_timer) {
        opal_event_free(drain_timer);
        drain_timer = NULL;
    }
    snapc_lpm_remove_image(&directory);
    if (NULL != recovering) {
        snapc_lpm_image_ops()->release(recovering);
        recovering = NULL;
    }
    snapc_lpm_serve_reset();
    json_decref(process);
    json_decref(emptied);
    json_decref(failure);
    json_decref(unserved);
    process = emptied = failure = unserved = NULL;
    pid = 0;
    detached = committed = false;
}

/* ---- looking and opening ---- */

static void do_inspect(const json_t *message)
{
    snapc_lpm_agent_t *agent;
    const char *why = "this node has no such rank";

    snapc_lpm_source_reset();
    if (ORTE_SUCCESS != snapc_lpm_read_name(message, &rank) || NULL == (agent = snapc_lpm_local_agent(&rank)) ||
        NULL == (process = snapc_lpm_inspect_process(agent->pid, &why))) {
        report_failure("inspect", why);
        return;
    }
    pid = agent->pid;
    json_object_set_new(process, "inode", json_integer((json_int_t)agent->socket_inode));
    report(
        json_pack("{s:s,s:O,s:o}", "event", "inspected", "process", process, "ifaces", snapc_lpm_inspect_interfaces()));
}

static void opened(void)
{
    if (0 == --opening) {
        report(json_pack("{s:s}", "event", "opened"));
    }
}

/* The rank's memory is elsewhere, and it stands still. */
static bool is_empty(void)
{
    int64_t holder;

    return NULL != emptied && 0 == lpm_msg_int(emptied, "holder", 1, INT32_MAX, &holder);
}

static void recovered(crs_lpm_image_t *from, json_t *event, void *arg)
{
    (void)from;
    (void)arg;
    if (0 == strcmp("failed", lpm_msg_str(event, "event"))) {
        json_object_update(failure, event);
    }
    report(json_incref(failure));
}

/* The helper was killed. If that was while the rank had no memory, another one gives it back. */
static void recover(json_t *event)
{
    json_t *command;

    failure = json_incref(event);
    if (!is_empty()) {
        (void)kill(pid, SIGCONT); /* it may have been stopped just then */
        report(json_incref(failure));
        return;
    }
    command = json_pack("{s:s,s:i,s:O,s:O}", "op", "recover", "pid", (int)pid, "holder",
                        json_object_get(emptied, "holder"), "ranges", json_object_get(emptied, "ranges"));
    recovering = snapc_lpm_image_ops()->start(orte_event_base, NULL, 0, recovered, NULL);
    if (NULL == recovering || 0 != snapc_lpm_image_ops()->command(recovering, command)) {
        (void)kill(pid, SIGKILL); /* it must not run without its memory */
        report(json_incref(failure));
    }
}

static void has_emptied(json_t *event)
{
    int64_t holder;

    emptied = json_incref(event);
    if (0 == lpm_msg_int(event, "holder", 1, INT32_MAX, &holder)) {
        snapc_lpm_serve_holder((pid_t)holder, json_object_get(event, "ranges"));
    }
    report(json_incref(event));
}

static void image_event(crs_lpm_image_t *from, json_t *event, void *arg)
{
    const char *name = lpm_msg_str(event, "event");

    (void)from;
    (void)arg;
    if (committed || NULL == name) {
        return; /* the original has been killed: whatever criu thinks of that is of no interest */
    }
    if (0 == strcmp("opened", name)) {
        opened();
    } else if (0 == strcmp("emptied", name)) {
        has_emptied(event);
    } else if (crs_lpm_was_killed(event)) {
        recover(event);
    } else {
        report(json_incref(event));
    }
}

static void pages_event(json_t *event)
{
    const char *name = lpm_msg_str(event, "event");

    if (0 == strcmp("opened", name)) {
        opened();
    } else if (0 == strcmp("failed", name) && NULL != emptied && !committed) {
        unserved = json_incref(event); /* the holder ends with a rollback, too, whose cause is to be heard first */
    } else {
        report(json_incref(event));
    }
}

static json_t *externals(void)
{
    json_t *list = json_array(), *key;
    json_t *fds = json_object_get(process, "fds");
    char *text = NULL;
    size_t i;

    json_array_foreach(fds, i, key) {
        if (0 == strncmp(json_string_value(key), "tty[", 4)) {
            json_array_append(list, key);
        }
    }
    if (0 <= asprintf(&text, "unix[%lld]", (long long)json_integer_value(json_object_get(process, "inode")))) {
        json_array_append_new(list, json_string(text));
        free(text);
    }
    return list;
}

static void do_open(json_t *message)
{
    json_t *command;

    if (NULL == process || NULL != image) {
        report_failure("open", "out of order");
        return;
    }
    opening = 1;
    if (NULL == (image = snapc_lpm_image_ops()->start(orte_event_base, NULL, 0, image_event, NULL))) {
        report_failure("open", "lpm-helper cannot be started");
        return;
    }
    directory = snapc_lpm_image_directory(message);
    command = json_copy(message);
    json_object_set_new(command, "op", json_string("open_source"));
    json_object_set_new(command, "pid", json_integer(pid));
    json_object_set_new(command, "externals", externals());
    if (NULL != json_object_get(message, "pages_port")) {
        opening = 2;
        if (ORTE_SUCCESS != snapc_lpm_serve_open(message, pages_event)) {
            report_failure("open", "lpm-helper cannot be started");
        }
    } else {
        json_object_set_new(command, "lazy_least", json_integer(0));
    }
    if (0 != snapc_lpm_image_ops()->command(image, command)) {
        report_failure("open", "lpm-helper does not take commands");
    }
}

/* ---- detaching and freezing ---- */

static void do_detach(void)
{
    snapc_lpm_agent_t *agent = snapc_lpm_local_agent(&rank);
    char why[160];

    if (NULL == agent) {
        report_failure("detach", "the rank's agent is gone");
        return;
    }
    /* it would keep the connection to the PMIx server open, and close it when the rank may have a new one there */
    if (lpm_child_in_the_way(pid, why, sizeof(why))) {
        report(json_pack("{s:s,s:s,s:s,s:b}", "event", "failed", "stage", "detach", "message", why, "again", 1));
        return;
    }
    detached = true;
    snapc_lpm_pmix_server_expect_leave(opal_pmix.get_nspace(rank.jobid), rank.vpid);
    (void)lpm_conn_send(agent->conn, json_pack("{s:s}", "op", "detach"));
}

static void do_freeze(void)
{
    if (NULL == image ||
        0 != snapc_lpm_image_ops()->command(image, json_pack("{s:s}", "op", "freeze"))) {
        report_failure("freeze", "lpm-helper does not take commands");
    }
}

/* ---- back ---- */

static void do_rollback(void)
{
    if (committed) {
        report_failure("rollback", "already committed");
        return;
    }
    if (NULL == image) {
        report(json_pack("{s:s}", "event", "thawed"));
        return;
    }
    if (0 != snapc_lpm_image_ops()->command(image, json_pack("{s:s}", "op", "rollback"))) {
        snapc_lpm_image_ops()->release(image); /* the helper is gone, and with it what held the rank */
        image = NULL;
        report(json_pack("{s:s}", "event", "thawed"));
    }
}

/* The rank runs again, and its channel to PMIx is to be made anew, as after an arrival. */
static void do_reattach(void)
{
    snapc_lpm_agent_t *agent = snapc_lpm_local_agent(&rank);
    char *uri;

    if (detached) {
        snapc_lpm_pmix_deregister(&rank);
        snapc_lpm_pmix_register(&rank);
        detached = false;
    }
    uri = snapc_lpm_pmix_uri(&rank);
    if (NULL == agent || NULL == uri) {
        report_failure("reattach", "the rank's agent is gone");
    } else {
        (void)lpm_conn_send(agent->conn, json_pack("{s:s,s:s}", "op", "reattach", "uri", uri));
    }
    free(uri);
}

/* ---- no way back ---- */

static void forget_rank(void)
{
    orte_iof.close(&rank, ORTE_IOF_STDIN);
    snapc_lpm_maps_forget(&rank);
    snapc_lpm_pmix_deregister(&rank);
    snapc_lpm_local_forget_agent(&rank);
    report(json_pack("{s:s}", "event", "source_gone"));
}

static void check_drained(int fd, short events, void *arg)
{
    struct timeval again = {0, DRAIN_INTERVAL_US};

    (void)fd;
    (void)events;
    (void)arg;
    if (snapc_lpm_iof_drained(&rank) || 0 == --drain_tries) {
        forget_rank();
        return;
    }
    opal_event_evtimer_add(drain_timer, &again);
}

/* The order of the rank's output is kept: what the original wrote is forwarded before the copy can write. */
static void original_gone(void)
{
    drain_tries = DRAIN_TRIES;
    drain_timer = opal_event_alloc();
    opal_event_evtimer_set(orte_event_base, drain_timer, check_drained, NULL);
    check_drained(-1, 0, NULL);
}

static void do_commit(void)
{
    snapc_lpm_agent_t *agent = snapc_lpm_local_agent(&rank);

    if (NULL != unserved) {
        report(json_incref(unserved));
        return;
    }
    if (NULL == agent || NULL == image || ORTE_SUCCESS != snapc_lpm_maps_disown(&rank, original_gone)) {
        report_failure("commit", "the original is gone already");
        return;
    }
    committed = true;
    lpm_conn_free(agent->conn); /* its end is no news */
    agent->conn = NULL;
    agent->known = false;
    (void)kill(pid, SIGKILL);
    /* criu traces the original: our SIGCHLD comes once it lets go */
    (void)snapc_lpm_image_ops()->command(image, json_pack("{s:s}", "op", "commit"));
}

void snapc_lpm_source_command(const char *op, json_t *message)
{
    if (0 == strcmp("inspect", op)) {
        do_inspect(message);
    } else if (0 == strcmp("open", op)) {
        do_open(message);
    } else if (0 == strcmp("detach", op)) {
        do_detach();
    } else if (0 == strcmp("freeze", op)) {
        do_freeze();
    } else if (0 == strcmp("commit", op)) {
        do_commit();
    } else if (0 == strcmp("rollback", op)) {
        do_rollback();
    } else if (0 == strcmp("reattach", op)) {
        do_reattach();
    } else if (0 == strcmp("release", op)) {
        snapc_lpm_serve_release();
    } else if (0 == strcmp("reset", op)) {
        snapc_lpm_source_reset();
    }
}
