/*
 * Bytes as hexadecimal text, the form in which binary data of Open MPI travels inside a message.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_HEX_H
#define LPM_HEX_H

#include <stddef.h>

/** @return the text, to be freed; NULL when out of memory. Any thread. */
char *lpm_hex_encode(const void *bytes, size_t size);

/**
 * @param text   hexadecimal digits, an even number of them; NULL is refused.
 * @param bytes  to be freed; set on success only, as is @p size (number of bytes).
 * @return 0, or -1 (not such a text, or out of memory). Any thread.
 */
int lpm_hex_decode(const char *text, unsigned char **bytes, size_t *size);

#endif /* LPM_HEX_H */
