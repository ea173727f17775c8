/*
 * libpmix in a daemon: clients that leave, collectives under way. One of the two files that know its inside.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "src/include/pmix_config.h"
#include "src/include/pmix_globals.h"
#include "src/server/pmix_server_ops.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_version.h"
#include "snapc_lpm_pmix.h"

const char *snapc_lpm_pmix_untested(void);
void snapc_lpm_pmix_server_expect_leave(const char *nspace, uint32_t rank);
void snapc_lpm_pmix_server_fix_collectives(const char *nspace, int delta);

/* The layouts below are those of the headers we were compiled with, so the library must be the same release. */
const char *snapc_lpm_pmix_untested(void)
{
    static char text[224];
    char known[64];
    const char *running = PMIx_Get_version();

    snprintf(known, sizeof(known), "%ld.%ld.%ld", (long)PMIX_VERSION_MAJOR, (long)PMIX_VERSION_MINOR,
             (long)PMIX_VERSION_RELEASE);
    if (4 == PMIX_VERSION_MAJOR && 2 == PMIX_VERSION_MINOR && NULL != running && NULL != strstr(running, known)) {
        return NULL;
    }
    snprintf(text, sizeof(text), "libpmix here calls itself \"%.60s\", LPM was built for and tested with %s",
             (NULL == running) ? "nothing" : running, known);
    return text;
}

/* ---- on the progress thread ---- */

typedef struct {
    pmix_event_t event;
    void (*fn)(void *arg);
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t ready;
    bool done;
} call_t;

static void run_call(int fd, short events, void *arg)
{
    call_t *call = arg;

    (void)fd;
    (void)events;
    call->fn(call->arg);
    pthread_mutex_lock(&call->lock);
    call->done = true;
    pthread_cond_signal(&call->ready);
    pthread_mutex_unlock(&call->lock);
}

void snapc_lpm_pmix_run(void (*fn)(void *arg), void *arg)
{
    call_t call = {.fn = fn, .arg = arg, .lock = PTHREAD_MUTEX_INITIALIZER, .ready = PTHREAD_COND_INITIALIZER};

    pmix_event_assign(&call.event, pmix_globals.evbase, -1, EV_WRITE, run_call, &call);
    pmix_event_active(&call.event, EV_WRITE, 1);
    pthread_mutex_lock(&call.lock);
    while (!call.done) {
        pthread_cond_wait(&call.ready, &call.lock);
    }
    pthread_mutex_unlock(&call.lock);
}

/* ---- a client leaves ---- */

typedef struct {
    const char *nspace;
    uint32_t rank;
} leave_t;

/* A peer that has said goodbye may close its socket; anyone else's end-of-file aborts the job. */
static void mark_finalized(void *arg)
{
    const leave_t *leave = arg;

    for (int i = 0; i < pmix_server_globals.clients.size; ++i) {
        pmix_peer_t *peer = pmix_pointer_array_get_item(&pmix_server_globals.clients, i);

        if (NULL != peer && NULL != peer->info && leave->rank == peer->info->pname.rank &&
            0 == strcmp(leave->nspace, peer->info->pname.nspace)) {
            peer->finalized = true;
        }
    }
}

void snapc_lpm_pmix_server_expect_leave(const char *nspace, uint32_t rank)
{
    leave_t leave = {.nspace = nspace, .rank = rank};

    if (NULL != nspace) {
        snapc_lpm_pmix_run(mark_finalized, &leave);
    }
}

/* ---- collectives under way ---- */

typedef struct {
    const char *nspace;
    int delta;
} fix_t;

/* How many local participants a fence of the whole namespace waits for was fixed when it began. */
static void fix_trackers(void *arg)
{
    const fix_t *fix = arg;
    pmix_server_trkr_t *tracker;

    PMIX_LIST_FOREACH(tracker, &pmix_server_globals.collectives, pmix_server_trkr_t) {
        for (size_t i = 0; i < tracker->npcs; ++i) {
            if (!tracker->host_called && PMIX_RANK_WILDCARD == tracker->pcs[i].rank &&
                0 == strncmp(tracker->pcs[i].nspace, fix->nspace, PMIX_MAX_NSLEN)) {
                tracker->nlocal = (uint32_t)((int)tracker->nlocal + fix->delta);
                tracker->local = false;
            }
        }
    }
}

void snapc_lpm_pmix_server_fix_collectives(const char *nspace, int delta)
{
    fix_t fix = {.nspace = nspace, .delta = delta};

    if (NULL != nspace) {
        snapc_lpm_pmix_run(fix_trackers, &fix);
    }
}
