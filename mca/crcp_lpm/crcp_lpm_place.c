/*
 * What a rank knows of the place where it runs: node name, clock, whether a peer is near.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ompi/constants.h"
#include "ompi/proc/proc.h"
#include "opal/class/opal_hash_table.h"
#include "opal/util/proc.h"
#include "orte/util/proc_info.h"

/* libmpi's origin of MPI_Wtime (ompi/mpi/c/wtime.c); all zero until its first call */
extern struct timespec ompi_wtime_time_origin;

#define NS_PER_S 1000000000LL
/* below the resolution at which two clock readings, one after the other, can be compared */
#define CLOCK_NOISE_NS 1000000LL

static int64_t left_monotonic, left_realtime;

static int64_t now_ns(clockid_t clock)
{
    struct timespec ts = {0, 0};

    (void)clock_gettime(clock, &ts);
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

double crcp_lpm_now_ms(void)
{
    return (double)now_ns(CLOCK_MONOTONIC) / 1e6;
}

void crcp_lpm_place_leave(void)
{
    left_monotonic = now_ns(CLOCK_MONOTONIC);
    left_realtime = now_ns(CLOCK_REALTIME);
}

/*
 * CRIU lets the monotonic clock go on from where it stood at the dump, in a time namespace of the restored process, so
 * it does not know of the blackout; on a kernel without time namespaces it is the new node's and counts from that
 * node's boot. What MPI_Wtime must show as elapsed is the wall clock's difference (never less than nothing), so its
 * origin moves by how much the monotonic clock is off.
 */
static void continue_wtime(void)
{
    int64_t elapsed = now_ns(CLOCK_REALTIME) - left_realtime;
    int64_t jump = now_ns(CLOCK_MONOTONIC) - left_monotonic, origin;

    if (0 > elapsed) {
        elapsed = 0;
    }
    if (0 == ompi_wtime_time_origin.tv_sec || (0 <= jump && llabs(jump - elapsed) < CLOCK_NOISE_NS)) {
        return;
    }
    origin = ompi_wtime_time_origin.tv_sec * NS_PER_S + ompi_wtime_time_origin.tv_nsec + jump - elapsed;
    ompi_wtime_time_origin.tv_sec = origin / NS_PER_S;
    ompi_wtime_time_origin.tv_nsec = origin % NS_PER_S;
    if (0 > ompi_wtime_time_origin.tv_nsec) {
        ompi_wtime_time_origin.tv_nsec += NS_PER_S;
        ompi_wtime_time_origin.tv_sec -= 1;
    }
    if (0 == ompi_wtime_time_origin.tv_sec) {
        ompi_wtime_time_origin.tv_sec = -1; /* 0 means "not set yet" to libmpi; a second more elapsed does no harm */
    }
}

void crcp_lpm_place_arrive(const char *node)
{
    char *orte_name = NULL, *opal_name = NULL;

    continue_wtime();
    if (NULL == node || NULL == (orte_name = strdup(node)) || NULL == (opal_name = strdup(node))) {
        free(orte_name);
        return;
    }
    /* The old strings are not freed: messages being formatted elsewhere may still point to them. Each layer frees
     * its own at the end. */
    orte_process_info.nodename = orte_name;
    opal_process_info.nodename = opal_name;
}

/* ---- who is near ---- */

/*
 * What Open MPI knows of a peer's locality stays as it was at the start: MPI_Comm_split_type() and the choice of
 * components read it on every rank for itself, and would come to different results on ranks that hear of a move at
 * different times.
 */
static opal_hash_table_t *moved; /* peers whose locality has changed: NULL or not NULL for far or near */

static uint64_t key_of(const opal_process_name_t *name)
{
    return (uint64_t)name->jobid << 32 | name->vpid;
}

bool crcp_lpm_place_is_near(const ompi_proc_t *proc)
{
    void *near = NULL;

    if (NULL != moved &&
        OPAL_SUCCESS == opal_hash_table_get_value_uint64(moved, key_of(&proc->super.proc_name), &near)) {
        return NULL != near;
    }
    return OPAL_PROC_ON_LOCAL_NODE(proc->super.proc_flags);
}

int crcp_lpm_place_peer(const ompi_proc_t *proc, bool near)
{
    if (NULL == moved) {
        if (NULL == (moved = OBJ_NEW(opal_hash_table_t))) {
            return OMPI_ERR_OUT_OF_RESOURCE;
        }
        (void)opal_hash_table_init(moved, 64);
    }
    return opal_hash_table_set_value_uint64(moved, key_of(&proc->super.proc_name), near ? (void *)moved : NULL);
}

uint16_t crcp_lpm_place_pretend(ompi_proc_t *proc, bool near)
{
    const uint16_t flags = proc->super.proc_flags;

    proc->super.proc_flags = near ? OPAL_PROC_ON_NODE : OPAL_PROC_NON_LOCAL;
    return flags;
}
