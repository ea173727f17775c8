/*
 * Calls in which Open MPI waits inside libpmix for other processes: MPI_Comm_connect, accept, spawn, disconnect, names.
 *
 * The stock call blocks the MPI thread without making progress. A peer that waits there for a rank whose channels are
 * held, which waits for the peer to answer a mark, would be a deadlock. So the call is made on a thread of its own, and
 * the MPI thread carries out commands meanwhile.
 *
 * The daemons count which of their ranks have joined such a call. A rank must not change its daemon between the first
 * of them and the last, so no call that it has a part in overlaps with its move: see crcp_lpm_attend_begin().
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include <pthread.h>
#include <stdatomic.h>

#include "lpm_thread.h"

#include "ompi/constants.h"
#include "opal/mca/pmix/pmix.h"
#include "opal/util/proc.h"

typedef struct call {
    int (*make)(struct call *call);
    opal_list_t *first, *second;
    char **keys;
    int collect;
    opal_jobid_t *job;
    int result;
    atomic_bool done;
} call_t;

static opal_pmix_base_module_t stock;
static bool wrapped;

/* those of the call that is under way; of the thread that does the work */
static const opal_list_t *partners; /* a call that spawns has everybody as a partner */
static bool under_way, spawns;

/* ---- who takes part ---- */

static bool includes(const opal_list_t *names, const opal_process_name_t *name)
{
    const opal_namelist_t *entry;

    if (NULL == names) {
        return false;
    }
    OPAL_LIST_FOREACH(entry, names, const opal_namelist_t) {
        if (entry->name.jobid == name->jobid &&
            (entry->name.vpid == name->vpid || OPAL_VPID_WILDCARD == entry->name.vpid)) {
            return true;
        }
    }
    return false;
}

bool crcp_lpm_calls_involve(const opal_process_name_t *name)
{
    return under_way && (spawns || crcp_lpm_same_name(&OPAL_PROC_MY_NAME, name) || includes(partners, name));
}

/* ---- the thread of a call ---- */

static void *call_main(void *arg)
{
    call_t *call = arg;

    call->result = call->make(call);
    crcp_lpm_attend_wake(&call->done);
    return NULL;
}

/* @param names  the processes that take part, besides this one; NULL: none */
static int carry_out(call_t *call, const opal_list_t *names)
{
    pthread_t thread;

    partners = names;
    under_way = true;
    crcp_lpm_attend_begin();
    if (0 == lpm_thread_start(&thread, call_main, call)) {
        crcp_lpm_attend(&call->done);
        (void)pthread_join(thread, NULL);
    } else {
        call->result = call->make(call);
    }
    under_way = false;
    partners = NULL;
    crcp_lpm_attend_end(spawns);
    return call->result;
}

/* ---- the calls ---- */

static int make_connect(call_t *call)
{
    return stock.connect(call->first);
}

static int make_disconnect(call_t *call)
{
    return stock.disconnect(call->first);
}

static int make_fence(call_t *call)
{
    return stock.fence(call->first, call->collect);
}

static int make_spawn(call_t *call)
{
    return stock.spawn(call->first, call->second, call->job);
}

static int make_publish(call_t *call)
{
    return stock.publish(call->first);
}

static int make_lookup(call_t *call)
{
    return stock.lookup(call->first, call->second);
}

static int make_unpublish(call_t *call)
{
    return stock.unpublish(call->keys, call->first);
}

static int attended_connect(opal_list_t *names)
{
    call_t call = {.make = make_connect, .first = names};

    return carry_out(&call, names);
}

static int attended_disconnect(opal_list_t *names)
{
    call_t call = {.make = make_disconnect, .first = names};

    return carry_out(&call, names);
}

static int attended_fence(opal_list_t *names, int collect)
{
    call_t call = {.make = make_fence, .first = names, .collect = collect};

    return carry_out(&call, names);
}

static int attended_spawn(opal_list_t *info, opal_list_t *apps, opal_jobid_t *job)
{
    call_t call = {.make = make_spawn, .first = info, .second = apps, .job = job};
    int rc;

    spawns = true;
    rc = carry_out(&call, NULL);
    spawns = false;
    return rc;
}

static int attended_publish(opal_list_t *info)
{
    call_t call = {.make = make_publish, .first = info};

    return carry_out(&call, NULL);
}

static int attended_lookup(opal_list_t *data, opal_list_t *info)
{
    call_t call = {.make = make_lookup, .first = data, .second = info};

    return carry_out(&call, NULL);
}

static int attended_unpublish(char **keys, opal_list_t *info)
{
    call_t call = {.make = make_unpublish, .keys = keys, .first = info};

    return carry_out(&call, NULL);
}

/* What a component does not have stays NULL: Open MPI looks. */
#define WRAP(name)                                                                                                     \
    do {                                                                                                               \
        if (NULL != stock.name) {                                                                                      \
            opal_pmix.name = attended_##name;                                                                          \
        }                                                                                                              \
    } while (0)

void crcp_lpm_calls_init(void)
{
    stock = opal_pmix;
    wrapped = true;
    WRAP(connect);
    WRAP(disconnect);
    WRAP(fence);
    WRAP(spawn);
    WRAP(publish);
    WRAP(lookup);
    WRAP(unpublish);
}

void crcp_lpm_calls_fini(void)
{
    if (wrapped) {
        wrapped = false;
        opal_pmix.connect = stock.connect;
        opal_pmix.disconnect = stock.disconnect;
        opal_pmix.fence = stock.fence;
        opal_pmix.spawn = stock.spawn;
        opal_pmix.publish = stock.publish;
        opal_pmix.lookup = stock.lookup;
        opal_pmix.unpublish = stock.unpublish;
    }
}
