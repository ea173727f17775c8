dnl Finds libpmix 4.2 and its private headers, which the PMIx parts of snapc_lpm build on.
dnl
dnl Copyright (c) 2026 The LPM authors
dnl SPDX-License-Identifier: BSD-3-Clause

dnl LPM_PMIX
dnl Sets and substitutes PMIX_CPPFLAGS (public headers), PMIX_PRIVATE_CPPFLAGS (with the private ones), PMIX_LIBS.
dnl To be called after PKG_PROG_PKG_CONFIG; sets PMIX_VERSION.
AC_DEFUN([LPM_PMIX],
[AC_ARG_WITH([pmix],
    [AS_HELP_STRING([--with-pmix=DIR],
        [libpmix in DIR/include and DIR/lib @<:@default: what pkg-config says@:>@])],
    [], [with_pmix=])
AC_MSG_CHECKING([for libpmix])
AS_IF([test -n "$with_pmix"],
      [lpm_pmix_incdir="$with_pmix/include"
       lpm_pmix_libdir="$with_pmix/lib"],
      [lpm_pmix_incdir=`"$PKG_CONFIG" --variable=includedir pmix 2>/dev/null`
       lpm_pmix_libdir=`"$PKG_CONFIG" --variable=libdir pmix 2>/dev/null`])
LPM_HEADER_NUMBER([lpm_pmix_major], [$lpm_pmix_incdir/pmix_version.h], [PMIX_VERSION_MAJOR])
LPM_HEADER_NUMBER([lpm_pmix_minor], [$lpm_pmix_incdir/pmix_version.h], [PMIX_VERSION_MINOR])
LPM_HEADER_NUMBER([lpm_pmix_release], [$lpm_pmix_incdir/pmix_version.h], [PMIX_VERSION_RELEASE])
PMIX_VERSION="$lpm_pmix_major.$lpm_pmix_minor.$lpm_pmix_release"
AS_CASE([$PMIX_VERSION],
        [4.2.*], [AC_MSG_RESULT([$PMIX_VERSION])
                  _LPM_PMIX_PRIVATE],
        [..],    [AC_MSG_RESULT([no])
                  LPM_MISSING([libpmix 4.2], [Debian package libpmix-dev, or --with-pmix=DIR])],
        [AC_MSG_RESULT([$PMIX_VERSION])
         LPM_MISSING([libpmix 4.2], [$PMIX_VERSION is here; choose another with --with-pmix=DIR])])
AC_SUBST([PMIX_CPPFLAGS], ["-isystem $lpm_pmix_incdir"])
AC_SUBST([PMIX_LIBS], ["-L$lpm_pmix_libdir -lpmix"])
AC_SUBST([PMIX_PRIVATE_CPPFLAGS])])

dnl The private headers ask for the public ones as "include/pmix_common.h", a place that exists only in libpmix's own
dnl tree. The build directory gets a folder of that shape whose headers only lead to the installed ones.
AC_DEFUN([_LPM_PMIX_FORWARD],
[AS_MKDIR_P([pmix-forward/include])
for lpm_header in pmix pmix_common pmix_deprecated pmix_server pmix_tool pmix_version; do
    AS_ECHO(["@%:@include <$lpm_header.h>"]) >pmix-forward/include/$lpm_header.h
done
lpm_pmix_forward=`pwd`/pmix-forward])

AC_DEFUN([_LPM_PMIX_PRIVATE],
[_LPM_PMIX_FORWARD
PMIX_PRIVATE_CPPFLAGS="-isystem $lpm_pmix_forward -isystem $lpm_pmix_incdir"
PMIX_PRIVATE_CPPFLAGS="$PMIX_PRIVATE_CPPFLAGS -isystem $lpm_pmix_incdir/pmix -isystem $lpm_pmix_incdir/pmix/src/include"
AC_MSG_CHECKING([for the private headers of libpmix])
lpm_save_CPPFLAGS="$CPPFLAGS"
CPPFLAGS="$CPPFLAGS -D_GNU_SOURCE $PMIX_PRIVATE_CPPFLAGS $EVENT_CFLAGS $HWLOC_CFLAGS"
AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include "src/include/pmix_globals.h"]],
                                   [[return sizeof(pmix_globals_t) > 0 ? 0 : 1;]])],
                  [AC_MSG_RESULT([yes])],
                  [AC_MSG_RESULT([no])
                   LPM_MISSING([private headers of libpmix (src/include/pmix_globals.h)],
                               [Debian package libpmix-dev (needs libevent-dev and libhwloc-dev), see config.log])])
CPPFLAGS="$lpm_save_CPPFLAGS"])
