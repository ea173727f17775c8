/*
 * Point-to-point kinds of the storm: send modes, sizes, persistent requests, wildcards, ways to wait.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#include "storm.h"

#define MOST         6 /* messages per rank in an ordinary window */
#define STARTS       3 /* of a persistent request */
#define STEADY_BYTES 300

static void run_window(int sizes)
{
    window_exchange(storm.plain, (enum sizes)sizes, &storm.random, SIZES_PIPELINE == sizes ? 1 : MOST);
}

static void run_nonblocking(int mode)
{
    struct window w;

    window_plan(&w, storm.plain, SIZES_MIX, &storm.random, MOST);
    window_post(&w);
    window_send(&w, (enum mode)mode);
    window_finish_receives(&w);
    window_finish_sends(&w);
}

/* Receives are posted, sends block. */
static void run_blocking(int mode)
{
    struct window w;

    window_plan(&w, storm.plain, SIZES_MIX, &storm.random, MOST);
    window_post(&w);
    storm.step = "a blocking send";
    for (int i = 0; i < w.count; i++) {
        struct message m;

        message_make(&m, w.channel, w.to[i], w.sizes);
        if (MODE_SYNC == mode) {
            test_mpi(MPI_Ssend(m.data, (int)m.length, MPI_BYTE, m.peer, m.tag, w.channel->comm), "MPI_Ssend");
        } else {
            test_mpi(MPI_Send(m.data, (int)m.length, MPI_BYTE, m.peer, m.tag, w.channel->comm), "MPI_Send");
        }
        message_done(&m);
    }
    window_finish_receives(&w);
}

/* ---------------------------------------------------------------------- buffered */

static void *attach_buffer(int messages)
{
    int bytes = messages * ((int)MIB + MPI_BSEND_OVERHEAD);
    void *buffer = test_alloc((size_t)bytes);

    test_mpi(MPI_Buffer_attach(buffer, bytes), "MPI_Buffer_attach");
    return buffer;
}

/* Waits until all that was buffered has been sent. */
static void detach_buffer(void)
{
    void *buffer;
    int bytes;

    storm.step = "MPI_Buffer_detach";
    test_mpi(MPI_Buffer_detach(&buffer, &bytes), "MPI_Buffer_detach");
    free(buffer);
}

/* MPI_Bsend and MPI_Ibsend in turn; the memory of the first is given up at once. */
static void run_bsend(int unused)
{
    struct window w;

    (void)unused;
    window_plan(&w, storm.plain, SIZES_MIDDLE, &storm.random, MOST);
    attach_buffer(w.count);
    window_post(&w);
    for (int i = 0; i < w.count; i++) {
        struct message *m = &w.out[i];

        w.sends[i] = MPI_REQUEST_NULL;
        message_make(m, w.channel, w.to[i], w.sizes);
        if (0 == i % 2) {
            test_mpi(MPI_Bsend(m->data, (int)m->length, MPI_BYTE, m->peer, m->tag, w.channel->comm), "MPI_Bsend");
            memset(m->data, 0, (size_t)m->length);
        } else {
            test_mpi(MPI_Ibsend(m->data, (int)m->length, MPI_BYTE, m->peer, m->tag, w.channel->comm, &w.sends[i]),
                     "MPI_Ibsend");
        }
    }
    window_finish_receives(&w);
    window_finish_sends(&w);
    detach_buffer();
}

/* ---------------------------------------------------------------------- ready */

/* Tells the senders of a window that its receives are posted, and waits for the same of its receivers. */
static void acknowledge(const struct window *w)
{
    MPI_Request requests[2 * WINDOW_MAX];
    MPI_Status statuses[2 * WINDOW_MAX];

    for (int i = 0; i < w->count; i++) {
        test_mpi(MPI_Irecv(NULL, 0, MPI_BYTE, w->to[i], 1, storm.ack->comm, &requests[2 * i]), "MPI_Irecv");
        test_mpi(MPI_Isend(NULL, 0, MPI_BYTE, w->from[i], 1, storm.ack->comm, &requests[2 * i + 1]), "MPI_Isend");
    }
    storm_waitall(2 * w->count, requests, statuses, "the acknowledgements of posted receives");
}

