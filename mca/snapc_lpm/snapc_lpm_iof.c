/*
 * The standard streams of a rank that arrives or leaves.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm.h"

#include <fcntl.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "opal/util/opal_pty.h"
#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/mca/iof/base/base.h"
#include "orte/mca/iof/iof.h"

/* The same line discipline that orted gives a rank's terminal: nothing is echoed or translated. */
static int make_raw(int fd)
{
    struct termios attributes;

    if (0 != tcgetattr(fd, &attributes)) {
        return ORTE_ERROR;
    }
    attributes.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | ECHONL);
    attributes.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | ISTRIP | INPCK | IXON);
    attributes.c_oflag &= ~(tcflag_t)(OCRNL | ONLCR);
    return (0 == tcsetattr(fd, TCSANOW, &attributes)) ? ORTE_SUCCESS : ORTE_ERROR;
}

static int open_stream(const char *key, int stream, snapc_lpm_iof_t *iof)
{
    int ends[2];

    if (0 == strncmp(key, "tty[", 4)) {
        if (0 > opal_openpty(&ends[0], &ends[1], NULL, NULL, NULL)) {
            return ORTE_ERR_SYS_LIMITS_PIPES;
        }
        if (ORTE_SUCCESS != make_raw(ends[1])) {
            (void)close(ends[0]);
            (void)close(ends[1]);
            return ORTE_ERROR;
        }
    } else if (0 == strncmp(key, "pipe:", 5)) {
        if (0 != pipe(ends)) {
            return ORTE_ERR_SYS_LIMITS_PIPES;
        }
    } else {
        return ORTE_SUCCESS; /* a file or /dev/null: restored with the process */
    }
    iof->fds[stream] = ends[1];
    iof->parents[stream] = ends[0];
    (void)fcntl(iof->parents[stream], F_SETFD, FD_CLOEXEC);
    return ORTE_SUCCESS;
}

int snapc_lpm_iof_open(const json_t *fds, snapc_lpm_iof_t *iof)
{
    int rc = ORTE_SUCCESS;

    *iof = (snapc_lpm_iof_t){.fds = {-1, -1, -1}, .parents = {-1, -1, -1}};
    for (int stream = STDOUT_FILENO; stream <= STDERR_FILENO && ORTE_SUCCESS == rc; ++stream) {
        const char *key = json_string_value(json_array_get(fds, (size_t)stream));
        const char *out = json_string_value(json_array_get(fds, 1));

        if (NULL == key || (STDERR_FILENO == stream && NULL != out && '\0' != out[0] && 0 == strcmp(key, out))) {
            continue; /* stderr merged into stdout: one key, one descriptor */
        }
        rc = open_stream(key, stream, iof);
    }
    if (ORTE_SUCCESS != rc) {
        snapc_lpm_iof_close(iof);
    }
    return rc;
}

int snapc_lpm_iof_connect(const orte_process_name_t *name, snapc_lpm_iof_t *iof)
{
    int rc;

    for (int stream = STDOUT_FILENO; stream <= STDERR_FILENO; ++stream) {
        int fd = iof->parents[stream];

        if (0 > fd) {
            continue;
        }
        iof->parents[stream] = -1; /* IOF's from here on */
        rc = orte_iof.push(name, STDOUT_FILENO == stream ? ORTE_IOF_STDOUT : ORTE_IOF_STDERR, fd);
        if (ORTE_SUCCESS != rc) {
            return rc;
        }
    }
    return ORTE_SUCCESS;
}

void snapc_lpm_iof_close(snapc_lpm_iof_t *iof)
{
    for (int stream = 0; stream < 3; ++stream) {
        if (0 <= iof->fds[stream]) {
            (void)close(iof->fds[stream]);
        }
        if (0 <= iof->parents[stream]) {
            (void)close(iof->parents[stream]);
        }
        iof->fds[stream] = iof->parents[stream] = -1;
    }
}

bool snapc_lpm_iof_drained(const orte_process_name_t *name)
{
    orte_job_t *job = orte_get_job_data_object(name->jobid);
    orte_proc_t *proc = (NULL == job) ? NULL : opal_pointer_array_get_item(job->procs, name->vpid);

    return NULL == proc || ORTE_FLAG_TEST(proc, ORTE_PROC_FLAG_IOF_COMPLETE);
}
