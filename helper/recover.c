/*
 * The helper that puts right what one has left that was killed: a rank without its memory.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <limits.h>
#include <stdlib.h>

#include "helper.h"
#include "holder.h"
#include "lpm_msg.h"
#include "util_proc.h"

/* Its CRIU, if there was one, is gone as well: it has let the rank go, into the stop that it came from. */

static void nothing_to_do(void *self, const char *op, const json_t *msg)
{
    (void)self;
    (void)op;
    (void)msg;
}

static void nothing_to_undo(void *self)
{
    (void)self; /* what is done cannot be undone, and is right by itself */
}

void *recover_new(helper_t *h, const json_t *msg, helper_role_t *role)
{
    int64_t pid, holder;
    holder_t held = {.pidfd = -1, .stopped = true};

    *role = (helper_role_t){nothing_to_do, nothing_to_undo, free, NULL};
    if (0 != lpm_msg_int(msg, "pid", 2, INT_MAX, &pid) || 0 != lpm_msg_int(msg, "holder", 2, INT_MAX, &holder) ||
        0 != pages_ranges_parse(json_object_get(msg, "ranges"), &held.ranges)) {
        helper_fail(h, "recover", "\"pid\", \"holder\" or \"ranges\" is missing or out of range");
        return malloc(1);
    }
    held.pid = (pid_t)holder;
    held.pidfd = util_pidfd_open(held.pid);
    if (0 == holder_give_back(&held, (pid_t)pid)) {
        helper_last_word(h, json_pack("{s:s}", "event", "thawed"), 0);
    } else {
        helper_fail(h, "recover", "the rank has lost its memory and was killed: the process that held it is gone");
    }
    holder_leave(&held);
    return malloc(1);
}
