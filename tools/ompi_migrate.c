/*
 * ompi-migrate: ask mpirun to move a rank, and wait for the end.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_config.h"

#include "find_mpirun.h"
#include "lpm_conn.h"
#include "lpm_msg.h"
#include "migrate_options.h"
#include "report.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

typedef struct {
    const migrate_options_t *options;
    report_t *report;
    struct event_base *base;
    lpm_conn_t *conn; /* NULL when it has ended */
    report_status_t status;
} session_t;

static void session_end(session_t *session, report_status_t status)
{
    session->status = status;
    /* fails only for a base that does not exist */
    (void)event_base_loopbreak(session->base);
}

static void on_message(lpm_conn_t *conn, json_t *msg, void *arg)
{
    session_t *session = arg;

    (void)conn;
    report_status_t status = report_event(session->report, msg);
    if (REPORT_MORE != status) {
        /* what comes after the last answer is not read any more */
        lpm_conn_free(session->conn);
        session->conn = NULL;
        session_end(session, status);
    }
}

static void on_lost(lpm_conn_t *conn, const char *why, void *arg)
{
    session_t *session = arg;
    fault_t fault;

    (void)conn;
    fault_set(&fault, "lost",
              (MIGRATE_LIST == session->options->action)
                  ? "look whether the job still runs"
                  : "look whether the job still runs, and with --list where the rank is",
              "the connection to mpirun %ld was lost before its answer came (%s)", (long)session->options->pid,
              NULL == why ? "mpirun has closed it" : why);
    lpm_conn_free(session->conn);
    session->conn = NULL;
    session_end(session, report_fault(session->report, &fault, REPORT_UNREACHABLE));
}

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
    session_t *session = arg;
    fault_t fault;

    (void)fd;
    (void)what;
    fault_set(&fault, "timeout",
              (MIGRATE_LIST == session->options->action)
                  ? "look whether mpirun is stopped"
                  : "the move may still be under way: look with --list where the rank is",
              "no end after %g s of waiting for mpirun %ld", session->options->timeout, (long)session->options->pid);
    session_end(session, report_fault(session->report, &fault, REPORT_TIMED_OUT));
}

static json_t *make_request(const migrate_options_t *options)
{
    if (MIGRATE_LIST == options->action) {
        return json_pack("{s:i, s:s}", "lpm", LPM_PROTOCOL_VERSION, "op", "list");
    }
    /* "o*" leaves the job out when it was not given: mpirun then takes the first */
    json_t *job = (options->job < 0) ? NULL : json_integer(options->job);
    return json_pack("{s:i, s:s, s:o*, s:I, s:s}", "lpm", LPM_PROTOCOL_VERSION, "op", "migrate", "job", job, "rank",
                     (json_int_t)options->rank, "onto", options->onto);
}

static report_status_t internal_fault(report_t *report, const char *what)
{
    fault_t fault;

    fault_set(&fault, "internal", NULL, "%s", what);
    return report_fault(report, &fault, REPORT_UNREACHABLE);
}

static report_status_t converse(session_t *session, int fd)
{
    double timeout = session->options->timeout;
    struct timeval tv = {.tv_sec = (time_t)timeout, .tv_usec = (suseconds_t)((timeout - (time_t)timeout) * 1e6)};
    report_status_t status;

    struct event *timer = evtimer_new(session->base, on_timeout, session);
    if (NULL == timer || (timeout > 0 && 0 != evtimer_add(timer, &tv))) {
        status = internal_fault(session->report, "no timer");
        goto err_close_fd;
    }
    session->conn = lpm_conn_new(session->base, fd, on_message, on_lost, session);
    if (NULL == session->conn) {
        status = internal_fault(session->report, "out of memory");
        goto err_close_fd;
    }
    fd = -1;
    if (0 != lpm_conn_send(session->conn, make_request(session->options))) {
        status = internal_fault(session->report, "out of memory");
        goto err_free_conn;
    }
    session->status = REPORT_MORE;
    int rc = event_base_dispatch(session->base);
    status = session->status;
    if (REPORT_MORE == status) {
        status = internal_fault(session->report, (rc < 0) ? "the event loop failed" : "the event loop ended early");
    }
err_free_conn:
    lpm_conn_free(session->conn);
    session->conn = NULL;
err_close_fd:
    if (fd >= 0) {
        (void)close(fd);
    }
    if (NULL != timer) {
        event_free(timer);
    }
    return status;
}

static report_status_t run(const migrate_options_t *options, report_t *report)
{
    session_t session = {.options = options, .report = report};
    report_status_t status;
    fault_t fault;

    int fd = find_mpirun(options->pid, options->timeout, &fault);
    if (fd < 0) {
        return report_fault(report, &fault,
                            (0 == strcmp(fault.code, "timeout")) ? REPORT_TIMED_OUT : REPORT_UNREACHABLE);
    }
    session.base = event_base_new();
    if (NULL == session.base) {
        (void)close(fd);
        return internal_fault(report, "no event base");
    }
    status = converse(&session, fd);
    event_base_free(session.base);
    return status;
}

/* A descriptor of ours must not become stdout: what is printed would go to mpirun. */
static int hold_standard_descriptors(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    return (fd < 0) ? -1 : close(fd);
}

int main(int argc, char **argv)
{
    migrate_options_t options;
    report_t report = {.out = stdout, .err = stderr};
    fault_t fault;
    report_status_t status = REPORT_DONE;

    if (0 != hold_standard_descriptors() || SIG_ERR == signal(SIGPIPE, SIG_IGN)) {
        perror("ompi-migrate");
        return REPORT_UNREACHABLE;
    }
    if (0 != migrate_options_parse(argc, argv, &options, &fault)) {
        return report_fault(&report, &fault, REPORT_USAGE);
    }
    report.json = options.json;
    report.verbose = options.verbose;
    report.list = (MIGRATE_LIST == options.action);
    if (MIGRATE_HELP == options.action) {
        (void)fputs(migrate_options_help(), stdout);
    } else if (MIGRATE_VERSION == options.action) {
        (void)fputs("ompi-migrate (LPM) " LPM_VERSION "\n", stdout);
    } else {
        status = run(&options, &report);
    }
    return report_close(&report, status);
}
