/*
 * The local coordinator: the agents of this node's ranks, and what mpirun wants of them.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm.h"

#include <event2/listener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lpm_dir.h"
#include "lpm_msg.h"
#include "lpm_unix.h"

#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/mca/snapc/base/base.h"
#include "orte/util/name_fns.h"
#include "orte/util/proc_info.h"

static void agent_construct(snapc_lpm_agent_t *agent)
{
    agent->conn = NULL;
    agent->name = *ORTE_NAME_INVALID;
    agent->pid = 0;
    agent->socket_inode = 0;
    agent->known = false;
}

static void agent_destruct(snapc_lpm_agent_t *agent)
{
    lpm_conn_free(agent->conn);
}

OBJ_CLASS_INSTANCE(snapc_lpm_agent_t, opal_list_item_t, agent_construct, agent_destruct);

static opal_list_t agents;
static struct evconnlistener *listener;
static json_t *moved; /* JOB.RANK: what btl/tcp of a rank that has moved publishes now */

/* ---- the table ---- */

snapc_lpm_agent_t *snapc_lpm_local_agent(const orte_process_name_t *name)
{
    snapc_lpm_agent_t *agent;

    OPAL_LIST_FOREACH(agent, &agents, snapc_lpm_agent_t) {
        if (agent->known && agent->name.jobid == name->jobid && agent->name.vpid == name->vpid) {
            return agent;
        }
    }
    return NULL;
}

static void remove_agent(snapc_lpm_agent_t *agent)
{
    opal_list_remove_item(&agents, &agent->super);
    OBJ_RELEASE(agent);
}

void snapc_lpm_local_forget_agent(const orte_process_name_t *name)
{
    snapc_lpm_agent_t *agent = snapc_lpm_local_agent(name);

    if (NULL != agent) {
        remove_agent(agent);
    }
}

int snapc_lpm_read_name(const json_t *message, orte_process_name_t *name)
{
    int64_t job, rank;

    if (0 != lpm_msg_int(message, "job", 0, UINT32_MAX, &job) ||
        0 != lpm_msg_int(message, "rank", 0, UINT32_MAX, &rank)) {
        return ORTE_ERR_BAD_PARAM;
    }
    name->jobid = (orte_jobid_t)job;
    name->vpid = (orte_vpid_t)rank;
    return ORTE_SUCCESS;
}

/* ---- image directories ---- */

char *snapc_lpm_image_directory(const json_t *message)
{
    const char *path = lpm_msg_str(message, "dir");

    return (NULL == path) ? NULL : strdup(path);
}

/* The helper removes it, unless it was killed. */
void snapc_lpm_remove_image(char **directory)
{
    if (NULL != *directory && NULL == getenv("LPM_KEEP_IMAGES") && 0 != lpm_dir_remove(*directory)) {
        opal_output(0, "snapc/lpm on %s: %s cannot be removed: %m", orte_process_info.nodename, *directory);
    }
    free(*directory);
    *directory = NULL;
}

/* ---- what agents say ---- */

static pid_t child_pid(const orte_process_name_t *name)
{
    for (int i = 0; i < orte_local_children->size; ++i) {
        orte_proc_t *child = opal_pointer_array_get_item(orte_local_children, i);

        if (NULL != child && child->name.jobid == name->jobid && child->name.vpid == name->vpid) {
            return child->pid;
        }
    }
    return 0;
}

static void agent_hello(snapc_lpm_agent_t *agent, const json_t *message)
{
    const char *unmovable = lpm_msg_str(message, "unmovable");
    orte_process_name_t name;
    int64_t inode = 0;
    pid_t child;

    if (agent->known || ORTE_SUCCESS != snapc_lpm_read_name(message, &name) ||
        0 != lpm_msg_int(message, "inode", 1, INT64_MAX, &inode) || 0 == (child = child_pid(&name)) ||
        NULL != snapc_lpm_local_agent(&name)) { /* nobody takes a rank's place */
        remove_agent(agent);
        return;
    }
    if (child != agent->pid) {
        unmovable = "the rank was started through another program (a wrapper script or a debugger), which would stay "
                    "behind; let it end in exec";
    }
    agent->name = name;
    agent->socket_inode = (uint64_t)inode;
    agent->known = true;
    snapc_lpm_rml_report(json_pack("{s:s,s:I,s:I,s:i,s:s*}", "event", "rank_up", "job", (json_int_t)name.jobid, "rank",
                                   (json_int_t)name.vpid, "pid", (int)agent->pid, "unmovable", unmovable));
}

