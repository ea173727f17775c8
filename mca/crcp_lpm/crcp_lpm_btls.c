/*
 * btl/tcp and btl/vader as one: their modules in one table, their connections as channels. The modules of tcp come
 * first; vader's, when the rank uses it, is the last.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include <stdlib.h>
#include <string.h>

#include "ompi/constants.h"
#include "opal/mca/btl/base/base.h"

int crcp_lpm_btls_init(const char **why)
{
    mca_btl_base_component_t *tcp = NULL, *vader = NULL;
    mca_btl_base_selected_module_t *selected;
    int rc;

    OPAL_LIST_FOREACH(selected, &mca_btl_base_modules_initialized, mca_btl_base_selected_module_t) {
        const char *name = selected->btl_component->btl_version.mca_component_name;

        if (0 == strcmp("tcp", name)) {
            tcp = selected->btl_component;
        } else if (0 == strcmp("vader", name)) {
            vader = selected->btl_component;
        } else if (0 != strcmp("self", name)) {
            *why = "a BTL other than self, vader and tcp is in use (start the job with --mca btl self,vader,tcp, or "
                   "leave btl unset)";
            return OMPI_ERR_NOT_SUPPORTED;
        }
    }
    if (NULL == tcp) {
        *why = "btl/tcp is not in use (start the job with --mca btl self,vader,tcp, or leave btl unset)";
        return OMPI_ERR_NOT_SUPPORTED;
    }
    if (OMPI_SUCCESS != (rc = crcp_lpm_tcp_init(tcp, why))) {
        return rc;
    }
    return (NULL == vader) ? OMPI_SUCCESS : crcp_lpm_vader_init(vader, why);
}

unsigned crcp_lpm_btls_count(void)
{
    return crcp_lpm_tcp_num_modules() + (NULL == crcp_lpm_vader_module() ? 0 : 1);
}

mca_btl_base_module_t *crcp_lpm_btls_module(unsigned index)
{
    return (index < crcp_lpm_tcp_num_modules()) ? crcp_lpm_tcp_module(index) : crcp_lpm_vader_module();
}

bool crcp_lpm_channel_is_vader(const crcp_lpm_channel_t *channel)
{
    return channel->module == crcp_lpm_tcp_num_modules();
}

const char *crcp_lpm_channel_btl(const crcp_lpm_channel_t *channel)
{
    return crcp_lpm_channel_is_vader(channel) ? "vader" : "tcp";
}

bool crcp_lpm_channel_active(const crcp_lpm_channel_t *channel)
{
    return crcp_lpm_channel_is_vader(channel) || crcp_lpm_tcp_active(channel->endpoint);
}

bool crcp_lpm_channel_empty(const crcp_lpm_channel_t *channel)
{
    return crcp_lpm_channel_is_vader(channel) ? crcp_lpm_vader_empty(channel->endpoint)
                                              : crcp_lpm_tcp_empty(channel->endpoint);
}

size_t crcp_lpm_channel_queued(const crcp_lpm_channel_t *channel)
{
    return crcp_lpm_channel_is_vader(channel) ? crcp_lpm_vader_queued(channel->endpoint)
                                              : crcp_lpm_tcp_queued(channel->endpoint);
}

void crcp_lpm_channel_describe(const crcp_lpm_channel_t *channel, char *text, size_t size)
{
    if (crcp_lpm_channel_is_vader(channel)) {
        crcp_lpm_vader_describe(channel->endpoint, text, size);
    } else {
        crcp_lpm_tcp_describe(channel->endpoint, text, size);
    }
}

typedef struct {
    crcp_lpm_channel_fn_t fn;
    void *arg;
} call_t;

static void tcp_channel(crcp_lpm_endpoint_t *endpoint, unsigned module, void *arg)
{
    const call_t *call = arg;
    crcp_lpm_channel_t channel = {.endpoint = endpoint, .module = module, .peer = crcp_lpm_tcp_peer(endpoint)};

    call->fn(&channel, call->arg);
}

static void vader_channels(const call_t *call)
{
    mca_btl_base_module_t *btl = crcp_lpm_vader_module();
    size_t count = 0;
    ompi_proc_t **procs = (NULL == btl) ? NULL : ompi_proc_get_allocated(&count);

    for (size_t i = 0; NULL != procs && i < count; ++i) {
        crcp_lpm_channel_t channel = {.module = crcp_lpm_tcp_num_modules(), .peer = procs[i]->super.proc_name};

        if (NULL != (channel.endpoint = crcp_lpm_bml_endpoint(procs[i], btl))) {
            call->fn(&channel, call->arg);
        }
    }
    free(procs);
}

void crcp_lpm_btls_foreach_tcp(crcp_lpm_channel_fn_t fn, void *arg)
{
    call_t call = {fn, arg};

    crcp_lpm_tcp_foreach(tcp_channel, &call);
}

void crcp_lpm_btls_foreach_vader(crcp_lpm_channel_fn_t fn, void *arg)
{
    call_t call = {fn, arg};

    vader_channels(&call);
}
