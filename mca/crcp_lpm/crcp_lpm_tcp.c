/*
 * The one file that knows the inside of btl/tcp: endpoints, listeners, published addresses.
 *
 * Built against the private headers of one Open MPI version; crcp_lpm_tcp_init() refuses any other.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crcp_lpm_component_of.h"
#include "lpm_hex.h"
#include "lpm_msg.h"

#include "btl_tcp.h"
#include "btl_tcp_addr.h"
#include "btl_tcp_endpoint.h"
#include "btl_tcp_frag.h"
#include "btl_tcp_proc.h"

#include "ompi/constants.h"
#include "opal/mca/btl/base/base.h"
#include "opal/mca/if/if.h"

static mca_btl_tcp_component_t *tcp;
static void (*endpoint_close)(mca_btl_base_endpoint_t *endpoint);
static char *modex_key;
static event_callback_fn accept_handler;
static struct event_base *accept_base;

/* ---- finding it, and checking that it is what we know ---- */

static const char *check_layout(void *object)
{
    void *module = dlsym(object, "mca_btl_tcp_module");

    if (!crcp_lpm_same_version(&tcp->super.btl_version)) {
        return "btl/tcp is of another Open MPI version than the one LPM was built for";
    }
    if (NULL == module || sizeof(*tcp) != crcp_lpm_symbol_size(tcp) ||
        sizeof(mca_btl_tcp_module_t) != crcp_lpm_symbol_size(module) ||
        !crcp_lpm_class_has_size(object, "mca_btl_tcp_endpoint_t_class", sizeof(mca_btl_tcp_endpoint_t)) ||
        !crcp_lpm_class_has_size(object, "mca_btl_tcp_frag_t_class", sizeof(mca_btl_tcp_frag_t))) {
        return "the data structures of btl/tcp differ from those LPM was built for";
    }
    return NULL;
}

int crcp_lpm_tcp_init(mca_btl_base_component_t *component, const char **why)
{
    void *object = crcp_lpm_object_of(component);

    if (NULL == object) {
        *why = "btl/tcp is loaded in a way LPM does not know";
        return OMPI_ERR_NOT_SUPPORTED;
    }
    tcp = (mca_btl_tcp_component_t *)component;
    *why = check_layout(object);
    endpoint_close = (void (*)(mca_btl_base_endpoint_t *))dlsym(object, "mca_btl_tcp_endpoint_close");
    if (NULL == *why && NULL == endpoint_close) {
        *why = "btl/tcp does not export what LPM needs";
    }
    if (NULL == *why && 0 != tcp->tcp_enable_progress_thread) {
        *why = "btl_tcp_progress_thread is on, which LPM does not support";
    }
    if (NULL != *why) {
        return OMPI_ERR_NOT_SUPPORTED;
    }
    modex_key = mca_base_component_to_string(&tcp->super.btl_version);
    return (NULL == modex_key) ? OMPI_ERR_OUT_OF_RESOURCE : OMPI_SUCCESS;
}

const char *crcp_lpm_tcp_modex_key(void)
{
    return modex_key;
}

/* ---- modules and endpoints ---- */

unsigned crcp_lpm_tcp_num_modules(void)
{
    return tcp->tcp_num_btls;
}

mca_btl_base_module_t *crcp_lpm_tcp_module(unsigned index)
{
    return &tcp->tcp_btls[index]->super;
}

void crcp_lpm_tcp_foreach(void (*fn)(crcp_lpm_endpoint_t *endpoint, unsigned module, void *arg), void *arg)
{
    opal_list_item_t *item, *next;

    for (unsigned i = 0; i < tcp->tcp_num_btls; ++i) {
        opal_list_t *endpoints = &tcp->tcp_btls[i]->tcp_endpoints;

        OPAL_LIST_FOREACH_SAFE(item, next, endpoints, opal_list_item_t) {
            fn((crcp_lpm_endpoint_t *)item, i, arg);
        }
    }
}

opal_process_name_t crcp_lpm_tcp_peer(const crcp_lpm_endpoint_t *endpoint)
{
    return endpoint->endpoint_proc->proc_opal->proc_name;
}