static void run_ready(int blocking)
{
    struct window w;

    window_plan(&w, storm.plain, SIZES_MIX, &storm.random, MOST);
    window_post(&w);
    acknowledge(&w);
    if (!blocking) {
        window_send(&w, MODE_READY);
        window_finish_receives(&w);
        window_finish_sends(&w);
        return;
    }
    for (int i = 0; i < w.count; i++) {
        struct message m;

        message_make(&m, w.channel, w.to[i], w.sizes);
        test_mpi(MPI_Rsend(m.data, (int)m.length, MPI_BYTE, m.peer, m.tag, w.channel->comm), "MPI_Rsend");
        message_done(&m);
    }
    window_finish_receives(&w);
}

/* ---------------------------------------------------------------------- persistent */

/* A persistent request has one buffer, length and tag: the contents change from start to start. */
struct steady {
    MPI_Request send, receive;
    char out[STEADY_BYTES], in[STEADY_BYTES];
};

static void steady_fill(char *data, int from, int index, int start)
{
    uint64_t key = mix(storm.seed ^ (uint64_t)storm.round << 32 ^ (uint64_t)(from * 1000 + index * 10 + start));

    for (int i = 0; i < STEADY_BYTES; i++) {
        data[i] = (char)(key >> (i % 57));
    }
}

static int steady_init(struct steady *s, int mode, int to, int tag)
{
    MPI_Comm comm = storm.ack->comm;

    switch (mode) {
    case MODE_BUFFERED: return MPI_Bsend_init(s->out, STEADY_BYTES, MPI_BYTE, to, tag, comm, &s->send);
    case MODE_SYNC: return MPI_Ssend_init(s->out, STEADY_BYTES, MPI_BYTE, to, tag, comm, &s->send);
    case MODE_READY: return MPI_Rsend_init(s->out, STEADY_BYTES, MPI_BYTE, to, tag, comm, &s->send);
    default: return MPI_Send_init(s->out, STEADY_BYTES, MPI_BYTE, to, tag, comm, &s->send);
    }
}

static void steady_check(const struct steady *s, const struct window *w, int index, int start)
{
    char expected[STEADY_BYTES];
    int from = w->channel->pairs[w->from[index]].name;

    steady_fill(expected, from, index, start);
    for (int i = 0; i < STEADY_BYTES; i++) {
        if (expected[i] != s->in[i]) {
            storm_defect(CORRUPTED, "pair %d -> %d: start %d of persistent request %d: byte %d is %#x, not %#x", from,
                         storm.rank, start, index, i, s->in[i] & 255, expected[i] & 255);
        }
    }
    storm.messages++;
    storm.bytes += STEADY_BYTES;
}

/* Starts all requests once: one by one, or with MPI_Startall. */
static void steady_start(struct steady *s, const struct window *w, int mode, int start)
{
    MPI_Request sends[WINDOW_MAX], receives[WINDOW_MAX];
    MPI_Status statuses[WINDOW_MAX];

    for (int i = 0; i < w->count; i++) {
        steady_fill(s[i].out, storm.rank, i, start);
        memset(s[i].in, 0, STEADY_BYTES);
        sends[i] = s[i].send;
        receives[i] = s[i].receive;
    }
    test_mpi(MPI_Startall(w->count, receives), "MPI_Startall");
    if (MODE_READY == mode) {
        acknowledge(w);
    }
    if (0 == start % 2) {
        test_mpi(MPI_Startall(w->count, sends), "MPI_Startall");
    }
    for (int i = 0; 0 != start % 2 && i < w->count; i++) {
        test_mpi(MPI_Start(&sends[i]), "MPI_Start");
    }
    storm_waitall(w->count, receives, statuses, "MPI_Waitall of persistent receives");
    storm_waitall(w->count, sends, statuses, "MPI_Waitall of persistent sends");
    for (int i = 0; i < w->count; i++) {
        s[i].send = sends[i]; /* starting may change a handle: that of a buffered send that is still under way */
        s[i].receive = receives[i];
        steady_check(&s[i], w, i, start);
    }
}

static void run_persistent(int mode)
{
    struct window w;
    struct steady *s;

    window_plan(&w, storm.ack, SIZES_ZERO, &storm.random, MOST);
    s = test_alloc((size_t)w.count * sizeof(*s));
    if (MODE_BUFFERED == mode) {
        attach_buffer(STARTS);
    }
    for (int i = 0; i < w.count; i++) {
        test_mpi(steady_init(&s[i], mode, w.to[i], 10 + i), "a persistent send");
        test_mpi(MPI_Recv_init(s[i].in, STEADY_BYTES, MPI_BYTE, w.from[i], 10 + i, storm.ack->comm, &s[i].receive),
                 "MPI_Recv_init");
    }
    for (int i = 0; i < STARTS; i++) {
        steady_start(s, &w, mode, i);
    }
    for (int i = 0; i < w.count; i++) {
        test_mpi(MPI_Request_free(&s[i].send), "MPI_Request_free");
        test_mpi(MPI_Request_free(&s[i].receive), "MPI_Request_free");
    }
    if (MODE_BUFFERED == mode) {
        detach_buffer();
    }
    free(s);
}

