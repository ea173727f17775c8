/*
 * All-pairs traffic that proves for each pair that nothing is lost, doubled, reordered or corrupted.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 *
 * Length, tag and every byte of message number `seq` from rank a to rank b follow from (a, b, seq, style) alone, so
 * the receiver knows what has to come next, also where a message is too short for a header. The run goes in rounds;
 * each round sends a fixed number of messages per pair (also to oneself) in one style, see the table `styles`, and
 * ends with collectives whose results are known. Rank 0 decides after each round whether there is another one.
 */
#include <getopt.h>
#include <signal.h>

#include "common.h"
#include "pattern.h"

#define PER_PAIR      4     /* messages from each rank to each rank in a round */
#define TAGS          16384 /* the tag of a message is its number modulo this */
#define LENGTH_MAX    (16L << 20)
#define WILD_MAX      (256L << 10) /* longest message where the receiver cannot know the sender beforehand */
#define MAGIC         UINT64_C(0x6c706d20616c6c70)
#define VECTOR_BLOCK  64 /* bytes per block of the derived data type ... */
#define VECTOR_STRIDE 96 /* ... and from one block to the next */

struct header {
    uint64_t magic, seq, length, sum;
    int32_t from, to, tag, round;
};

struct message {
    int peer;
    long length;
    char *data;
};

struct world {
    MPI_Comm comm;    /* the messages, nothing else */
    MPI_Comm collect; /* collectives */
    int rank, size;
    long round;
    long longest;       /* limit on the length in this round's style */
    uint64_t *sent;     /* messages so far, by receiver */
    uint64_t *received; /* messages so far, by sender */
    uint64_t messages, bytes;
    uint64_t classes[6];
};

struct options {
    long seconds, report, stall, seed;
    const char *brake;
};

static const char *const class_names[] = {"0B", "<header", "<=4KiB", "<=64KiB", "<16MiB", "16MiB"};
static uint64_t seed;
static char stall_text[160]; /* prepared beforehand: a signal handler cannot format */

/* Mixes 64 bits (the finaliser of splitmix64). */
static inline uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* The number that stands for one message; all else about it is derived from this. */
static uint64_t key_of(int from, int to, uint64_t seq)
{
    return mix(seed ^ mix(((uint64_t)from << 52) ^ ((uint64_t)to << 40) ^ (seq + 1)));
}

/* Mostly short; often near 64 KiB, where btl/tcp goes over from eager to rendezvous; now and then the full 16 MiB. */
static long length_of(const struct world *w, int from, int to, uint64_t seq)
{
    uint64_t key = mix(key_of(from, to, seq) ^ 1), r = mix(key);
    long length;

    switch (key % 64) {
    case 0 ... 7: length = 0; break;
    case 8 ... 15: length = 1 + (long)(r % (sizeof(struct header) - 1)); break;
    case 16 ... 41: length = (long)(r % 4097); break;
    case 42 ... 53: length = (long)(r % 65537); break;
    case 54 ... 59: length = 65536 - 128 + (long)(r % 256); break;
    case 60 ... 62: length = (long)(r % (1L << 20)); break;
    default: length = r % 4 ? (long)(r % (4L << 20)) : LENGTH_MAX; break;
    }
    return length < w->longest ? length : w->longest;
}

static int class_of(long length)
{
    if (0 == length) {
        return 0;
    }
    if (length < (long)sizeof(struct header)) {
        return 1;
    }
    if (length <= 4096) {
        return 2;
    }
    if (length <= 65536) {
        return 3;
    }
    return length < LENGTH_MAX ? 4 : 5;
}

/* Where the payload of a message of this length begins: short ones have no header. */
static long payload_at(long length)
{
    return length < (long)sizeof(struct header) ? 0 : (long)sizeof(struct header);
}

/* The next message for a rank, ready to be sent; its data is to be freed after the send. */
static struct message make_message(struct world *w, int to, int *tag)
{
    uint64_t seq = w->sent[to]++, key = key_of(w->rank, to, seq), sum;
    struct message m = {.peer = to, .length = length_of(w, w->rank, to, seq)};
    long start = payload_at(m.length);

