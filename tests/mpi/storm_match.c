/*
 * Kinds of the storm about matching: probes, receives long after or long before the sends, cancelled ones, floods.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#include "storm.h"

#define MOST        6
#define FLOOD_TOTAL 3000
#define FLOOD_MOST  1500 /* messages of one rank in a flood */
#define FLOOD_SYNC  16   /* every so many of a flood are synchronous, and stay pending at the sender */

/* ---------------------------------------------------------------------- probes */

enum probe { PROBE, IPROBE, MPROBE, IMPROBE };

/* Finds the next message, whoever sent it. */
static void find_message(const struct channel *c, enum probe how, MPI_Message *handle, MPI_Status *status)
{
    int flag = 1;

    *handle = MPI_MESSAGE_NULL;
    do {
        switch (how) {
        case PROBE: test_mpi(MPI_Probe(MPI_ANY_SOURCE, MPI_ANY_TAG, c->comm, status), "MPI_Probe"); break;
        case IPROBE: test_mpi(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, c->comm, &flag, status), "MPI_Iprobe"); break;
        case MPROBE: test_mpi(MPI_Mprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, c->comm, handle, status), "MPI_Mprobe"); break;
        case IMPROBE:
            test_mpi(MPI_Improbe(MPI_ANY_SOURCE, MPI_ANY_TAG, c->comm, &flag, handle, status), "MPI_Improbe");
            break;
        }
    } while (!flag);
}

static void receive_probed(struct window *w, int index, enum probe how, MPI_Status *status)
{
    struct message *m = &w->in[index];
    MPI_Message handle;
    MPI_Comm comm = w->channel->comm;

    find_message(w->channel, how, &handle, status);
    message_probed(m, w->channel, w->sizes, status);
    w->receives[index] = MPI_REQUEST_NULL;
    if (MPI_MESSAGE_NULL == handle) {
        test_mpi(MPI_Recv(m->data, (int)m->room, MPI_BYTE, status->MPI_SOURCE, status->MPI_TAG, comm, status),
                 "MPI_Recv of what was probed");
    } else if (IMPROBE == how) {
        test_mpi(MPI_Imrecv(m->data, (int)m->room, MPI_BYTE, &handle, &w->receives[index]), "MPI_Imrecv");
    } else {
        test_mpi(MPI_Mrecv(m->data, (int)m->room, MPI_BYTE, &handle, status), "MPI_Mrecv");
    }
}

/* Imrecv ones complete together in the end. */
static void run_probe(int how)
{
    struct window w;
    MPI_Status statuses[WINDOW_MAX];

    window_plan(&w, storm_wild(), SIZES_MIX, &storm.random, MOST);
    window_send(&w, MODE_STANDARD);
    storm.step = "probing";
    for (int i = 0; i < w.incoming; i++) {
        receive_probed(&w, i, (enum probe)how, &statuses[i]);
        if (IMPROBE != how) {
            message_take(&w.in[i], &statuses[i]);
        }
    }
    if (IMPROBE == how) {
        window_finish_receives(&w);
    }
    window_finish_sends(&w);
}

/* ---------------------------------------------------------------------- unexpected */

/* All is sent before anybody posts a receive: the messages wait in the unexpected queue. */
static void run_unexpected(int unused)
{
    struct window w;

    (void)unused;
    window_plan(&w, storm.plain, SIZES_MIX, &storm.random, 2 * MOST);
    window_send(&w, MODE_STANDARD);
    storm.step = "MPI_Barrier";
    test_mpi(MPI_Barrier(storm.collect), "MPI_Barrier");
    window_post(&w);
    window_finish_receives(&w);
    window_finish_sends(&w);
}

static struct window late, early;

static void finish_window(struct window *w)
{
    window_finish_receives(w);
    window_finish_sends(w);
    w->channel = NULL;
}

/* What is sent in one such round is received only in the next: many rounds of all other kinds are in between. */
static void run_late(int unused)
{
    (void)unused;
    if (NULL != late.channel) {
        window_post(&late);
        finish_window(&late);
    }
    window_plan(&late, storm.late, SIZES_MIX, &storm.random, 2 * MOST);
    window_send(&late, MODE_STANDARD);
}

/* The receives of one such round get their messages only in the next. */
static void run_early(int unused)
{
    (void)unused;
    if (NULL != early.channel) {
        window_send(&early, MODE_STANDARD);
        finish_window(&early);
    }
    window_plan(&early, storm.early, SIZES_MIX, &storm.random, 2 * MOST);
    window_post(&early);
}

void match_finish(void)
{
    if (NULL != late.channel) {
        window_post(&late);
        finish_window(&late);
    }
    if (NULL != early.channel) {
        window_send(&early, MODE_STANDARD);
        finish_window(&early);
    }
}

/* Receives with much more room than there is to come. */
static void run_short(int unused)
{
    struct window w;

    (void)unused;
    window_plan(&w, storm.plain, SIZES_EAGER, &storm.random, MOST);
    for (int i = 0; i < w.incoming; i++) {
        struct message *m = &w.in[i];

        message_expect(m, w.channel, w.from[i], w.sizes);
        message_done(m);
        m->room = WILD_MAX;
        m->data = test_alloc((size_t)m->room);
        memset(m->data, 0xa5, (size_t)m->room);
        test_mpi(MPI_Irecv(m->data, (int)m->room, MPI_BYTE, m->peer, m->tag, w.channel->comm, &w.receives[i]),
                 "MPI_Irecv");
    }
    window_send(&w, MODE_STANDARD);
    window_finish_receives(&w);
    window_finish_sends(&w);
}