/* The same with numbered messages of all sizes: a persistent request for each, started once. */
static void run_persistent_long(int unused)
{
    struct window w;

    (void)unused;
    window_plan(&w, storm.plain, SIZES_MIX, &storm.random, MOST);
    for (int i = 0; i < w.count; i++) {
        struct message *in = &w.in[i], *out = &w.out[i];

        message_expect(in, w.channel, w.from[i], w.sizes);
        message_make(out, w.channel, w.to[i], w.sizes);
        test_mpi(
            MPI_Recv_init(in->data, (int)in->room, MPI_BYTE, in->peer, MPI_ANY_TAG, w.channel->comm, &w.receives[i]),
            "MPI_Recv_init");
        test_mpi(
            MPI_Send_init(out->data, (int)out->length, MPI_BYTE, out->peer, out->tag, w.channel->comm, &w.sends[i]),
            "MPI_Send_init");
    }
    test_mpi(MPI_Startall(w.count, w.receives), "MPI_Startall");
    test_mpi(MPI_Startall(w.count, w.sends), "MPI_Startall");
    window_finish_receives(&w);
    window_finish_sends(&w);
    for (int i = 0; i < w.count; i++) {
        test_mpi(MPI_Request_free(&w.sends[i]), "MPI_Request_free");
        test_mpi(MPI_Request_free(&w.receives[i]), "MPI_Request_free");
    }
}

/* ---------------------------------------------------------------------- sendrecv */

static void run_sendrecv(int unused)
{
    struct window w;
    struct message in, out;
    MPI_Status status;

    (void)unused;
    window_plan(&w, storm.plain, SIZES_MIX, &storm.random, MOST);
    storm.step = "MPI_Sendrecv";
    for (int i = 0; i < w.count; i++) {
        message_make(&out, w.channel, w.to[i], w.sizes);
        message_expect(&in, w.channel, w.from[i], w.sizes);
        test_mpi(MPI_Sendrecv(out.data, (int)out.length, MPI_BYTE, out.peer, out.tag, in.data, (int)in.room, MPI_BYTE,
                              in.peer, MPI_ANY_TAG, w.channel->comm, &status),
                 "MPI_Sendrecv");
        message_done(&out);
        message_take(&in, &status);
    }
}

/* Pairs at the same distance have exchanged equally many messages, so what comes is as long as what goes. */
static void run_sendrecv_replace(int unused)
{
    struct window w;
    struct message in, out;
    MPI_Status status;

    (void)unused;
    window_plan(&w, storm.plain, SIZES_FIXED, &storm.random, MOST);
    storm.step = "MPI_Sendrecv_replace";
    for (int i = 0; i < w.count; i++) {
        message_make(&out, w.channel, w.to[i], w.sizes);
        message_expect(&in, w.channel, w.from[i], w.sizes);
        memcpy(in.data, out.data, (size_t)out.length);
        test_mpi(MPI_Sendrecv_replace(in.data, (int)out.length, MPI_BYTE, out.peer, out.tag, in.peer, in.tag,
                                      w.channel->comm, &status),
                 "MPI_Sendrecv_replace");
        message_done(&out);
        message_take(&in, &status);
    }
}

/* ---------------------------------------------------------------------- wildcards, waiting */

static void run_any_source(int mode)
{
    struct window w;

    window_plan(&w, storm_wild(), SIZES_MIX, &storm.random, MOST);
    window_post_any(&w);
    window_send(&w, (enum mode)mode);
    window_finish_receives(&w);
    window_finish_sends(&w);
}

