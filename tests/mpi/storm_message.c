/*
 * Messages of the storm: numbered by pair and channel, every byte known to the receiver, defects told apart.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 *
 * A message that comes in place of another is not judged at once: whether one is missing, was overtaken, or came
 * twice shows in the ones that follow. So the pair is a suspect for some messages; the alarm ends the waiting.
 */
#include "storm.h"
#include "pattern.h"

#define MAGIC   UINT64_C(0x6c706d2073746f72)
#define NEAR    8  /* a message is recognised as a neighbour within this distance */
#define FENCE   64 /* bytes behind a message that must not be written */
#define UNTAKEN ((char)0xa5)
#define NOBODY  UINT64_MAX

struct header {
    uint64_t magic, channel, seq, length, sum;
    int32_t from, to, tag, round;
    uint64_t check; /* of all before */
};

static int suspects; /* pairs with mismatches */
static const char *const defect_names[] = {"lost", "doubled", "reordered", "corrupted"};

void storm_defect(enum defect what, const char *format, ...)
{
    char text[800];
    va_list args;
    int counts[DEFECTS] = {0};

    counts[what] = 1;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    test_defect("%s: %s (kind %s, round %ld; lost=%d doubled=%d reordered=%d corrupted=%d)", defect_names[what], text,
                storm.kind, storm.round, counts[LOST], counts[DOUBLED], counts[REORDERED], counts[CORRUPTED]);
}

/* ---------------------------------------------------------------------- contents */

/* The number that stands for one message; all else about it is derived from this. */
static uint64_t key_of(const struct channel *c, int from, int to, uint64_t seq)
{
    return mix(storm.seed ^ mix(c->id ^ mix(((uint64_t)from << 52) ^ ((uint64_t)to << 36) ^ (seq + 1))));
}

static long mixed_length(uint64_t select, uint64_t r)
{
    switch (select % 128) {
    case 0 ... 15: return 0;
    case 16 ... 31: return 1 + (long)(r % (sizeof(struct header) - 1));
    case 32 ... 79: return (long)(r % 4097);
    case 80 ... 103: return (long)(r % 65537);
    case 104 ... 110: return 65536 - 128 + (long)(r % 256); /* where btl/tcp goes over from eager to rendezvous */
    case 111 ... 117: return 4096 - 128 + (long)(r % 256);  /* where btl/vader does */
    case 118 ... 126: return 64 * KIB + (long)(r % (512 * KIB));
    default: return 0 == r % 8 ? LONGEST : (long)(r % (2 * MIB));
    }
}

static long length_of(const struct channel *c, int from, int to, uint64_t seq, enum sizes sizes)
{
    uint64_t key = mix(key_of(c, from, to, seq) ^ 1), r = mix(key);
    long length = 0;

    switch (sizes) {
    case SIZES_MIX: length = mixed_length(key, r); break;
    case SIZES_ZERO: length = 0; break;
    case SIZES_EAGER: length = (long)(r % 4097); break;
    case SIZES_RNDV: length = 64 * KIB + (long)(r % (MIB - 64 * KIB + 1)); break;
    case SIZES_PIPELINE:
        length = 0 == key % 16 ? LONGEST : 128 * KIB + 1 + (long)(r % (0 == key % 4 ? 8 * MIB : 2 * MIB));
        break;
    case SIZES_MIDDLE:
        length = mixed_length(key, r);
        length = length > MIB ? MIB : length;
        break;
    case SIZES_SMALL: length = (long)(r % 257); break;
    case SIZES_FIXED: length = 4 * KIB + (long)(mix(seq ^ c->id) % (60 * KIB)); break;
    }
    return length < c->longest ? length : c->longest;
}

static int class_of(long length)
{
    static const long limits[] = {0, (long)sizeof(struct header) - 1, 4 * KIB, 64 * KIB, 128 * KIB, MIB, LONGEST - 1};

    for (int i = 0; i < 7; i++) {
        if (length <= limits[i]) {
            return i;
        }
    }
    return 7;
}