    *tag = (int)(seq % TAGS);
    m.data = test_alloc((size_t)m.length);
    sum = fill_payload(m.data + start, m.length - start, key);
    if (0 != start) {
        struct header h = {.magic = MAGIC,
                           .seq = seq,
                           .length = (uint64_t)m.length,
                           .sum = sum,
                           .from = w->rank,
                           .to = to,
                           .tag = *tag,
                           .round = (int32_t)w->round};
        memcpy(m.data, &h, sizeof(h));
    }
    return m;
}

/* Says in one word what a message with number `seq` is when `expected` had to come. */
static const char *disorder(uint64_t seq, uint64_t expected)
{
    return seq < expected ? "doubled or late" : "lost or overtaken";
}

/* Compares the header of a message with what it has to be. */
static void check_header(const struct world *w, const struct message *m, uint64_t seq, int tag, uint64_t sum)
{
    struct header h;

    memcpy(&h, m->data, sizeof(h));
    if (MAGIC != h.magic) {
        test_defect("corrupted: message %" PRIu64 " from %d has no header (round %ld)", seq, m->peer, w->round);
    }
    if (m->peer != h.from || w->rank != h.to) {
        test_defect("misdelivered: message %" PRIu64 " of %d to %d came to %d as one from %d (round %ld)", h.seq,
                    h.from, h.to, w->rank, m->peer, w->round);
    }
    if (seq != h.seq) {
        test_defect("%s: message %" PRIu64 " from %d came in place of %" PRIu64 " (round %ld, sent in round %d)",
                    disorder(h.seq, seq), h.seq, m->peer, seq, w->round, h.round);
    }
    if (tag != h.tag || (uint64_t)m->length != h.length || sum != h.sum) {
        test_defect("corrupted: message %" PRIu64 " from %d: tag %d length %ld checksum %" PRIx64 ", sent as tag %d "
                    "length %" PRIu64 " checksum %" PRIx64 " (round %ld)",
                    seq, m->peer, tag, m->length, sum, h.tag, h.length, h.sum, w->round);
    }
}

/* Takes a received message: it has to be the next one of its sender, byte by byte. */
static void check_message(struct world *w, const struct message *m, const MPI_Status *status)
{
    uint64_t seq = w->received[m->peer]++, key = key_of(m->peer, w->rank, seq), sum;
    long expected = length_of(w, m->peer, w->rank, seq), start = payload_at(m->length), bad;
    int tag = (int)(seq % TAGS);

    if (m->length == expected && status->MPI_TAG == tag) {
        bad = check_payload(m->data + start, m->length - start, key, &sum);
        if (0 != start) {
            check_header(w, m, seq, tag, sum);
        }
        if (-1 != bad) {
            test_defect("corrupted: message %" PRIu64 " from %d of %ld bytes: payload byte %ld (round %ld)", seq,
                        m->peer, m->length, bad, w->round);
        }
        w->messages++;
        w->bytes += (uint64_t)m->length;
        w->classes[class_of(m->length)]++;
        return;
    }
    if (0 != start) {
        check_header(w, m, seq, status->MPI_TAG, 0);
    }
    test_defect("%s: a message from %d with tag %d and %ld bytes came where number %" PRIu64 " had to come, tag %d and "
                "%ld bytes (round %ld)",
                disorder((uint64_t)status->MPI_TAG, (uint64_t)tag), m->peer, status->MPI_TAG, m->length, seq, tag,
                expected, w->round);
}

/* Completes one received message: length and sender from the status, then the check. Frees the data. */
static void take_message(struct world *w, struct message *m, const MPI_Status *status)
{
    int count;

    test_mpi(MPI_Get_count(status, MPI_BYTE, &count), "MPI_Get_count");
    m->length = count;
    m->peer = status->MPI_SOURCE;
    check_message(w, m, status);
    free(m->data);
    m->data = NULL;
}

/*
 * How much room to give a receive of message `seq`: enough for its neighbours too, so that one of them that comes in
 * its place is named. (Where it does not fit, stock ob1 may write past the end of the buffer before it says so.)
 */
static long room_for(const struct world *w, int from, uint64_t seq)
{
    uint64_t first = seq < PER_PAIR ? 0 : seq - PER_PAIR;
    long room = 0;

    for (uint64_t i = first; i <= seq + PER_PAIR; i++) {
        long length = length_of(w, from, w->rank, i);

        room = length > room ? length : room;
    }
    return room;
}

