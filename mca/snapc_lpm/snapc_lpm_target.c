/*
 * The local coordinator as the target of a move. Commands of mpirun, in this order: open, restore, and then either
 * commit or rollback; rollback may come at any time before commit.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../crs_lpm/crs_lpm.h"
#include "lpm_msg.h"
#include "snapc_lpm_pages.h"

#include "opal/mca/pmix/pmix.h"
#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/mca/errmgr/errmgr.h"
#include "orte/util/name_fns.h"
#include "orte/util/proc_info.h"

static orte_process_name_t rank;
static json_t *process;
static crs_lpm_image_t *image;
static char *directory; /* of the image */
static snapc_lpm_iof_t streams = {.fds = {-1, -1, -1}, .parents = {-1, -1, -1}};
static int agent_fd = -1; /* our end of the rank's new socket */
static uint64_t agent_inode;
static json_t *inherit; /* descriptors that the restored rank finds */
static pid_t pid;
static bool committed, running;
static bool lazy;         /* memory may follow later */
static bool stopped;      /* the rank was dumped as one that is */
static int opening;       /* helpers that have not said "opened" */
static json_t *listening; /* what has been said of ports, until all have */
static json_t *ranges;    /* of memory that follows; NULL: not known yet */
static json_t *restored;  /* the event, until the rank's memory is attended to */

static void report(json_t *message)
{
    if (NULL != message) {
        json_object_set_new(message, "side", json_string("target"));
    }
    snapc_lpm_rml_report(message);
}

static void report_failure(const char *stage, const char *message)
{
    report(json_pack("{s:s,s:s,s:s}", "event", "failed", "stage", stage, "message", message));
}

void snapc_lpm_target_reset(void)
{
    if (NULL != image) {
        snapc_lpm_image_ops()->release(image);
        image = NULL;
    }
    snapc_lpm_iof_close(&streams);
    if (0 <= agent_fd) {
        (void)close(agent_fd);
        agent_fd = -1;
    }
    snapc_lpm_remove_image(&directory);
    snapc_lpm_fill_reset();
    json_decref(inherit);
    json_decref(process);
    json_decref(listening);
    json_decref(ranges);
    json_decref(restored);
    inherit = process = listening = ranges = restored = NULL;
    pid = 0;
    committed = running = lazy = stopped = false;
}

/* ---- opening ---- */

/* The restored rank gets one end under the number that its agent thread is waiting on. */
static int open_agent_socket(int *rank_end)
{
    int ends[2];
    struct stat st;

    if (0 != socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends)) {
        return ORTE_ERR_SYS_LIMITS_SOCKETS;
    }
    if (0 != fstat(ends[1], &st)) {
        (void)close(ends[0]);
        (void)close(ends[1]);
        return ORTE_ERROR;
    }
    agent_fd = ends[0];
    agent_inode = st.st_ino;
    *rank_end = ends[1];
    return ORTE_SUCCESS;
}

static void inherit_add(const char *key, int fd)
{
    json_array_append_new(inherit, json_pack("{s:s,s:i}", "key", key, "fd", fd));
}

static int collect_inherited(int rank_end, int *fds, size_t *count)
{
    json_t *keys = json_object_get(process, "fds");
    char *key = NULL;

    *count = 0;
    inherit = json_array();
    if (0 > asprintf(&key, "socket:[%lld]", (long long)json_integer_value(json_object_get(process, "inode")))) {
        return ORTE_ERR_OUT_OF_RESOURCE;
    }
    inherit_add(key, rank_end);
    free(key);
    fds[(*count)++] = rank_end;
    for (int stream = 0; stream < 3; ++stream) {
        if (0 <= streams.fds[stream]) {
            inherit_add(json_string_value(json_array_get(keys, (size_t)stream)), streams.fds[stream]);
            fds[(*count)++] = streams.fds[stream];
        }
    }
    return ORTE_SUCCESS;
}