/* Where the payload of a message of this length begins: short ones have no header. */
static long payload_at(long length)
{
    return length < (long)sizeof(struct header) ? 0 : (long)sizeof(struct header);
}

static uint64_t header_check(const struct header *h)
{
    return test_hash(TEST_HASH_START, h, offsetof(struct header, check));
}

/* ---------------------------------------------------------------------- sending */

/* The number of the next message; this is where a swap, a loss and a doubling are injected. */
static uint64_t next_number(struct channel *c, int to)
{
    static const struct pair *swapped;
    struct pair *p = &c->pairs[to];
    bool here = storm.round > 2 && storm.rank == storm.size - 1 && to != c->rank && p->sent > 0;
    uint64_t seq = p->sent++;

    if (p == swapped) {
        swapped = NULL;
        return seq - 1;
    }
    if (!here || INJECT_NOTHING == storm.inject) {
        return seq;
    }
    switch (storm.inject) {
    case INJECT_SWAP:
        swapped = p;
        seq++;
        break;
    case INJECT_DROP:
        p->sent++;
        seq++;
        break;
    case INJECT_DOUBLE:
        p->sent--;
        seq--;
        break;
    default: return seq;
    }
    storm.inject = INJECT_NOTHING;
    return seq;
}

static void flip_byte(struct message *m)
{
    if (INJECT_FLIP == storm.inject && storm.round > 2 && storm.rank == storm.size - 1 && m->length > 0 &&
        m->peer != m->channel->rank) {
        m->data[m->length / 2] ^= 0x10;
        storm.inject = INJECT_NOTHING;
    }
}

void message_make(struct message *m, struct channel *c, int to, enum sizes sizes)
{
    uint64_t seq = next_number(c, to), key = key_of(c, c->name, c->pairs[to].name, seq), sum;
    long start;

    *m = (struct message){.channel = c, .peer = to, .tag = (int)(seq % TAGS), .seq = seq, .sizes = sizes};
    m->length = m->room = length_of(c, c->name, c->pairs[to].name, seq, sizes);
    m->data = test_alloc((size_t)m->length);
    start = payload_at(m->length);
    sum = fill_payload(m->data + start, m->length - start, key);
    if (0 != start) {
        struct header h = {.magic = MAGIC,
                           .channel = c->id,
                           .seq = seq,
                           .length = (uint64_t)m->length,
                           .sum = sum,
                           .from = c->name,
                           .to = c->pairs[to].name,
                           .tag = m->tag,
                           .round = (int32_t)storm.round};
        h.check = header_check(&h);
        memcpy(m->data, &h, sizeof(h));
    }
    flip_byte(m);
}

void message_done(struct message *m)
{
    free(m->data);
    m->data = NULL;
}

/* ---------------------------------------------------------------------- receiving */

/* Gives an expected message its number, and all that follows from it. */
static void number_message(struct message *m)
{
    struct pair *p = &m->channel->pairs[m->peer];

    m->seq = p->expected++;
    m->tag = (int)(m->seq % TAGS);
    m->length = length_of(m->channel, p->name, m->channel->name, m->seq, m->sizes);
}

/* Room, and a fence behind the message: what comes has to end where it should. */
static void provide_room(struct message *m)
{
    long fence = m->room - m->length < FENCE ? m->room - m->length : FENCE;

    m->data = test_alloc((size_t)m->room);
    memset(m->data + m->length, UNTAKEN, (size_t)fence);
}

void message_expect(struct message *m, struct channel *c, int from, enum sizes sizes)
{
    uint64_t first;

    *m = (struct message){.channel = c, .peer = from, .sizes = sizes};
    number_message(m);
    /* Room for the neighbours, so that one of them that comes in its place is named, not truncated. */
    first = m->seq < NEAR ? 0 : m->seq - NEAR;
    for (uint64_t i = first; i <= m->seq + NEAR; i++) {
        long length = length_of(c, c->pairs[from].name, c->name, i, sizes);

        m->room = length > m->room ? length : m->room;
    }
    provide_room(m);
}

void message_expect_any(struct message *m, struct channel *c, enum sizes sizes)
{
    *m = (struct message){.channel = c, .peer = -1, .sizes = sizes, .room = c->longest, .length = c->longest};
    provide_room(m);
}

