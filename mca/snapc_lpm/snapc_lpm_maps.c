/*
 * ORTE's bookkeeping of who is where. The one file that changes ORTE's job, node and process objects.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm.h"

#include <signal.h>
#include <stdlib.h>

#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/mca/errmgr/errmgr.h"
#include "orte/mca/grpcomm/base/base.h"
#include "orte/mca/odls/base/odls_private.h"
#include "orte/mca/rmaps/rmaps_types.h"
#include "orte/mca/rml/rml.h"
#include "orte/mca/routed/routed.h"
#include "orte/mca/state/state.h"
#include "orte/runtime/orte_wait.h"
#include "orte/util/name_fns.h"

static orte_proc_t *proc_of(const orte_process_name_t *name)
{
    orte_job_t *job = orte_get_job_data_object(name->jobid);

    return (NULL == job) ? NULL : opal_pointer_array_get_item(job->procs, name->vpid);
}

static orte_node_t *node_of_daemon(orte_vpid_t daemon)
{
    orte_job_t *daemons = orte_get_job_data_object(ORTE_PROC_MY_NAME->jobid);
    orte_proc_t *proc = (NULL == daemons) ? NULL : opal_pointer_array_get_item(daemons->procs, daemon);

    return (NULL == proc) ? NULL : proc->node;
}

const char *snapc_lpm_maps_node(orte_vpid_t daemon)
{
    orte_node_t *node = node_of_daemon(daemon);

    return (NULL == node) ? NULL : node->name;
}

static int index_of(opal_pointer_array_t *array, const void *item)
{
    for (int i = 0; i < array->size; ++i) {
        if (item == opal_pointer_array_get_item(array, i)) {
            return i;
        }
    }
    return -1;
}

static bool node_has_rank_of(orte_node_t *node, orte_jobid_t jobid)
{
    for (int i = 0; i < node->procs->size; ++i) {
        orte_proc_t *proc = opal_pointer_array_get_item(node->procs, i);

        if (NULL != proc && proc->name.jobid == jobid) {
            return true;
        }
    }
    return false;
}

/* The reference that the old node's list holds goes over into the new node's. */
static int move_between_nodes(orte_proc_t *proc, orte_node_t *from, orte_node_t *to)
{
    int at = index_of(from->procs, proc);

    if (0 > opal_pointer_array_add(to->procs, proc)) {
        return ORTE_ERR_OUT_OF_RESOURCE;
    }
    if (0 <= at) {
        opal_pointer_array_set_item(from->procs, at, NULL);
        --from->num_procs;
        --from->slots_inuse;
    } else {
        OBJ_RETAIN(proc);
    }
    ++to->num_procs;
    ++to->slots_inuse;
    OBJ_RETAIN(to);
    proc->node = to;
    OBJ_RELEASE(from);
    return ORTE_SUCCESS;
}

static int update_job_map(orte_job_t *job, orte_node_t *from, orte_node_t *to)
{
    int at = index_of(job->map->nodes, from);

    if (0 > index_of(job->map->nodes, to)) {
        if (0 > opal_pointer_array_add(job->map->nodes, to)) {
            return ORTE_ERR_OUT_OF_RESOURCE;
        }
        OBJ_RETAIN(to);
        ++job->map->num_nodes;
    }
    if (0 <= at && !node_has_rank_of(from, job->jobid)) {
        opal_pointer_array_set_item(job->map->nodes, at, NULL);
        --job->map->num_nodes;
        OBJ_RELEASE(from);
    }
    return ORTE_SUCCESS;
}

static bool takes_part(const orte_grpcomm_coll_t *coll, orte_vpid_t daemon)
{
    for (size_t i = 0; i < coll->ndmns; ++i) {
        if (daemon == coll->dmns[i]) {
            return true;
        }
    }
    return false;
}

/* How many contributions this daemon waits for: its own and those of its subtree, among the participants. */
static size_t contributions_expected(const orte_grpcomm_coll_t *coll)
{
    opal_list_t children;
    orte_namelist_t *child;
    size_t expected = takes_part(coll, ORTE_PROC_MY_NAME->vpid) ? 1 : 0;

    OBJ_CONSTRUCT(&children, opal_list_t);
    orte_routed.get_routing_list(orte_rml.get_routed(orte_coll_conduit), &children);
    OPAL_LIST_FOREACH(child, &children, orte_namelist_t) {
        expected += takes_part(coll, child->name.vpid) ? 1 : 0;
    }
    OPAL_LIST_DESTRUCT(&children);
    return expected;
}

/* A collective of the whole job that is under way counts daemons, fixed when it began. */
static void repair_collectives(orte_job_t *job)
{
    orte_grpcomm_coll_t *coll;

    OPAL_LIST_FOREACH(coll, &orte_grpcomm_base.ongoing, orte_grpcomm_coll_t) {
        orte_vpid_t *daemons;
        size_t count = 0;

        if (NULL == coll->sig->signature || coll->sig->signature[0].jobid != job->jobid ||
            ORTE_VPID_WILDCARD != coll->sig->signature[0].vpid ||
            NULL == (daemons = calloc((size_t)job->map->num_nodes + 1, sizeof(*daemons)))) {
            continue;
        }
        for (int i = 0; i < job->map->nodes->size; ++i) {
            orte_node_t *node = opal_pointer_array_get_item(job->map->nodes, i);

            if (NULL != node && NULL != node->daemon) {
                daemons[count++] = node->daemon->name.vpid;
            }
        }
        free(coll->dmns);
        coll->dmns = daemons;
        coll->ndmns = count;
        coll->nexpected = contributions_expected(coll);
    }
}

