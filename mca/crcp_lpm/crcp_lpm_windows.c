/*
 * One-sided windows. Those of osc/pt2pt talk through the PML; other components have channels of their own.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include <dlfcn.h>
#include <string.h>

#include "ompi/mca/osc/osc.h"
#include "ompi/win/win.h"

/* The module tells its component by the shared object of its functions. */
static bool through_pml(const ompi_osc_base_module_t *module)
{
    Dl_info info;

    return 0 != dladdr((void *)module->osc_put, &info) && NULL != strstr(info.dli_fname, "mca_osc_pt2pt");
}

const char *crcp_lpm_windows_check(void)
{
    const int count = opal_pointer_array_get_size(&ompi_mpi_windows);

    for (int i = 0; i < count; ++i) {
        const ompi_win_t *win = opal_pointer_array_get_item(&ompi_mpi_windows, i);

        if (NULL != win && NULL != win->w_osc_module && !through_pml(win->w_osc_module)) {
            return "a one-sided window of the rank has channels of its own (a component other than osc/pt2pt)";
        }
    }
    return NULL;
}
