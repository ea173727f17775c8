/*
 * mpirun's table of the ranks that have reported.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm.h"

#include <stdlib.h>
#include <string.h>

#include "lpm_msg.h"

#include "opal/class/opal_pointer_array.h"
#include "orte/constants.h"

static opal_pointer_array_t table;
static size_t used;

void snapc_lpm_ranks_init(void)
{
    OBJ_CONSTRUCT(&table, opal_pointer_array_t);
    used = 0;
}

static void drop(size_t index)
{
    snapc_lpm_rank_t *rank = snapc_lpm_ranks_at(index);

    free(rank->unmovable);
    free(rank->vader);
    free(rank);
    --used; /* the last one takes the free place, so the table has no holes */
    opal_pointer_array_set_item(&table, (int)index, opal_pointer_array_get_item(&table, (int)used));
    opal_pointer_array_set_item(&table, (int)used, NULL);
}

void snapc_lpm_ranks_finalize(void)
{
    while (0 < used) {
        drop(used - 1);
    }
    OBJ_DESTRUCT(&table);
}

size_t snapc_lpm_ranks_count(void)
{
    return used;
}

void snapc_lpm_ranks_card(snapc_lpm_rank_t *rank, const json_t *answer)
{
    const char *vader = lpm_msg_str(answer, "vader");
    int64_t place = -1;

    (void)lpm_msg_int(answer, "place", -1, INT32_MAX, &place);
    free(rank->vader);
    rank->vader = (NULL == vader) ? NULL : strdup(vader);
    rank->place = (int)place;
}

json_t *snapc_lpm_ranks_near(orte_vpid_t daemon)
{
    json_t *near = json_array();

    for (size_t i = 0; i < used; ++i) {
        const snapc_lpm_rank_t *rank = snapc_lpm_ranks_at(i);

        if (daemon == rank->daemon) {
            json_array_append_new(near,
                                  json_pack("{s:I,s:I,s:i,s:s*}", "job", (json_int_t)rank->name.jobid, "rank",
                                            (json_int_t)rank->name.vpid, "place", rank->place, "vader", rank->vader));
        }
    }
    return near;
}

void snapc_lpm_ranks_enlist(int64_t move)
{
    for (size_t i = 0; i < used; ++i) {
        snapc_lpm_ranks_at(i)->move = move;
    }
}

size_t snapc_lpm_ranks_enlisted(int64_t move)
{
    size_t count = 0;

    for (size_t i = 0; i < used; ++i) {
        count += (move == snapc_lpm_ranks_at(i)->move) ? 1 : 0;
    }
    return count;
}

snapc_lpm_rank_t *snapc_lpm_ranks_at(size_t index)
{
    return opal_pointer_array_get_item(&table, (int)index);
}

static size_t index_of(const orte_process_name_t *name)
{
    size_t i;

    for (i = 0; i < used; ++i) {
        const snapc_lpm_rank_t *rank = snapc_lpm_ranks_at(i);

        if (rank->name.jobid == name->jobid && rank->name.vpid == name->vpid) {
            break;
        }
    }
    return i;
}

snapc_lpm_rank_t *snapc_lpm_ranks_find(const orte_process_name_t *name)
{
    size_t i = index_of(name);

    return (i < used) ? snapc_lpm_ranks_at(i) : NULL;
}

int snapc_lpm_ranks_up(const orte_process_name_t *name, orte_vpid_t daemon, pid_t pid, const char *unmovable)
{
    snapc_lpm_rank_t *rank;

    snapc_lpm_ranks_down(name);
    if (NULL == (rank = calloc(1, sizeof(*rank)))) {
        return ORTE_ERR_OUT_OF_RESOURCE;
    }
    rank->name = *name;
    rank->daemon = daemon;
    rank->pid = pid;
    rank->place = -1;
    rank->unmovable = (NULL == unmovable) ? NULL : strdup(unmovable);
    if (OPAL_SUCCESS != opal_pointer_array_set_item(&table, (int)used, rank)) {
        free(rank->unmovable);
        free(rank);
        return ORTE_ERR_OUT_OF_RESOURCE;
    }
    ++used;
    return ORTE_SUCCESS;
}

void snapc_lpm_ranks_down(const orte_process_name_t *name)
{
    size_t i = index_of(name);

    if (i < used) {
        drop(i);
    }
}
