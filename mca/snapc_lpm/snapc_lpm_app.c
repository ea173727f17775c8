/*
 * The app coordinator: the rank's agent thread, which sits between the daemon and the MPI thread.
 *
 * It sleeps in epoll but for the moments of a move. The socket to the daemon survives the move: the restored process
 * finds the new daemon's at the same descriptor, and the agent goes on waiting where it was.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lpm_msg.h"
#include "lpm_thread.h"
#include "lpm_unix.h"

#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/util/name_fns.h"
#include "orte/util/proc_info.h"

/* libpmix may have a request under way when the order to detach comes */
#define DETACH_RETRY_US 2000
#define DETACH_TRIES    2500
/* a thread inside MPI takes its command by itself within this time */
#define DRIVE_AFTER_US 500

static pthread_t thread;
static struct event_base *base;
static lpm_conn_t *conn;
static struct event *woken, *detach_timer, *drive_timer;
static int wake_fd = -1, detach_tries;
static const lpm_channel_ops_t *channels;

/* shared with the MPI thread */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static json_t *answers; /* of the MPI thread, not yet sent */
static bool may_leave, stop_asked, connection_lost;

static void wake(void)
{
    uint64_t one = 1;
    ssize_t n;

    do {
        n = write(wake_fd, &one, sizeof(one));
    } while (0 > n && EINTR == errno);
}

/* ---- the MPI thread ---- */

static void channel_answer(json_t *answer, void *arg)
{
    (void)arg;
    pthread_mutex_lock(&lock);
    json_array_append_new(answers, answer);
    pthread_mutex_unlock(&lock);
    wake();
}

/* ---- the agent thread ---- */

static void report(json_t *message)
{
    if (NULL != conn) {
        (void)lpm_conn_send(conn, message);
    } else {
        json_decref(message);
    }
}

static void try_detach(evutil_socket_t fd, short events, void *arg)
{
    struct timeval again = {0, DETACH_RETRY_US};
    const char *why = snapc_lpm_pmix_client_detach();

    (void)fd;
    (void)events;
    (void)arg;
    if (NULL == why) {
        report(json_pack("{s:s}", "event", "detached"));
    } else if (0 == strcmp("busy", why) && 0 < --detach_tries) {
        evtimer_add(detach_timer, &again);
    } else {
        report(json_pack("{s:s,s:s,s:s}", "event", "refused", "message",
                         0 == strcmp("busy", why) ? "the rank is inside a PMIx operation (spawn, connect, fence)" : why,
                         "remedy", "try again later"));
    }
}

static void reattach(const json_t *message)
{
    const char *uri = lpm_msg_str(message, "uri");
    const char *why = (NULL == uri) ? "no URI" : snapc_lpm_pmix_client_attach(uri);

    if (NULL == why) {
        report(json_pack("{s:s}", "event", "reattached"));
    } else {
        report(json_pack("{s:s,s:s}", "event", "failed", "message", why));
    }
}

/* The MPI thread may be far from MPI: then its work is done here. */
static void drive(evutil_socket_t fd, short events, void *arg)
{
    int ms = channels->drive();
    struct timeval again = {ms / 1000, ms % 1000 * 1000};

    (void)fd;
    (void)events;
    (void)arg;
    if (0 <= ms) {
        evtimer_add(drive_timer, &again);
    }
}

static void daemon_message(lpm_conn_t *from, json_t *message, void *arg)
{
    const struct timeval grace = {0, DRIVE_AFTER_US};
    const char *op = lpm_msg_str(message, "op");

    (void)from;
    (void)arg;
    if (NULL == op) {
        return;
    }
    if (0 == strcmp("detach", op)) {
        detach_tries = DETACH_TRIES;
        try_detach(-1, 0, NULL);
    } else if (0 == strcmp("reattach", op)) {
        reattach(message);
    } else if (0 == strcmp("leave", op)) {
        pthread_mutex_lock(&lock);
        may_leave = true;
        pthread_mutex_unlock(&lock);
    } else if (NULL == channels->unmovable()) {
        (void)channels->command(json_incref(message));
        evtimer_add(drive_timer, &grace);
    } else if (0 == strcmp("prepare", op)) {
        report(json_pack("{s:s,s:s,s:s}", "event", "refused", "message", channels->unmovable(), "remedy",
                         "start the job so that its channels can be moved"));
    }
}

