/*
 * Where a moved rank listens now, for endpoints that are made after the move.
 *
 * The modex of a job is written once; a later local store does not override it. So lookups go through an overlay.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lpm_hex.h"

#include "ompi/constants.h"
#include "opal/mca/pmix/pmix.h"
#include "opal/util/proc.h"

typedef struct {
    opal_list_item_t super;
    opal_process_name_t name;
    char *key;
    void *bytes;
    size_t size;
} overlay_t;

static void overlay_construct(overlay_t *entry)
{
    entry->key = NULL;
    entry->bytes = NULL;
    entry->size = 0;
}

static void overlay_destruct(overlay_t *entry)
{
    free(entry->key);
    free(entry->bytes);
}

static OBJ_CLASS_INSTANCE(overlay_t, opal_list_item_t, overlay_construct, overlay_destruct);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static opal_list_t overlays;
static opal_pmix_base_module_get_fn_t modex_get;

static overlay_t *find(const opal_process_name_t *name, const char *key)
{
    overlay_t *entry;

    OPAL_LIST_FOREACH(entry, &overlays, overlay_t) {
        if (entry->name.jobid == name->jobid && entry->name.vpid == name->vpid && 0 == strcmp(entry->key, key)) {
            return entry;
        }
    }
    return NULL;
}

static int overlay_get(const opal_process_name_t *name, const char *key, opal_list_t *info, opal_value_t **value)
{
    overlay_t *entry;
    opal_value_t *answer = NULL;

    if (NULL != name && NULL != key) {
        pthread_mutex_lock(&lock);
        if (NULL != (entry = find(name, key)) && NULL != (answer = OBJ_NEW(opal_value_t))) {
            answer->key = strdup(key);
            answer->type = OPAL_BYTE_OBJECT;
            answer->data.bo.size = (int32_t)entry->size;
            answer->data.bo.bytes = malloc(entry->size);
            if (NULL == answer->key || NULL == answer->data.bo.bytes) {
                OBJ_RELEASE(answer);
                pthread_mutex_unlock(&lock);
                return OPAL_ERR_OUT_OF_RESOURCE;
            }
            memcpy(answer->data.bo.bytes, entry->bytes, entry->size);
        }
        pthread_mutex_unlock(&lock);
    }
    if (NULL != answer) {
        *value = answer;
        return OPAL_SUCCESS;
    }
    return modex_get(name, key, info, value);
}

int crcp_lpm_modex_init(void)
{
    if (NULL == opal_pmix.get) {
        return OMPI_ERR_NOT_SUPPORTED;
    }
    OBJ_CONSTRUCT(&overlays, opal_list_t);
    modex_get = opal_pmix.get;
    opal_pmix.get = overlay_get;
    return OMPI_SUCCESS;
}

int crcp_lpm_modex_set(const opal_process_name_t *name, const char *key, const void *bytes, size_t size)
{
    overlay_t *entry = OBJ_NEW(overlay_t), *old;

    if (NULL == entry || NULL == (entry->key = strdup(key)) || NULL == (entry->bytes = malloc(size))) {
        if (NULL != entry) {
            OBJ_RELEASE(entry);
        }
        return OMPI_ERR_OUT_OF_RESOURCE;
    }
    memcpy(entry->bytes, bytes, size);
    entry->size = size;
    entry->name = *name;
    pthread_mutex_lock(&lock);
    if (NULL != (old = find(name, key))) {
        opal_list_remove_item(&overlays, &old->super);
        OBJ_RELEASE(old);
    }
    opal_list_append(&overlays, &entry->super);
    pthread_mutex_unlock(&lock);
    return OMPI_SUCCESS;
}

int crcp_lpm_modex_set_hex(const opal_process_name_t *name, const char *key, const char *text)
{
    unsigned char *bytes;
    size_t size;
    int rc;

    if (0 != lpm_hex_decode(text, &bytes, &size)) {
        return OMPI_ERR_BAD_PARAM;
    }
    rc = crcp_lpm_modex_set(name, key, bytes, size);
    free(bytes);
    return rc;
}

void crcp_lpm_modex_finalize(void)
{
    if (NULL == modex_get) {
        return;
    }
    opal_pmix.get = modex_get;
    modex_get = NULL;
    OPAL_LIST_DESTRUCT(&overlays);
}
