/*
 * Bytes as hexadecimal text, the form in which binary data of Open MPI travels inside a message.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_hex.h"

#include <stdlib.h>
#include <string.h>

static const char digits[] = "0123456789abcdef";

static int value_of(char digit)
{
    if ('0' <= digit && '9' >= digit) {
        return digit - '0';
    }
    if ('a' <= digit && 'f' >= digit) {
        return digit - 'a' + 10;
    }
    if ('A' <= digit && 'F' >= digit) {
        return digit - 'A' + 10;
    }
    return -1;
}

char *lpm_hex_encode(const void *bytes, size_t size)
{
    const unsigned char *from = bytes;
    char *text = malloc(2 * size + 1);

    if (NULL == text) {
        return NULL;
    }
    for (size_t i = 0; i < size; ++i) {
        text[2 * i] = digits[from[i] >> 4];
        text[2 * i + 1] = digits[from[i] & 15];
    }
    text[2 * size] = '\0';
    return text;
}

int lpm_hex_decode(const char *text, unsigned char **bytes, size_t *size)
{
    size_t length = (NULL == text) ? 1 : strlen(text);
    unsigned char *to;

    if (0 != length % 2 || NULL == (to = malloc(length / 2 + 1))) {
        return -1;
    }
    for (size_t i = 0; i < length / 2; ++i) {
        int high = value_of(text[2 * i]), low = value_of(text[2 * i + 1]);

        if (0 > high || 0 > low) {
            free(to);
            return -1;
        }
        to[i] = (unsigned char)(high << 4 | low);
    }
    *bytes = to;
    *size = length / 2;
    return 0;
}
