/*
 * Inside of the image stream: what its source and target halves share.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef IMAGE_STREAM_INT_H
#define IMAGE_STREAM_INT_H

#include <gnutls/crypto.h>
#include <stdbool.h>

#include "image_stream.h"

#define FRAME_HEAD_BYTES 24
#define PIECE_BYTES      (128 * 1024) /* the target works on one while the source makes the next */
#define BUFFER_BYTES     (PIECE_BYTES + 1024)

typedef enum { FRAME_BEGIN = 1, FRAME_FILE = 2, FRAME_END = 3, FRAME_ACK = 4 } frame_type_t;

typedef struct {
    uint8_t type, name_len;
    uint32_t count;
    uint64_t number, size;
} frame_head_t;

typedef enum {
    ST_HELLO,   /* waiting for the other side's hello */
    ST_PROOF,   /* waiting for its proof */
    ST_OPEN,    /* source: nothing to do yet; target: waiting for BEGIN */
    ST_FILE,    /* target: waiting for a frame; source: about to start a file, or END */
    ST_CONTENT, /* within a file */
    ST_MAC,     /* target: waiting for a file's HMAC */
    ST_ACK,     /* source: all is sent */
    ST_DONE,
    ST_FAILED
} stream_state_t;

struct image_stream {
    image_role_t role;
    stream_state_t state;
    int fd;
    struct event *rd, *wr;
    struct timeval stall;
    image_stream_conf_t conf;
    image_stream_cbs_t cbs;
    void *arg;
    uint8_t hello[2][IMAGE_HELLO_BYTES]; /* source's, target's */
    uint8_t session_key[IMAGE_KEY_BYTES];
    gnutls_hmac_hd_t mac; /* NULL before the handshake is over */
    uint8_t *in, *out;
    size_t in_len, out_len, out_pos;
    image_summary_t plan, seen; /* announced, and so far */
    double since;               /* util_now_ms() of the first frame */
    int file_fd;                /* the file under way, or -1 */
    uint64_t left;              /* of its content */
    char name[IMAGE_NAME_MAX + 1];
    char **names; /* source: what to send */
    size_t n_names;
};

/*
 * Steps return 1 to go on, 0 when more input (or room) is needed, -1 when the stream has ended. After -1 the stream
 * may have been freed by its owner: do not touch it.
 */

/** End the stream with an error; always -1. */
int image_stream_fail(image_stream_t *st, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** End the stream well; always -1. */
int image_stream_done(image_stream_t *st);

/** Wait for input with or without the time limit. */
int image_stream_watch_input(image_stream_t *st, bool limited);

/** Something is in the output buffer (or can be): write when the socket takes it. */
int image_stream_want_output(image_stream_t *st);

/** Append to the output buffer, which has room for it. */
void image_stream_put(image_stream_t *st, const void *p, size_t n);

/** Append a frame head with its name, and begin its HMAC. */
int image_stream_put_head(image_stream_t *st, const frame_head_t *head, const char *name);

/** Append the HMAC of the frame. */
void image_stream_put_mac(image_stream_t *st);

/** Read a head; -1 when it has no meaning. */
int image_frame_parse(const uint8_t *p, frame_head_t *head);

/** Drop bytes from the front of the input. */
void image_stream_eat(image_stream_t *st, size_t n);

/** The frame's HMAC is the next thing in the input: take it, and compare. */
bool image_stream_mac_matches(image_stream_t *st);

/** Source: put the next piece into the empty output buffer. */
int image_send_step(image_stream_t *st);

/** Source: input after the handshake. */
int image_send_input(image_stream_t *st);

/** Target: input after the handshake. */
int image_recv_input(image_stream_t *st);

#endif /* IMAGE_STREAM_INT_H */