static void daemon_end(lpm_conn_t *from, const char *why, void *arg)
{
    (void)why;
    (void)arg;
    lpm_conn_free(from);
    conn = NULL;
    pthread_mutex_lock(&lock);
    connection_lost = true;
    pthread_mutex_unlock(&lock);
}

static void on_wake(evutil_socket_t fd, short events, void *arg)
{
    uint64_t count;
    json_t *batch;
    bool stop;

    (void)events;
    (void)arg;
    if (0 > read(fd, &count, sizeof(count)) && EAGAIN != errno) {
        return;
    }
    pthread_mutex_lock(&lock);
    batch = answers;
    answers = json_array();
    stop = stop_asked;
    pthread_mutex_unlock(&lock);
    for (size_t i = 0; i < json_array_size(batch); ++i) {
        report(json_incref(json_array_get(batch, i)));
    }
    json_decref(batch);
    if (stop) {
        event_base_loopbreak(base);
    }
}

static void *agent_main(void *arg)
{
    (void)arg;
    (void)event_base_dispatch(base);
    return NULL;
}

/* ---- starting and stopping, on the MPI thread ---- */

static int say_hello(int fd)
{
    const char *unmovable = channels->unmovable();
    struct stat st;

    if (0 != fstat(fd, &st)) {
        return ORTE_ERROR;
    }
    return lpm_conn_send(
        conn, json_pack("{s:s,s:I,s:I,s:I,s:s*}", "op", "hello", "job", (json_int_t)ORTE_PROC_MY_NAME->jobid, "rank",
                        (json_int_t)ORTE_PROC_MY_NAME->vpid, "inode", (json_int_t)st.st_ino, "unmovable", unmovable));
}

static void release_all(void)
{
    lpm_conn_free(conn);
    conn = NULL;
    if (NULL != woken) {
        event_free(woken);
        woken = NULL;
    }
    if (NULL != detach_timer) {
        event_free(detach_timer);
        detach_timer = NULL;
    }
    if (NULL != drive_timer) {
        event_free(drive_timer);
        drive_timer = NULL;
    }
    if (NULL != base) {
        event_base_free(base);
        base = NULL;
    }
    if (0 <= wake_fd) {
        (void)close(wake_fd);
        wake_fd = -1;
    }
    json_decref(answers);
    answers = NULL;
    channels = NULL;
}

int snapc_lpm_app_start(const lpm_channel_ops_t *ops)
{
    int fd;

    if (NULL == snapc_lpm_agent_socket || '\0' == snapc_lpm_agent_socket[0] ||
        0 > (fd = lpm_unix_connect(snapc_lpm_agent_socket))) {
        return ORTE_ERR_NOT_AVAILABLE;
    }
    channels = ops;
    answers = json_array();
    base = event_base_new();
    if (NULL == base || NULL == (conn = lpm_conn_new(base, fd, daemon_message, daemon_end, NULL))) {
        (void)close(fd);
        goto err_release;
    }
    wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    woken = event_new(base, wake_fd, EV_READ | EV_PERSIST, on_wake, NULL);
    detach_timer = evtimer_new(base, try_detach, NULL);
    drive_timer = evtimer_new(base, drive, NULL);
    if (0 > wake_fd || NULL == woken || NULL == detach_timer || NULL == drive_timer || 0 != event_add(woken, NULL)) {
        goto err_release;
    }
    channels->start(channel_answer, NULL);
    if (0 != say_hello(fd) || 0 != lpm_thread_start(&thread, agent_main, NULL)) {
        goto err_release;
    }
    return ORTE_SUCCESS;

err_release:
    release_all();
    opal_output(0, "snapc/lpm: rank %s cannot start its agent: %m; it cannot be moved",
                ORTE_NAME_PRINT(ORTE_PROC_MY_NAME));
    return ORTE_ERR_OUT_OF_RESOURCE;
}

static bool told_to_leave(void)
{
    bool leave;

    pthread_mutex_lock(&lock);
    leave = may_leave || connection_lost;
    pthread_mutex_unlock(&lock);
    return leave;
}

void snapc_lpm_app_stop(void (*progress)(void))
{
    if (NULL == channels) {
        return;
    }
    channel_answer(json_pack("{s:s}", "event", "leaving"), NULL);
    while (!told_to_leave() || channels->busy()) {
        progress();
    }
    pthread_mutex_lock(&lock);
    stop_asked = true;
    pthread_mutex_unlock(&lock);
    wake();
    pthread_join(thread, NULL);
    release_all();
}
