/*
 * Derived datatypes in the storm: vector, indexed, struct and resized ones, on one side of a message or on both.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 *
 * A layout is a list of pieces of memory. The datatype is made of it in one way, and the bytes are laid out and
 * collected by hand in another, so that MPI's packing is what is tested.
 */
#include "storm.h"

#define MOST          4
#define VECTOR_BLOCK  64
#define VECTOR_STRIDE 96
#define CELL          24 /* bytes of a resized element ... */
#define CELL_EXTENT   40 /* ... and from one to the next */

enum shape { VECTOR, INDEXED, STRUCT, RESIZED };
enum side { SENDER = 1, RECEIVER = 2 };

struct layout {
    int pieces;
    int *lengths;
    MPI_Aint *places;
    long extent;
    MPI_Datatype type;
};

static void layout_add(struct layout *l, long length, long gap)
{
    if (0 < length) {
        l->lengths[l->pieces] = (int)length;
        l->places[l->pieces++] = l->extent;
        l->extent += length + gap;
    }
}

/* Pieces of one size at one distance, and a shorter last one. */
static void cut_evenly(struct layout *l, long bytes, long block, long stride)
{
    for (long i = 0; i < bytes; i += block) {
        layout_add(l, bytes - i < block ? bytes - i : block, stride - block);
    }
}

/* Pieces and gaps of all sizes. */
static void cut_randomly(struct layout *l, long bytes, uint64_t random)
{
    while (0 < bytes) {
        long piece = 1 + draw(&random, 0 == draw(&random, 4) ? 8000 : 300);

        piece = piece < bytes ? piece : bytes;
        layout_add(l, piece, draw(&random, 50));
        bytes -= piece;
    }
}

/* `count` equal elements, and the rest of the bytes behind them. */
static MPI_Datatype with_rest(MPI_Datatype element, long count, long rest, MPI_Aint place)
{
    MPI_Datatype parts[2] = {element, MPI_BYTE}, type;
    int lengths[2] = {(int)count, (int)rest};
    MPI_Aint places[2] = {0, place};

    test_mpi(MPI_Type_create_struct(2, lengths, places, parts, &type), "MPI_Type_create_struct");
    test_mpi(MPI_Type_free(&element), "MPI_Type_free");
    return type;
}

static MPI_Datatype vector_type(long bytes)
{
    MPI_Datatype vector;
    long blocks = bytes / VECTOR_BLOCK;

    test_mpi(MPI_Type_vector((int)blocks, VECTOR_BLOCK, VECTOR_STRIDE, MPI_BYTE, &vector), "MPI_Type_vector");
    return with_rest(vector, 1, bytes % VECTOR_BLOCK, blocks * VECTOR_STRIDE);
}

static MPI_Datatype resized_type(long bytes)
{
    MPI_Datatype cell, resized;
    long cells = bytes / CELL;

    test_mpi(MPI_Type_contiguous(CELL, MPI_BYTE, &cell), "MPI_Type_contiguous");
    test_mpi(MPI_Type_create_resized(cell, 0, CELL_EXTENT, &resized), "MPI_Type_create_resized");
    test_mpi(MPI_Type_free(&cell), "MPI_Type_free");
    return with_rest(resized, cells, bytes % CELL, cells * CELL_EXTENT);
}

/* A struct of three parts: plain bytes, an indexed type, plain bytes. */
static MPI_Datatype struct_type(const struct layout *l)
{
    int inner = l->pieces > 2 ? l->pieces - 2 : 0, last = l->pieces - 1;
    int lengths[3] = {l->pieces > 0 ? l->lengths[0] : 0, 1, l->pieces > 1 ? l->lengths[last] : 0};
    MPI_Aint places[3] = {0, 0, l->pieces > 1 ? l->places[last] : 0};
    MPI_Datatype parts[3] = {MPI_BYTE, MPI_DATATYPE_NULL, MPI_BYTE}, type;

    test_mpi(MPI_Type_create_hindexed(inner, l->lengths + 1, l->places + 1, MPI_BYTE, &parts[1]),
             "MPI_Type_create_hindexed");
    test_mpi(MPI_Type_create_struct(3, lengths, places, parts, &type), "MPI_Type_create_struct");
    test_mpi(MPI_Type_free(&parts[1]), "MPI_Type_free");
    return type;
}

