/*
 * The target's end of the page channel: the daemon sees to it that a helper fills the rank's memory, and keeps what
 * that helper must not lose.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm_worker.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lpm_children.h"
#include "lpm_fds.h"
#include "lpm_msg.h"
#include "snapc_lpm_pages.h"

#include "opal/util/output.h"
#include "orte/constants.h"

/* For a process to end that has been killed. */
#define END_MS 1000

/*
 * A userfaultfd and the file that says what is missing. When the last descriptor of a userfaultfd is closed, the kernel
 * makes zeros of what is missing.
 */
typedef struct {
    int uffd, file;
} kept_t;

static snapc_lpm_worker_t worker;
static json_t *expect_command, *attach_command;
static snapc_lpm_pages_fn_t tell;
static opal_event_t *safe_event;
static int safe[2] = {-1, -1}; /* ours, the helper's */
static kept_t *kept;
static uint32_t n_kept;
static bool attached, complete;

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

static void report_failure(const char *message)
{
    json_t *event = json_pack("{s:s,s:s,s:s}", "event", "failed", "stage", "fill", "message", message);

    tell(event);
    json_decref(event);
}

/* The rank depends on it. */
static bool is_needed(void)
{
    return attached && !complete;
}

static void replaced(void)
{
    take_into_safe(-1, 0, NULL); /* what the one that was killed has sent last */
    give_from_safe();
    (void)snapc_lpm_worker_command(&worker, json_copy(expect_command));
    (void)snapc_lpm_worker_command(&worker, json_copy(attach_command));
}

static void worker_event(json_t *event)
{
    const char *name = lpm_msg_str(event, "event");

    if (NULL == name) {
        return;
    }
    if (0 == strcmp("listening", name)) { /* the next one listens there as well: the source knows no other place */
        json_object_set(worker.open, "port", json_object_get(event, "port"));
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
    if (0 == strcmp("attached", name)) { /* the next one goes on from there */
        attached = true;
        json_object_set_new(worker.open, "again", json_true());
    }
    tell(event);
}

int snapc_lpm_fill_open(const json_t *message, snapc_lpm_pages_fn_t fn)
{
    static const snapc_lpm_worker_ops_t ops = {.does = "fills a moved rank's memory",
                                               .stage = "fill",
                                               .needed = is_needed,
                                               .replaced = replaced,
                                               .event = worker_event};

    snapc_lpm_fill_reset();
    tell = fn;
    if (ORTE_SUCCESS != open_safe()) {
        return ORTE_ERROR;
    }
    return snapc_lpm_worker_start(&worker, &ops,
                                  json_pack("{s:s,s:O,s:O,s:i}", "op", "open_fill", "listen_addrs",
                                            json_object_get(message, "listen_addrs"), "secret",
                                            json_object_get(message, "secret"), "safe", safe[1]),
                                  safe[1]);
}

void snapc_lpm_fill_expect(json_t *ranges)
{
    expect_command = json_pack("{s:s,s:O}", "op", "expect", "ranges", ranges);
    if (0 != snapc_lpm_worker_command(&worker, json_copy(expect_command))) {
        report_failure("lpm-helper does not take commands");
    }
}

void snapc_lpm_fill_attach(pid_t pid)
{
    attach_command = json_pack("{s:s,s:i}", "op", "attach", "pid", (int)pid);
    if (0 != snapc_lpm_worker_command(&worker, json_copy(attach_command))) {
        report_failure("lpm-helper does not take commands");
    }
}

void snapc_lpm_fill_stream(void)
{
    if (attached && !complete) {
        (void)snapc_lpm_worker_command(&worker, json_pack("{s:s}", "op", "stream")); /* if it is lost, it waits a bit */
    }
}

void snapc_lpm_fill_reset(void)
{
    if (attached && !complete) { /* without what is in the safe the kernel would give the rank zeros */
        lpm_end_with_group((pid_t)json_integer_value(json_object_get(attach_command, "pid")), END_MS);
    }
    snapc_lpm_worker_stop(&worker);
    close_safe();
    json_decref(expect_command);
    json_decref(attach_command);
    expect_command = attach_command = NULL;
    attached = complete = false;
}