int snapc_lpm_maps_move(const orte_process_name_t *name, orte_vpid_t onto)
{
    orte_job_t *job = orte_get_job_data_object(name->jobid);
    orte_proc_t *proc = proc_of(name);
    orte_node_t *to = node_of_daemon(onto), *from;
    int rc;

    if (NULL == proc || NULL == to || NULL == proc->node) {
        return ORTE_ERR_NOT_FOUND;
    }
    from = proc->node;
    if (from == to) {
        return ORTE_SUCCESS;
    }
    OBJ_RETAIN(from); /* the map may hold the last reference */
    if (ORTE_SUCCESS == (rc = move_between_nodes(proc, from, to))) {
        proc->parent = onto;
        rc = update_job_map(job, from, to);
        repair_collectives(job);
    }
    OBJ_RELEASE(from);
    return rc;
}

static void original_gone(int fd, short events, void *cbdata)
{
    orte_wait_tracker_t *tracker = cbdata;
    void (*gone)(void) = (void (*)(void))tracker->cbdata;

    (void)fd;
    (void)events;
    tracker->child->exit_code = 0; /* the kill was ours */
    OBJ_RELEASE(tracker);
    gone();
}

int snapc_lpm_maps_disown(const orte_process_name_t *name, void (*gone)(void))
{
    orte_proc_t *proc = proc_of(name);

    if (NULL == proc || !ORTE_FLAG_TEST(proc, ORTE_PROC_FLAG_ALIVE)) {
        return ORTE_ERR_NOT_FOUND;
    }
    orte_wait_cb(proc, original_gone, orte_event_base, (void *)gone); /* replaces the stock callback */
    return ORTE_SUCCESS;
}

int snapc_lpm_maps_forget(const orte_process_name_t *name)
{
    orte_job_t *job = orte_get_job_data_object(name->jobid);
    orte_proc_t *proc = proc_of(name);
    int at;

    if (NULL == proc) {
        return ORTE_ERR_NOT_FOUND;
    }
    ORTE_FLAG_UNSET(proc, ORTE_PROC_FLAG_ALIVE);
    ORTE_FLAG_UNSET(proc, ORTE_PROC_FLAG_LOCAL);
    ORTE_FLAG_UNSET(proc, ORTE_PROC_FLAG_REG);
    ORTE_FLAG_UNSET(proc, ORTE_PROC_FLAG_WAITPID);
    ORTE_FLAG_UNSET(proc, ORTE_PROC_FLAG_IOF_COMPLETE);
    --job->num_local_procs;
    if (!ORTE_PROC_IS_HNP) { /* mpirun's own counters are those of the whole job */
        proc->pid = 0;
        --job->num_launched;
        --job->num_reported;
    }
    at = index_of(orte_local_children, proc);
    if (0 <= at) {
        opal_pointer_array_set_item(orte_local_children, at, NULL);
        OBJ_RELEASE(proc);
    }
    return ORTE_SUCCESS;
}

int snapc_lpm_maps_adopt(const orte_process_name_t *name, pid_t pid)
{
    orte_job_t *job = orte_get_job_data_object(name->jobid);
    orte_proc_t *proc = proc_of(name);

    if (NULL == proc) {
        return ORTE_ERR_NOT_FOUND;
    }
    if (0 > index_of(orte_local_children, proc)) {
        OBJ_RETAIN(proc);
        if (0 > opal_pointer_array_add(orte_local_children, proc)) {
            OBJ_RELEASE(proc);
            return ORTE_ERR_OUT_OF_RESOURCE;
        }
    }
    ++job->num_local_procs;
    if (!ORTE_PROC_IS_HNP) {
        ++job->num_launched;
    }
    ORTE_FLAG_UNSET(proc, ORTE_PROC_FLAG_WAITPID);
    ORTE_FLAG_UNSET(proc, ORTE_PROC_FLAG_IOF_COMPLETE);
    ORTE_FLAG_UNSET(proc, ORTE_PROC_FLAG_RECORDED);
    ORTE_FLAG_UNSET(proc, ORTE_PROC_FLAG_HAS_DEREG);
    ORTE_FLAG_SET(proc, ORTE_PROC_FLAG_LOCAL);
    ORTE_FLAG_SET(proc, ORTE_PROC_FLAG_ALIVE);
    proc->pid = pid;
    proc->exit_code = 0;
    proc->state = ORTE_PROC_STATE_REGISTERED; /* RUNNING would be counted a second time */
    orte_wait_cb(proc, orte_odls_base_default_wait_local_proc, orte_event_base, NULL);
    return ORTE_SUCCESS;
}

void snapc_lpm_maps_lost(const orte_process_name_t *name)
{
    orte_process_name_t lost = *name;
    orte_proc_t *proc = proc_of(name);

    if (NULL != proc) {
        proc->exit_code = 128 + SIGKILL;
        ORTE_FLAG_UNSET(proc, ORTE_PROC_FLAG_ALIVE);
    }
    ORTE_ACTIVATE_PROC_STATE(&lost, ORTE_PROC_STATE_ABORTED_BY_SIG);
}
