dnl Finds CRIU. Whether it fits the kernel is checked at run time, on the node where it runs.
dnl
dnl Copyright (c) 2026 The LPM authors
dnl SPDX-License-Identifier: BSD-3-Clause

dnl LPM_CRIU
dnl Substitutes CRIU (an absolute path) and sets CRIU_VERSION. Without --with-criu the newest of those found is taken:
dnl a distribution's CRIU may be too old for its kernel while scripts/setup has built a newer one.
AC_DEFUN([LPM_CRIU],
[AC_ARG_WITH([criu],
    [AS_HELP_STRING([--with-criu=PROGRAM],
        [CRIU @<:@default: the newest of those in PATH, /usr/sbin, .deps/criu/sbin@:>@])],
    [], [with_criu=])
AC_MSG_CHECKING([for CRIU])
CRIU=
CRIU_VERSION=0
AS_IF([test -n "$with_criu"],
      [_LPM_CRIU_CONSIDER([$with_criu])],
      [lpm_save_IFS=$IFS
       IFS=$PATH_SEPARATOR
       for lpm_dir in $PATH /usr/sbin `cd "$srcdir" && pwd`/.deps/criu/sbin; do
           IFS=$lpm_save_IFS
           _LPM_CRIU_CONSIDER([$lpm_dir/criu])
       done
       IFS=$lpm_save_IFS])
AS_IF([test -n "$CRIU"],
      [AC_MSG_RESULT([$CRIU ($CRIU_VERSION)])],
      [AC_MSG_RESULT([no])
       LPM_MISSING([CRIU >= 3.17${with_criu:+ at $with_criu}],
                   [scripts/setup builds one (Linux >= 6.13 needs 4.1, >= 6.16 needs 4.2); else --with-criu=PROGRAM])])
AC_SUBST([CRIU])])

dnl _LPM_CRIU_CONSIDER(PROGRAM)
dnl Takes PROGRAM when it says a version that is newer than what we have, and at least 3.17.
AC_DEFUN([_LPM_CRIU_CONSIDER],
[AS_IF([test -f "$1" && test -x "$1"],
       [lpm_criu_version=`"$1" --version 2>/dev/null | sed -n 's/^Version: *//p'`
        AS_VERSION_COMPARE([${lpm_criu_version:-0}], [3.17], [lpm_criu_version=])
        AS_VERSION_COMPARE([$CRIU_VERSION], [${lpm_criu_version:-0}],
                           [CRIU_VERSION=$lpm_criu_version
                            AS_CASE([$1], [/*], [CRIU="$1"], [CRIU="`pwd`/$1"])])])])
