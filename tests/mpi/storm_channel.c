/*
 * Channels of the storm: communicators on which each rank knows by what name each other goes.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#include "storm.h"

#define FOREIGN  100000 /* names of ranks that are not all in one world: this plus the rank in the channel */
#define CHANNELS 64

static struct channel *open_channels[CHANNELS];

/* What the peers are called: by their ranks in the world, so that a message of another communicator is noticed. */
static void name_peers(struct channel *c)
{
    MPI_Group world, group;
    int *ranks = test_alloc((size_t)c->peers * sizeof(int)), *names = test_alloc((size_t)c->peers * sizeof(int));

    test_mpi(MPI_Comm_group(MPI_COMM_WORLD, &world), "MPI_Comm_group");
    if (c->inter) {
        test_mpi(MPI_Comm_remote_group(c->comm, &group), "MPI_Comm_remote_group");
    } else {
        test_mpi(MPI_Comm_group(c->comm, &group), "MPI_Comm_group");
    }
    for (int i = 0; i < c->peers; i++) {
        ranks[i] = i;
    }
    test_mpi(MPI_Group_translate_ranks(group, c->peers, ranks, world, names), "MPI_Group_translate_ranks");
    for (int i = 0; i < c->peers; i++) {
        c->pairs[i].name = names[i];
    }
    MPI_Group_free(&group);
    MPI_Group_free(&world);
    free(ranks);
    free(names);
}

/* Parents and children are not in each other's world: then the ranks of the common communicator are the names. */
static void settle_names(struct channel *c)
{
    int foreign = 0, any;

    if (c->inter) {
        return;
    }
    for (int i = 0; i < c->peers; i++) {
        foreign |= MPI_UNDEFINED == c->pairs[i].name;
    }
    test_mpi(MPI_Allreduce(&foreign, &any, 1, MPI_INT, MPI_LOR, c->comm), "MPI_Allreduce");
    if (any) {
        for (int i = 0; i < c->peers; i++) {
            c->pairs[i].name = FOREIGN + i;
        }
        c->name = FOREIGN + c->rank;
    }
}

struct channel *channel_open(MPI_Comm comm, uint64_t id, long longest)
{
    struct channel *c = test_alloc(sizeof(*c));
    int inter;

    memset(c, 0, sizeof(*c));
    test_mpi(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    c->comm = comm;
    c->id = id;
    c->longest = longest;
    MPI_Comm_test_inter(comm, &inter);
    MPI_Comm_rank(comm, &c->rank);
    MPI_Comm_rank(MPI_COMM_WORLD, &c->name);
    c->inter = 0 != inter;
    if (c->inter) {
        MPI_Comm_remote_size(comm, &c->peers);
    } else {
        MPI_Comm_size(comm, &c->peers);
    }
    c->pairs = test_alloc((size_t)c->peers * sizeof(*c->pairs));
    memset(c->pairs, 0, (size_t)c->peers * sizeof(*c->pairs));
    name_peers(c);
    settle_names(c);
    for (int i = 0; i < CHANNELS; i++) {
        if (NULL == open_channels[i]) {
            open_channels[i] = c;
            return c;
        }
    }
    test_defect("more than %d channels", CHANNELS);
}

void channel_expect_empty(struct channel *c)
{
    MPI_Status status;
    int flag, count;

    test_mpi(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, c->comm, &flag, &status), "MPI_Iprobe");
    if (flag) {
        MPI_Get_count(&status, MPI_BYTE, &count);
        storm_defect(DOUBLED, "pair %d -> %d, channel %" PRIx64 ": a message too many: tag %d, %d bytes",
                     c->pairs[status.MPI_SOURCE].name, c->name, c->id, status.MPI_TAG, count);
    }
}

void channel_close(struct channel *c)
{
    message_judge();
    test_mpi(MPI_Barrier(c->comm), "MPI_Barrier");
    channel_expect_empty(c);
    for (int i = 0; i < CHANNELS; i++) {
        if (open_channels[i] == c) {
            open_channels[i] = NULL;
        }
    }
    if (storm.active == c) {
        storm.active = NULL;
    }
    test_mpi(MPI_Comm_free(&c->comm), "MPI_Comm_free");
    free(c->pairs);
    free(c);
}

struct channel *channel_next(int *index)
{
    while (*index < CHANNELS) {
        struct channel *c = open_channels[(*index)++];

        if (NULL != c) {
            return c;
        }
    }
    return NULL;
}