static void run_recv_any(int unused)
{
    struct window w;
    MPI_Status status;

    (void)unused;
    window_plan(&w, storm_wild(), SIZES_MIX, &storm.random, MOST);
    window_send(&w, MODE_STANDARD);
    storm.step = "MPI_Recv from anybody";
    for (int i = 0; i < w.incoming; i++) {
        message_expect_any(&w.in[i], w.channel, w.sizes);
        test_mpi(
            MPI_Recv(w.in[i].data, (int)w.in[i].room, MPI_BYTE, MPI_ANY_SOURCE, MPI_ANY_TAG, w.channel->comm, &status),
            "MPI_Recv");
        message_take(&w.in[i], &status);
    }
    window_finish_sends(&w);
}

enum waiting { WAITANY, WAITSOME, TESTALL, TESTANY, TESTSOME };

/* Completes some of the requests; returns how many. */
static int complete(struct window *w, enum waiting how, int *done, MPI_Status *statuses)
{
    int count = 0, flag = 0;

    switch (how) {
    case WAITANY: test_mpi(MPI_Waitany(w->incoming, w->receives, done, statuses), "MPI_Waitany"); return 1;
    case TESTANY: test_mpi(MPI_Testany(w->incoming, w->receives, done, &flag, statuses), "MPI_Testany"); return flag;
    case WAITSOME:
        test_mpi(MPI_Waitsome(w->incoming, w->receives, &count, done, statuses), "MPI_Waitsome");
        return count;
    case TESTSOME:
        test_mpi(MPI_Testsome(w->incoming, w->receives, &count, done, statuses), "MPI_Testsome");
        return count;
    default:
        test_mpi(MPI_Testall(w->incoming, w->receives, &flag, statuses), "MPI_Testall");
        for (int i = 0; i < w->incoming; i++) {
            done[i] = i;
        }
        return flag ? w->incoming : 0;
    }
}

static void run_waiting(int how)
{
    struct window w;
    MPI_Status statuses[WINDOW_MAX];
    int done[WINDOW_MAX];

    window_plan(&w, storm.plain, SIZES_MIX, &storm.random, 2 * MOST);
    window_post(&w);
    window_send(&w, MODE_STANDARD);
    storm.step = "completing the receives one by one";
    for (int left = w.incoming; left > 0;) {
        int count = complete(&w, (enum waiting)how, done, statuses);

        for (int i = 0; i < count; i++) {
            message_take(&w.in[done[i]], &statuses[i]);
        }
        left -= count;
    }
    window_finish_sends(&w);
}

const struct kind p2p_kinds[] = {
    {"zero", run_window, SIZES_ZERO, NEED_NOTHING},
    {"eager", run_window, SIZES_EAGER, NEED_NOTHING},
    {"rendezvous", run_window, SIZES_RNDV, NEED_NOTHING},
    {"pipeline", run_window, SIZES_PIPELINE, NEED_NOTHING},
    {"isend", run_nonblocking, MODE_STANDARD, NEED_NOTHING},
    {"issend", run_nonblocking, MODE_SYNC, NEED_NOTHING},
    {"send", run_blocking, MODE_STANDARD, NEED_NOTHING},
    {"ssend", run_blocking, MODE_SYNC, NEED_NOTHING},
    {"bsend", run_bsend, 0, NEED_NOTHING},
    {"irsend", run_ready, 0, NEED_NOTHING},
    {"rsend", run_ready, 1, NEED_NOTHING},
    {"persistent", run_persistent, MODE_STANDARD, NEED_NOTHING},
    {"persistent_bsend", run_persistent, MODE_BUFFERED, NEED_NOTHING},
    {"persistent_ssend", run_persistent, MODE_SYNC, NEED_NOTHING},
    {"persistent_rsend", run_persistent, MODE_READY, NEED_NOTHING},
    {"persistent_long", run_persistent_long, 0, NEED_NOTHING},
    {"sendrecv", run_sendrecv, 0, NEED_NOTHING},
    {"sendrecv_replace", run_sendrecv_replace, 0, NEED_NOTHING},
    {"any_source", run_any_source, MODE_STANDARD, NEED_NOTHING},
    {"any_source_issend", run_any_source, MODE_SYNC, NEED_NOTHING},
    {"recv_any", run_recv_any, 0, NEED_NOTHING},
    {"waitany", run_waiting, WAITANY, NEED_NOTHING},
    {"waitsome", run_waiting, WAITSOME, NEED_NOTHING},
    {"testany", run_waiting, TESTANY, NEED_NOTHING},
    {"testsome", run_waiting, TESTSOME, NEED_NOTHING},
    {"testall", run_waiting, TESTALL, NEED_NOTHING},
    {NULL, NULL, 0, NEED_NOTHING},
};
