/*
 * Moving the files of a directory over one authenticated connection, on the event loop.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef IMAGE_STREAM_H
#define IMAGE_STREAM_H

#include <event2/event.h>
#include <stdint.h>
#include <sys/types.h>

#include "image_auth.h"

/*
 * Wire format, version 1; numbers are big-endian. After the handshake (image_auth.h) come frames:
 *
 *   type (1)  name length (1)  zero (2)  count (4)  number (8)  size (8)  name  content  HMAC (32)
 *
 *   BEGIN  source to target: count = files to come, number = process id, size = sum of their sizes
 *   FILE   count = 0, number = 0, 1, 2, ..., size = length of the content
 *   END    as BEGIN, with number 0
 *   ACK    target to source: as END; everything is written and verified
 *
 * The HMAC is over the whole frame before it. The sums of BEGIN bound what follows, so what is written to disk is
 * bounded by authenticated numbers even before a file's own HMAC has come.
 */

#define IMAGE_NAME_MAX  255
#define IMAGE_FILES_MAX 4096
#define IMAGE_SIZE_MAX  ((uint64_t)1 << 40)

typedef struct image_stream image_stream_t;

typedef struct {
    uint32_t files;
    uint64_t bytes;
    pid_t pid;
    double ms; /* from the first frame to the last */
} image_summary_t;

/** All on the event loop's thread. Any of them may free the stream. */
typedef struct {
    /** The other side knows the secret, and knows that we do. */
    void (*opened)(image_stream_t *st, void *arg);
    /** Target: all files are there and verified. Source: the target said so. Nothing is called after it. */
    void (*done)(image_stream_t *st, const image_summary_t *sum, void *arg);
    /** One line of text. Nothing is called after it. */
    void (*failed)(image_stream_t *st, const char *why, void *arg);
} image_stream_cbs_t;

/** What a stream needs to know from the start; copied. */
typedef struct {
    uint8_t key[IMAGE_KEY_BYTES];
    image_channel_t channel;
    int dir_fd;   /* where the files are or go to; borrowed, outlives the stream */
    int stall_ms; /* a transfer that makes no progress for so long has failed */
} image_stream_conf_t;

/**
 * Start the handshake on a connected stream socket.
 *
 * The handshake has no time limit of its own: whoever opens the connection frees a stream that takes too long.
 * An open connection may stay idle until the source starts to send.
 *
 * @param fd  made non-blocking; owned by the stream from success on.
 * @return NULL with errno set.
 */
image_stream_t *image_stream_new(struct event_base *base, int fd, image_role_t role, const image_stream_conf_t *conf,
                                 const image_stream_cbs_t *cbs, void *arg);

/** Give the stream to another owner. */
void image_stream_set_cbs(image_stream_t *st, const image_stream_cbs_t *cbs, void *arg);

/**
 * Source, once it is open: send every *.img of the directory; done() or failed() follows.
 * @param pid  process id that the images are of.
 * @return 0, or -1 with errno set when the directory cannot be read or is too large.
 */
int image_stream_send(image_stream_t *st, pid_t pid);

/** What the other side has connected for, once it is open. */
image_channel_t image_stream_channel(const image_stream_t *st);

/**
 * Use an open connection for something else: take its socket, made blocking, and its key; the stream is freed.
 * @return the socket, the caller's; -1 when the connection has broken
 */
int image_stream_take(image_stream_t *st, uint8_t session_key[IMAGE_KEY_BYTES]);

/** Close and free; an unfinished transfer fails at the other side. NULL is accepted. */
void image_stream_free(image_stream_t *st);

#endif /* IMAGE_STREAM_H */
