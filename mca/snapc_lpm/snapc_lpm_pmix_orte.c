/*
 * PMIx as ORTE uses it: registering and deregistering a rank with the daemon's server.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "opal/mca/pmix/pmix.h"
#include "opal/util/argv.h"
#include "orte/constants.h"

/* "nodata" makes the server take the new count and leave all else of the namespace as it is. */
static int set_local_count(orte_job_t *job)
{
    opal_list_t info;
    opal_value_t *value = OBJ_NEW(opal_value_t);
    int rc;

    if (NULL == value) {
        return ORTE_ERR_OUT_OF_RESOURCE;
    }
    OBJ_CONSTRUCT(&info, opal_list_t);
    value->key = strdup("pmix.reg.nodata");
    value->type = OPAL_BOOL;
    value->data.flag = true;
    opal_list_append(&info, &value->super);
    rc = opal_pmix.server_register_nspace(job->jobid, job->num_local_procs, &info, NULL, NULL);
    OPAL_LIST_DESTRUCT(&info);
    return (OPAL_SUCCESS == rc || OPAL_OPERATION_SUCCEEDED == rc) ? ORTE_SUCCESS : rc;
}

int snapc_lpm_pmix_register(const orte_process_name_t *name)
{
    orte_job_t *job = orte_get_job_data_object(name->jobid);
    orte_proc_t *proc = (NULL == job) ? NULL : opal_pointer_array_get_item(job->procs, name->vpid);
    int rc;

    if (NULL == proc) {
        return ORTE_ERR_NOT_FOUND;
    }
    rc = opal_pmix.server_register_client(&proc->name, geteuid(), getegid(), proc, NULL, NULL);
    if (OPAL_SUCCESS != rc && OPAL_OPERATION_SUCCEEDED != rc) {
        return rc;
    }
    return set_local_count(job);
}

int snapc_lpm_pmix_deregister(const orte_process_name_t *name)
{
    orte_job_t *job = orte_get_job_data_object(name->jobid);
    orte_process_name_t client = *name;

    if (NULL == job) {
        return ORTE_ERR_NOT_FOUND;
    }
    opal_pmix.server_deregister_client(&client, NULL, NULL);
    return set_local_count(job);
}

char *snapc_lpm_pmix_uri(const orte_process_name_t *name)
{
    static const char variable[] = "PMIX_SERVER_URI41=";
    orte_process_name_t client = *name;
    char **env = NULL, *uri = NULL;

    if (OPAL_SUCCESS == opal_pmix.server_setup_fork(&client, &env)) {
        for (int i = 0; NULL != env && NULL != env[i]; ++i) {
            if (0 == strncmp(env[i], variable, sizeof(variable) - 1)) {
                uri = strdup(env[i] + sizeof(variable) - 1);
            }
        }
    }
    opal_argv_free(env);
    return uri;
}
