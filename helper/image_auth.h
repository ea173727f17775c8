/*
 * Who is at the other end of an image stream: keys and proofs.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef IMAGE_AUTH_H
#define IMAGE_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Both sides say hello with a fresh random nonce. The source proves first that it knows the secret, then the target:
 * HMAC-SHA256(secret, label of the prover | source's hello | target's hello). The label keeps one side's proof from
 * being sent back to it. The key of everything that follows is derived from both hellos, so nothing of one connection
 * can be replayed in another.
 */

#define IMAGE_KEY_BYTES      32
#define IMAGE_MAC_BYTES      32
#define IMAGE_HELLO_BYTES    48
#define IMAGE_STREAM_VERSION 1

typedef enum { IMAGE_SOURCE = 1, IMAGE_TARGET = 2 } image_role_t;

/** What a connection is for. A target that listens for the page channel takes both of its connections. */
typedef enum {
    IMAGE_CHANNEL_IMAGES = 0,
    IMAGE_CHANNEL_PAGES = 1,
    IMAGE_CHANNEL_URGENT = 2,
    IMAGE_CHANNEL_BULK = 3
} image_channel_t;

/** 64 hexadecimal digits to a key. @return 0, or -1 and @p key untouched. */
int image_auth_key(const char *hex, uint8_t key[IMAGE_KEY_BYTES]);

/** Write our hello, with a new nonce. @return 0, or -1 when there is no randomness. */
int image_auth_hello(image_role_t role, image_channel_t channel, uint8_t hello[IMAGE_HELLO_BYTES]);

/** Is this a hello of the given role, of our version, for the same channel? @return NULL, or what is wrong with it. */
const char *image_auth_check_hello(image_role_t role, image_channel_t mine, const uint8_t hello[IMAGE_HELLO_BYTES]);

/** What the other side wants, of a hello that has been checked. */
image_channel_t image_auth_channel(const uint8_t hello[IMAGE_HELLO_BYTES]);

/** The proof of @p role. @return 0 or -1. */
int image_auth_proof(const uint8_t key[IMAGE_KEY_BYTES], image_role_t role, const uint8_t *source_hello,
                     const uint8_t *target_hello, uint8_t proof[IMAGE_MAC_BYTES]);

/** The key of the connection. @return 0 or -1. */
int image_auth_session_key(const uint8_t key[IMAGE_KEY_BYTES], const uint8_t *source_hello, const uint8_t *target_hello,
                           uint8_t session[IMAGE_KEY_BYTES]);

/** Comparison that takes as long for any difference. */
bool image_auth_equal(const uint8_t *a, const uint8_t *b, size_t n);

/** Overwrite a key. */
void image_auth_wipe(void *p, size_t n);

#endif /* IMAGE_AUTH_H */
