/*
 * Where ranks of other jobs are that have moved before this job was spawned. MPI_Init already talks to them; the
 * agent, through which later moves are told, is not there yet. The daemon puts it into the environment.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "allocator_lpm.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lpm_hex.h"
#include "lpm_moved.h"

#include "opal/constants.h"
#include "opal/mca/pmix/pmix.h"

/* What btl/tcp publishes is under the name of its component, with the version. */
static const char btl_tcp[] = "btl.tcp.";

static opal_pmix_base_module_get_fn_t modex_get;
static const char *moved; /* in the environment: JOB.RANK=HEX, one after the other, separated by spaces */

/* The hexadecimal text of this rank, which ends with a space or the end; NULL: it has not moved. */
static const char *find(const opal_process_name_t *name)
{
    char wanted[48];
    const char *at;
    int length = snprintf(wanted, sizeof(wanted), "%" PRIu32 ".%" PRIu32 "=", name->jobid, name->vpid);

    for (at = strstr(moved, wanted); NULL != at; at = strstr(at + 1, wanted)) {
        if (at == moved || ' ' == at[-1]) {
            return at + length;
        }
    }
    return NULL;
}

static int answer(const char *key, const char *text, opal_value_t **value)
{
    char *hex = strndup(text, strcspn(text, " "));
    opal_value_t *found = OBJ_NEW(opal_value_t);
    unsigned char *bytes;
    size_t size;

    if (NULL == hex || NULL == found || 0 != lpm_hex_decode(hex, &bytes, &size)) {
        free(hex);
        if (NULL != found) {
            OBJ_RELEASE(found);
        }
        return OPAL_ERR_OUT_OF_RESOURCE;
    }
    free(hex);
    found->key = strdup(key);
    found->type = OPAL_BYTE_OBJECT;
    found->data.bo.size = (int32_t)size;
    found->data.bo.bytes = bytes;
    *value = found;
    return OPAL_SUCCESS;
}

static int get(const opal_process_name_t *name, const char *key, opal_list_t *info, opal_value_t **value)
{
    const char *text = NULL;

    if (NULL != name && NULL != key && 0 == strncmp(key, btl_tcp, strlen(btl_tcp))) {
        text = find(name);
    }
    return (NULL == text) ? modex_get(name, key, info, value) : answer(key, text, value);
}

/* The framework closes this component again at once, and nobody puts the stock function back. */
static bool stay(void)
{
    Dl_info info;

    return 0 != dladdr((void *)(uintptr_t)get, &info) &&
           NULL != dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

void allocator_lpm_moved(void)
{
    const char *text = getenv(LPM_MOVED_RANKS);

    if (NULL == text || '\0' == text[0] || NULL == opal_pmix.get || NULL != modex_get || !stay()) {
        return;
    }
    moved = strdup(text);
    if (NULL != moved) {
        modex_get = opal_pmix.get;
        opal_pmix.get = get;
    }
}
