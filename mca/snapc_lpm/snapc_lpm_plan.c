/*
 * PLAN: is the request possible at all?
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lpm_msg.h"

#include "opal/class/opal_hash_table.h"
#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/mca/plm/plm_types.h"
#include "orte/mca/rmaps/rmaps_types.h"
#include "orte/util/name_fns.h"
#include "orte/util/proc_info.h"

#define APPEND_MAX 512

static json_t *refuse(const char *code, const char *message, const char *remedy)
{
    return lpm_msg_error(code, "PLAN", message, remedy);
}

/* ---- the tables ---- */

static orte_job_t *daemons(void)
{
    return orte_get_job_data_object(ORTE_PROC_MY_NAME->jobid);
}

/* Calls fn for every job but that of the daemons, until it answers true. */
static orte_job_t *find_job(bool (*fn)(orte_job_t *job, const void *arg), const void *arg)
{
    orte_job_t *job;
    uint32_t key;

    OPAL_HASH_TABLE_FOREACH(key, uint32, job, orte_job_data) {
        if (NULL != job && job->jobid != ORTE_PROC_MY_NAME->jobid && fn(job, arg)) {
            return job;
        }
    }
    return NULL;
}

static bool has_local_id(orte_job_t *job, const void *arg)
{
    return *(const int64_t *)arg == (int64_t)ORTE_LOCAL_JOBID(job->jobid);
}

/* A rank that has not passed MPI_Init would not hear of the move, and then not find the mover. */
static bool not_all_up(orte_job_t *job, const void *arg)
{
    (void)arg;
    for (int i = 0; i < job->procs->size; ++i) {
        orte_proc_t *proc = opal_pointer_array_get_item(job->procs, i);

        if (NULL != proc && ORTE_PROC_STATE_UNTERMINATED > proc->state && NULL == snapc_lpm_ranks_find(&proc->name)) {
            return true;
        }
    }
    return false;
}

static bool ending(orte_job_t *job, const void *arg)
{
    (void)arg;
    return ORTE_JOB_STATE_UNTERMINATED < job->state;
}

static orte_proc_t *daemon_on(const char *node)
{
    orte_job_t *job = daemons();

    for (int i = 0; i < job->procs->size; ++i) {
        orte_proc_t *daemon = opal_pointer_array_get_item(job->procs, i);

        if (NULL != daemon && NULL != daemon->node && NULL != daemon->node->name &&
            0 == strcmp(node, daemon->node->name)) {
            return daemon;
        }
    }
    return NULL;
}

static bool in_pool(const char *name)
{
    for (int i = 0; i < orte_node_pool->size; ++i) {
        orte_node_t *node = opal_pointer_array_get_item(orte_node_pool, i);

        if (NULL != node && NULL != node->name && 0 == strcmp(name, node->name)) {
            return true;
        }
    }
    return false;
}

static void append_nodes(char *text, size_t size)
{
    orte_job_t *job = daemons();

    for (int i = 0; i < job->procs->size; ++i) {
        orte_proc_t *daemon = opal_pointer_array_get_item(job->procs, i);
        size_t used = strlen(text);

        if (NULL != daemon && NULL != daemon->node && NULL != daemon->node->name) {
            snprintf(text + used, size - used, " %s", daemon->node->name);
        }
    }
}

/* ---- the checks ---- */

static json_t *check_rank(const json_t *request, snapc_lpm_plan_t *plan)
{
    int64_t job_id = 1, rank;
    orte_job_t *job;
    char text[APPEND_MAX];

    if (0 != lpm_msg_int(request, "rank", 0, UINT32_MAX - 8, &rank) ||
        (NULL != json_object_get(request, "job") && 0 != lpm_msg_int(request, "job", 1, UINT16_MAX, &job_id))) {
        return refuse("bad-request", "the request names no rank", "give a rank as RANK or JOB.RANK");
    }
    if (NULL == (job = find_job(has_local_id, &job_id))) {
        snprintf(text, sizeof(text), "there is no job %lld", (long long)job_id);
        return refuse("unknown-rank", text, "see ompi-migrate --list");
    }
    if (rank >= (int64_t)job->num_procs) {
        snprintf(text, sizeof(text), "job %lld has no rank %lld; its ranks are 0 to %ld", (long long)job_id,
                 (long long)rank, (long)job->num_procs - 1);
        return refuse("unknown-rank", text, "see ompi-migrate --list");
    }
    plan->name = (orte_process_name_t){.jobid = job->jobid, .vpid = (orte_vpid_t)rank};
    return NULL;
}