bool crcp_lpm_tcp_active(crcp_lpm_endpoint_t *endpoint)
{
    return MCA_BTL_TCP_CLOSED != endpoint->endpoint_state || 0 <= endpoint->endpoint_sd_next ||
           NULL != endpoint->endpoint_send_frag || 0 < opal_list_get_size(&endpoint->endpoint_frags);
}

bool crcp_lpm_tcp_empty(crcp_lpm_endpoint_t *endpoint)
{
    return NULL == endpoint->endpoint_send_frag && NULL == endpoint->endpoint_recv_frag &&
           0 == opal_list_get_size(&endpoint->endpoint_frags)
#if MCA_BTL_TCP_ENDPOINT_CACHE
           && 0 == endpoint->endpoint_cache_length
#endif
        ;
}

size_t crcp_lpm_tcp_queued(const crcp_lpm_endpoint_t *endpoint)
{
    return opal_list_get_size(&((mca_btl_base_endpoint_t *)endpoint)->endpoint_frags) +
           (NULL == endpoint->endpoint_send_frag ? 0 : 1);
}

void crcp_lpm_tcp_describe(crcp_lpm_endpoint_t *endpoint, char *text, size_t size)
{
    static const char *const states[] = {"connecting", "waiting for the handshake", "closed", "failed", "connected"};
    char address[INET6_ADDRSTRLEN] = "?";

    (void)inet_ntop(endpoint->endpoint_addr->addr_family, &endpoint->endpoint_addr->addr_inet, address,
                    sizeof(address));
    snprintf(text, size, "%s, peer %s port %u, socket %d, %s sending, %s receiving, %zu waiting",
             ((unsigned)endpoint->endpoint_state < sizeof(states) / sizeof(states[0]))
                 ? states[endpoint->endpoint_state]
                 : "?",
             address, ntohs(endpoint->endpoint_addr->addr_port), endpoint->endpoint_sd,
             (NULL == endpoint->endpoint_send_frag) ? "not" : "is",
             (NULL == endpoint->endpoint_recv_frag) ? "not" : "is", opal_list_get_size(&endpoint->endpoint_frags));
}

crcp_lpm_endpoint_t *crcp_lpm_tcp_receiver(const mca_btl_base_descriptor_t *descriptor)
{
    return ((const mca_btl_tcp_frag_t *)descriptor)->endpoint;
}

void crcp_lpm_tcp_deafen(crcp_lpm_endpoint_t *endpoint)
{
    (void)opal_event_del(&endpoint->endpoint_recv_event);
}

void crcp_lpm_tcp_undeafen(crcp_lpm_endpoint_t *endpoint)
{
    (void)opal_event_add(&endpoint->endpoint_recv_event, NULL);
}

void crcp_lpm_tcp_close(crcp_lpm_endpoint_t *endpoint)
{
    endpoint_close(endpoint);
    endpoint->endpoint_retries = 0;
}

bool crcp_lpm_tcp_handshakes_pending(void)
{
    return 0 < opal_list_get_size(&tcp->tcp_events);
}

/* ---- listening ---- */

static void unlisten(opal_event_t *event, int *sd)
{
    if (0 > *sd) {
        return;
    }
    accept_handler = event_get_callback(event);
    accept_base = event_get_base(event);
    (void)opal_event_del(event);
    (void)close(*sd);
    *sd = -1;
}

void crcp_lpm_tcp_unlisten(void)
{
    unlisten(&tcp->tcp_recv_event, &tcp->tcp_listen_sd);
#if OPAL_ENABLE_IPV6
    unlisten(&tcp->tcp6_recv_event, &tcp->tcp6_listen_sd);
#endif
}

static int bind_in_range(int sd, int family, int port_min, int port_range, in_port_t *port)
{
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } address;
    socklen_t length = (AF_INET == family) ? sizeof(address.in) : sizeof(address.in6);

    for (int offset = 0; offset < port_range; ++offset) {
        memset(&address, 0, sizeof(address));
        *port = htons((uint16_t)(port_min + offset));
        if (AF_INET == family) {
            address.in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = *port};
        } else {
            address.in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = *port};
        }
        if (0 == bind(sd, &address.sa, length) && 0 == listen(sd, SOMAXCONN)) {
            return OMPI_SUCCESS;
        }
        if (EADDRINUSE != errno && EACCES != errno) {
            break;
        }
    }
    return OMPI_ERROR;
}

