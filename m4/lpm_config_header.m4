dnl The package version in lpm_config.h, and nothing else in it.
dnl
dnl Copyright (c) 2026 The LPM authors
dnl SPDX-License-Identifier: BSD-3-Clause

dnl LPM_CONFIG_HEADER
dnl Open MPI's opal_config.h defines PACKAGE_NAME and its like for Open MPI; a second definition would clash in every
dnl component. Their templates are therefore replaced by lines without effect (autoheader insists on a line
dnl for each), and LPM_* says what is ours.
AC_DEFUN([LPM_CONFIG_HEADER],
[AC_CONFIG_HEADERS([lpm_config.h])
AH_TOP([/*
 * What configure found out for LPM; holds LPM_* and feature tests only.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_CONFIG_H
#define LPM_CONFIG_H
])
AH_BOTTOM([#endif /* LPM_CONFIG_H */])
m4_foreach_w([lpm_symbol], [NAME TARNAME VERSION STRING BUGREPORT URL],
             [AH_VERBATIM([PACKAGE_]lpm_symbol, [#ifdef PACKAGE_]lpm_symbol[ /* only Open MPI's, never ours */
#endif])])
lpm_major=`AS_ECHO(["$PACKAGE_VERSION"]) | cut -d. -f1`
lpm_minor=`AS_ECHO(["$PACKAGE_VERSION"]) | cut -d. -f2`
lpm_release=`AS_ECHO(["$PACKAGE_VERSION"]) | cut -d. -f3`
AC_DEFINE_UNQUOTED([LPM_MAJOR_VERSION], [$lpm_major], [First number of the version of LPM.])
AC_DEFINE_UNQUOTED([LPM_MINOR_VERSION], [$lpm_minor], [Second number of the version of LPM.])
AC_DEFINE_UNQUOTED([LPM_RELEASE_VERSION], [$lpm_release], [Third number of the version of LPM.])
AC_DEFINE_UNQUOTED([LPM_VERSION], ["$PACKAGE_VERSION"], [Version of LPM as a string.])])
