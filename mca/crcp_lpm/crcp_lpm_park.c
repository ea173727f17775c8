/*
 * The MPI thread, or all that may be it, stopped outside MPI, so that the agent may work in its place.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "crcp_lpm.h"

#include "lpm_park.h"

#include "ompi/mca/crcp/base/base.h"
#include "ompi/runtime/mpiruntime.h"
#include "opal/util/output.h"

/* A thread that does not get the CPU within this time is tried again later. Several share what CPUs there are. */
#define TRY_MS     20
#define TRY_ALL_MS 100

static bool possible;

void crcp_lpm_park_init(void)
{
    const char *why = NULL;

    possible = (0 == lpm_park_init(lpm_park_mpi_objects, &why));
    if (!possible) {
        opal_output_verbose(1, ompi_crcp_base_framework.framework_output,
                            "crcp/lpm: a rank that computes is waited for, it cannot be stopped: %s", why);
    }
}

void crcp_lpm_park_fini(void)
{
    if (possible) {
        possible = false;
        lpm_park_fini();
    }
}

/* With MPI_THREAD_SERIALIZED any thread of the application may enter MPI. */
bool crcp_lpm_park(void)
{
    const char *why = NULL;
    lpm_park_result_t result;

    if (!possible) {
        return false;
    }
    result = (MPI_THREAD_SERIALIZED > ompi_mpi_thread_provided) ? lpm_park_try(TRY_MS, &why)
                                                                : lpm_park_try_all(TRY_ALL_MS, &why);
    if (LPM_PARK_PARKED != result) {
        opal_output_verbose(20, ompi_crcp_base_framework.framework_output, "crcp/lpm: not parked: %s", why);
    }
    return LPM_PARK_PARKED == result;
}

void crcp_lpm_unpark(void)
{
    lpm_park_release();
}