/* The style of a send; all of them deliver the same bytes. */
enum send_kind { SEND_NORMAL, SEND_SYNC };

/* Sends PER_PAIR messages to every rank without blocking; requests and messages have PER_PAIR * size places. */
static void start_sends(struct world *w, enum send_kind kind, MPI_Request *requests, struct message *messages)
{
    for (int i = 0; i < PER_PAIR * w->size; i++) {
        int tag, to = (w->rank + i) % w->size;
        struct message *m = &messages[i];

        *m = make_message(w, to, &tag);
        if (SEND_SYNC == kind) {
            test_mpi(MPI_Issend(m->data, (int)m->length, MPI_BYTE, to, tag, w->comm, &requests[i]), "MPI_Issend");
        } else {
            test_mpi(MPI_Isend(m->data, (int)m->length, MPI_BYTE, to, tag, w->comm, &requests[i]), "MPI_Isend");
        }
    }
}

static void finish_sends(struct world *w, MPI_Request *requests, struct message *messages)
{
    test_mpi(MPI_Waitall(PER_PAIR * w->size, requests, MPI_STATUSES_IGNORE), "MPI_Waitall of the sends");
    for (int i = 0; i < PER_PAIR * w->size; i++) {
        free(messages[i].data);
    }
}

/* Posts PER_PAIR receives per sender, in the senders' order; any: from whoever comes. */
static void post_receives(struct world *w, bool any, MPI_Request *requests, struct message *messages)
{
    for (int i = 0; i < PER_PAIR * w->size; i++) {
        int from = (w->rank + i) % w->size;
        struct message *m = &messages[i];

        m->length = any ? WILD_MAX : room_for(w, from, w->received[from] + (uint64_t)(i / w->size));
        m->data = test_alloc((size_t)m->length);
        test_mpi(MPI_Irecv(m->data, (int)m->length, MPI_BYTE, any ? MPI_ANY_SOURCE : from, MPI_ANY_TAG, w->comm,
                           &requests[i]),
                 "MPI_Irecv");
    }
}

/* Waits for the posted receives. Posted order is matching order, so the messages of a sender are in order here. */
static void finish_receives(struct world *w, MPI_Request *requests, struct message *messages)
{
    MPI_Status *statuses = test_alloc((size_t)(PER_PAIR * w->size) * sizeof(*statuses));
    int code = MPI_Waitall(PER_PAIR * w->size, requests, statuses);

    for (int i = 0; MPI_ERR_IN_STATUS == code && i < PER_PAIR * w->size; i++) {
        if (MPI_ERR_PENDING != statuses[i].MPI_ERROR) {
            test_mpi(statuses[i].MPI_ERROR, "a posted receive (a message longer than the one that had to come?)");
        }
    }
    test_mpi(code, "MPI_Waitall of the receives");
    for (int i = 0; i < PER_PAIR * w->size; i++) {
        take_message(w, &messages[i], &statuses[i]);
    }
    free(statuses);
}

/* What a round needs for its windows of requests. */
struct window {
    MPI_Request *sends, *receives;
    struct message *out, *in;
};

static void posted_round(struct world *w, struct window *v, bool any, enum send_kind kind)
{
    post_receives(w, any, v->receives, v->in);
    start_sends(w, kind, v->sends, v->out);
    finish_receives(w, v->receives, v->in);
    finish_sends(w, v->sends, v->out);
}

static void style_window(struct world *w, struct window *v)
{
    posted_round(w, v, false, SEND_NORMAL);
}

static void style_any_source(struct world *w, struct window *v)
{
    posted_round(w, v, true, SEND_NORMAL);
}

static void style_issend(struct world *w, struct window *v)
{
    posted_round(w, v, true, SEND_SYNC);
}

/* Receives are posted, sends block: MPI_Send and MPI_Ssend in turn. */
static void style_blocking(struct world *w, struct window *v)
{
    post_receives(w, false, v->receives, v->in);
    for (int i = 0; i < PER_PAIR * w->size; i++) {
        int tag, to = (w->rank + i) % w->size;
        struct message m = make_message(w, to, &tag);

        if (0 == i % 2) {
            test_mpi(MPI_Send(m.data, (int)m.length, MPI_BYTE, to, tag, w->comm), "MPI_Send");
        } else {
            test_mpi(MPI_Ssend(m.data, (int)m.length, MPI_BYTE, to, tag, w->comm), "MPI_Ssend");
        }
        free(m.data);
    }
    finish_receives(w, v->receives, v->in);
}

