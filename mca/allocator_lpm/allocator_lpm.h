/*
 * What the parts of allocator/lpm share.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef ALLOCATOR_LPM_H
#define ALLOCATOR_LPM_H

#include "ompi_config.h"

/** Make the new addresses known of ranks that have moved before this process was started. Once, before MPI's modex. */
void allocator_lpm_moved(void);

#endif /* ALLOCATOR_LPM_H */
