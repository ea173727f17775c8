/*
 * A helper that is replaced when it is killed.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef SNAPC_LPM_WORKER_H
#define SNAPC_LPM_WORKER_H

#include "snapc_lpm.h"

#include "../crs_lpm/crs_lpm.h"

/** What the user of a worker says of it, constant. All is called on orte_event_base. */
typedef struct {
    const char *does;  /* for messages: "the helper that ... has ended" */
    const char *stage; /* of the failure, when there can be no other one */
    /** Would the work be left undone if it was killed now? */
    bool (*needed)(void);
    /** A new one has been started in the place of one that was killed: give it what that one had. */
    void (*replaced)(void);
    /** What it says, borrowed. */
    void (*event)(json_t *event);
} snapc_lpm_worker_ops_t;

typedef struct {
    const snapc_lpm_worker_ops_t *ops;
    crs_lpm_image_t *image; /* NULL: none, or between two */
    json_t *open;           /* the first command of each */
    int pass;               /* a descriptor that each is started with, or -1 */
    opal_event_t *again;
} snapc_lpm_worker_t;

/** Start it. @param open  its first command, stolen, and to be seen in .open. @return an ORTE code */
int snapc_lpm_worker_start(snapc_lpm_worker_t *w, const snapc_lpm_worker_ops_t *ops, json_t *open, int pass);

/** Give it a command (stolen). @return 0, or -1: it is gone. Whoever is needed is replaced then, and asks for it again.
 */
int snapc_lpm_worker_command(snapc_lpm_worker_t *w, json_t *command);

/** Let go of it, if there is one. */
void snapc_lpm_worker_stop(snapc_lpm_worker_t *w);

#endif /* SNAPC_LPM_WORKER_H */