static void agent_message(lpm_conn_t *conn, json_t *message, void *arg)
{
    snapc_lpm_agent_t *agent = arg;
    const char *op = lpm_msg_str(message, "op");

    (void)conn;
    if (NULL != op && 0 == strcmp("hello", op)) {
        agent_hello(agent, message);
        return;
    }
    if (agent->known) {
        snapc_lpm_target_heard(&agent->name, message);
        snapc_lpm_rml_report(json_pack("{s:s,s:I,s:I,s:O}", "event", "from_rank", "job", (json_int_t)agent->name.jobid,
                                       "rank", (json_int_t)agent->name.vpid, "message", message));
    }
}

static void agent_end(lpm_conn_t *conn, const char *why, void *arg)
{
    snapc_lpm_agent_t *agent = arg;

    (void)conn;
    if (agent->known) {
        SNAPC_LPM_LOG(5, "%s lpm: agent of %s is gone: %s", ORTE_NAME_PRINT(ORTE_PROC_MY_NAME),
                      ORTE_NAME_PRINT(&agent->name), NULL == why ? "closed" : why);
        snapc_lpm_rml_report(json_pack("{s:s,s:I,s:I}", "event", "rank_down", "job", (json_int_t)agent->name.jobid,
                                       "rank", (json_int_t)agent->name.vpid));
    }
    remove_agent(agent);
}

/* ---- connections ---- */

static snapc_lpm_agent_t *new_agent(int fd, pid_t pid)
{
    snapc_lpm_agent_t *agent = OBJ_NEW(snapc_lpm_agent_t);

    if (NULL == agent) {
        return NULL;
    }
    agent->pid = pid;
    agent->conn = lpm_conn_new(orte_event_base, fd, agent_message, agent_end, agent);
    if (NULL == agent->conn) {
        OBJ_RELEASE(agent);
        return NULL;
    }
    opal_list_append(&agents, &agent->super);
    return agent;
}

int snapc_lpm_local_adopt_agent(const orte_process_name_t *name, pid_t pid, int fd, uint64_t inode)
{
    snapc_lpm_agent_t *agent = new_agent(fd, pid);

    if (NULL == agent) {
        return ORTE_ERR_OUT_OF_RESOURCE;
    }
    agent->name = *name;
    agent->socket_inode = inode;
    agent->known = true;
    return ORTE_SUCCESS;
}

static void accepted(struct evconnlistener *from, evutil_socket_t fd, struct sockaddr *address, int length, void *arg)
{
    int pid;
    unsigned uid;

    (void)from;
    (void)address;
    (void)length;
    (void)arg;
    if (0 != lpm_unix_peer(fd, &pid, &uid) || uid != geteuid() || NULL == new_agent(fd, pid)) {
        (void)close(fd);
    }
}

