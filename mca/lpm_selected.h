/*
 * Is LPM asked for in this process? The question every foothold puts before it does anything.
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

#endif /* LPM_SELECTED_H */