/* ---------------------------------------------------------------------- cancel */

static void cancel_receive(MPI_Request *request)
{
    MPI_Status status;
    int cancelled;

    test_mpi(MPI_Cancel(request), "MPI_Cancel");
    test_mpi(MPI_Wait(request, &status), "MPI_Wait of a cancelled receive");
    test_mpi(MPI_Test_cancelled(&status, &cancelled), "MPI_Test_cancelled");
    if (!cancelled) {
        storm_defect(CORRUPTED, "a receive that nobody sends to got a message from %d with tag %d", status.MPI_SOURCE,
                     status.MPI_TAG);
    }
}

/* Receives that match nothing are posted before real ones, and taken back after them. */
static void run_cancel(int unused)
{
    struct window w;
    MPI_Request requests[3];
    char nothing[3][16];

    (void)unused;
    window_plan(&w, storm.plain, SIZES_MIX, &storm.random, MOST);
    test_mpi(MPI_Irecv(nothing[0], 16, MPI_BYTE, MPI_ANY_SOURCE, TAG_NEVER, w.channel->comm, &requests[0]),
             "MPI_Irecv");
    test_mpi(MPI_Irecv(nothing[1], 16, MPI_BYTE, w.from[0], TAG_NEVER, w.channel->comm, &requests[1]), "MPI_Irecv");
    test_mpi(MPI_Irecv(nothing[2], 16, MPI_BYTE, MPI_ANY_SOURCE, MPI_ANY_TAG, storm.self->comm, &requests[2]),
             "MPI_Irecv");
    window_post(&w);
    window_send(&w, MODE_STANDARD);
    cancel_receive(&requests[1]);
    window_finish_receives(&w);
    cancel_receive(&requests[0]);
    cancel_receive(&requests[2]);
    window_finish_sends(&w);
}

/* ---------------------------------------------------------------------- flood */

static int flood_share(void)
{
    int share = FLOOD_TOTAL / (storm.size - 1);

    return share < FLOOD_MOST ? share : FLOOD_MOST;
}

static void send_flood(struct channel *c, int to)
{
    int count = flood_share();
    struct message *messages = test_alloc((size_t)count * sizeof(*messages));
    MPI_Request *requests = test_alloc((size_t)count * sizeof(*requests));

    for (int i = 0; i < count; i++) {
        struct message *m = &messages[i];

        message_make(m, c, to, SIZES_SMALL);
        if (0 == i % FLOOD_SYNC) {
            test_mpi(MPI_Issend(m->data, (int)m->length, MPI_BYTE, to, m->tag, c->comm, &requests[i]), "MPI_Issend");
        } else {
            test_mpi(MPI_Isend(m->data, (int)m->length, MPI_BYTE, to, m->tag, c->comm, &requests[i]), "MPI_Isend");
        }
    }
    storm.step = "MPI_Barrier of the flood";
    test_mpi(MPI_Barrier(storm.collect), "MPI_Barrier");
    storm.step = "MPI_Waitall of the flood";
    test_mpi(MPI_Waitall(count, requests, MPI_STATUSES_IGNORE), "MPI_Waitall of the flood");
    for (int i = 0; i < count; i++) {
        message_done(&messages[i]);
    }
    free(requests);
    free(messages);
}

/* Receives nothing before all have started all their sends. */
static void receive_flood(struct channel *c)
{
    MPI_Status status;
    struct message m;

    storm.step = "MPI_Barrier of the flood";
    test_mpi(MPI_Barrier(storm.collect), "MPI_Barrier");
    storm.step = "receiving the flood";
    for (int i = flood_share() * (storm.size - 1); i > 0; i--) {
        message_expect_any(&m, c, SIZES_SMALL);
        test_mpi(MPI_Recv(m.data, (int)m.room, MPI_BYTE, MPI_ANY_SOURCE, MPI_ANY_TAG, c->comm, &status), "MPI_Recv");
        message_take(&m, &status);
    }
}

/* Two channels in turn: who is through with one flood may begin the next, but cannot pass the barrier in it. */
static void run_flood(int unused)
{
    struct channel *c = storm.flood[storm.flood_used++ % 2];
    int target = (int)draw(&storm.random, storm.size);

    (void)unused;
    storm.active = c;
    if (target == storm.rank) {
        receive_flood(c);
    } else {
        send_flood(c, target);
    }
}

const struct kind match_kinds[] = {
    {"probe", run_probe, PROBE, NEED_NOTHING},
    {"iprobe", run_probe, IPROBE, NEED_NOTHING},
    {"mprobe", run_probe, MPROBE, NEED_NOTHING},
    {"improbe", run_probe, IMPROBE, NEED_NOTHING},
    {"unexpected", run_unexpected, 0, NEED_NOTHING},
    {"late", run_late, 0, NEED_NOTHING},
    {"early", run_early, 0, NEED_NOTHING},
    {"short", run_short, 0, NEED_NOTHING},
    {"cancel", run_cancel, 0, NEED_NOTHING},
    {"flood", run_flood, 0, NEED_NOTHING},
    {NULL, NULL, 0, NEED_NOTHING},
};
