/*
 * Reading the fields of a control message, and building the common ones.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_MSG_H
#define LPM_MSG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/** Version of the control protocol, in every request of a tool as "lpm". */
#define LPM_PROTOCOL_VERSION 1
/** Name of the control socket inside mpirun's session directory. */
#define LPM_CONTROL_SOCKET "lpm.sock"

/** Text of a string member, borrowed from the message; NULL when missing or not a string. */
const char *lpm_msg_str(const json_t *msg, const char *key);

/**
 * Integer member within [min, max].
 * @return 0 and *out set, or -1 (missing, not an integer, out of range) with *out untouched.
 */
int lpm_msg_int(const json_t *msg, const char *key, int64_t min, int64_t max, int64_t *out);

/** true when the member is there and is JSON true. */
bool lpm_msg_true(const json_t *msg, const char *key);

/**
 * The one form in which an error travels: {"event":"error","code":…,"phase":…,"message":…,"remedy":…}.
 * @param phase, remedy may be NULL (then left out). @return a new reference, or NULL when out of memory.
 */
json_t *lpm_msg_error(const char *code, const char *phase, const char *message, const char *remedy);

#endif /* LPM_MSG_H */