static void close_rank_ends(int rank_end)
{
    (void)close(rank_end);
    for (int stream = 0; stream < 3; ++stream) {
        if (0 <= streams.fds[stream]) {
            (void)close(streams.fds[stream]);
            streams.fds[stream] = -1;
        }
    }
}

static void arrived(void);

static void opened(void)
{
    if (0 == --opening) {
        report(json_pack("{s:s}", "event", "opened"));
    }
}

static void is_listening(const char *key, json_t *event)
{
    if (NULL == listening) {
        listening = json_pack("{s:s,s:o}", "event", "listening", "ifaces", snapc_lpm_inspect_interfaces());
    }
    json_object_set(listening, key, json_object_get(event, "port"));
    if (!lazy || (NULL != json_object_get(listening, "port") && NULL != json_object_get(listening, "pages_port"))) {
        report(json_incref(listening));
    }
}

/* The copy is there; it may run when page faults of what it lacks are heard. */
static void restored_when_attached(void)
{
    if (NULL == restored || (lazy && NULL == ranges)) {
        return;
    }
    if (0 < json_array_size(ranges)) {
        snapc_lpm_fill_attach(pid);
    } else {
        report(json_incref(restored));
    }
}

static void pages_event(json_t *event)
{
    const char *name = lpm_msg_str(event, "event");

    if (0 == strcmp("opened", name)) {
        opened();
    } else if (0 == strcmp("listening", name)) {
        is_listening("pages_port", event);
    } else if (0 == strcmp("attached", name)) {
        json_object_set(restored, "missing_pages", json_object_get(event, "pages"));
        report(json_incref(restored));
    } else {
        report(json_incref(event));
    }
}

static void do_pages(const json_t *message)
{
    ranges = json_incref(json_object_get(message, "ranges"));
    stopped = lpm_msg_true(message, "stopped");
    if (0 < json_array_size(ranges)) {
        snapc_lpm_fill_expect(ranges);
    }
    restored_when_attached();
}

static void image_event(crs_lpm_image_t *from, json_t *event, void *arg)
{
    const char *name = lpm_msg_str(event, "event");
    int64_t value;

    (void)from;
    (void)arg;
    if (NULL == name) {
        return;
    }
    if (0 == strcmp("opened", name)) {
        opened();
        return;
    }
    if (0 == strcmp("listening", name)) {
        is_listening("port", event);
        return;
    }
    if (0 == strcmp("restored", name) && 0 == lpm_msg_int(event, "pid", 1, INT32_MAX, &value)) {
        pid = (pid_t)value;
        restored = json_incref(event);
        restored_when_attached();
        return;
    }
    if (0 == strcmp("running", name)) {
        running = true;
        arrived();
        return;
    }
    if (committed && 0 == strcmp("failed", name)) {
        if (!running) {
            snapc_lpm_maps_lost(&rank);
        }
    }
    report(json_incref(event));
}

static int start_helper(const json_t *message)
{
    int rank_end = -1, fds[4];
    size_t count = 0;
    json_t *command;

    if (ORTE_SUCCESS != snapc_lpm_iof_open(json_object_get(process, "fds"), &streams) ||
        ORTE_SUCCESS != open_agent_socket(&rank_end)) {
        return ORTE_ERROR;
    }
    if (ORTE_SUCCESS == collect_inherited(rank_end, fds, &count)) {
        image = snapc_lpm_image_ops()->start(orte_event_base, fds, count, image_event, NULL);
    }
    close_rank_ends(rank_end); /* the helper has them now */
    if (NULL == image) {
        return ORTE_ERROR;
    }
    directory = snapc_lpm_image_directory(message);
    command = json_copy((json_t *)message);
    json_object_set_new(command, "op", json_string("open_target"));
    json_object_del(command, "process");
    lazy = lpm_msg_true(message, "lazy");
    opening = lazy ? 2 : 1;
    if (lazy && ORTE_SUCCESS != snapc_lpm_fill_open(message, pages_event)) {
        json_decref(command);
        return ORTE_ERROR;
    }
    return (0 == snapc_lpm_image_ops()->command(image, command)) ? ORTE_SUCCESS : ORTE_ERROR;
}