static int listen_anew(int family, opal_event_t *event, int *listen_sd, unsigned short *listen_port, int port_min,
                       int port_range)
{
    in_port_t port = 0;
    int one = 1, sd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);

    if (0 > sd) {
        return OMPI_ERROR;
    }
    if (AF_INET6 == family && 0 != setsockopt(sd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one))) {
        goto err_close;
    }
    if (OMPI_SUCCESS != bind_in_range(sd, family, port_min, port_range, &port)) {
        goto err_close;
    }
    if (0 != event_assign(event, accept_base, sd, EV_READ | EV_PERSIST, accept_handler, NULL) ||
        0 != event_add(event, NULL)) {
        goto err_close;
    }
    *listen_sd = sd;
    *listen_port = port;
    return OMPI_SUCCESS;

err_close:
    (void)close(sd);
    return OMPI_ERROR;
}

static bool family_in_use(int family)
{
    opal_if_t *intf;

    OPAL_LIST_FOREACH(intf, &opal_if_list, opal_if_t) {
        if (family == intf->af_family) {
            return (AF_INET == family ? 4 : 6) != tcp->tcp_disable_family;
        }
    }
    return false;
}

static int relisten(void)
{
    int rc = OMPI_SUCCESS;

    if (0 > tcp->tcp_listen_sd && 4 != tcp->tcp_disable_family) {
        rc = listen_anew(AF_INET, &tcp->tcp_recv_event, &tcp->tcp_listen_sd, &tcp->tcp_listen_port, tcp->tcp_port_min,
                         tcp->tcp_port_range);
    }
#if OPAL_ENABLE_IPV6
    if (OMPI_SUCCESS == rc && 0 > tcp->tcp6_listen_sd && family_in_use(AF_INET6)) {
        rc = listen_anew(AF_INET6, &tcp->tcp6_recv_event, &tcp->tcp6_listen_sd, &tcp->tcp6_listen_port,
                         tcp->tcp6_port_min, tcp->tcp6_port_range);
    }
#endif
    return rc;
}

/* ---- addresses: the mover's ---- */

/* Does a module of the BTL use this kernel interface? */
static mca_btl_tcp_module_t *module_on(uint16_t kernel_index)
{
    for (unsigned i = 0; i < tcp->tcp_num_btls; ++i) {
        if (kernel_index == tcp->tcp_btls[i]->tcp_ifkindex) {
            return tcp->tcp_btls[i];
        }
    }
    return NULL;
}

static int family_number(const opal_if_t *intf)
{
    return (AF_INET == intf->af_family) ? 4 : 6;
}

/* The n-th address of a family on the interface of that name (the first when there are fewer). */
static json_t *address_on(const json_t *ifaces, const char *name, int family, unsigned nth)
{
    json_t *entry, *found = NULL;
    size_t i;
    int64_t number;

    json_array_foreach(ifaces, i, entry) {
        const char *entry_name = lpm_msg_str(entry, "name");

        if (NULL == entry_name || 0 != strcmp(entry_name, name) || 0 != lpm_msg_int(entry, "family", 4, 6, &number) ||
            number != family) {
            continue;
        }
        if (NULL == found || 0 == nth) {
            found = entry;
            if (0 == nth) {
                break;
            }
        }
        --nth;
    }
    return found;
}

/* Position of an entry among those of its interface and family, for address_on(). */
static unsigned position_of(const opal_if_t *wanted)
{
    opal_if_t *intf;
    unsigned position = 0;

    OPAL_LIST_FOREACH(intf, &opal_if_list, opal_if_t) {
        if (intf == wanted) {
            break;
        }
        if (intf->af_family == wanted->af_family && 0 == strcmp(intf->if_name, wanted->if_name)) {
            ++position;
        }
    }
    return position;
}

static bool family_enabled(const opal_if_t *intf)
{
    return family_number(intf) != tcp->tcp_disable_family;
}

