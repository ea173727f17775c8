/*
 * The rest of the storm: a spawned job that takes part, and a common file.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#include "storm.h"

#define CHILDREN 2
#define PART     8192 /* elements of a rank in the file */

/* ---------------------------------------------------------------------- spawn */

static MPI_Comm between = MPI_COMM_NULL; /* parents and children */
static struct channel *family;           /* all of them in one communicator */

/* What the parents tell their children: a round's number and its random state. */
struct call {
    int64_t round;
    uint64_t random;
};

static void join(bool child)
{
    MPI_Comm all;

    test_mpi(MPI_Intercomm_merge(between, child, &all), "MPI_Intercomm_merge");
    family = channel_open(all, mix(storm.seed ^ 99), LONGEST);
}

bool spawn_is_child(void)
{
    test_mpi(MPI_Comm_get_parent(&between), "MPI_Comm_get_parent");
    return MPI_COMM_NULL != between;
}

void spawn_start(char **argv)
{
    storm.step = "MPI_Comm_spawn";
    test_mpi(
        MPI_Comm_spawn(argv[0], argv + 1, CHILDREN, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &between, MPI_ERRCODES_IGNORE),
        "MPI_Comm_spawn");
    join(false);
}

static void family_round(struct call *call)
{
    storm.step = "calling the children";
    storm.active = family;
    test_mpi(MPI_Bcast(call, sizeof(*call), MPI_BYTE, 0, family->comm), "MPI_Bcast to the children");
    if (0 <= call->round) {
        window_exchange(family, SIZES_MIX, &call->random, 6);
        coll_end(coll_begin(family->comm, (int)draw(&call->random, COLL_OPERATIONS), call->random, NULL));
    }
}

static void leave(void)
{
    channel_close(family);
    test_mpi(MPI_Comm_disconnect(&between), "MPI_Comm_disconnect");
}

static void run_spawn(int unused)
{
    struct call call = {.round = storm.round, .random = storm.random};

    (void)unused;
    family_round(&call);
}

void spawn_finish(void)
{
    struct call call = {.round = -1};

    family_round(&call);
    leave();
}

/* Children wait in MPI for the parents' next call, as long as it takes. */
void spawn_child(void)
{
    struct call call = {.round = 0};

    storm.kind = "spawn";
    join(true);
    while (0 <= call.round) {
        family_round(&call);
        storm.round = (long)call.round;
    }
    leave();
}

/* ---------------------------------------------------------------------- a common file */

static MPI_File file;
static char path[4096];

static MPI_File open_file(void)
{
    MPI_File opened;

    test_mpi(MPI_File_open(MPI_COMM_WORLD, path, MPI_MODE_CREATE | MPI_MODE_RDWR, MPI_INFO_NULL, &opened),
             "MPI_File_open");
    return opened;
}

void io_start(const char *dir)
{
    snprintf(path, sizeof(path), "%s/storm.dat", dir);
    file = open_file();
}

void io_finish(void)
{
    test_mpi(MPI_File_close(&file), "MPI_File_close");
}

static void check_part(const int64_t *data, int count, uint64_t salt, int rank)
{
    for (int i = 0; i < count; i++) {
        if (data[i] != coll_value(salt, rank, i)) {
            storm_defect(CORRUPTED, "the part of rank %d in the file: element %d of %d is %" PRId64 ", not %" PRId64,
                         rank, i, count, data[i], coll_value(salt, rank, i));
        }
    }
    storm.messages++;
    storm.bytes += (uint64_t)count * sizeof(int64_t);
}

/* Everybody writes its part and reads another's. Barriers: nobody overwrites what is still to be read. */
static void write_and_read(MPI_File f, bool collective)
{
    static int64_t data[PART];
    int count = 1 + (int)draw(&storm.random, PART), other = (storm.rank + 1 + (int)draw(&storm.random, 7)) % storm.size;
    uint64_t salt = (uint64_t)draw(&storm.random, 1L << 40);
    MPI_Offset place = (MPI_Offset)sizeof(data);
    MPI_Status status;

    for (int i = 0; i < count; i++) {
        data[i] = coll_value(salt, storm.rank, i);
    }
    storm.step = "writing the file";
    test_mpi((collective ? MPI_File_write_at_all : MPI_File_write_at)(f, storm.rank * place, data, count, MPI_INT64_T,
                                                                      &status),
             "MPI_File_write_at");
    test_mpi(MPI_File_sync(f), "MPI_File_sync");
    test_mpi(MPI_Barrier(storm.collect), "MPI_Barrier");
    test_mpi(MPI_File_sync(f), "MPI_File_sync");
    storm.step = "reading the file";
    memset(data, 0, sizeof(data));
    test_mpi(
        (collective ? MPI_File_read_at_all : MPI_File_read_at)(f, other * place, data, count, MPI_INT64_T, &status),
        "MPI_File_read_at");
    check_part(data, count, salt, other);
    test_mpi(MPI_Barrier(storm.collect), "MPI_Barrier");
}

static void run_io(int collective)
{
    write_and_read(file, 0 != collective);
}

static void run_io_open(int collective)
{
    MPI_File opened = open_file();

    write_and_read(opened, 0 != collective);
    test_mpi(MPI_File_close(&opened), "MPI_File_close");
}

const struct kind other_kinds[] = {
    {"spawn", run_spawn, 0, NEED_SPAWN},  {"io_all", run_io, 1, NEED_IO}, {"io_alone", run_io, 0, NEED_IO},
    {"io_open", run_io_open, 1, NEED_IO}, {NULL, NULL, 0, NEED_NOTHING},
};
