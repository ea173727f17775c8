/*
 * What the parts of the storm share: its state, channels, messages that prove their order, and windows of messages.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The LPM authors
 */
#ifndef LPM_TESTS_MPI_STORM_H
#define LPM_TESTS_MPI_STORM_H

#include "common.h"

#define KIB         1024L
#define MIB         (1024L * KIB)
#define LONGEST     (10 * MIB)
#define WILD_MAX    (256 * KIB) /* longest message where the receiver cannot know its sender beforehand */
#define WINDOW_MAX  64          /* messages of a rank in one window */
#define TAGS        16384       /* the tag of a message is its number modulo this */
#define TAG_NEVER   (TAGS + 7)  /* nobody sends with this one */
#define MISMATCHES  4           /* so many messages of a pair are looked at before its defect gets its name */
#define WILD_COMMS  8
#define CHECK_EVERY 16 /* rounds */

/* ------------------------------------------------------------------ channels and messages (storm_channel.c,
 * storm_message.c) */

/** What lengths the messages of a window have; all of them follow from the message's number. */
enum sizes {
    SIZES_MIX,      /* mostly short, often near the limits of protocols, now and then some MiB */
    SIZES_ZERO,     /* 0 */
    SIZES_EAGER,    /* up to 4 KiB */
    SIZES_RNDV,     /* 64 KiB to 1 MiB */
    SIZES_PIPELINE, /* 128 KiB to 10 MiB */
    SIZES_MIDDLE,   /* up to 1 MiB */
    SIZES_SMALL,    /* up to 256 bytes */
    SIZES_FIXED,    /* from 4 to 64 KiB, but the same for all of one number */
};

/** One direction of a pair on a channel, or both: what was sent to a peer, and what has to come from it. */
struct pair {
    int name; /* of the peer, in messages: its rank in the world */
    uint64_t sent, expected;
    int mismatches; /* messages that came in place of others, since the first of them */
    uint64_t wanted[MISMATCHES], found[MISMATCHES];
};

/** A communicator on which every message is numbered, by pair. */
struct channel {
    MPI_Comm comm;
    uint64_t id; /* the same on all ranks of the channel, and on no other channel */
    int rank;    /* in the communicator */
    int peers;   /* ranks to talk to: those of the communicator, or the remote ones of an intercommunicator */
    int name;    /* of this rank, in messages */
    bool inter;
    bool open_ended; /* messages stay under way beyond a round */
    long longest;
    struct pair *pairs;
};

struct message {
    struct channel *channel;
    int peer; /* -1: not known yet */
    int tag;
    uint64_t seq;
    enum sizes sizes;
    long length, room;
    char *data;
};

/** Takes the communicator over. Names of peers are ranks in MPI_COMM_WORLD, or `foreign` + rank where there is none. */
struct channel *channel_open(MPI_Comm comm, uint64_t id, long longest);

/** Collective over the channel: nothing may be left in it. Frees the communicator, too. */
void channel_close(struct channel *c);

/** A message beyond those that had to come ends the job. Only when all peers have received what was sent. */
void channel_expect_empty(struct channel *c);

/** Goes through the open channels; NULL after the last one. The index begins with 0. */
struct channel *channel_next(int *index);

/** The next message for a peer, filled; its data is to be freed after the send (message_done). */
void message_make(struct message *m, struct channel *c, int to, enum sizes sizes);

/** The next message from a peer: its number, tag, length, and memory with room for its neighbours. */
void message_expect(struct message *m, struct channel *c, int from, enum sizes sizes);

/** A message from anybody: as long as the longest of the channel. */
void message_expect_any(struct message *m, struct channel *c, enum sizes sizes);

/** A message whose sender and length were probed. */
void message_probed(struct message *m, struct channel *c, enum sizes sizes, const MPI_Status *status);

/** Checks a message that was received as `length` bytes, and frees its data. */
void message_take_bytes(struct message *m, const MPI_Status *status, long length);

/** The same with the length from the status. */
void message_take(struct message *m, const MPI_Status *status);

void message_done(struct message *m);

/** Names the defect of pairs in which messages came in place of others, if there are any. To be called in between. */
void message_judge(void);

/** Ends the job with a defect; counts it as one of these. */
enum defect { LOST, DOUBLED, REORDERED, CORRUPTED, DEFECTS };
__attribute__((format(printf, 2, 3), noreturn)) void storm_defect(enum defect what, const char *format, ...);

/* ------------------------------------------------------------------ windows (storm_window.c) */

enum mode { MODE_STANDARD, MODE_BUFFERED, MODE_SYNC, MODE_READY };

