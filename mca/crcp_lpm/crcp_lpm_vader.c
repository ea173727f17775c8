/*
 * The one file that knows the inside of btl/vader: fast boxes, FIFO, the segment, the table of neighbours.
 *
 * Built against the private headers of one Open MPI version; crcp_lpm_vader_init() refuses any other.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "crcp_lpm_component_of.h"
#include "lpm_hex.h"

#include "btl_vader.h"
#include "btl_vader_endpoint.h"
#include "btl_vader_fifo.h"
#include "btl_vader_frag.h"

#include "ompi/constants.h"
#include "opal/mca/btl/base/base.h"
#include "opal/mca/pmix/pmix.h"
#include "opal/mca/shmem/base/base.h"

static mca_btl_vader_component_t *vader;
static mca_btl_vader_t *module;
static opal_class_t *endpoint_class;
static ino_t (*user_namespace)(void);
static char *modex_key;
static bool published = true;  /* the segment is a file that neighbours can map */
static unsigned char *touched; /* one byte for each page of the segment, of the time when it was withdrawn */

/* ---- finding it, and checking that it is what we know ---- */

static const char *check_layout(void *object)
{
    if (!crcp_lpm_same_version(&vader->super.btl_version)) {
        return "btl/vader is of another Open MPI version than the one LPM was built for";
    }
    if (NULL == module || NULL == endpoint_class || NULL == user_namespace ||
        !crcp_lpm_class_has_size(object, "mca_btl_vader_endpoint_t_class", sizeof(mca_btl_vader_endpoint_t)) ||
        !crcp_lpm_class_has_size(object, "mca_btl_vader_frag_t_class", sizeof(mca_btl_vader_frag_t)) ||
        sizeof(*vader) != crcp_lpm_symbol_size(vader) || sizeof(*module) != crcp_lpm_symbol_size(module)) {
        return "the data structures of btl/vader differ from those LPM was built for";
    }
    return NULL;
}

static const char *check_settings(void)
{
    if (MCA_BTL_VADER_CMA != vader->single_copy_mechanism && MCA_BTL_VADER_NONE != vader->single_copy_mechanism) {
        return "btl/vader copies through emulated single copies, which LPM does not support (allow CMA, that is "
               "process_vm_readv() among the ranks of a node, or start the job with --mca "
               "btl_vader_single_copy_mechanism none, or with --mca btl self,tcp)";
    }
    if (!module->btl_inited || crcp_lpm_vader_places() <= opal_process_info.my_local_rank) {
        return "btl/vader has not set up its table of neighbours";
    }
    return NULL;
}

int crcp_lpm_vader_init(mca_btl_base_component_t *component, const char **why)
{
    void *object = crcp_lpm_object_of(component);

    if (NULL == object) {
        *why = "btl/vader is loaded in a way LPM does not know";
        return OMPI_ERR_NOT_SUPPORTED;
    }
    vader = (mca_btl_vader_component_t *)component;
    module = dlsym(object, "mca_btl_vader");
    endpoint_class = dlsym(object, "mca_btl_vader_endpoint_t_class");
    user_namespace = (ino_t(*)(void))dlsym(object, "mca_btl_vader_get_user_ns_id");
    if (NULL != (*why = check_layout(object)) || NULL != (*why = check_settings())) {
        vader = NULL;
        return OMPI_ERR_NOT_SUPPORTED;
    }
    modex_key = mca_base_component_to_string(&vader->super.btl_version);
    return (NULL == modex_key) ? OMPI_ERR_OUT_OF_RESOURCE : OMPI_SUCCESS;
}

mca_btl_base_module_t *crcp_lpm_vader_module(void)
{
    return (NULL == vader) ? NULL : &module->super;
}

const char *crcp_lpm_vader_modex_key(void)
{
    return modex_key;
}

int crcp_lpm_vader_places(void)
{
    return 1 + opal_process_info.num_local_peers;
}

