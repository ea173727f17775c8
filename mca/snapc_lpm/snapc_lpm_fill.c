/*
 * The target's end of the page channel: the daemon sees to it that a helper fills the rank's memory, and keeps what
 * that helper must not lose.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../crs_lpm/crs_lpm.h"
#include "lpm_fds.h"
#include "lpm_msg.h"
#include "snapc_lpm_pages.h"

#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/mca/snapc/base/base.h"

/* A helper that is killed again and again is started this much later. */
#define AGAIN_MS 50
/* For a process to end that has been killed. */
#define END_MS 1000

/*
 * A userfaultfd and the file that says what is missing. When the last descriptor of a userfaultfd is closed, the kernel
 * makes zeros of what is missing.
 */
typedef struct {
    int uffd, file;
} kept_t;

static crs_lpm_image_t *helper;
static json_t *open_command, *expect_command, *attach_command;
static snapc_lpm_pages_fn_t tell;
static opal_event_t *again_timer, *safe_event;
static int safe[2] = {-1, -1}; /* ours, the helper's */
static kept_t *kept;
static uint32_t n_kept;
static bool attached, complete;

static void helper_event(crs_lpm_image_t *from, json_t *event, void *arg);

/* ---- the safe ---- */

static void close_kept(kept_t *k)
{
    if (0 <= k->uffd) {
        (void)close(k->uffd);
        (void)close(k->file);
        k->uffd = k->file = -1;
    }
}

static bool make_room(uint32_t number)
{
    kept_t *more;

    if (number < n_kept) {
        return true;
    }
    more = realloc(kept, (number + 1) * sizeof(*kept));
    if (NULL == more) {
        return false;
    }
    kept = more;
    for (; n_kept <= number; ++n_kept) {
        kept[n_kept] = (kept_t){-1, -1};
    }
    return true;
}

static void take_into_safe(int fd, short events, void *arg)
{
    uint32_t number;
    kept_t k;

    (void)fd;
    (void)events;
    (void)arg;
    while (1 == lpm_fds_receive(safe[0], &number, &k.uffd, &k.file)) {
        if (UINT16_MAX < number || !make_room(number)) {
            close_kept(&k); /* the helper still has it */
            continue;
        }
        close_kept(&kept[number]); /* of a process that has ended */
        kept[number] = k;
    }
}

/* For a new helper. */
static void give_from_safe(void)
{
    for (uint32_t i = 0; i < n_kept; ++i) {
        if (0 <= kept[i].uffd && 0 != lpm_fds_send(safe[0], i, kept[i].uffd, kept[i].file)) {
            opal_output(0, "snapc/lpm: what a rank lacks cannot be handed to a new helper: %m");
        }
    }
}

static void close_safe(void)
{
    if (NULL != safe_event) {
        opal_event_free(safe_event);
        safe_event = NULL;
    }
    for (uint32_t i = 0; i < n_kept; ++i) {
        close_kept(&kept[i]);
    }
    free(kept);
    kept = NULL;
    n_kept = 0;
    for (int i = 0; i < 2; ++i) {
        if (0 <= safe[i]) {
            (void)close(safe[i]);
            safe[i] = -1;
        }
    }
}

static int open_safe(void)
{
    if (0 != lpm_fds_pair(safe)) {
        return ORTE_ERR_SYS_LIMITS_SOCKETS;
    }
    safe_event = opal_event_alloc();
    opal_event_set(orte_event_base, safe_event, safe[0], OPAL_EV_READ | OPAL_EV_PERSIST, take_into_safe, NULL);
    return (0 == opal_event_add(safe_event, NULL)) ? ORTE_SUCCESS : ORTE_ERROR;
}

/* ---- the helper ---- */

static int start(void)
{
    helper = snapc_lpm_image_ops()->start(orte_event_base, &safe[1], 1, helper_event, NULL);
    return (NULL != helper && 0 == snapc_lpm_image_ops()->command(helper, json_copy(open_command))) ? ORTE_SUCCESS
                                                                                                    : ORTE_ERROR;
}

static void report_failure(const char *message)
{
    json_t *event = json_pack("{s:s,s:s,s:s}", "event", "failed", "stage", "fill", "message", message);

    tell(event);
    json_decref(event);
}

