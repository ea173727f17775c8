dnl Collects what is missing, so that one run of configure names all of it.
dnl
dnl Copyright (c) 2026 The LPM authors
dnl SPDX-License-Identifier: BSD-3-Clause

dnl LPM_MISSING(WHAT, REMEDY)
dnl Notes a shell-expanded line for LPM_STOP_IF_MISSING.
AC_DEFUN([LPM_MISSING],
[AS_VAR_APPEND([lpm_missing], ["
  - $1: $2"])])

dnl LPM_STOP_IF_MISSING
AC_DEFUN([LPM_STOP_IF_MISSING],
[AS_IF([test -n "$lpm_missing"],
       [AC_MSG_ERROR([this is missing or does not fit:$lpm_missing
On Debian 12 scripts/setup installs and fetches all of it.])])])