/* Blocking receives from anybody into a buffer for the longest. */
static void style_recv_any(struct world *w, struct window *v)
{
    MPI_Status status;

    start_sends(w, SEND_NORMAL, v->sends, v->out);
    for (int i = 0; i < PER_PAIR * w->size; i++) {
        struct message m = {.data = test_alloc(WILD_MAX)};

        test_mpi(MPI_Recv(m.data, WILD_MAX, MPI_BYTE, MPI_ANY_SOURCE, MPI_ANY_TAG, w->comm, &status), "MPI_Recv");
        take_message(w, &m, &status);
    }
    finish_sends(w, v->sends, v->out);
}

/* Asks for the size first: MPI_Probe and MPI_Recv, MPI_Mprobe and MPI_Mrecv in turn. */
static void receive_probed(struct world *w, bool matched)
{
    struct message m;
    MPI_Message handle = MPI_MESSAGE_NULL;
    MPI_Status status;
    int count;

    if (matched) {
        test_mpi(MPI_Mprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, w->comm, &handle, &status), "MPI_Mprobe");
    } else {
        test_mpi(MPI_Probe(MPI_ANY_SOURCE, MPI_ANY_TAG, w->comm, &status), "MPI_Probe");
    }
    test_mpi(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
    m.data = test_alloc((size_t)count);
    if (matched) {
        test_mpi(MPI_Mrecv(m.data, count, MPI_BYTE, &handle, &status), "MPI_Mrecv");
    } else {
        test_mpi(MPI_Recv(m.data, count, MPI_BYTE, status.MPI_SOURCE, status.MPI_TAG, w->comm, &status), "MPI_Recv");
    }
    take_message(w, &m, &status);
}

static void style_probe(struct world *w, struct window *v)
{
    start_sends(w, SEND_NORMAL, v->sends, v->out);
    for (int i = 0; i < PER_PAIR * w->size; i++) {
        receive_probed(w, 0 != i % 2);
    }
    finish_sends(w, v->sends, v->out);
}

/* Everything is sent before anybody posts a receive: the messages wait in the unexpected queue meanwhile. */
static void style_unexpected(struct world *w, struct window *v)
{
    start_sends(w, SEND_NORMAL, v->sends, v->out);
    test_mpi(MPI_Barrier(w->collect), "MPI_Barrier");
    for (int i = 0; i < PER_PAIR * w->size; i++) {
        receive_probed(w, false);
    }
    finish_sends(w, v->sends, v->out);
}

static void style_sendrecv(struct world *w, struct window *v)
{
    (void)v;
    for (int i = 0; i < PER_PAIR * w->size; i++) {
        int tag, to = (w->rank + i) % w->size, from = (w->rank + PER_PAIR * w->size - i) % w->size;
        struct message out = make_message(w, to, &tag), in = {.peer = from};
        MPI_Status status;

        in.length = room_for(w, from, w->received[from]);
        in.data = test_alloc((size_t)in.length);
        test_mpi(MPI_Sendrecv(out.data, (int)out.length, MPI_BYTE, to, tag, in.data, (int)in.length, MPI_BYTE, from,
                              MPI_ANY_TAG, w->comm, &status),
                 "MPI_Sendrecv");
        free(out.data);
        take_message(w, &in, &status);
    }
}

/* A type that picks `bytes` bytes out of memory with gaps, and the size of that memory. */
static MPI_Datatype gap_type(long bytes, size_t *extent)
{
    long blocks = bytes / VECTOR_BLOCK, rest = bytes % VECTOR_BLOCK;
    int lengths[2] = {1, (int)rest};
    MPI_Aint places[2] = {0, blocks * VECTOR_STRIDE};
    MPI_Datatype parts[2] = {MPI_DATATYPE_NULL, MPI_BYTE}, type;

    test_mpi(MPI_Type_vector((int)blocks, VECTOR_BLOCK, VECTOR_STRIDE, MPI_BYTE, &parts[0]), "MPI_Type_vector");
    test_mpi(MPI_Type_create_struct(2, lengths, places, parts, &type), "MPI_Type_create_struct");
    test_mpi(MPI_Type_commit(&type), "MPI_Type_commit");
    test_mpi(MPI_Type_free(&parts[0]), "MPI_Type_free");
    *extent = (size_t)(blocks * VECTOR_STRIDE + rest);
    return type;
}