static void start_again(int fd, short events, void *arg)
{
    (void)fd;
    (void)events;
    (void)arg;
    json_object_set_new(open_command, "again", json_true());
    give_from_safe();
    if (ORTE_SUCCESS != start()) {
        report_failure("lpm-helper cannot be started again");
        return;
    }
    (void)snapc_lpm_image_ops()->command(helper, json_copy(expect_command));
    (void)snapc_lpm_image_ops()->command(helper, json_copy(attach_command));
}

/* One that was killed after the rank had come to depend on it. */
static bool is_to_be_replaced(const json_t *event)
{
    const char *name = lpm_msg_str(event, "event"), *stage = lpm_msg_str(event, "stage");

    return attached && !complete && NULL != name && 0 == strcmp("failed", name) && NULL != stage &&
           0 == strcmp("helper", stage);
}

static void helper_event(crs_lpm_image_t *from, json_t *event, void *arg)
{
    struct timeval soon = {0, AGAIN_MS * 1000};
    const char *name = lpm_msg_str(event, "event");

    (void)arg;
    if (from != helper || NULL == name) {
        return;
    }
    if (!complete) {
        take_into_safe(-1, 0, NULL); /* what the helper has sent before */
    }
    if (is_to_be_replaced(event)) {
        opal_output(0, "snapc/lpm: the helper that fills a moved rank's memory has ended; another one goes on");
        snapc_lpm_image_ops()->release(helper);
        helper = NULL;
        opal_event_evtimer_add(again_timer, &soon);
        return;
    }
    if (0 == strcmp("listening", name)) { /* the next one listens there as well: the source knows no other place */
        json_object_set(open_command, "port", json_object_get(event, "port"));
    }
    if (attached && (0 == strcmp("listening", name) || 0 == strcmp("opened", name) || 0 == strcmp("attached", name))) {
        return; /* of a new helper */
    }
    if (0 == strcmp("complete", name)) { /* nobody may wait for pages any more */
        complete = true;
        close_safe();
        return;
    }
    if (complete && 0 == strcmp("failed", name)) {
        json_object_set_new(event, "event", json_string("filled")); /* it was killed with nothing left to do */
    }
    attached = attached || 0 == strcmp("attached", name);
    tell(event);
}

int snapc_lpm_fill_open(const json_t *message, snapc_lpm_pages_fn_t fn)
{
    snapc_lpm_fill_reset();
    tell = fn;
    again_timer = opal_event_alloc();
    opal_event_evtimer_set(orte_event_base, again_timer, start_again, NULL);
    if (ORTE_SUCCESS != open_safe()) {
        return ORTE_ERROR;
    }
    open_command =
        json_pack("{s:s,s:O,s:O,s:i}", "op", "open_fill", "listen_addrs", json_object_get(message, "listen_addrs"),
                  "secret", json_object_get(message, "secret"), "safe", safe[1]);
    return (NULL == open_command) ? ORTE_ERR_BAD_PARAM : start();
}

void snapc_lpm_fill_expect(json_t *ranges)
{
    expect_command = json_pack("{s:s,s:O}", "op", "expect", "ranges", ranges);
    if (NULL == helper || 0 != snapc_lpm_image_ops()->command(helper, json_copy(expect_command))) {
        report_failure("lpm-helper does not take commands");
    }
}

void snapc_lpm_fill_attach(pid_t pid)
{
    attach_command = json_pack("{s:s,s:i}", "op", "attach", "pid", (int)pid);
    if (NULL == helper || 0 != snapc_lpm_image_ops()->command(helper, json_copy(attach_command))) {
        report_failure("lpm-helper does not take commands");
    }
}

/* Without what is in the safe the kernel would give the rank, and what it has forked, zeros. */
static void end_rank(void)
{
    json_int_t pid = json_integer_value(json_object_get(attach_command, "pid"));
    struct pollfd end = {.events = POLLIN};

    if (!attached || complete || 0 >= pid || 0 > (end.fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0))) {
        return;
    }
    (void)kill((pid_t)pid, SIGKILL);
    (void)kill(-(pid_t)pid, SIGKILL); /* its process group, if it leads one */
    (void)poll(&end, 1, END_MS);
    (void)close(end.fd);
}

void snapc_lpm_fill_reset(void)
{
    end_rank();
    if (NULL != helper) {
        snapc_lpm_image_ops()->release(helper);
        helper = NULL;
    }
    if (NULL != again_timer) {
        opal_event_free(again_timer);
        again_timer = NULL;
    }
    close_safe();
    json_decref(open_command);
    json_decref(expect_command);
    json_decref(attach_command);
    open_command = expect_command = attach_command = NULL;
    attached = complete = false;
}
