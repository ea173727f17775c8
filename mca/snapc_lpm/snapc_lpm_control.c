/*
 * The control socket in mpirun's session directory: where tools ask.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm.h"

#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lpm_msg.h"
#include "lpm_unix.h"

#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/mca/snapc/base/base.h"
#include "orte/util/proc_info.h"

/* A tool has one connection; anything that opens more than a script in a hurry would is a mistake. */
#define CLIENTS_MAX 64

typedef struct {
    opal_list_item_t super;
    lpm_conn_t *conn;
} client_t;

static void client_construct(client_t *client)
{
    client->conn = NULL;
}

static void client_destruct(client_t *client)
{
    lpm_conn_free(client->conn);
}

static OBJ_CLASS_INSTANCE(client_t, opal_list_item_t, client_construct, client_destruct);

static struct evconnlistener *listener;
static opal_list_t clients;

static void drop_client(client_t *client)
{
    snapc_lpm_global_forget(client->conn);
    opal_list_remove_item(&clients, &client->super);
    OBJ_RELEASE(client);
}

static void request(lpm_conn_t *conn, json_t *message, void *arg)
{
    const char *op = lpm_msg_str(message, "op");
    int64_t version;

    (void)arg;
    if (0 != lpm_msg_int(message, "lpm", 1, INT32_MAX, &version) || LPM_PROTOCOL_VERSION != version) {
        (void)lpm_conn_send(conn, lpm_msg_error("bad-request", "PLAN", "this is not protocol version 1 of LPM",
                                                "use the ompi-migrate of the same LPM as the job"));
    } else if (NULL != op && 0 == strcmp("migrate", op)) {
        snapc_lpm_global_migrate(conn, message, 0);
    } else if (NULL != op && 0 == strcmp("list", op)) {
        (void)lpm_conn_send(conn, snapc_lpm_global_list());
    } else {
        (void)lpm_conn_send(conn, lpm_msg_error("bad-request", "PLAN", "the request names no operation LPM has",
                                                "see docs/protocol.md"));
    }
}

/* Say what was wrong, so that whoever wrote it can mend it. The connection takes nothing any more: write once, raw. */
static void say_goodbye(int fd, const char *why)
{
    json_t *error = lpm_msg_error("bad-request", "PLAN", why, "see docs/protocol.md");
    char *text = (NULL == error) ? NULL : json_dumps(error, JSON_COMPACT);

    if (NULL != text && (ssize_t)strlen(text) == send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE)) {
        (void)send(fd, "\n", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    free(text);
    json_decref(error);
}

static void ended(lpm_conn_t *conn, const char *why, void *arg)
{
    if (NULL != why) {
        say_goodbye(lpm_conn_fd(conn), why);
    }
    drop_client(arg);
}

static void accepted(struct evconnlistener *from, evutil_socket_t fd, struct sockaddr *address, int length, void *arg)
{
    client_t *client;
    unsigned uid;

    (void)from;
    (void)address;
    (void)length;
    (void)arg;
    if (0 != lpm_unix_peer(fd, NULL, &uid) || (uid != geteuid() && 0 != uid) ||
        CLIENTS_MAX <= opal_list_get_size(&clients) || NULL == (client = OBJ_NEW(client_t))) {
        (void)close(fd);
        return;
    }
    client->conn = lpm_conn_new(orte_event_base, fd, request, ended, client);
    if (NULL == client->conn) {
        (void)close(fd);
        OBJ_RELEASE(client);
        return;
    }
    opal_list_append(&clients, &client->super);
}

int snapc_lpm_control_init(void)
{
    int fd;

    OBJ_CONSTRUCT(&clients, opal_list_t);
    if (0 > (fd = lpm_unix_listen(orte_process_info.jobfam_session_dir, LPM_CONTROL_SOCKET))) {
        opal_output(0, "snapc/lpm: no control socket in %s: %m; ranks of this job cannot be moved",
                    orte_process_info.jobfam_session_dir);
        goto err_destruct;
    }
    listener =
        evconnlistener_new(orte_event_base, accepted, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    if (NULL == listener) {
        (void)close(fd);
        goto err_destruct;
    }
    return ORTE_SUCCESS;

err_destruct:
    OBJ_DESTRUCT(&clients);
    return ORTE_ERROR;
}

void snapc_lpm_control_finalize(void)
{
    char *path = NULL;

    evconnlistener_free(listener);
    listener = NULL;
    while (0 < opal_list_get_size(&clients)) {
        drop_client((client_t *)opal_list_get_first(&clients));
    }
    OBJ_DESTRUCT(&clients);
    if (0 <= asprintf(&path, "%s/%s", orte_process_info.jobfam_session_dir, LPM_CONTROL_SOCKET)) {
        (void)unlink(path);
        free(path);
    }
}
