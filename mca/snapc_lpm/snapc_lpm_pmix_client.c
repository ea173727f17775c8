/*
 * libpmix in the rank: leaving one server and joining another without a new init. The other of the two files that
 * know its inside.
 *
 * PMIx_Finalize and PMIx_Init would lose what the client has stored and all its event handlers.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "src/include/pmix_config.h"
#include "src/include/pmix_globals.h"
#include "src/client/pmix_client_ops.h"
#include "src/mca/ptl/base/base.h"

#include <stdlib.h>
#include <unistd.h>

#include "snapc_lpm_pmix.h"

const char *snapc_lpm_pmix_client_detach(void);
const char *snapc_lpm_pmix_client_attach(const char *uri);

/* Receives that every client has posted for good: the one for notifications and the one for its own wildcard tag. */
#define STANDING_RECVS 2

static void detach(void *arg)
{
    const char **why = arg;
    pmix_peer_t *server = pmix_client_globals.myserver;

    if (!pmix_globals.connected || 0 > server->sd) {
        *why = "the rank has no connection to its PMIx server";
        return;
    }
    if (NULL != server->send_msg || 0 < pmix_list_get_size(&server->send_queue) || NULL != server->recv_msg ||
        STANDING_RECVS < pmix_list_get_size(&pmix_ptl_base.posted_recvs)) {
        *why = "busy";
        return;
    }
    if (server->recv_ev_active) {
        pmix_event_del(&server->recv_event);
        server->recv_ev_active = false;
    }
    if (server->send_ev_active) {
        pmix_event_del(&server->send_event);
        server->send_ev_active = false;
    }
    (void)close(server->sd);
    server->sd = -1;
    pmix_globals.connected = false;
    *why = NULL;
}

const char *snapc_lpm_pmix_client_detach(void)
{
    const char *why = NULL;

    snapc_lpm_pmix_run(detach, &why);
    return why;
}

const char *snapc_lpm_pmix_client_attach(const char *uri)
{
    pmix_peer_t *server = pmix_client_globals.myserver;
    char *nspace = NULL, *server_uri = NULL;
    const char *why = NULL;
    pmix_rank_t rank;

    if (PMIX_SUCCESS != pmix_ptl_base_parse_uri(uri, &nspace, &rank, &server_uri)) {
        return "the URI of the PMIx server cannot be read";
    }
    if (PMIX_SUCCESS != pmix_ptl_base_make_connection(server, server_uri, NULL, 0)) {
        why = "the PMIx server of the node does not accept the rank";
        goto out_free;
    }
    pmix_ptl_base_complete_connection(server, nspace, rank, server_uri);
    /* what the rank has put for others is known to the old server only */
    pmix_globals.commits_pending = true;
    if (PMIX_SUCCESS != PMIx_Commit()) {
        why = "the PMIx server of the node does not take the rank's data";
    }
out_free:
    free(nspace);
    free(server_uri);
    return why;
}
