/*
 * What the adapters of BTLs and PML do alike: find the component that this process has loaded, and compare it with what
 * they were compiled for.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef CRCP_LPM_COMPONENT_OF_H
#define CRCP_LPM_COMPONENT_OF_H

#include <stdbool.h>
#include <stddef.h>

#include "opal/class/opal_object.h"
#include "opal/mca/mca.h"

/** The loaded shared object that holds @p address, for dlsym(); its framework keeps it loaded. NULL: cannot be told. */
void *crcp_lpm_object_of(const void *address);

/** ELF size of the symbol at @p address, 0 when there is none. */
size_t crcp_lpm_symbol_size(void *address);

/** Is the component of the very Open MPI version that we were compiled for? */
bool crcp_lpm_same_version(const mca_base_component_t *component);

/** Does the object export a class of that name whose instances have @p size bytes? */
bool crcp_lpm_class_has_size(void *object, const char *name, size_t size);

#endif /* CRCP_LPM_COMPONENT_OF_H */
