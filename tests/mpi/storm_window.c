/*
 * Windows of messages: who sends to whom, and the usual ways to send, receive and wait.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#include "storm.h"

/* Each with everybody on the other side. */
static void plan_inter(struct window *w)
{
    if (w->channel->peers > WINDOW_MAX) {
        test_defect("more than %d ranks on one side of an intercommunicator", WINDOW_MAX);
    }
    w->count = w->channel->peers;
    for (int i = 0; i < w->count; i++) {
        w->to[i] = w->from[i] = (w->channel->rank + i) % w->channel->peers;
    }
}

/* Some distances, each one to three times: what goes to one peer in a row shows whether its order is kept. */
void window_plan(struct window *w, struct channel *c, enum sizes sizes, uint64_t *random, int most)
{
    int messages = 1 + (int)draw(random, most);

    w->channel = storm.active = c;
    w->sizes = sizes;
    w->any = false;
    w->count = 0;
    if (c->inter) {
        plan_inter(w);
    }
    while (!c->inter && w->count < messages) {
        int distance = (int)draw(random, c->peers), times = 1 + (int)draw(random, 3);

        for (int i = 0; i < times && w->count < messages; i++, w->count++) {
            w->to[w->count] = (c->rank + distance) % c->peers;
            w->from[w->count] = (c->rank + c->peers - distance) % c->peers;
        }
    }
    w->incoming = w->count;
}

void window_post(struct window *w)
{
    storm.step = "posting receives";
    for (int i = 0; i < w->incoming; i++) {
        struct message *m = &w->in[i];

        message_expect(m, w->channel, w->from[i], w->sizes);
        /* Both ways of matching: an exact tag, and the order alone. */
        test_mpi(MPI_Irecv(m->data, (int)m->room, MPI_BYTE, m->peer, 0 == i % 2 ? m->tag : MPI_ANY_TAG,
                           w->channel->comm, &w->receives[i]),
                 "MPI_Irecv");
    }
}

void window_post_any(struct window *w)
{
    storm.step = "posting receives";
    w->any = true;
    for (int i = 0; i < w->incoming; i++) {
        struct message *m = &w->in[i];

        message_expect_any(m, w->channel, w->sizes);
        test_mpi(
            MPI_Irecv(m->data, (int)m->room, MPI_BYTE, MPI_ANY_SOURCE, MPI_ANY_TAG, w->channel->comm, &w->receives[i]),
            "MPI_Irecv");
    }
}

static int start_send(const struct message *m, enum mode mode, MPI_Request *request)
{
    MPI_Comm comm = m->channel->comm;

    switch (mode) {
    case MODE_BUFFERED: return MPI_Ibsend(m->data, (int)m->length, MPI_BYTE, m->peer, m->tag, comm, request);
    case MODE_SYNC: return MPI_Issend(m->data, (int)m->length, MPI_BYTE, m->peer, m->tag, comm, request);
    case MODE_READY: return MPI_Irsend(m->data, (int)m->length, MPI_BYTE, m->peer, m->tag, comm, request);
    default: return MPI_Isend(m->data, (int)m->length, MPI_BYTE, m->peer, m->tag, comm, request);
    }
}

void window_send(struct window *w, enum mode mode)
{
    storm.step = "sending";
    for (int i = 0; i < w->count; i++) {
        message_make(&w->out[i], w->channel, w->to[i], w->sizes);
        test_mpi(start_send(&w->out[i], mode, &w->sends[i]), "a non-blocking send");
    }
}

void storm_waitall(int count, MPI_Request *requests, MPI_Status *statuses, const char *what)
{
    int code;

    storm.step = what;
    code = MPI_Waitall(count, requests, statuses);
    for (int i = 0; MPI_ERR_IN_STATUS == code && i < count; i++) {
        if (MPI_ERR_PENDING != statuses[i].MPI_ERROR) {
            test_mpi(statuses[i].MPI_ERROR, what);
        }
    }
    test_mpi(code, what);
}

/* Posted order is matching order, so the messages of a sender are in order here. */
void window_take(struct window *w, MPI_Status *statuses)
{
    for (int i = 0; i < w->incoming; i++) {
        message_take(&w->in[i], &statuses[i]);
    }
}

void window_finish_receives(struct window *w)
{
    MPI_Status statuses[WINDOW_MAX];

    storm_waitall(w->incoming, w->receives, statuses, "MPI_Waitall of the receives");
    window_take(w, statuses);
}

void window_finish_sends(struct window *w)
{
    MPI_Status statuses[WINDOW_MAX];

    storm_waitall(w->count, w->sends, statuses, "MPI_Waitall of the sends");
    for (int i = 0; i < w->count; i++) {
        message_done(&w->out[i]);
    }
}

void window_exchange(struct channel *c, enum sizes sizes, uint64_t *random, int most)
{
    struct window w;

    window_plan(&w, c, sizes, random, most);
    window_post(&w);
    window_send(&w, MODE_STANDARD);
    window_finish_receives(&w);
    window_finish_sends(&w);
}
