/*
 * Who is at the other end of an image stream: keys and proofs.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "image_auth.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>

/* hello: magic (8), version (1), role (1), channel (1), zero (5), nonce (32) */
#define MAGIC_BYTES 8
#define AT_VERSION  8
#define AT_ROLE     9
#define AT_CHANNEL  10
#define AT_ZERO     11
#define AT_NONCE    16
#define LABEL_BYTES 16

static const uint8_t magic[MAGIC_BYTES] = {'L', 'P', 'M', 'i', 'm', 'a', 'g', 'e'};

static int nibble(char c)
{
    if ('0' <= c && '9' >= c) {
        return c - '0';
    }
    if ('a' <= c && 'f' >= c) {
        return c - 'a' + 10;
    }
    return 'A' <= c && 'F' >= c ? c - 'A' + 10 : -1;
}

int image_auth_key(const char *hex, uint8_t key[IMAGE_KEY_BYTES])
{
    uint8_t out[IMAGE_KEY_BYTES];

    if (NULL == hex || 2 * IMAGE_KEY_BYTES != strlen(hex)) {
        return -1;
    }
    for (size_t i = 0; i < IMAGE_KEY_BYTES; i++) {
        int hi = nibble(hex[2 * i]), lo = nibble(hex[2 * i + 1]);

        if (0 > hi || 0 > lo) {
            return -1;
        }
        out[i] = (uint8_t)(hi * 16 + lo);
    }
    memcpy(key, out, sizeof(out));
    image_auth_wipe(out, sizeof(out));
    return 0;
}

int image_auth_hello(image_role_t role, image_channel_t channel, uint8_t hello[IMAGE_HELLO_BYTES])
{
    memset(hello, 0, IMAGE_HELLO_BYTES);
    memcpy(hello, magic, sizeof(magic));
    hello[AT_VERSION] = IMAGE_STREAM_VERSION;
    hello[AT_ROLE] = (uint8_t)role;
    hello[AT_CHANNEL] = (uint8_t)channel;
    return 0 == gnutls_rnd(GNUTLS_RND_NONCE, hello + AT_NONCE, IMAGE_HELLO_BYTES - AT_NONCE) ? 0 : -1;
}

image_channel_t image_auth_channel(const uint8_t hello[IMAGE_HELLO_BYTES])
{
    return hello[AT_CHANNEL];
}

static bool channels_match(image_channel_t one, image_channel_t other)
{
    return IMAGE_CHANNEL_IMAGES == one || IMAGE_CHANNEL_IMAGES == other
               ? one == other
               : (IMAGE_CHANNEL_PAGES == one) != (IMAGE_CHANNEL_PAGES == other) && IMAGE_CHANNEL_BULK >= other;
}

const char *image_auth_check_hello(image_role_t role, image_channel_t mine, const uint8_t hello[IMAGE_HELLO_BYTES])
{
    if (0 != memcmp(hello, magic, sizeof(magic))) {
        return "the other side is no lpm-helper";
    }
    if (IMAGE_STREAM_VERSION != hello[AT_VERSION]) {
        return "the other side's lpm-helper speaks another version of the image stream";
    }
    if (hello[AT_ROLE] != (uint8_t)role) {
        return "the other side has the wrong role";
    }
    if (!channels_match(mine, image_auth_channel(hello))) {
        return "the other side wants another channel";
    }
    for (size_t i = AT_ZERO; i < AT_NONCE; i++) {
        if (0 != hello[i]) {
            return "the other side's hello is malformed";
        }
    }
    return NULL;
}

static int labelled(const uint8_t key[IMAGE_KEY_BYTES], const char *label, const uint8_t *source_hello,
                    const uint8_t *target_hello, uint8_t out[IMAGE_MAC_BYTES])
{
    uint8_t text[LABEL_BYTES + 2 * IMAGE_HELLO_BYTES] = {0};

    memcpy(text, label, strlen(label)); /* labels are shorter than LABEL_BYTES */
    memcpy(text + LABEL_BYTES, source_hello, IMAGE_HELLO_BYTES);
    memcpy(text + LABEL_BYTES + IMAGE_HELLO_BYTES, target_hello, IMAGE_HELLO_BYTES);
    return 0 == gnutls_hmac_fast(GNUTLS_MAC_SHA256, key, IMAGE_KEY_BYTES, text, sizeof(text), out) ? 0 : -1;
}

int image_auth_proof(const uint8_t key[IMAGE_KEY_BYTES], image_role_t role, const uint8_t *source_hello,
                     const uint8_t *target_hello, uint8_t proof[IMAGE_MAC_BYTES])
{
    return labelled(key, IMAGE_SOURCE == role ? "proof source" : "proof target", source_hello, target_hello, proof);
}

int image_auth_session_key(const uint8_t key[IMAGE_KEY_BYTES], const uint8_t *source_hello, const uint8_t *target_hello,
                           uint8_t session[IMAGE_KEY_BYTES])
{
    return labelled(key, "session key", source_hello, target_hello, session);
}

bool image_auth_equal(const uint8_t *a, const uint8_t *b, size_t n)
{
    return 0 == gnutls_memcmp(a, b, n);
}

void image_auth_wipe(void *p, size_t n)
{
    gnutls_memset(p, 0, n);
}
