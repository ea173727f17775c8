/*
 * How many fragments come over btl/tcp while channels are emptied: the callbacks of the PML's tags are counted.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include "opal/mca/btl/base/base.h"

/* Tags of ob1: one for each kind of header. */
#define FIRST_TAG (MCA_BTL_TAG_PML + 1)
#define TAGS      9

static mca_btl_active_message_callback_t original[TAGS];
static bool counting;

static void counted(mca_btl_base_module_t *btl, mca_btl_base_tag_t tag, mca_btl_base_descriptor_t *descriptor,
                    void *cbdata)
{
    if (btl != crcp_lpm_vader_module()) { /* its fragments do not tell the channel; its fast boxes count themselves */
        crcp_lpm_link_received(crcp_lpm_tcp_receiver(descriptor));
    }
    original[tag - FIRST_TAG].cbfunc(btl, tag, descriptor, cbdata);
}

void crcp_lpm_tally_start(void)
{
    if (counting) {
        return;
    }
    counting = true;
    for (unsigned i = 0; i < TAGS; ++i) {
        original[i] = mca_btl_base_active_message_trigger[FIRST_TAG + i];
        if (NULL != original[i].cbfunc) {
            mca_btl_base_active_message_trigger[FIRST_TAG + i].cbfunc = counted;
        }
    }
}

void crcp_lpm_tally_stop(void)
{
    if (!counting) {
        return;
    }
    counting = false;
    for (unsigned i = 0; i < TAGS; ++i) {
        mca_btl_base_active_message_trigger[FIRST_TAG + i] = original[i];
    }
}
