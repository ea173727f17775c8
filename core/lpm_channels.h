/*
 * Between the rank's app coordinator (agent thread) and its MPI channels (MPI thread).
 *
 * The coordinator lives in ORTE's layer and may not call OMPI's; crcp/lpm hands it this table instead.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_CHANNELS_H
#define LPM_CHANNELS_H

#include <jansson.h>
#include <stdbool.h>

/** Called on the MPI thread, or on the agent's in its place; may only queue the answer and wake the agent. The
 * reference is handed over. */
typedef void (*lpm_channel_answer_fn_t)(json_t *answer, void *arg);

typedef struct {
    /** Why this rank cannot be moved as it is set up, or NULL. Any thread, after MPI_Init. */
    const char *(*unmovable)(void);

    /** MPI thread, once, at the end of MPI_Init: where answers go. */
    void (*start)(lpm_channel_answer_fn_t fn, void *arg);

    /**
     * Agent thread: hand one command (docs/protocol.md, "rank") to the MPI thread, which takes it at its next call
     * of the progress engine, in order. The reference is stolen.
     */
    int (*command)(json_t *command);

    /**
     * Agent thread, after a command and whenever the time that was answered has passed: where the MPI thread does not
     * come by, park it and do its work.
     * @return milliseconds until the next call is wanted, or -1: none before the next command.
     */
    int (*drive)(void);

    /** MPI thread, from MPI_Finalize: true while a move is under way in which this rank takes part. */
    bool (*busy)(void);

    /** MPI thread: no command will come any more. */
    void (*stop)(void);
} lpm_channel_ops_t;

#endif /* LPM_CHANNELS_H */
