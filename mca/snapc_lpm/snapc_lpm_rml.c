/*
 * Messages between mpirun and the daemons: JSON text over ORTE's own channel.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "snapc_lpm.h"

#include <stdlib.h>
#include <string.h>

#include "lpm_msg.h"

#include "opal/dss/dss.h"
#include "opal/util/output.h"
#include "orte/constants.h"
#include "orte/mca/errmgr/errmgr.h"
#include "orte/mca/rml/rml.h"
#include "orte/mca/snapc/base/base.h"
#include "orte/util/name_fns.h"

static snapc_lpm_rml_fn_t to_global, to_local;

static void receive(int status, orte_process_name_t *sender, opal_buffer_t *buffer, orte_rml_tag_t tag, void *cbdata)
{
    char *text = NULL;
    int32_t count = 1;
    const char *to;
    json_t *message;
    snapc_lpm_rml_fn_t fn;

    (void)status;
    (void)tag;
    (void)cbdata;
    if (OPAL_SUCCESS != opal_dss.unpack(buffer, &text, &count, OPAL_STRING) || NULL == text) {
        return;
    }
    message = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    if (NULL == json_object_get(message, "secret")) { /* a log is no place for it */
        SNAPC_LPM_LOG(20, "%s lpm: from %s: %s", ORTE_NAME_PRINT(ORTE_PROC_MY_NAME), ORTE_NAME_PRINT(sender), text);
    }
    free(text);
    if (NULL == message || sender->jobid != ORTE_PROC_MY_NAME->jobid) { /* only daemons speak here */
        json_decref(message);
        return;
    }
    to = lpm_msg_str(message, "to");
    fn = (NULL != to && 0 == strcmp("global", to)) ? to_global : to_local;
    if (NULL != fn) {
        fn(sender->vpid, message);
    }
    json_decref(message);
}

void snapc_lpm_rml_start(snapc_lpm_rml_fn_t global, snapc_lpm_rml_fn_t local)
{
    to_global = global;
    to_local = local;
    orte_rml.recv_buffer_nb(ORTE_NAME_WILDCARD, SNAPC_LPM_RML_TAG, ORTE_RML_PERSISTENT, receive, NULL);
}

void snapc_lpm_rml_stop(void)
{
    orte_rml.recv_cancel(ORTE_NAME_WILDCARD, SNAPC_LPM_RML_TAG);
    to_global = to_local = NULL;
}

static int send_text(orte_vpid_t daemon, const char *text)
{
    orte_process_name_t name = {.jobid = ORTE_PROC_MY_NAME->jobid, .vpid = daemon};
    opal_buffer_t *buffer = OBJ_NEW(opal_buffer_t);
    int rc = ORTE_ERR_OUT_OF_RESOURCE;

    if (NULL == buffer || OPAL_SUCCESS != (rc = opal_dss.pack(buffer, &text, 1, OPAL_STRING))) {
        goto err_release;
    }
    if (0 > (rc = orte_rml.send_buffer_nb(orte_mgmt_conduit, &name, buffer, SNAPC_LPM_RML_TAG, orte_rml_send_callback,
                                          NULL))) {
        goto err_release;
    }
    return ORTE_SUCCESS;

err_release:
    ORTE_ERROR_LOG(rc);
    if (NULL != buffer) {
        OBJ_RELEASE(buffer);
    }
    return rc;
}

int snapc_lpm_rml_send(orte_vpid_t daemon, json_t *message)
{
    char *text = (NULL == message) ? NULL : json_dumps(message, JSON_COMPACT);
    int rc = (NULL == text) ? ORTE_ERR_OUT_OF_RESOURCE : send_text(daemon, text);

    free(text);
    json_decref(message);
    return rc;
}

int snapc_lpm_rml_report(json_t *message)
{
    if (NULL != message) {
        json_object_set_new(message, "to", json_string("global"));
    }
    return snapc_lpm_rml_send(ORTE_PROC_MY_HNP->vpid, message);
}

int snapc_lpm_rml_broadcast(json_t *message)
{
    orte_job_t *daemons = orte_get_job_data_object(ORTE_PROC_MY_NAME->jobid);
    char *text = (NULL == message) ? NULL : json_dumps(message, JSON_COMPACT);
    int sent = 0, rc = ORTE_SUCCESS;

    json_decref(message);
    if (NULL == text || NULL == daemons) {
        free(text);
        return ORTE_ERR_OUT_OF_RESOURCE;
    }
    for (int i = 0; i < daemons->procs->size && ORTE_SUCCESS == rc; ++i) {
        orte_proc_t *daemon = opal_pointer_array_get_item(daemons->procs, i);

        if (NULL != daemon) {
            rc = send_text(daemon->name.vpid, text);
            ++sent;
        }
    }
    free(text);
    return (ORTE_SUCCESS == rc) ? sent : rc;
}
