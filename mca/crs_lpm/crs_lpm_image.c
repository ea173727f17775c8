/*
 * crs/lpm: starting lpm-helper and speaking with it.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include "crs_lpm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lpm_child.h"
#include "lpm_conn.h"
#include "lpm_msg.h"
#include "opal/util/output.h"

struct crs_lpm_image {
    lpm_conn_t *conn; /* NULL after its end */
    crs_lpm_image_fn_t fn;
    void *arg;
    bool finished; /* the last word was said */
};

/* ---- the new process ---- */

/* the standard streams and the agent's socket, with room to spare */
#define PASS_MAX 8

/*
 * Between fork() and exec() of a process with threads only plain system calls are allowed. A group of its own keeps
 * the Ctrl-C of mpirun's terminal away: the helper ends when its daemon does, by the end of the control connection.
 */
static void become_helper(const char *program, const char *fd_text, const int *fds, size_t n_fds)
{
    char *const argv[] = {(char *)program, "--fd", (char *)fd_text, NULL};

    if (0 == setpgid(0, 0) && 0 == lpm_child_signals() && 0 == lpm_child_descriptors(fds, n_fds)) {
        execv(program, argv);
    }
    _exit(127);
}

static pid_t fork_helper(int control, const int *pass, size_t n_pass)
{
    int fds[PASS_MAX + 1] = {control};
    char fd_text[16];
    pid_t pid;

    if (PASS_MAX < n_pass) {
        errno = EINVAL;
        return -1;
    }
    for (size_t i = 0; i < n_pass; i++) {
        fds[i + 1] = pass[i];
    }
    snprintf(fd_text, sizeof(fd_text), "%d", control);
    pid = fork();
    if (0 == pid) {
        become_helper(crs_lpm_params.helper, fd_text, fds, n_pass + 1);
    }
    return pid;
}

/* ---- its words ---- */

static bool is_last_word(const json_t *event)
{
    static const char *const last[] = {"closed", "thawed", "running", "discarded",
                                       "released", "filled", "failed"};
    const char *name = lpm_msg_str(event, "event");

    for (size_t i = 0; NULL != name && i < sizeof(last) / sizeof(last[0]); i++) {
        if (0 == strcmp(name, last[i])) {
            return true;
        }
    }
    return false;
}

static void on_message(lpm_conn_t *conn, json_t *msg, void *arg)
{
    crs_lpm_image_t *im = arg;

    (void)conn;
    if (im->finished) {
        return;
    }
    im->finished = is_last_word(msg);
    im->fn(im, msg, im->arg); /* may release the image: nothing after it */
}

static void on_end(lpm_conn_t *conn, const char *why, void *arg)
{
    crs_lpm_image_t *im = arg;
    char message[512];
    json_t *event;

    lpm_conn_free(conn);
    im->conn = NULL;
    if (im->finished) {
        return;
    }
    im->finished = true;
    snprintf(message, sizeof(message), "%s ended without an answer%s%s", crs_lpm_params.helper, NULL == why ? "" : ": ",
             NULL == why ? "" : why);
    event = json_pack("{s:s,s:s,s:s,s:s}", "event", "failed", "stage", "helper", "message", message, "detail", "");
    if (NULL == event) {
        opal_output(0, "crs/lpm: %s", message);
        return;
    }
    im->fn(im, event, im->arg);
    json_decref(event);
}

/* ---- operations ---- */

static crs_lpm_image_t *crs_lpm_image_start(struct event_base *base, const int *pass_fds, size_t n_pass_fds,
                                            crs_lpm_image_fn_t fn, void *arg)
{
    crs_lpm_image_t *im = calloc(1, sizeof(*im));
    const char *what = "memory";
    int sv[2];

    if (NULL == im || 0 != access(crs_lpm_params.helper, X_OK)) {
        what = NULL == im ? what : "MCA parameter crs_lpm_helper";
        goto err_free;
    }
    im->fn = fn;
    im->arg = arg;
    if (0 != socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv)) {
        what = "socketpair";
        goto err_free;
    }
    im->conn = lpm_conn_new(base, sv[0], on_message, on_end, im);
    if (NULL == im->conn) {
        close(sv[0]);
        goto err_close_theirs;
    }
    if (0 > fork_helper(sv[1], pass_fds, n_pass_fds)) {
        what = "fork";
        goto err_free_conn;
    }
    close(sv[1]);
    return im;

err_free_conn:
    lpm_conn_free(im->conn);
err_close_theirs:
    close(sv[1]);
err_free:
    opal_output(0, "crs/lpm: cannot start %s: %s: %s", crs_lpm_params.helper, what, strerror(errno));
    free(im);
    return NULL;
}

static bool crs_lpm_image_lazy(void)
{
    return 0 == strcmp("lazy", crs_lpm_params.pages);
}

/* What the user has set, where the caller has not decided otherwise. */
static int fill_in(json_t *cmd)
{
    json_t *ours = json_pack("{s:s,s:i,s:i,s:I}", "criu", crs_lpm_params.criu, "log_level", crs_lpm_params.log_level,
                             "timeout_ms", crs_lpm_params.timeout * 1000, "lazy_least",
                             crs_lpm_image_lazy() ? (json_int_t)crs_lpm_params.lazy_min * 1024 : (json_int_t)0);
    int rc = NULL == ours ? -1 : json_object_update_missing(cmd, ours);

    json_decref(ours);
    return rc;
}

static int crs_lpm_image_command(crs_lpm_image_t *im, json_t *cmd)
{
    const char *op = NULL == cmd ? NULL : lpm_msg_str(cmd, "op");

    if (NULL == op || im->finished || NULL == im->conn ||
        (0 == strncmp(op, "open_", 5) && 0 != fill_in(cmd))) {
        json_decref(cmd);
        return -1;
    }
    return lpm_conn_send(im->conn, cmd);
}

static void crs_lpm_image_release(crs_lpm_image_t *im)
{
    if (NULL == im) {
        return;
    }
    if (NULL != im->conn) {
        lpm_conn_finish(im->conn); /* a command just given, such as commit, is still written */
    }
    free(im);
}

const crs_lpm_image_ops_t crs_lpm_image_ops = {
    .start = crs_lpm_image_start,
    .command = crs_lpm_image_command,
    .release = crs_lpm_image_release,
    .lazy = crs_lpm_image_lazy,
};
