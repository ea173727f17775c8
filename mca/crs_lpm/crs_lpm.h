/*
 * crs/lpm: process images, made and restored by lpm-helper.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef CRS_LPM_H
#define CRS_LPM_H

#include "opal_config.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "lpm_msg.h"
#include "opal/mca/crs/crs.h"

struct event_base;

/** One helper process: one end of one migration. */
typedef struct crs_lpm_image crs_lpm_image_t;

/**
 * An event of the helper (docs/protocol.md), borrowed until the callback returns.
 *
 * A helper says exactly one last word: closed, thawed, running, discarded, released, filled or failed. When it dies
 * without one,
 * {"event":"failed","stage":"helper",...} is made up in its place. After the last word nothing is called any more.
 * Runs on the event base of start(). The callback may release the image.
 */
typedef void (*crs_lpm_image_fn_t)(crs_lpm_image_t *im, json_t *event, void *arg);

/** Is this the event that was made up, as the helper has died without a last word? */
static inline bool crs_lpm_was_killed(const json_t *event)
{
    const char *name = lpm_msg_str(event, "event"), *stage = lpm_msg_str(event, "stage");

    return NULL != name && 0 == strcmp("failed", name) && NULL != stage && 0 == strcmp("helper", stage);
}

/** What crs/lpm offers the daemons. All of it belongs on the thread of the event base; none of it blocks. */
typedef struct crs_lpm_image_ops {
    /**
     * Start a helper.
     *
     * The daemon's own SIGCHLD handling is to reap it, its CRIU (a target's is the daemon's child) and what they
     * restore: nothing here waits for a process.
     *
     * @param pass_fds  descriptors that the helper gets under the same numbers; the caller may close its own at once.
     * @return NULL when it cannot be started; the reason has been reported.
     */
    crs_lpm_image_t *(*start)(struct event_base *base, const int *pass_fds, size_t n_pass_fds, crs_lpm_image_fn_t fn,
                              void *arg);

    /**
     * Give it a command (docs/protocol.md). The MCA parameters are filled in where open_source and open_target need
     * them.
     *
     * @param cmd  stolen, also on failure; NULL is an error.
     * @return 0, or -1 when the helper has said its last word, is gone, or memory is out.
     */
    int (*command)(crs_lpm_image_t *im, json_t *cmd);

    /**
     * Let go of it. A helper that has not committed rolls back by itself; no callback comes any more. NULL is
     * accepted. Safe within the callback.
     */
    void (*release)(crs_lpm_image_t *im);

    /** Does memory follow later (MCA parameter crs_lpm_pages)? */
    bool (*lazy)(void);
} crs_lpm_image_ops_t;

/** The component, as exported (mca_crs_lpm_component): other components of ours find the operations here. */
typedef struct {
    opal_crs_base_component_t super;
    const crs_lpm_image_ops_t *image;
} mca_crs_lpm_component_t;

OPAL_MODULE_DECLSPEC extern mca_crs_lpm_component_t mca_crs_lpm_component;

/* ---- inside of the component ---- */

typedef struct {
    char *criu;
    char *helper;
    int log_level;
    int timeout; /* seconds */
    char *pages;
    int lazy_min; /* KiB */
} crs_lpm_params_t;

extern crs_lpm_params_t crs_lpm_params;
extern const crs_lpm_image_ops_t crs_lpm_image_ops;
extern opal_crs_base_module_t crs_lpm_module;

#endif /* CRS_LPM_H */