int crcp_lpm_vader_place(void)
{
    return opal_process_info.my_local_rank;
}

/* ---- one channel ---- */

static bool fast_box_read(const crcp_lpm_endpoint_t *endpoint)
{
    return NULL == endpoint->fbox_out.buffer || endpoint->fbox_out.startp[0] == endpoint->fbox_out.end;
}

bool crcp_lpm_vader_empty(crcp_lpm_endpoint_t *endpoint)
{
    return fast_box_read(endpoint) && 0 == opal_list_get_size(&endpoint->pending_frags) && !endpoint->waiting;
}

bool crcp_lpm_vader_fifo_empty(void)
{
    return VADER_FIFO_FREE == vader->my_fifo->fifo_head && VADER_FIFO_FREE == vader->my_fifo->fifo_tail;
}

size_t crcp_lpm_vader_queued(const crcp_lpm_endpoint_t *endpoint)
{
    return opal_list_get_size(&((mca_btl_base_endpoint_t *)endpoint)->pending_frags);
}

uint16_t crcp_lpm_vader_received(const crcp_lpm_endpoint_t *endpoint)
{
    return endpoint->fbox_in.seq;
}

void crcp_lpm_vader_describe(crcp_lpm_endpoint_t *endpoint, char *text, size_t size)
{
    snprintf(text, size, "place %d, fast box %s, %zu waiting, own FIFO %s", endpoint->peer_smp_rank,
             fast_box_read(endpoint) ? "read" : "not read", opal_list_get_size(&endpoint->pending_frags),
             crcp_lpm_vader_fifo_empty() ? "empty" : "not empty");
}

/* Nobody polls the peer's fast box any more. btl/vader has no such function: it does so only at the end. */
static void forget_fast_box(crcp_lpm_endpoint_t *endpoint)
{
    for (unsigned i = 0; i < vader->num_fbox_in_endpoints; ++i) {
        if (endpoint == vader->fbox_in_endpoints[i]) {
            vader->fbox_in_endpoints[i] = vader->fbox_in_endpoints[--vader->num_fbox_in_endpoints];
            (void)opal_atomic_add_fetch_32(&vader->my_fifo->fbox_available, 1);
            return;
        }
    }
}

void crcp_lpm_vader_close(crcp_lpm_endpoint_t *endpoint)
{
    struct mca_btl_base_endpoint_t *peers[1] = {endpoint};
    opal_proc_t *procs[1] = {NULL}; /* not looked at */
    const int32_t place = endpoint->peer_smp_rank;

    forget_fast_box(endpoint);
    (void)module->super.btl_del_procs(&module->super, 1, procs, peers);
    /* the destructor leaves these as they were */
    endpoint->send_count = 0;
    memset(&endpoint->fbox_in, 0, sizeof(endpoint->fbox_in));
    memset(&endpoint->fbox_out, 0, sizeof(endpoint->fbox_out));
    endpoint->peer_smp_rank = place;
}

void crcp_lpm_vader_next_place(int place)
{
    vader->local_rank = place; /* where btl_add_procs puts the next neighbour */
}

crcp_lpm_endpoint_t *crcp_lpm_vader_nobody(void)
{
    static mca_btl_base_endpoint_t nobody; /* never used for a transfer */

    return &nobody;
}

/* ---- the segment: a rank takes its own along, but not as a file ---- */

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Most of the segment has never been used, and pages that are only read would be made then. */
static void copy_touched(char *to, const char *from, size_t size)
{
    for (size_t at = 0; at < size; at += page_size()) {
        if (1 & touched[at / page_size()]) {
            memcpy(to + at, from + at, (size - at < page_size()) ? size - at : page_size());
        }
    }
}

/* Another mapping takes the place of the one at the segment's address. */
static int replace_mapping(char *by, size_t size)
{
    char *base = (char *)vader->seg_ds.seg_base_addr;

    copy_touched(by, base, size);
    if (base != mremap(by, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, base)) {
        (void)munmap(by, size);
        return OMPI_ERR_OUT_OF_RESOURCE;
    }
    return OMPI_SUCCESS;
}

