/*
 * The source's end of the page channel: the daemon sees to it that a helper serves the pages.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm_worker.h"

#include "snapc_lpm_pages.h"

#include "orte/constants.h"

static snapc_lpm_worker_t worker;
static json_t *serve_command;
static snapc_lpm_pages_fn_t tell;
static bool releasing;

static bool is_needed(void)
{
    return NULL != serve_command;
}

static void replaced(void)
{
    (void)snapc_lpm_worker_command(&worker, json_copy(serve_command));
    if (releasing) {
        snapc_lpm_serve_release();
    }
}

static void worker_event(json_t *event)
{
    tell(event);
}

int snapc_lpm_serve_open(const json_t *message, snapc_lpm_pages_fn_t fn)
{
    static const snapc_lpm_worker_ops_t ops = {.does = "serves the pages of a moved rank",
                                               .stage = "serve",
                                               .needed = is_needed,
                                               .replaced = replaced,
                                               .event = worker_event};

    snapc_lpm_serve_reset();
    tell = fn;
    return snapc_lpm_worker_start(
        &worker, &ops,
        json_pack("{s:s,s:O,s:O,s:O}", "op", "open_serve", "peer_addrs", json_object_get(message, "peer_addrs"),
                  "peer_port", json_object_get(message, "pages_port"), "secret", json_object_get(message, "secret")),
        -1);
}

void snapc_lpm_serve_holder(pid_t holder, json_t *ranges)
{
    serve_command = json_pack("{s:s,s:I,s:O}", "op", "serve", "holder", (json_int_t)holder, "ranges", ranges);
    (void)snapc_lpm_worker_command(&worker, json_copy(serve_command)); /* its end is an event */
}

void snapc_lpm_serve_release(void)
{
    releasing = true;
    (void)snapc_lpm_worker_command(&worker, json_pack("{s:s}", "op", "release"));
}

void snapc_lpm_serve_reset(void)
{
    snapc_lpm_worker_stop(&worker);
    json_decref(serve_command);
    serve_command = NULL;
    releasing = false;
}
