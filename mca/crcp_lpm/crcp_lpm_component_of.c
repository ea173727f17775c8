/*
 * What the adapters of BTLs and PML do alike: find the component that this process has loaded, and compare it with what
 * they were compiled for.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "ompi_config.h"

#include "crcp_lpm_component_of.h"

#include <dlfcn.h>
#include <link.h>

void *crcp_lpm_object_of(const void *address)
{
    Dl_info info;
    void *handle;

    if (0 == dladdr(address, &info) || NULL == (handle = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD))) {
        return NULL;
    }
    dlclose(handle);
    return handle;
}

size_t crcp_lpm_symbol_size(void *address)
{
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;

    if (0 == dladdr1(address, &info, (void **)&symbol, RTLD_DL_SYMENT) || NULL == symbol) {
        return 0;
    }
    return symbol->st_size;
}

bool crcp_lpm_same_version(const mca_base_component_t *component)
{
    return OPAL_MAJOR_VERSION == component->mca_component_major_version &&
           OPAL_MINOR_VERSION == component->mca_component_minor_version &&
           OPAL_RELEASE_VERSION == component->mca_component_release_version;
}

bool crcp_lpm_class_has_size(void *object, const char *name, size_t size)
{
    const opal_class_t *class = dlsym(object, name);

    return NULL != class && size == class->cls_sizeof;
}
