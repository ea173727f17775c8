/*
 * The secret that both ends of one migration share.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "snapc_lpm_secret.h"

#include "orte/constants.h"

int snapc_lpm_secret(char text[SNAPC_LPM_SECRET_TEXT])
{
    unsigned char bytes[(SNAPC_LPM_SECRET_TEXT - 1) / 2];

    if (sizeof(bytes) != getrandom(bytes, sizeof(bytes), 0)) {
        return ORTE_ERROR;
    }
    for (size_t i = 0; i < sizeof(bytes); ++i) {
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }
    explicit_bzero(bytes, sizeof(bytes));
    return ORTE_SUCCESS;
}
