/*
 * The crcp module table, for the component's query.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef CRCP_LPM_MODULE_H
#define CRCP_LPM_MODULE_H

#include "crcp_lpm.h"

extern ompi_crcp_base_module_t crcp_lpm_module;

#endif /* CRCP_LPM_MODULE_H */