/* Copies between contiguous and gapped memory by hand, so that MPI's own packing is what is tested. */
static void gap_copy(char *gapped, char *plain, long bytes, bool to_gapped)
{
    for (long i = 0; i < bytes; i += VECTOR_BLOCK) {
        size_t n = (size_t)(bytes - i < VECTOR_BLOCK ? bytes - i : VECTOR_BLOCK);
        char *place = gapped + i / VECTOR_BLOCK * VECTOR_STRIDE;

        if (to_gapped) {
            memcpy(place, plain + i, n);
        } else {
            memcpy(plain + i, place, n);
        }
    }
}

/* Sent with gaps to the ranks above, received with gaps from the ranks below, else contiguous. */
static void style_derived(struct world *w, struct window *v)
{
    post_receives(w, false, v->receives, v->in);
    for (int i = 0; i < PER_PAIR * w->size; i++) {
        int tag, to = (w->rank + i) % w->size;
        size_t extent;
        struct message m = make_message(w, to, &tag);
        MPI_Datatype type = gap_type(m.length, &extent);
        char *gapped = test_alloc(extent);

        gap_copy(gapped, m.data, m.length, true);
        free(m.data);
        v->out[i] = (struct message){.peer = to, .length = m.length, .data = gapped};
        test_mpi(MPI_Isend(gapped, 1, type, to, tag, w->comm, &v->sends[i]), "MPI_Isend of a derived type");
        test_mpi(MPI_Type_free(&type), "MPI_Type_free");
    }
    finish_receives(w, v->receives, v->in);
    finish_sends(w, v->sends, v->out);
}

/* Contiguous on the sender's side, gapped on the receiver's. */
static void style_gapped_recv(struct world *w, struct window *v)
{
    start_sends(w, SEND_NORMAL, v->sends, v->out);
    for (int i = 0; i < PER_PAIR * w->size; i++) {
        int from = (w->rank + i) % w->size, elements;
        long length = length_of(w, from, w->rank, w->received[from]);
        size_t extent;
        MPI_Datatype type = gap_type(length, &extent);
        struct message m = {.peer = from, .length = length, .data = test_alloc((size_t)length)};
        char *gapped = test_alloc(extent);
        MPI_Status status;

        test_mpi(MPI_Recv(gapped, 1, type, from, MPI_ANY_TAG, w->comm, &status), "MPI_Recv of a derived type");
        test_mpi(MPI_Get_elements(&status, type, &elements), "MPI_Get_elements");
        m.length = elements;
        gap_copy(gapped, m.data, m.length, false);
        check_message(w, &m, &status);
        free(gapped);
        free(m.data);
        test_mpi(MPI_Type_free(&type), "MPI_Type_free");
    }
    finish_sends(w, v->sends, v->out);
}

static const struct style {
    const char *name;
    long longest;
    void (*run)(struct world *w, struct window *v);
} styles[] = {
    {"window", LENGTH_MAX, style_window},         {"any_source", WILD_MAX, style_any_source},
    {"blocking", LENGTH_MAX, style_blocking},     {"recv_any", WILD_MAX, style_recv_any},
    {"probe", LENGTH_MAX, style_probe},           {"sendrecv", LENGTH_MAX, style_sendrecv},
    {"issend", WILD_MAX, style_issend},           {"derived", LENGTH_MAX, style_derived},
    {"unexpected", LENGTH_MAX, style_unexpected}, {"gapped_recv", LENGTH_MAX, style_gapped_recv},
};

#define STYLES ((long)(sizeof(styles) / sizeof(styles[0])))