int crcp_lpm_tcp_plan(const json_t *ifaces, char **why)
{
    opal_if_t *intf;

    OPAL_LIST_FOREACH(intf, &opal_if_list, opal_if_t) {
        if (NULL == module_on(intf->if_kernel_index) || !family_enabled(intf)) {
            continue;
        }
        if (NULL == address_on(ifaces, intf->if_name, family_number(intf), position_of(intf))) {
            if (0 > asprintf(why, "the target has no IPv%d address on an interface %s, which btl/tcp of this rank uses",
                             family_number(intf), intf->if_name)) {
                *why = NULL;
            }
            return OMPI_ERR_UNREACH;
        }
    }
    return OMPI_SUCCESS;
}

static int take_address(opal_if_t *intf, const json_t *entry)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&intf->if_addr;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&intf->if_addr;
    const char *text = lpm_msg_str(entry, "addr");
    int64_t index;

    if (NULL == text || 0 != lpm_msg_int(entry, "index", 1, UINT16_MAX, &index)) {
        return OMPI_ERR_BAD_PARAM;
    }
    if (1 != inet_pton(intf->af_family, text,
                       AF_INET == intf->af_family ? (void *)&in->sin_addr : (void *)&in6->sin6_addr)) {
        return OMPI_ERR_BAD_PARAM;
    }
    intf->if_kernel_index = (uint16_t)index;
    return OMPI_SUCCESS;
}

/* Of two addresses of one family, without the ports. */
static bool same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    if (a->ss_family != b->ss_family) {
        return false;
    }
    if (AF_INET == a->ss_family) {
        return 0 == memcmp(&((const struct sockaddr_in *)a)->sin_addr, &((const struct sockaddr_in *)b)->sin_addr,
                           sizeof(struct in_addr));
    }
    return AF_INET6 == a->ss_family &&
           0 == memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr, &((const struct sockaddr_in6 *)b)->sin6_addr,
                       sizeof(struct in6_addr));
}

static void translate(struct sockaddr_storage *address, const struct sockaddr_storage *was, const opal_if_t *intf,
                      const struct sockaddr_storage *intf_was)
{
    if (same_address(was, intf_was)) {
        *address = *was;
        if (AF_INET == was->ss_family) {
            ((struct sockaddr_in *)address)->sin_addr = ((const struct sockaddr_in *)&intf->if_addr)->sin_addr;
        } else {
            ((struct sockaddr_in6 *)address)->sin6_addr = ((const struct sockaddr_in6 *)&intf->if_addr)->sin6_addr;
        }
    }
}

/*
 * One interface entry and the modules on it; @p was are the modules as they were on the node left. A module's source
 * address is not always that of its own interface: btl/tcp looks it up with the wrong kind of index
 * (mca_btl_tcp_create() gives opal_ifindextoaddr() a kernel index). Peers match connections by the source address, so
 * each address becomes what the same interface has on the new node, wherever btl/tcp uses it.
 */
static int readdress_interface(opal_if_t *intf, const json_t *ifaces, const mca_btl_tcp_module_t *was)
{
    const uint16_t old_index = intf->if_kernel_index;
    const struct sockaddr_storage old_address = intf->if_addr;
    const json_t *entry = address_on(ifaces, intf->if_name, family_number(intf), position_of(intf));
    int rc = (NULL == entry) ? OMPI_ERR_UNREACH : take_address(intf, entry);

    for (unsigned i = 0; i < tcp->tcp_num_btls; ++i) {
        bool used = was[i].tcp_ifkindex == old_index && family_enabled(intf);

        if (OMPI_SUCCESS != rc) {
            if (used) {
                return rc;
            }
            continue; /* an interface that only the old node has, and no module uses */
        }
        if (was[i].tcp_ifkindex == old_index) {
            tcp->tcp_btls[i]->tcp_ifkindex = intf->if_kernel_index;
        }
        translate(&tcp->tcp_btls[i]->tcp_ifaddr, &was[i].tcp_ifaddr, intf, &old_address);
#if OPAL_ENABLE_IPV6
        translate(&tcp->tcp_btls[i]->tcp_ifaddr_6, &was[i].tcp_ifaddr_6, intf, &old_address);
#endif
    }
    return OMPI_SUCCESS;
}