void message_probed(struct message *m, struct channel *c, enum sizes sizes, const MPI_Status *status)
{
    int count;

    test_mpi(MPI_Get_count(status, MPI_BYTE, &count), "MPI_Get_count");
    *m = (struct message){.channel = c, .peer = -1, .sizes = sizes, .room = count, .length = count};
    provide_room(m);
}

/* The header of a received message, when it has one; ends the job when that is not a message of this pair. */
static bool read_header(const struct message *m, long length, struct header *h)
{
    const struct channel *c = m->channel;
    int from = c->pairs[m->peer].name;

    if (length < (long)sizeof(*h)) {
        return false;
    }
    memcpy(h, m->data, sizeof(*h));
    if (MAGIC != h->magic || header_check(h) != h->check) {
        storm_defect(CORRUPTED,
                     "pair %d -> %d, channel %" PRIx64 ": message %" PRIu64 " of %ld bytes has no good header", from,
                     c->name, c->id, m->seq, length);
    }
    if (from != h->from || c->name != h->to || c->id != h->channel) {
        storm_defect(CORRUPTED,
                     "misdelivered: message %" PRIu64 " of pair %d -> %d, channel %" PRIx64
                     " came to pair %d -> %d, channel %" PRIx64,
                     h->seq, h->from, h->to, h->channel, from, c->name, c->id);
    }
    return true;
}

static bool payload_fits(const struct message *m, long length, uint64_t seq)
{
    uint64_t sum;
    int from = m->channel->pairs[m->peer].name;

    return length_of(m->channel, from, m->channel->name, seq, m->sizes) == length &&
           -1 == check_payload(m->data, length, key_of(m->channel, from, m->channel->name, seq), &sum);
}

/* Which message a short one without header is: the one its tag names, or a neighbour whose bytes it has. */
static uint64_t recognise(const struct message *m, int tag, long length)
{
    int distance = (tag - m->tag + TAGS) % TAGS;
    uint64_t named = m->seq + (uint64_t)(distance > TAGS / 2 ? distance - TAGS : distance);

    if (payload_fits(m, length, named)) {
        return named;
    }
    for (uint64_t i = m->seq < NEAR ? 0 : m->seq - NEAR; length >= 8 && i <= m->seq + NEAR; i++) {
        if (payload_fits(m, length, i)) {
            return i;
        }
    }
    return NOBODY;
}

/* Remembers that another message came in place of the expected one. */
static void note_mismatch(const struct message *m, uint64_t found)
{
    struct pair *p = &m->channel->pairs[m->peer];
    char text[400];

    if (0 == p->mismatches) {
        suspects++;
        snprintf(text, sizeof(text),
                 "lost: pair %d -> %d, channel %" PRIx64 ": message %" PRIu64 " came in place of %" PRIu64
                 ", and then nothing (kind %s, round %ld; lost=1)",
                 p->name, m->channel->name, m->channel->id, found, m->seq, storm.kind, storm.round);
        storm_suspect(text);
    }
    if (p->mismatches < MISMATCHES) {
        p->wanted[p->mismatches] = m->seq;
        p->found[p->mismatches++] = found;
    }
    if (MISMATCHES == p->mismatches) {
        message_judge();
    }
}

static bool among(const uint64_t *list, int count, uint64_t value)
{
    for (int i = 0; i < count; i++) {
        if (list[i] == value) {
            return true;
        }
    }
    return false;
}

static uint64_t largest(const uint64_t *list, int count)
{
    uint64_t value = list[0];

    for (int i = 1; i < count; i++) {
        value = list[i] > value ? list[i] : value;
    }
    return value;
}

