/*
 * Reading the fields of a control message, and building the common ones.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lpm_msg.h"

const char *lpm_msg_str(const json_t *msg, const char *key)
{
    return json_string_value(json_object_get(msg, key));
}

int lpm_msg_int(const json_t *msg, const char *key, int64_t min, int64_t max, int64_t *out)
{
    const json_t *member = json_object_get(msg, key);

    if (!json_is_integer(member)) {
        return -1;
    }
    int64_t value = json_integer_value(member);
    if (value < min || value > max) {
        return -1;
    }
    *out = value;
    return 0;
}

bool lpm_msg_true(const json_t *msg, const char *key)
{
    return json_is_true(json_object_get(msg, key));
}

json_t *lpm_msg_error(const char *code, const char *phase, const char *message, const char *remedy)
{
    /* "s*" leaves a member out when its string is NULL */
    return json_pack("{s:s, s:s, s:s*, s:s, s:s*}", "event", "error", "code", code, "phase", phase, "message", message,
                     "remedy", remedy);
}