static int readdress_interfaces(const json_t *ifaces)
{
    mca_btl_tcp_module_t *was = calloc(tcp->tcp_num_btls + 1, sizeof(*was));
    opal_if_t *intf;
    int rc = OMPI_SUCCESS;

    if (NULL == was) {
        return OMPI_ERR_OUT_OF_RESOURCE;
    }
    for (unsigned i = 0; i < tcp->tcp_num_btls; ++i) {
        memcpy(&was[i], tcp->tcp_btls[i], sizeof(*was)); /* only its plain fields are looked at */
    }
    OPAL_LIST_FOREACH(intf, &opal_if_list, opal_if_t) {
        if (OMPI_SUCCESS != (rc = readdress_interface(intf, ifaces, was))) {
            break;
        }
    }
    free(was);
    return rc;
}

/* The table in the order in which btl/tcp publishes it at the start, so that peers can overwrite entry by entry. */
static mca_btl_tcp_addr_t *address_table(size_t *size)
{
    size_t most = opal_list_get_size(&opal_if_list) * tcp->tcp_num_btls, n = 0;
    mca_btl_tcp_addr_t *table = calloc(most + 1, sizeof(*table));
    opal_if_t *intf;

    for (unsigned i = 0; NULL != table && i < tcp->tcp_num_btls; ++i) {
        OPAL_LIST_FOREACH(intf, &opal_if_list, opal_if_t) {
            mca_btl_tcp_addr_t *row = &table[n];

            if (intf->if_kernel_index != tcp->tcp_btls[i]->tcp_ifkindex || !family_enabled(intf)) {
                continue;
            }
            row->addr_ifkindex = intf->if_kernel_index;
            if (AF_INET == intf->af_family) {
                memcpy(&row->addr_inet, &((struct sockaddr_in *)&intf->if_addr)->sin_addr, sizeof(struct in_addr));
                row->addr_family = MCA_BTL_TCP_AF_INET;
                row->addr_port = tcp->tcp_listen_port;
                ++n;
            }
#if OPAL_ENABLE_IPV6
            if (AF_INET6 == intf->af_family) {
                memcpy(&row->addr_inet, &((struct sockaddr_in6 *)&intf->if_addr)->sin6_addr, sizeof(struct in6_addr));
                row->addr_family = MCA_BTL_TCP_AF_INET6;
                row->addr_port = tcp->tcp6_listen_port;
                ++n;
            }
#endif
        }
    }
    *size = n * sizeof(*table);
    return table;
}

int crcp_lpm_tcp_relocate(const json_t *ifaces, char **blob)
{
    mca_btl_tcp_addr_t *table;
    size_t size;
    int rc;

    if (OMPI_SUCCESS != (rc = readdress_interfaces(ifaces)) || OMPI_SUCCESS != (rc = relisten())) {
        return rc;
    }
    if (NULL == (table = address_table(&size))) {
        return OMPI_ERR_OUT_OF_RESOURCE;
    }
    *blob = lpm_hex_encode(table, size);
    free(table);
    return (NULL == *blob) ? OMPI_ERR_OUT_OF_RESOURCE : OMPI_SUCCESS;
}

/* ---- addresses: a peer's ---- */

int crcp_lpm_tcp_readdress(const opal_process_name_t *mover, const void *table, size_t size)
{
    const mca_btl_tcp_addr_t *rows = table;
    mca_btl_tcp_proc_t *proc = NULL;

    if (OPAL_SUCCESS != opal_proc_table_get_value(&tcp->tcp_procs, *mover, (void **)&proc) || NULL == proc) {
        return 0; /* never talked to: the overlay in front of the modex answers later */
    }
    if (size != proc->proc_addr_count * sizeof(*rows)) {
        return -1;
    }
    for (size_t i = 0; i < proc->proc_addr_count; ++i) {
        mca_btl_tcp_addr_t *known = &proc->proc_addrs[i];

        known->addr_inet = rows[i].addr_inet;
        known->addr_port = rows[i].addr_port;
        known->addr_ifkindex = rows[i].addr_ifkindex;
    }
    return (int)size;
}