static void do_open(json_t *message)
{
    char *why;

    snapc_lpm_target_reset();
    if (ORTE_SUCCESS != snapc_lpm_read_name(message, &rank) ||
        NULL == (process = json_incref(json_object_get(message, "process")))) {
        report_failure("open", "bad request");
        return;
    }
    if (NULL != (why = snapc_lpm_inspect_room(process))) {
        report(json_pack("{s:s,s:s,s:s,s:s}", "event", "failed", "stage", "room", "message", why, "remedy",
                         "choose another node; files have to be at the same path on both, ids have to be free"));
        free(why);
        return;
    }
    if (ORTE_SUCCESS != start_helper(message)) {
        report_failure("open", "lpm-helper cannot be started");
    }
}

static void do_restore(void)
{
    if (NULL == image ||
        0 != snapc_lpm_image_ops()->command(image, json_pack("{s:s,s:O}", "op", "restore", "inherit", inherit))) {
        report_failure("restore", "lpm-helper does not take commands");
    }
}

static void do_rollback(void)
{
    if (committed) {
        report_failure("rollback", "already committed");
        return;
    }
    snapc_lpm_fill_reset();
    if (NULL == image || 0 != snapc_lpm_image_ops()->command(image, json_pack("{s:s}", "op", "rollback"))) {
        report(json_pack("{s:s}", "event", "discarded"));
    }
}

/* ---- no way back ---- */

/* The original is gone. The books first, then the rank runs. */
static void do_commit(void)
{
    if (NULL == image || 0 == pid) {
        report_failure("commit", "there is no restored copy");
        return;
    }
    committed = true;
    if (ORTE_SUCCESS != snapc_lpm_maps_adopt(&rank, pid) || ORTE_SUCCESS != snapc_lpm_pmix_register(&rank) ||
        ORTE_SUCCESS != snapc_lpm_iof_connect(&rank, &streams) ||
        ORTE_SUCCESS != snapc_lpm_local_adopt_agent(&rank, pid, agent_fd, agent_inode)) {
        report_failure("commit", "the runtime did not accept the rank");
        snapc_lpm_maps_lost(&rank);
        return;
    }
    agent_fd = -1;
    snapc_lpm_pmix_server_fix_collectives(opal_pmix.get_nspace(rank.jobid), 1);
    if (0 != snapc_lpm_image_ops()->command(image, json_pack("{s:s,s:b}", "op", "commit", "stopped", stopped))) {
        report_failure("commit", "lpm-helper is gone");
        snapc_lpm_maps_lost(&rank);
    }
}

static void arrived(void)
{
    snapc_lpm_agent_t *agent = snapc_lpm_local_agent(&rank);
    char *uri = snapc_lpm_pmix_uri(&rank);

    if (NULL == agent || NULL == uri) {
        report_failure("resume", "the restored rank's agent is gone");
    } else {
        (void)lpm_conn_send(agent->conn, json_pack("{s:s,s:s}", "op", "reattach", "uri", uri));
        report(json_pack("{s:s,s:i}", "event", "running", "pid", (int)pid));
    }
    free(uri);
}

void snapc_lpm_target_heard(const orte_process_name_t *name, const json_t *message)
{
    const char *event = lpm_msg_str(message, "event");

    if (running && name->jobid == rank.jobid && name->vpid == rank.vpid && NULL != event &&
        0 == strcmp("resumed", event)) {
        snapc_lpm_fill_stream();
    }
}

void snapc_lpm_target_command(const char *op, json_t *message)
{
    if (0 == strcmp("open", op)) {
        do_open(message);
    } else if (0 == strcmp("pages", op)) {
        do_pages(message);
    } else if (0 == strcmp("restore", op)) {
        do_restore();
    } else if (0 == strcmp("commit", op)) {
        do_commit();
    } else if (0 == strcmp("rollback", op)) {
        do_rollback();
    } else if (0 == strcmp("reset", op)) {
        snapc_lpm_target_reset();
    }
}