/* Each rank broadcasts in turn, one root per round. */
static void check_bcast(struct world *w)
{
    int root = (int)(w->round % w->size);
    uint64_t key = mix(seed ^ (uint64_t)w->round);
    long length = (long)(key % (0 == w->round % 5 ? 1L << 20 : 4096)), bad;
    char *data = test_alloc((size_t)length);
    uint64_t sum;

    if (root == w->rank) {
        fill_payload(data, length, key);
    }
    test_mpi(MPI_Bcast(data, (int)length, MPI_BYTE, root, w->collect), "MPI_Bcast");
    bad = check_payload(data, length, key, &sum);
    if (-1 != bad) {
        test_defect("MPI_Bcast of %ld bytes from %d: byte %ld is wrong (round %ld)", length, root, bad, w->round);
    }
    free(data);
}

/* Exchanges how many messages were sent; they have to be as many as came. */
static void check_alltoall(struct world *w)
{
    uint64_t *told = test_alloc((size_t)w->size * sizeof(*told));

    test_mpi(MPI_Alltoall(w->sent, 1, MPI_UINT64_T, told, 1, MPI_UINT64_T, w->collect), "MPI_Alltoall");
    for (int i = 0; i < w->size; i++) {
        if (told[i] != w->received[i]) {
            test_defect("rank %d says it sent %" PRIu64 " messages, %" PRIu64 " came (round %ld)", i, told[i],
                        w->received[i], w->round);
        }
    }
    free(told);
}

/* A sum whose value every rank can work out. */
static void check_allreduce(struct world *w)
{
    int64_t mine[64], all[64];

    for (int i = 0; i < 64; i++) {
        mine[i] = (w->rank + 1) * (w->round + i);
    }
    test_mpi(MPI_Allreduce(mine, all, 64, MPI_INT64_T, MPI_SUM, w->collect), "MPI_Allreduce");
    for (int i = 0; i < 64; i++) {
        if (all[i] != (int64_t)w->size * (w->size + 1) / 2 * (w->round + i)) {
            test_defect("MPI_Allreduce: element %d is %" PRId64 " (round %ld)", i, all[i], w->round);
        }
    }
}

/*
 * A round leaves nothing behind. To be called when all ranks have taken their messages and before the last collective
 * of the round: nobody can have begun the next one, so whatever is here is one too many.
 */
static void check_nothing_left(struct world *w)
{
    MPI_Status status;
    int flag;

    test_mpi(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, w->comm, &flag, &status), "MPI_Iprobe");
    if (flag) {
        test_defect("doubled: a message from %d with tag %d too many (round %ld)", status.MPI_SOURCE, status.MPI_TAG,
                    w->round);
    }
}

static void on_stall(int number)
{
    (void)number;
    if (write(STDERR_FILENO, stall_text, strlen(stall_text)) < 0) {
        _exit(TEST_DEFECT + 1);
    }
    _exit(TEST_DEFECT);
}

/* A lost message shows as a round that does not end: the alarm names it and ends the job. */
static void guard_round(const struct world *w, const char *style, long seconds)
{
    snprintf(stall_text, sizeof(stall_text), "DEFECT: rank %d: round %ld (%s) does not end: a message is lost\n",
             w->rank, w->round, style);
    alarm((unsigned)seconds);
}

static void run_round(struct world *w, struct window *v, const struct options *o)
{
    const struct style *style = &styles[w->round % STYLES];
    char head[80];

    guard_round(w, style->name, o->stall);
    w->longest = style->longest;
    style->run(w, v);
    check_bcast(w);
    check_allreduce(w);
    check_nothing_left(w);
    check_alltoall(w);
    if (0 != o->report && 0 == (w->round + 1) % o->report) {
        snprintf(head, sizeof(head), "allpairs: round %ld (%s)", w->round + 1, style->name);
        test_print_places(w->collect, head);
    }
    w->round++;
}

/* Rank 0 decides; every style is run at least once. */
static bool another_round(const struct world *w, const struct options *o, double start)
{
    int more = 0;

    if (0 == w->rank) {
        more = w->round < STYLES || MPI_Wtime() - start < (double)o->seconds || test_exists(o->brake);
    }
    test_mpi(MPI_Bcast(&more, 1, MPI_INT, 0, w->collect), "MPI_Bcast of the decision");
    return 0 != more;
}