static void judge_pair(const struct channel *c, const struct pair *p)
{
    uint64_t wanted = largest(p->wanted, p->mismatches), found = largest(p->found, p->mismatches);
    enum defect what = REORDERED;
    uint64_t which = p->found[0];

    for (int i = p->mismatches - 1; i >= 0; i--) {
        /* It is not waited for, so it has come before; or it has come again just now. */
        if (among(p->found, i, p->found[i]) ||
            (p->found[i] < wanted && !among(p->wanted, p->mismatches, p->found[i]))) {
            what = DOUBLED;
            which = p->found[i];
        } else if (DOUBLED != what && p->wanted[i] < found && !among(p->found, p->mismatches, p->wanted[i])) {
            what = LOST;
            which = p->wanted[i];
        }
    }
    storm_defect(
        what, "pair %d -> %d, channel %" PRIx64 ": message %" PRIu64 "; first, %" PRIu64 " came in place of %" PRIu64,
        p->name, c->name, c->id, which, p->found[0], p->wanted[0]);
}

void message_judge(void)
{
    const struct channel *c;
    int index = 0;

    while (0 != suspects && NULL != (c = channel_next(&index))) {
        for (int i = 0; i < c->peers; i++) {
            if (0 != c->pairs[i].mismatches) {
                judge_pair(c, &c->pairs[i]);
            }
        }
    }
}

/* Every byte, the checksum, the tag, the length and the fence of a message whose number is right or at least known. */
static void check_contents(const struct message *m, uint64_t seq, const struct header *h, int tag, long length)
{
    const struct channel *c = m->channel;
    int from = c->pairs[m->peer].name;
    long start = payload_at(length), expected = length_of(c, from, c->name, seq, m->sizes), bad;
    uint64_t sum;

    if (length != expected || tag != (int)(seq % TAGS)) {
        storm_defect(CORRUPTED,
                     "pair %d -> %d, channel %" PRIx64 ": message %" PRIu64 " has tag %d and %ld bytes, not tag %d and "
                     "%ld bytes",
                     from, c->name, c->id, seq, tag, length, (int)(seq % TAGS), expected);
    }
    bad = check_payload(m->data + start, length - start, key_of(c, from, c->name, seq), &sum);
    if (-1 != bad || (NULL != h && sum != h->sum)) {
        storm_defect(CORRUPTED,
                     "pair %d -> %d, channel %" PRIx64 ": message %" PRIu64 " of %ld bytes: payload byte %ld, checksum "
                     "%" PRIx64 ", sent with %" PRIx64,
                     from, c->name, c->id, seq, length, bad, sum, NULL != h ? h->sum : 0);
    }
    for (long i = length; seq == m->seq && i < m->room && i < length + FENCE; i++) {
        if (UNTAKEN != m->data[i] && m->length == length) {
            storm_defect(CORRUPTED, "pair %d -> %d: message %" PRIu64 " of %ld bytes: byte %ld behind it was written",
                         from, c->name, seq, length, i - length);
        }
    }
}

void message_take_bytes(struct message *m, const MPI_Status *status, long length)
{
    struct header h;
    bool headed;
    uint64_t seq;

    if (-1 == m->peer) {
        m->peer = status->MPI_SOURCE;
        m->room = length; /* there is no fence */
        number_message(m);
    }
    headed = read_header(m, length, &h);
    seq = headed ? h.seq : recognise(m, status->MPI_TAG, length);
    if (NOBODY == seq) {
        storm_defect(CORRUPTED,
                     "pair %d -> %d, channel %" PRIx64 ": message of %ld bytes, tag %d, in place of %" PRIu64
                     " (%ld bytes, tag %d) is none of its neighbours",
                     m->channel->pairs[m->peer].name, m->channel->name, m->channel->id, length, status->MPI_TAG, m->seq,
                     m->length, m->tag);
    }
    check_contents(m, seq, headed ? &h : NULL, status->MPI_TAG, length);
    if (seq != m->seq) {
        note_mismatch(m, seq);
    } else if (0 != m->channel->pairs[m->peer].mismatches) {
        message_judge();
    }
    storm.messages++;
    storm.bytes += (uint64_t)length;
    storm.classes[class_of(length)]++;
    message_done(m);
}

void message_take(struct message *m, const MPI_Status *status)
{
    int count;

    test_mpi(MPI_Get_count(status, MPI_BYTE, &count), "MPI_Get_count");
    message_take_bytes(m, status, count);
}