/* Ranks of jobs that are over (spawned ones may be, while the first runs on) take part in nothing any more. */
static void drop_ended_ranks(void)
{
    for (size_t i = snapc_lpm_ranks_count(); 0 < i; --i) {
        const snapc_lpm_rank_t *rank = snapc_lpm_ranks_at(i - 1);
        orte_job_t *job = orte_get_job_data_object(rank->name.jobid);
        orte_proc_t *proc = (NULL == job) ? NULL : opal_pointer_array_get_item(job->procs, rank->name.vpid);

        if (NULL == proc || ORTE_PROC_STATE_UNTERMINATED < proc->state) {
            orte_process_name_t name = rank->name;

            snapc_lpm_ranks_down(&name);
        }
    }
}

static json_t *check_job(void)
{
    orte_job_t *job;
    char text[APPEND_MAX];

    drop_ended_ranks();
    if (NULL != find_job(ending, NULL)) {
        return refuse("ending", "the job is ending", "nothing to do");
    }
    for (size_t i = 0; i < snapc_lpm_ranks_count(); ++i) {
        const snapc_lpm_rank_t *rank = snapc_lpm_ranks_at(i);

        if (rank->leaving) {
            snprintf(text, sizeof(text), "the job is ending: rank %s is in MPI_Finalize",
                     ORTE_VPID_PRINT(rank->name.vpid));
            return refuse("ending", text, "nothing to do: the other ranks are expected to follow");
        }
        if (NULL != rank->unmovable) {
            snprintf(text, sizeof(text), "rank %s cannot take part in a move: %s", ORTE_VPID_PRINT(rank->name.vpid),
                     rank->unmovable);
            return refuse("unmovable", text, "start the job with what the message names");
        }
    }
    if (NULL != (job = find_job(not_all_up, NULL))) {
        snprintf(text, sizeof(text), "not all ranks of job %d have passed MPI_Init", (int)ORTE_LOCAL_JOBID(job->jobid));
        return refuse("not-ready", text, "try again later; programs that do not call MPI_Init cannot be moved");
    }
    return NULL;
}

static json_t *check_target(const json_t *request, snapc_lpm_plan_t *plan)
{
    const char *node = lpm_msg_str(request, "onto");
    orte_proc_t *daemon;
    char text[APPEND_MAX];

    if (NULL == node || '\0' == node[0]) {
        return refuse("bad-request", "the request names no node", "give a node with --onto");
    }
    if (NULL == (daemon = daemon_on(node))) {
        snprintf(text, sizeof(text), "node %.64s %s; the nodes are:", node,
                 in_pool(node) ? "has no daemon of this job" : "is not in the allocation of this job");
        append_nodes(text, sizeof(text));
        return refuse(in_pool(node) ? "not-allocated" : "unknown-node", text,
                      "name all nodes that may be needed when mpirun starts (--host, --hostfile), without --novm");
    }
    if (daemon->name.vpid == plan->source) {
        snprintf(text, sizeof(text), "rank %s is on %.64s already", ORTE_VPID_PRINT(plan->name.vpid), node);
        return refuse("same-node", text, "nothing to do");
    }
    if (!ORTE_FLAG_TEST(daemon, ORTE_PROC_FLAG_ALIVE) && daemon->name.vpid != ORTE_PROC_MY_NAME->vpid &&
        ORTE_PROC_STATE_UNTERMINATED < daemon->state) {
        snprintf(text, sizeof(text), "the daemon on %.64s has ended", node);
        return refuse("not-allocated", text, "choose another node");
    }
    plan->target = daemon->name.vpid;
    return NULL;
}

json_t *snapc_lpm_plan_check(const json_t *request, snapc_lpm_plan_t *plan)
{
    const snapc_lpm_rank_t *rank;
    json_t *refusal;

    if (NULL != (refusal = check_rank(request, plan)) || NULL != (refusal = check_job())) {
        return refusal;
    }
    if (NULL == (rank = snapc_lpm_ranks_find(&plan->name))) {
        return refuse("not-ready", "the rank has ended or has not passed MPI_Init", "see ompi-migrate --list");
    }
    plan->source = rank->daemon;
    return check_target(request, plan);
}