static void layout_open(struct layout *l, enum shape shape, long bytes, uint64_t random)
{
    *l = (struct layout){.lengths = test_alloc((size_t)(bytes + 2) * sizeof(int)),
                         .places = test_alloc((size_t)(bytes + 2) * sizeof(MPI_Aint))};
    switch (shape) {
    case VECTOR:
        cut_evenly(l, bytes, VECTOR_BLOCK, VECTOR_STRIDE);
        l->type = vector_type(bytes);
        break;
    case RESIZED:
        cut_evenly(l, bytes, CELL, CELL_EXTENT);
        l->type = resized_type(bytes);
        break;
    case INDEXED:
        cut_randomly(l, bytes, random);
        test_mpi(MPI_Type_create_hindexed(l->pieces, l->lengths, l->places, MPI_BYTE, &l->type),
                 "MPI_Type_create_hindexed");
        break;
    case STRUCT:
        cut_randomly(l, bytes, random);
        l->type = struct_type(l);
        break;
    }
    test_mpi(MPI_Type_commit(&l->type), "MPI_Type_commit");
}

static void layout_close(struct layout *l)
{
    test_mpi(MPI_Type_free(&l->type), "MPI_Type_free");
    free(l->lengths);
    free(l->places);
}

/* Lays the bytes out in new memory with gaps. */
static char *spread(const struct layout *l, const char *plain)
{
    char *gapped = test_alloc((size_t)l->extent);

    for (int i = 0; i < l->pieces; i++) {
        memcpy(gapped + l->places[i], plain, (size_t)l->lengths[i]);
        plain += l->lengths[i];
    }
    return gapped;
}

static void collect(const struct layout *l, const char *gapped, char *plain)
{
    for (int i = 0; i < l->pieces; i++) {
        memcpy(plain, gapped + l->places[i], (size_t)l->lengths[i]);
        plain += l->lengths[i];
    }
}

static void send_gapped(struct window *w, int index, enum shape shape, uint64_t random)
{
    struct message *m = &w->out[index];
    struct layout l;
    char *gapped;

    message_make(m, w->channel, w->to[index], w->sizes);
    layout_open(&l, shape, m->length, random);
    gapped = spread(&l, m->data);
    message_done(m);
    m->data = gapped;
    test_mpi(MPI_Isend(gapped, 1, l.type, m->peer, m->tag, w->channel->comm, &w->sends[index]),
             "MPI_Isend of a derived type");
    layout_close(&l);
}

/* The gaps have to stay as they were. */
static void check_gaps(const struct layout *l, const char *gapped, const struct message *m)
{
    for (int i = 0; i + 1 < l->pieces; i++) {
        for (long j = l->places[i] + l->lengths[i]; j < l->places[i + 1]; j++) {
            if (0x5a != gapped[j]) {
                storm_defect(CORRUPTED,
                             "pair %d -> %d: message %" PRIu64 " of %ld bytes: byte %ld in a gap was written",
                             m->channel->pairs[m->peer].name, m->channel->name, m->seq, m->length, j);
            }
        }
    }
}

static void receive_gapped(struct window *w, int index, enum shape shape, uint64_t random)
{
    struct message *m = &w->in[index];
    struct layout l;
    MPI_Status status;
    int elements;
    char *gapped;

    message_expect(m, w->channel, w->from[index], w->sizes);
    layout_open(&l, shape, m->length, random);
    gapped = test_alloc((size_t)l.extent);
    memset(gapped, 0x5a, (size_t)l.extent);
    test_mpi(MPI_Recv(gapped, 1, l.type, m->peer, m->tag, w->channel->comm, &status), "MPI_Recv of a derived type");
    test_mpi(MPI_Get_elements(&status, l.type, &elements), "MPI_Get_elements");
    check_gaps(&l, gapped, m);
    collect(&l, gapped, m->data);
    free(gapped);
    layout_close(&l);
    message_take_bytes(m, &status, elements);
}

static void run_derived(int shape)
{
    struct window w;
    int sides = 1 + (int)draw(&storm.random, 3);
    uint64_t random = (uint64_t)draw(&storm.random, 1L << 40);

    window_plan(&w, storm.plain, SIZES_MIDDLE, &storm.random, MOST);
    if (!(sides & RECEIVER)) {
        window_post(&w);
    }
    if (!(sides & SENDER)) {
        window_send(&w, MODE_STANDARD);
    }
    for (int i = 0; (sides & SENDER) && i < w.count; i++) {
        send_gapped(&w, i, (enum shape)shape, random + (uint64_t)i);
    }
    storm.step = "receiving derived types";
    for (int i = 0; (sides & RECEIVER) && i < w.incoming; i++) {
        /* Other gaps than the sender's, when both have some. */
        receive_gapped(&w, i, (enum shape)((shape + sides) % 4), random + 1000 + (uint64_t)i);
    }
    if (!(sides & RECEIVER)) {
        window_finish_receives(&w);
    }
    window_finish_sends(&w);
}

const struct kind type_kinds[] = {
    {"type_vector", run_derived, VECTOR, NEED_NOTHING},
    {"type_indexed", run_derived, INDEXED, NEED_NOTHING},
    {"type_struct", run_derived, STRUCT, NEED_NOTHING},
    {"type_resized", run_derived, RESIZED, NEED_NOTHING},
    {NULL, NULL, 0, NEED_NOTHING},
};
