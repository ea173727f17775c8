/*
 * crs/lpm: the component and its MCA parameters.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crs_lpm.h"

#include <string.h>

#include "lpm_config.h"
#include "lpm_selected.h"
#include "opal/constants.h"
#include "opal/util/output.h"

static int crs_lpm_register(void);
static int crs_lpm_open(void);
static int crs_lpm_query(mca_base_module_t **module, int *priority);

crs_lpm_params_t crs_lpm_params;

mca_crs_lpm_component_t mca_crs_lpm_component = {
    .super =
        {
            .base_version =
                {
                    OPAL_CRS_BASE_VERSION_2_0_0,
                    .mca_component_name = "lpm",
                    MCA_BASE_MAKE_VERSION(component, LPM_MAJOR_VERSION, LPM_MINOR_VERSION, LPM_RELEASE_VERSION),
                    .mca_open_component = crs_lpm_open,
                    .mca_query_component = crs_lpm_query,
                    .mca_register_component_params = crs_lpm_register,
                },
            .base_data = {MCA_BASE_METADATA_PARAM_CHECKPOINT},
            .verbose = 0,
            .output_handle = -1,
            .priority = 50,
        },
    .image = &crs_lpm_image_ops,
};

static int add_text(const char *name, const char *help, mca_base_var_info_lvl_t level, const char *standard, char **at)
{
    *at = (char *)standard;
    return mca_base_component_var_register(&mca_crs_lpm_component.super.base_version, name, help,
                                           MCA_BASE_VAR_TYPE_STRING, NULL, 0, 0, level, MCA_BASE_VAR_SCOPE_LOCAL, at);
}

static int add_number(const char *name, const char *help, mca_base_var_info_lvl_t level, int standard, int *at)
{
    *at = standard;
    return mca_base_component_var_register(&mca_crs_lpm_component.super.base_version, name, help, MCA_BASE_VAR_TYPE_INT,
                                           NULL, 0, 0, level, MCA_BASE_VAR_SCOPE_ALL_EQ, at);
}

static int crs_lpm_register(void)
{
    crs_lpm_params_t *p = &crs_lpm_params;

    if (0 > add_number("priority", "Priority of the lpm component among the crs components", OPAL_INFO_LVL_9, 50,
                       &mca_crs_lpm_component.super.priority) ||
        0 > add_text("criu", "CRIU program that makes and restores the image of a moving rank (absolute path)",
                     OPAL_INFO_LVL_4, LPM_CRIU_PATH, &p->criu) ||
        0 > add_text("helper", "lpm-helper program that the daemons start for a migration (absolute path)",
                     OPAL_INFO_LVL_5, LPM_HELPER_PATH, &p->helper) ||
        0 > add_number("log_level",
                       "How much CRIU writes to its log: 1 errors, 2 warnings, 3 information, 4 everything. The log is "
                       "removed with the images unless LPM_KEEP_IMAGES is in the daemons' environment",
                       OPAL_INFO_LVL_5, 2, &p->log_level) ||
        0 > add_number("timeout",
                       "Seconds without any progress after which connecting, dumping, sending or restoring is given "
                       "up",
                       OPAL_INFO_LVL_4, 60, &p->timeout) ||
        0 > add_text("pages",
                     "How a rank's memory moves: \"lazy\": it runs at its new node as soon as the rest is there, and "
                     "its large memory follows; \"eager\": all memory is there before it runs",
                     OPAL_INFO_LVL_3, "lazy", &p->pages) ||
        0 > add_number("lazy_min",
                       "KiB in memory from which on a private anonymous mapping of the rank may follow later "
                       "(crs_lpm_pages lazy)",
                       OPAL_INFO_LVL_5, 1024, &p->lazy_min)) {
        return OPAL_ERROR;
    }
    return OPAL_SUCCESS;
}

/* Values that the helper would refuse are better refused before a job starts. */
static const char *bad_parameter(const crs_lpm_params_t *p)
{
    if (NULL == p->pages || (0 != strcmp("lazy", p->pages) && 0 != strcmp("eager", p->pages))) {
        return "crs_lpm_pages: \"lazy\" or \"eager\"";
    }
    if (4 > p->lazy_min) {
        return "crs_lpm_lazy_min: at least 4 KiB";
    }
    if (0 > p->log_level || 4 < p->log_level) {
        return "crs_lpm_log_level: from 0 to 4";
    }
    if (1 > p->timeout || 24 * 3600 < p->timeout) {
        return "crs_lpm_timeout: from 1 second to a day";
    }
    if (NULL == p->criu || '/' != p->criu[0] || NULL == p->helper || '/' != p->helper[0]) {
        return "crs_lpm_criu and crs_lpm_helper: absolute paths";
    }
    return NULL;
}

static int crs_lpm_open(void)
{
    const char *bad;

    if (!lpm_selected()) {
        return OPAL_ERR_NOT_AVAILABLE; /* quietly: somebody else opened the framework */
    }
    bad = bad_parameter(&crs_lpm_params);
    if (NULL != bad) {
        opal_output(0, "crs/lpm: bad MCA parameter: %s", bad);
        return OPAL_ERR_BAD_PARAM;
    }
    return OPAL_SUCCESS;
}

static int crs_lpm_query(mca_base_module_t **module, int *priority)
{
    *module = (mca_base_module_t *)&crs_lpm_module;
    *priority = mca_crs_lpm_component.super.priority;
    return OPAL_SUCCESS;
}