static void print_totals(const struct world *w)
{
    uint64_t mine[8] = {w->messages, w->bytes}, all[8];

    memcpy(mine + 2, w->classes, sizeof(w->classes));
    test_mpi(MPI_Reduce(mine, all, 8, MPI_UINT64_T, MPI_SUM, 0, w->collect), "MPI_Reduce of the totals");
    if (0 == w->rank) {
        printf("allpairs: sizes");
        for (int i = 0; i < 6; i++) {
            printf(" %s:%" PRIu64, class_names[i], all[2 + i]);
        }
        printf("\nallpairs: ok rounds=%ld messages=%" PRIu64 " bytes=%" PRIu64 "\n", w->round, all[0], all[1]);
        fflush(stdout);
    }
}

static void usage(void)
{
    fprintf(stderr, "usage: allpairs [--seconds S] [--report K] [--seed N] [--stall-seconds S] [--brake FILE]\n"
                    "  --brake FILE  go on as long as this file exists, also after the seconds are over\n");
    exit(TEST_USAGE);
}

static struct options parse(int argc, char **argv)
{
    static const struct option names[] = {{"seconds", 1, NULL, 's'}, {"report", 1, NULL, 'p'},
                                          {"seed", 1, NULL, 'd'},    {"stall-seconds", 1, NULL, 't'},
                                          {"brake", 1, NULL, 'b'},   {NULL, 0, NULL, 0}};
    struct options o = {.seconds = 5, .report = 20, .stall = 120, .seed = 1};
    int c;

    while (-1 != (c = getopt_long(argc, argv, "", names, NULL))) {
        switch (c) {
        case 's': o.seconds = test_number("seconds", optarg, 0, 1000000); break;
        case 'p': o.report = test_number("report", optarg, 0, 1000000000); break;
        case 'd': o.seed = test_number("seed", optarg, 0, 1000000000); break;
        case 't': o.stall = test_number("stall-seconds", optarg, 1, 100000); break;
        case 'b': o.brake = optarg; break;
        default: usage();
        }
    }
    if (optind != argc) {
        usage();
    }
    return o;
}

static void world_init(struct world *w)
{
    memset(w, 0, sizeof(*w));
    test_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &w->comm), "MPI_Comm_dup");
    test_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &w->collect), "MPI_Comm_dup");
    /* Errors come back to us, so that they are reported with what they mean here. */
    test_mpi(MPI_Comm_set_errhandler(w->comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    test_mpi(MPI_Comm_set_errhandler(w->collect, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    MPI_Comm_rank(w->comm, &w->rank);
    MPI_Comm_size(w->comm, &w->size);
    w->sent = test_alloc((size_t)w->size * sizeof(*w->sent));
    w->received = test_alloc((size_t)w->size * sizeof(*w->received));
    memset(w->sent, 0, (size_t)w->size * sizeof(*w->sent));
    memset(w->received, 0, (size_t)w->size * sizeof(*w->received));
}

static void world_free(struct world *w)
{
    free(w->received);
    free(w->sent);
    test_mpi(MPI_Comm_free(&w->collect), "MPI_Comm_free");
    test_mpi(MPI_Comm_free(&w->comm), "MPI_Comm_free");
}

int main(int argc, char **argv)
{
    struct options o;
    struct world w;
    struct window v;
    size_t places;
    double start;

    test_mpi(MPI_Init(&argc, &argv), "MPI_Init");
    o = parse(argc, argv);
    seed = mix((uint64_t)o.seed);
    world_init(&w);
    if (SIG_ERR == signal(SIGALRM, on_stall)) {
        test_defect("signal: %s", strerror(errno));
    }
    places = (size_t)(PER_PAIR * w.size);
    v = (struct window){.sends = test_alloc(places * sizeof(MPI_Request)),
                        .receives = test_alloc(places * sizeof(MPI_Request)),
                        .out = test_alloc(places * sizeof(struct message)),
                        .in = test_alloc(places * sizeof(struct message))};
    start = MPI_Wtime();
    while (another_round(&w, &o, start)) {
        run_round(&w, &v, &o);
    }
    alarm(0);
    print_totals(&w);
    free(v.in);
    free(v.out);
    free(v.receives);
    free(v.sends);
    world_free(&w);
    test_mpi(MPI_Finalize(), "MPI_Finalize");
    return 0;
}