int crcp_lpm_vader_withdraw(void)
{
    const size_t size = vader->seg_ds.seg_size;
    char *copy;
    int rc;

    if (!published) {
        return OMPI_SUCCESS;
    }
    free(touched);
    touched = malloc(size / page_size() + 1);
    copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (NULL == touched || MAP_FAILED == copy || 0 != mincore(vader->seg_ds.seg_base_addr, size, touched)) {
        if (MAP_FAILED != copy) {
            (void)munmap(copy, size);
        }
        return OMPI_ERR_OUT_OF_RESOURCE;
    }
    if (OMPI_SUCCESS == (rc = replace_mapping(copy, size))) {
        (void)unlink(vader->seg_ds.seg_name); /* who has it mapped keeps it */
        published = false;
    }
    return rc;
}

static int new_segment(int place, const char *node, opal_shmem_ds_t *segment)
{
    char *path = NULL;
    int rc;

    memset(segment, 0, sizeof(*segment));
    if (0 > asprintf(&path, "%s/vader_segment.%s.%u.%x.%d", vader->backing_directory, node, geteuid(),
                     OPAL_PROC_MY_NAME.jobid, place)) {
        return OMPI_ERR_OUT_OF_RESOURCE;
    }
    if (NULL != opal_pmix.register_cleanup) {
        (void)opal_pmix.register_cleanup(path, false, false, false); /* the daemon removes it should we be killed */
    }
    rc = opal_shmem_segment_create(segment, path, vader->segment_size);
    free(path);
    return rc;
}

/* The place of this rank itself, for addresses inside its own segment. */
static void take_place(int place)
{
    mca_btl_base_endpoint_t *self = &vader->endpoints[place];

    if (place == opal_process_info.my_local_rank) {
        return;
    }
    crcp_lpm_vader_close(&vader->endpoints[opal_process_info.my_local_rank]);
    memset(self, 0, sizeof(*self));
    OBJ_CONSTRUCT_INTERNAL(self, endpoint_class);
    self->peer_smp_rank = place;
    self->segment_base = vader->my_segment;
    self->fifo = (struct vader_fifo_t *)vader->my_segment;
    opal_process_info.my_local_rank = place;
}

int crcp_lpm_vader_publish(int place, const char *node)
{
    opal_shmem_ds_t segment;
    unsigned char *base = vader->seg_ds.seg_base_addr;
    int rc;

    take_place(place);
    if (MCA_BTL_VADER_CMA == vader->single_copy_mechanism) {
        (void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0); /* of this process's life, not in its image */
    }
    if (OMPI_SUCCESS != (rc = new_segment(place, node, &segment))) {
        return rc;
    }
    if (segment.seg_size != vader->seg_ds.seg_size) {
        rc = OMPI_ERR_BAD_PARAM;
        goto err_remove;
    }
    if (OMPI_SUCCESS != (rc = replace_mapping((char *)segment.seg_base_addr, segment.seg_size))) {
        goto err_remove;
    }
    segment.seg_base_addr = base;
    vader->seg_ds = segment;
    published = true;
    return OMPI_SUCCESS;

err_remove:
    (void)opal_shmem_unlink(&segment);
    return rc;
}

char *crcp_lpm_vader_card(void)
{
    union vader_modex_t card;
    size_t size;

    if (NULL == vader || !published) {
        return NULL;
    }
    memset(&card, 0, sizeof(card));
    card.other.seg_ds_size = (int)opal_shmem_sizeof_shmem_ds(&vader->seg_ds);
    card.other.user_ns_id = user_namespace();
    memcpy(&card.other.seg_ds, &vader->seg_ds, (size_t)card.other.seg_ds_size);
    size = offsetof(union vader_modex_t, other.seg_ds) + (size_t)card.other.seg_ds_size;
    return lpm_hex_encode(&card, size);
}
