/*
 * Channels to peers that are in another place now, or seen from another place: which BTL is to be used from now on.
 *
 * Two ranks use btl/vader when they are on one node, in one job, and both can share memory; btl/tcp otherwise. Both
 * sides decide alike, from what mpirun tells them.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include <stdlib.h>
#include <string.h>

#include "lpm_hex.h"
#include "lpm_msg.h"

#include "ompi/constants.h"

/* No place in btl/vader's table: the peer is reached through btl/tcp. */
#define NOWHERE (-1)

static int read_name(const json_t *entry, opal_process_name_t *name)
{
    int64_t job, rank;

    if (0 != lpm_msg_int(entry, "job", 0, UINT32_MAX, &job) || 0 != lpm_msg_int(entry, "rank", 0, UINT32_MAX, &rank)) {
        return OMPI_ERR_BAD_PARAM;
    }
    name->jobid = (opal_jobid_t)job;
    name->vpid = (opal_vpid_t)rank;
    return OMPI_SUCCESS;
}

/* The place of a neighbour that can share memory with us, whose card the modex overlay then has; or NOWHERE. */
static int shared_place(const opal_process_name_t *name, const json_t *entry)
{
    const char *card = lpm_msg_str(entry, "vader");
    char *own;
    int64_t place;

    if (NULL == card || name->jobid != OPAL_PROC_MY_NAME.jobid || NULL == (own = crcp_lpm_vader_card())) {
        return NOWHERE;
    }
    free(own);
    if (0 != lpm_msg_int(entry, "place", 0, crcp_lpm_vader_places() - 1, &place) ||
        OMPI_SUCCESS != crcp_lpm_modex_set_hex(name, crcp_lpm_vader_modex_key(), card)) {
        return NOWHERE;
    }
    return (int)place;
}

/*
 * What btl/tcp has published stays as it is, so nothing is to be done where it was used and still is. A neighbour in
 * shared memory gets its endpoint even if nobody has ever talked to it: its fragments are going to name its place.
 */
static int reconnect(const opal_process_name_t *name, bool near, int place)
{
    ompi_proc_t *proc = (NOWHERE == place) ? ompi_proc_find(name) : (ompi_proc_t *)ompi_proc_for_name(*name);
    mca_btl_base_module_t *vader = crcp_lpm_vader_module();
    int rc;

    if (NULL == proc) {
        return (NOWHERE == place) ? OMPI_SUCCESS : OMPI_ERR_NOT_FOUND;
    }
    if (OMPI_SUCCESS != (rc = crcp_lpm_place_peer(proc, near))) {
        return rc;
    }
    if (NOWHERE == place && NULL == crcp_lpm_bml_endpoint(proc, vader)) {
        return OMPI_SUCCESS;
    }
    if (NOWHERE != place) {
        crcp_lpm_vader_next_place(place);
    }
    if (OMPI_SUCCESS != (rc = crcp_lpm_bml_rewire(proc, NOWHERE != place))) {
        return rc;
    }
    return ((NOWHERE != place) == (NULL != crcp_lpm_bml_endpoint(proc, vader))) ? OMPI_SUCCESS : OMPI_ERR_UNREACH;
}

static const json_t *entry_of(const json_t *near, const opal_process_name_t *name)
{
    opal_process_name_t other;
    json_t *entry;
    size_t i;

    json_array_foreach(near, i, entry) {
        if (OMPI_SUCCESS == read_name(entry, &other) && crcp_lpm_same_name(name, &other)) {
            return entry;
        }
    }
    return NULL;
}

/* First the peers that are known and not near, then the neighbours, known or not. */
int crcp_lpm_peers_arrive(const json_t *near)
{
    size_t count = 0, i;
    ompi_proc_t **procs = ompi_proc_get_allocated(&count);
    opal_process_name_t name;
    json_t *entry;
    int rc = OMPI_SUCCESS;

    for (i = 0; NULL != procs && i < count && OMPI_SUCCESS == rc; ++i) {
        if (procs[i] != ompi_proc_local() && NULL == entry_of(near, &procs[i]->super.proc_name)) {
            rc = reconnect(&procs[i]->super.proc_name, false, NOWHERE);
        }
    }
    free(procs);
    json_array_foreach(near, i, entry) {
        if (OMPI_SUCCESS == rc && OMPI_SUCCESS == read_name(entry, &name) &&
            !crcp_lpm_same_name(&name, &OPAL_PROC_MY_NAME)) {
            rc = reconnect(&name, true, shared_place(&name, entry));
        }
    }
    return rc;
}

int crcp_lpm_peers_follow(const opal_process_name_t *mover, const json_t *where)
{
    bool near = lpm_msg_true(where, "near");
    unsigned char *table;
    size_t size;
    int rc;

    if (0 != lpm_hex_decode(lpm_msg_str(where, "table"), &table, &size)) {
        return OMPI_ERR_BAD_PARAM;
    }
    rc = crcp_lpm_modex_set(mover, crcp_lpm_tcp_modex_key(), table, size);
    if (OMPI_SUCCESS == rc && 0 > crcp_lpm_tcp_readdress(mover, table, size)) {
        rc = OMPI_ERR_BAD_PARAM;
    }
    free(table);
    if (OMPI_SUCCESS == rc) {
        rc = reconnect(mover, near, near ? shared_place(mover, where) : NOWHERE);
    }
    return rc;
}
