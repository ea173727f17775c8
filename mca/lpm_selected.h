/*
 * Is LPM asked for in this process, and where are its components? What our components ask before they do anything.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_SELECTED_H
#define LPM_SELECTED_H

#include <stdbool.h>
#include <string.h>

#include "opal/mca/base/mca_base_var.h"
#include "opal/mca/crs/base/base.h"

/**
 * True when the MCA parameter `crs` names lpm (--mca crs lpm, environment or parameter file).
 *
 * Registers the parameter the way the framework itself would, without registering the framework: that would load
 * the crs components into every run. The storage is the framework's own, since the variable outlives our component.
 */
static inline bool lpm_selected(void)
{
    const char *list, *at;

    if (0 > mca_base_var_register(opal_crs_base_framework.framework_project, opal_crs_base_framework.framework_name,
                                  NULL, NULL, "Checkpoint and restart components to use", MCA_BASE_VAR_TYPE_STRING,
                                  NULL, 0, MCA_BASE_VAR_FLAG_SETTABLE, OPAL_INFO_LVL_2, MCA_BASE_VAR_SCOPE_ALL_EQ,
                                  &opal_crs_base_framework.framework_selection)) {
        return false;
    }
    list = opal_crs_base_framework.framework_selection;
    if (NULL == list || '^' == list[0]) {
        return false;
    }
    for (at = list; NULL != at; at = strchr(at, ',')) {
        at += (',' == *at) ? 1 : 0;
        if (0 == strncmp(at, "lpm", 3) && ('\0' == at[3] || ',' == at[3])) {
            return true;
        }
    }
    return false;
}

/**
 * Our own component of an open framework, or NULL. The bases copy the modules they select, so what a component of ours
 * offers beyond the framework's interface is found in the component itself: the caller casts to its extended type.
 */
static inline void *lpm_component_of(mca_base_framework_t *framework)
{
    mca_base_component_list_item_t *item;

    OPAL_LIST_FOREACH(item, &framework->framework_components, mca_base_component_list_item_t) {
        if (0 == strcmp("lpm", item->cli_component->mca_component_name)) {
            return (void *)item->cli_component;
        }
    }
    return NULL;
}

#endif /* LPM_SELECTED_H */