/** A number of messages that each rank of a channel sends and receives; who to whom is known to all. */
struct window {
    struct channel *channel;
    enum sizes sizes;
    bool any;  /* receives were posted for anybody */
    int count; /* of messages to send */
    int incoming;
    int to[WINDOW_MAX], from[WINDOW_MAX];
    MPI_Request sends[WINDOW_MAX], receives[WINDOW_MAX];
    struct message out[WINDOW_MAX], in[WINDOW_MAX];
};

/** Draws the pairs: up to `most` messages per rank. The generator's state has to be the same on all ranks. */
void window_plan(struct window *w, struct channel *c, enum sizes sizes, uint64_t *random, int most);

void window_post(struct window *w);     /* Irecv from the senders known */
void window_post_any(struct window *w); /* Irecv from anybody */
void window_send(struct window *w, enum mode mode);
void window_take(struct window *w, MPI_Status *statuses); /* all have been received */
void window_finish_receives(struct window *w);
void window_finish_sends(struct window *w);

/** All of it: a window with posted receives and standard sends. */
void window_exchange(struct channel *c, enum sizes sizes, uint64_t *random, int most);

/** Waits for requests; an error of one of them is a defect that is named. */
void storm_waitall(int count, MPI_Request *requests, MPI_Status *statuses, const char *what);

/* ------------------------------------------------------------------ collectives (storm_coll.c) */

#define COLL_OPERATIONS 17

/** One collective operation with its memory; by number, as in coll_kinds. */
struct coll;

struct coll *coll_begin(MPI_Comm comm, int operation, uint64_t salt, MPI_Request *request); /* NULL: blocks */
void coll_end(struct coll *x);                                                              /* checks and frees */

/** The element that a rank contributes. */
int64_t coll_value(uint64_t salt, int rank, long index);

/* ------------------------------------------------------------------ kinds of traffic */

enum need { NEED_NOTHING, NEED_SPAWN, NEED_ONESIDED, NEED_IO };

struct kind {
    const char *name; /* NULL ends a table */
    void (*run)(int argument);
    int argument;
    enum need need;
};

extern const struct kind p2p_kinds[];   /* storm_p2p.c: modes, sizes, wildcards, ways to wait */
extern const struct kind match_kinds[]; /* storm_match.c: probes, late and early receives, cancel, flood */
extern const struct kind type_kinds[];  /* storm_types.c: derived datatypes */
extern const struct kind coll_kinds[];  /* storm_coll.c */
extern const struct kind neighbour_kinds[];
extern const struct kind comm_kinds[];
extern const struct kind onesided_kinds[];
extern const struct kind other_kinds[]; /* storm_other.c: a spawned job, files */

void match_finish(void); /* completes what is under way beyond a round */
void neighbour_start(void);
void neighbour_finish(void);
void comm_finish(void);
void onesided_start(void);
void onesided_finish(void);
void io_start(const char *dir);
void io_finish(void);
void spawn_start(char **argv);
void spawn_finish(void);
bool spawn_is_child(void);
void spawn_child(void); /* the whole life of a spawned rank after MPI_Init */

/* ------------------------------------------------------------------ the state (storm.c) */

enum injection { INJECT_NOTHING, INJECT_FLIP, INJECT_SWAP, INJECT_DROP, INJECT_DOUBLE, INJECT_RESULT, INJECT_STALL };

struct storm {
    int rank, size;
    uint64_t seed;
    long round;
    uint64_t random; /* the round's generator: the same draws on all ranks */
    const char *kind, *step;
    struct channel *active; /* the one whose state a stall shows */
    MPI_Comm collect;       /* collectives, one at a time */
    MPI_Comm overlap;       /* non-blocking collectives */
    struct channel *plain, *ack, *late, *early, *self, *flood[2], *wild[WILD_COMMS];
    int wild_used, flood_used;
    enum injection inject; /* not done yet */
    uint64_t messages, bytes, classes[8];
};

extern struct storm storm;

/** The command line (storm_options.c). */
struct options {
    long seconds, rounds, report, stall, seed, compute;
    const char *brake, *io, *only, *except;
    bool spawn, onesided, list;
    int thread;
    enum injection inject;
};

extern struct options options;

void options_parse(int argc, char **argv);

/** All ranks are here, and have received what was sent in earlier rounds. */
void storm_sync(void);

/** A channel for messages from anybody, with nothing under way from rounds before. */
struct channel *storm_wild(void);

/** Sets the alarm for a round that does not end, or for a message that came in place of another. */
void storm_guard(void);

void storm_alarm_start(void);

/** Prepares what the alarm says when nothing else comes of a mismatch. */
void storm_suspect(const char *text);

/** Mixes 64 bits (the finaliser of splitmix64). */
static inline uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/** The next number of a generator (splitmix64), below `limit`. */
static inline long draw(uint64_t *state, long limit)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    return (long)(mix(*state) % (uint64_t)limit);
}

#endif
