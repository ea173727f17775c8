/*
 * A helper that is replaced when it is killed.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm_worker.h"

#include "opal/util/output.h"
#include "orte/constants.h"

/* One that is killed again and again is started this much later. */
#define AGAIN_MS 50

static void worker_event(crs_lpm_image_t *from, json_t *event, void *arg)
{
    struct timeval soon = {0, AGAIN_MS * 1000};
    snapc_lpm_worker_t *w = arg;

    if (from != w->image) {
        return;
    }
    if (!w->ops->needed() || !crs_lpm_was_killed(event)) {
        w->ops->event(event);
        return;
    }
    opal_output(0, "snapc/lpm: the helper that %s has ended; another one goes on", w->ops->does);
    snapc_lpm_image_ops()->release(w->image);
    w->image = NULL;
    opal_event_evtimer_add(w->again, &soon);
}

static int start(snapc_lpm_worker_t *w)
{
    w->image = snapc_lpm_image_ops()->start(orte_event_base, &w->pass, (0 <= w->pass) ? 1 : 0, worker_event, w);
    return (0 == snapc_lpm_worker_command(w, json_copy(w->open))) ? ORTE_SUCCESS : ORTE_ERROR;
}

static void start_again(int fd, short events, void *arg)
{
    snapc_lpm_worker_t *w = arg;
    json_t *event;

    (void)fd;
    (void)events;
    if (ORTE_SUCCESS == start(w)) {
        w->ops->replaced();
        return;
    }
    event = json_pack("{s:s,s:s,s:s}", "event", "failed", "stage", w->ops->stage, "message",
                      "lpm-helper cannot be started again");
    w->ops->event(event);
    json_decref(event);
}

int snapc_lpm_worker_start(snapc_lpm_worker_t *w, const snapc_lpm_worker_ops_t *ops, json_t *open, int pass)
{
    snapc_lpm_worker_stop(w);
    *w = (snapc_lpm_worker_t){.ops = ops, .open = open, .pass = pass, .again = opal_event_alloc()};
    opal_event_evtimer_set(orte_event_base, w->again, start_again, w);
    return (NULL == open) ? ORTE_ERR_BAD_PARAM : start(w);
}

int snapc_lpm_worker_command(snapc_lpm_worker_t *w, json_t *command)
{
    if (NULL == w->image) {
        json_decref(command);
        return -1;
    }
    return snapc_lpm_image_ops()->command(w->image, command);
}

void snapc_lpm_worker_stop(snapc_lpm_worker_t *w)
{
    if (NULL != w->image) {
        snapc_lpm_image_ops()->release(w->image);
    }
    if (NULL != w->again) {
        opal_event_free(w->again);
    }
    json_decref(w->open);
    *w = (snapc_lpm_worker_t){.pass = -1};
}
