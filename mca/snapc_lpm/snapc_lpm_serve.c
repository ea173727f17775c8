/*
 * The source's end of the page channel: the daemon sees to it that a helper serves the pages.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm.h"

#include <string.h>

#include "../crs_lpm/crs_lpm.h"
#include "lpm_msg.h"
#include "snapc_lpm_pages.h"

#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/mca/snapc/base/base.h"

/* A helper that is killed again and again is started this much later. */
#define AGAIN_MS 50

static crs_lpm_image_t *helper;
static json_t *open_command, *serve_command;
static snapc_lpm_pages_fn_t tell;
static opal_event_t *again_timer;
static bool releasing;

static void helper_event(crs_lpm_image_t *from, json_t *event, void *arg);

static int start(void)
{
    helper = snapc_lpm_image_ops()->start(orte_event_base, NULL, 0, helper_event, NULL);
    return (NULL != helper && 0 == snapc_lpm_image_ops()->command(helper, json_copy(open_command))) ? ORTE_SUCCESS
                                                                                                    : ORTE_ERROR;
}

static void start_again(int fd, short events, void *arg)
{
    (void)fd;
    (void)events;
    (void)arg;
    if (ORTE_SUCCESS != start()) {
        json_t *event = json_pack("{s:s,s:s,s:s}", "event", "failed", "stage", "serve", "message",
                                  "lpm-helper cannot be started again");

        tell(event);
        json_decref(event);
    } else if (NULL != serve_command) {
        (void)snapc_lpm_image_ops()->command(helper, json_copy(serve_command));
        if (releasing) {
            (void)snapc_lpm_image_ops()->command(helper, json_pack("{s:s}", "op", "release"));
        }
    }
}

/* One that was killed while it had something to do. */
static bool is_to_be_replaced(const json_t *event)
{
    const char *name = lpm_msg_str(event, "event"), *stage = lpm_msg_str(event, "stage");

    return NULL != serve_command && NULL != name && 0 == strcmp("failed", name) && NULL != stage &&
           0 == strcmp("helper", stage);
}

static void helper_event(crs_lpm_image_t *from, json_t *event, void *arg)
{
    struct timeval soon = {0, AGAIN_MS * 1000};

    (void)arg;
    if (from != helper) {
        return;
    }
    if (is_to_be_replaced(event)) {
        opal_output(0, "snapc/lpm: the helper that serves the pages of a moved rank has ended; another one goes on");
        snapc_lpm_image_ops()->release(helper);
        helper = NULL;
        opal_event_evtimer_add(again_timer, &soon);
        return;
    }
    tell(event);
}

int snapc_lpm_serve_open(const json_t *message, snapc_lpm_pages_fn_t fn)
{
    snapc_lpm_serve_reset();
    tell = fn;
    again_timer = opal_event_alloc();
    opal_event_evtimer_set(orte_event_base, again_timer, start_again, NULL);
    open_command =
        json_pack("{s:s,s:O,s:O,s:O}", "op", "open_serve", "peer_addrs", json_object_get(message, "peer_addrs"),
                  "peer_port", json_object_get(message, "pages_port"), "secret", json_object_get(message, "secret"));
    return (NULL == open_command) ? ORTE_ERR_BAD_PARAM : start();
}

void snapc_lpm_serve_holder(pid_t holder, json_t *ranges)
{
    serve_command = json_pack("{s:s,s:I,s:O}", "op", "serve", "holder", (json_int_t)holder, "ranges", ranges);
    if (NULL != helper) {
        (void)snapc_lpm_image_ops()->command(helper, json_copy(serve_command)); /* its end is an event */
    }
}

void snapc_lpm_serve_release(void)
{
    releasing = true;
    if (NULL != helper) {
        (void)snapc_lpm_image_ops()->command(helper, json_pack("{s:s}", "op", "release"));
    }
}

void snapc_lpm_serve_reset(void)
{
    if (NULL != helper) {
        snapc_lpm_image_ops()->release(helper);
        helper = NULL;
    }
    if (NULL != again_timer) {
        opal_event_free(again_timer);
        again_timer = NULL;
    }
    json_decref(open_command);
    json_decref(serve_command);
    open_command = serve_command = NULL;
    releasing = false;
}
