dnl Finds the source of the installed Open MPI, for the private headers of the tcp BTL and of ob1.
dnl
dnl Copyright (c) 2026 The LPM authors
dnl SPDX-License-Identifier: BSD-3-Clause

dnl LPM_OPENMPI_SOURCE
dnl To be called after LPM_OPENMPI. Sets and substitutes OPENMPI_SOURCE and OPENMPI_SOURCE_CPPFLAGS.
dnl The source tree is searched last (-idirafter): whatever is installed is taken from there.
AC_DEFUN([LPM_OPENMPI_SOURCE],
[AC_ARG_WITH([openmpi-source],
    [AS_HELP_STRING([--with-openmpi-source=DIR],
        [unpacked source of exactly the installed Open MPI @<:@default: .deps/openmpi-source@:>@])],
    [], [with_openmpi_source="$srcdir/.deps/openmpi-source"])
AC_MSG_CHECKING([for the source of Open MPI $OPENMPI_VERSION])
OPENMPI_SOURCE=`cd "$with_openmpi_source" 2>/dev/null && pwd`
lpm_source_version=
AS_IF([test -n "$OPENMPI_SOURCE" && test -f "$OPENMPI_SOURCE/VERSION"],
      [lpm_source_version=`sed -n 's/^major=//p; s/^minor=/./p; s/^release=/./p' "$OPENMPI_SOURCE/VERSION" | tr -d '\n'`])
AS_IF([test -z "$lpm_source_version"],
      [AC_MSG_RESULT([no])
       LPM_MISSING([the source of Open MPI ${OPENMPI_VERSION:-4.1}],
                   [scripts/setup fetches Debian's source package openmpi; else --with-openmpi-source=DIR])],
      [test -n "$OPENMPI_VERSION" && test "$lpm_source_version" != "$OPENMPI_VERSION"],
      [AC_MSG_RESULT([$OPENMPI_SOURCE has $lpm_source_version])
       LPM_MISSING([the source of the very Open MPI that is installed ($OPENMPI_VERSION)],
                   [$OPENMPI_SOURCE has $lpm_source_version; scripts/setup fetches the right one])],
      [AC_MSG_RESULT([$OPENMPI_SOURCE])
       _LPM_OPENMPI_SOURCE_HEADERS])
AC_SUBST([OPENMPI_SOURCE])
AC_SUBST([OPENMPI_SOURCE_CPPFLAGS],
         ["-isystem $OPENMPI_SOURCE/opal/mca/btl/tcp -isystem $OPENMPI_SOURCE/opal/mca/btl/vader -isystem $OPENMPI_SOURCE/ompi/mca/pml/ob1 -idirafter $OPENMPI_SOURCE"])])

AC_DEFUN([_LPM_OPENMPI_SOURCE_HEADERS],
[for lpm_header in opal/mca/btl/tcp/btl_tcp.h opal/mca/btl/vader/btl_vader.h ompi/mca/pml/ob1/pml_ob1.h; do
    AC_MSG_CHECKING([for $lpm_header in the source])
    AS_IF([test -f "$OPENMPI_SOURCE/$lpm_header"],
          [AC_MSG_RESULT([yes])],
          [AC_MSG_RESULT([no])
           LPM_MISSING([$lpm_header], [$OPENMPI_SOURCE is no complete Open MPI source])])
done])