int snapc_lpm_local_init(void)
{
    int fd;

    OBJ_CONSTRUCT(&agents, opal_list_t);
    moved = json_object();
    if (NULL == orte_process_info.jobfam_session_dir ||
        0 > (fd = lpm_unix_listen(orte_process_info.jobfam_session_dir, SNAPC_LPM_AGENT_SOCKET))) {
        opal_output(0, "snapc/lpm on %s: no socket for the ranks in %s: %m", orte_process_info.nodename,
                    NULL == orte_process_info.jobfam_session_dir ? "(no session directory)"
                                                                 : orte_process_info.jobfam_session_dir);
        return ORTE_ERROR;
    }
    listener =
        evconnlistener_new(orte_event_base, accepted, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    if (NULL == listener) {
        (void)close(fd);
        return ORTE_ERR_OUT_OF_RESOURCE;
    }
    return ORTE_SUCCESS;
}

void snapc_lpm_local_finalize(void)
{
    snapc_lpm_source_reset();
    snapc_lpm_target_reset();
    evconnlistener_free(listener);
    listener = NULL;
    OPAL_LIST_DESTRUCT(&agents);
    json_decref(moved);
    moved = NULL;
    if (NULL != orte_process_info.jobfam_session_dir) {
        char *path = NULL;

        if (0 <= asprintf(&path, "%s/%s", orte_process_info.jobfam_session_dir, SNAPC_LPM_AGENT_SOCKET)) {
            (void)unlink(path);
            free(path);
        }
    }
}

/* ---- what mpirun says ---- */

/* What only this daemon knows: is the mover near, and which networks there are. */
static json_t *with_local_view(json_t *message)
{
    const char *op = lpm_msg_str(message, "op");
    json_t *copy = json_copy(message);
    orte_process_name_t mover;

    if (NULL == copy || NULL == op) {
        return copy;
    }
    if (0 == strcmp("attach", op) && ORTE_SUCCESS == snapc_lpm_read_name(message, &mover)) {
        json_object_set_new(copy, "near", json_boolean(NULL != snapc_lpm_local_agent(&mover)));
    } else if (0 == strcmp("relocate", op)) {
        json_object_set_new(copy, "ifaces", snapc_lpm_inspect_interfaces());
        json_object_set_new(copy, "node", json_string(orte_process_info.nodename));
    }
    return copy;
}

/* For ranks that are started later. */
static void remember_moved(const json_t *attach)
{
    orte_process_name_t name;
    char key[48];

    if (ORTE_SUCCESS == snapc_lpm_read_name(attach, &name) && NULL != lpm_msg_str(attach, "table")) {
        snprintf(key, sizeof(key), "%u.%u", name.jobid, name.vpid);
        json_object_set(moved, key, json_object_get(attach, "table"));
    }
}

char *snapc_lpm_local_moved(void)
{
    const char *key;
    json_t *table;
    char *text = NULL, *longer;

    json_object_foreach(moved, key, table)
    {
        if (0 > asprintf(&longer, "%s%s%s=%s", NULL == text ? "" : text, NULL == text ? "" : " ", key,
                         json_string_value(table))) {
            break; /* they learn it later, from their agents */
        }
        free(text);
        text = longer;
    }
    return text;
}

/* {"op":"ranks","message":{…}[,"job":,"rank":][,"but":true]}: to all, to that one, or to all but that one. */
static void relay(const json_t *command)
{
    json_t *message = json_object_get(command, "message");
    const char *op = lpm_msg_str(message, "op");
    bool but = lpm_msg_true(command, "but"), one;
    orte_process_name_t name = *ORTE_NAME_INVALID;
    snapc_lpm_agent_t *agent;

    if (but && NULL != op && 0 == strcmp("attach", op)) {
        remember_moved(message);
    }
    one = (ORTE_SUCCESS == snapc_lpm_read_name(command, &name));
    OPAL_LIST_FOREACH(agent, &agents, snapc_lpm_agent_t) {
        bool same = agent->name.jobid == name.jobid && agent->name.vpid == name.vpid;

        if (agent->known && (!one || same != but)) {
            (void)lpm_conn_send(agent->conn, with_local_view(message));
        }
    }
}

static void update_map(json_t *command)
{
    orte_process_name_t name;
    int64_t onto;
    int rc = ORTE_ERR_BAD_PARAM;

    if (ORTE_SUCCESS == snapc_lpm_read_name(command, &name) &&
        0 == lpm_msg_int(command, "onto", 0, UINT32_MAX, &onto)) {
        rc = snapc_lpm_maps_move(&name, (orte_vpid_t)onto);
    }
    snapc_lpm_rml_report(json_pack("{s:s,s:b}", "event", "mapped", "ok", ORTE_SUCCESS == rc));
}

void snapc_lpm_local_receive(orte_vpid_t sender, json_t *message)
{
    const char *op = lpm_msg_str(message, "op");

    if (sender != ORTE_PROC_MY_HNP->vpid || NULL == op) {
        return;
    }
    if (0 == strcmp("ranks", op)) {
        relay(message);
    } else if (0 == strcmp("map", op)) {
        update_map(message);
    } else if (0 == strncmp("source_", op, 7)) {
        snapc_lpm_source_command(op + 7, message);
    } else if (0 == strncmp("target_", op, 7)) {
        snapc_lpm_target_command(op + 7, message);
    }
}
