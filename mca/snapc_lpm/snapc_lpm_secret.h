/*
 * The secret that both ends of one migration share.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef SNAPC_LPM_SECRET_H
#define SNAPC_LPM_SECRET_H

/** 32 random bytes as text. */
#define SNAPC_LPM_SECRET_TEXT 65

/** Make one, with the kernel's generator. @return ORTE_SUCCESS or ORTE_ERROR. Any thread. */
int snapc_lpm_secret(char text[SNAPC_LPM_SECRET_TEXT]);

#endif /* SNAPC_LPM_SECRET_H */