/* ---- the list ---- */

static const char *state_of(const orte_proc_t *proc, const orte_process_name_t *moving)
{
    const snapc_lpm_rank_t *rank = snapc_lpm_ranks_find(&proc->name);

    if (ORTE_PROC_STATE_UNTERMINATED < proc->state) {
        return "ended";
    }
    if (NULL == rank) {
        return "starting";
    }
    if (NULL != moving && moving->jobid == proc->name.jobid && moving->vpid == proc->name.vpid) {
        return "moving";
    }
    return rank->leaving ? "ending" : (NULL != rank->unmovable ? "unmovable" : "running");
}

static void list_job(json_t *ranks, const orte_job_t *job, const orte_process_name_t *moving)
{
    for (int i = 0; i < job->procs->size; ++i) {
        orte_proc_t *proc = opal_pointer_array_get_item(job->procs, i);
        const snapc_lpm_rank_t *rank;

        if (NULL == proc) {
            continue;
        }
        rank = snapc_lpm_ranks_find(&proc->name);
        json_array_append_new(
            ranks, json_pack("{s:i,s:I,s:s,s:i,s:s}", "job", (int)ORTE_LOCAL_JOBID(job->jobid), "rank",
                             (json_int_t)proc->name.vpid, "node",
                             (NULL == proc->node || NULL == proc->node->name) ? "?" : proc->node->name, "pid",
                             (int)(NULL == rank ? proc->pid : rank->pid), "state", state_of(proc, moving)));
    }
}

json_t *snapc_lpm_plan_list(const orte_process_name_t *moving)
{
    json_t *ranks = json_array(), *nodes = json_array();
    orte_job_t *job;
    uint32_t key;

    OPAL_HASH_TABLE_FOREACH(key, uint32, job, orte_job_data) {
        if (NULL != job && job->jobid != ORTE_PROC_MY_NAME->jobid) {
            list_job(ranks, job, moving);
        }
    }
    job = daemons();
    for (int i = 0; i < job->procs->size; ++i) {
        orte_proc_t *daemon = opal_pointer_array_get_item(job->procs, i);

        if (NULL != daemon && NULL != daemon->node && NULL != daemon->node->name) {
            json_array_append_new(
                nodes, json_pack("{s:s,s:i}", "node", daemon->node->name, "slots", (int)daemon->node->slots));
        }
    }
    return json_pack("{s:s,s:o,s:o}", "event", "list", "ranks", ranks, "nodes", nodes);
}

/* ---- paths and addresses ---- */

json_t *snapc_lpm_plan_directory(int64_t id)
{
    char path[128];

    /* /dev/shm is memory on every node: an image on a disk would cost more than the network */
    snprintf(path, sizeof(path), "/dev/shm/lpm.%u.%lld", (unsigned)ORTE_PROC_MY_NAME->jobid, (long long)id);
    return json_string(path);
}

static bool same_network_name(const json_t *ifaces, const json_t *entry)
{
    json_t *own;
    size_t i;

    json_array_foreach(ifaces, i, own) {
        if (json_equal(json_object_get(own, "name"), json_object_get(entry, "name")) &&
            json_equal(json_object_get(own, "family"), json_object_get(entry, "family"))) {
            return true;
        }
    }
    return false;
}

json_t *snapc_lpm_plan_addresses(const json_t *source_ifaces, const json_t *target_ifaces)
{
    json_t *near = json_array(), *far = json_array(), *entry;
    size_t i;

    json_array_foreach(target_ifaces, i, entry) {
        json_array_append(same_network_name(source_ifaces, entry) ? near : far, json_object_get(entry, "addr"));
    }
    json_array_extend(near, far);
    json_decref(far);
    return near;
}

void snapc_lpm_plan_abort(const orte_process_name_t *name, const char *why)
{
    opal_output(0, "snapc/lpm: rank %s is lost: the migration failed after its commit (%s). The job ends.",
                ORTE_VPID_PRINT(name->vpid), why);
    snapc_lpm_maps_lost(name);
}
