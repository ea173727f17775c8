dnl Finds the installed Open MPI 4.1: compiler wrapper, devel headers, libraries, component directory.
dnl
dnl Copyright (c) 2026 The LPM authors
dnl SPDX-License-Identifier: BSD-3-Clause

dnl LPM_OPENMPI
dnl Sets and substitutes MPICC, OPENMPI_CPPFLAGS, OPENMPI_LDFLAGS, OPAL_LIBS, ORTE_LIBS, OMPI_LIBS, componentdir;
dnl sets OPENMPI_VERSION (empty when there is none to work with).
AC_DEFUN([LPM_OPENMPI],
[AC_ARG_WITH([openmpi],
    [AS_HELP_STRING([--with-openmpi=DIR],
        [Open MPI 4.1 with its programs in DIR/bin @<:@default: that of mpicc@:>@])],
    [], [with_openmpi=])
AC_ARG_WITH([component-dir],
    [AS_HELP_STRING([--with-component-dir=DIR],
        [install the components into DIR @<:@default: where this Open MPI looks for its own@:>@])],
    [], [with_component_dir=])
AC_ARG_VAR([MPICC], [compiler wrapper of Open MPI])
_LPM_OPENMPI_PROGRAMS
OPENMPI_VERSION=
AS_IF([test -n "$MPICC" && test -n "$OMPI_INFO"],
      [_LPM_OPENMPI_DIRS
       _LPM_OPENMPI_VERSION
       AS_IF([test -n "$OPENMPI_VERSION"],
             [_LPM_OPENMPI_HEADERS
              _LPM_OPENMPI_EVENT])])
AC_SUBST([OPENMPI_CPPFLAGS], ["-isystem $lpm_ompi_incdir -isystem $lpm_ompi_incdir/openmpi"])
AC_SUBST([OPENMPI_LDFLAGS], ["-L$lpm_ompi_libdir"])
AC_SUBST([OPAL_LIBS], ["-lopen-pal"])
AC_SUBST([ORTE_LIBS], ["-lopen-rte -lopen-pal"])
AC_SUBST([OMPI_LIBS], ["-lmpi -lopen-rte -lopen-pal"])
AC_SUBST([componentdir], ["${with_component_dir:-$lpm_ompi_componentdir}"])])

dnl Open MPI may be one of several MPIs of the machine: the name that can only be Open MPI's comes first.
AC_DEFUN([_LPM_OPENMPI_PROGRAMS],
[AS_IF([test -n "$with_openmpi"], [lpm_ompi_path="$with_openmpi/bin"], [lpm_ompi_path="$PATH"])
AC_PATH_PROGS([MPICC], [mpicc.openmpi mpicc], [], [$lpm_ompi_path])
AS_IF([test -n "$MPICC"],
      [lpm_ompi_path="`AS_DIRNAME(["$MPICC"])`$PATH_SEPARATOR$lpm_ompi_path"],
      [LPM_MISSING([mpicc of Open MPI 4.1], [Debian package libopenmpi-dev, or --with-openmpi=DIR])])
AC_PATH_PROG([OMPI_INFO], [ompi_info], [], [$lpm_ompi_path])
AS_IF([test -z "$OMPI_INFO"],
      [LPM_MISSING([ompi_info], [Debian package openmpi-bin, or --with-openmpi=DIR])])])

dnl _LPM_OMPI_INFO_PATH(VARIABLE, NAME)
AC_DEFUN([_LPM_OMPI_INFO_PATH],
[$1=`"$OMPI_INFO" --parsable --path $2 2>/dev/null | sed -n 's/^path:$2://p'`])

AC_DEFUN([_LPM_OPENMPI_DIRS],
[AC_MSG_CHECKING([for the directories of Open MPI])
_LPM_OMPI_INFO_PATH([lpm_ompi_incdir], [incdir])
_LPM_OMPI_INFO_PATH([lpm_ompi_libdir], [libdir])
_LPM_OMPI_INFO_PATH([lpm_ompi_componentdir], [pkglibdir])
AC_MSG_RESULT([$lpm_ompi_incdir, $lpm_ompi_libdir, $lpm_ompi_componentdir])])

AC_DEFUN([_LPM_OPENMPI_VERSION],
[AC_MSG_CHECKING([for the version of Open MPI])
LPM_HEADER_NUMBER([lpm_ompi_major], [$lpm_ompi_incdir/mpi.h], [OMPI_MAJOR_VERSION])
LPM_HEADER_NUMBER([lpm_ompi_minor], [$lpm_ompi_incdir/mpi.h], [OMPI_MINOR_VERSION])
LPM_HEADER_NUMBER([lpm_ompi_release], [$lpm_ompi_incdir/mpi.h], [OMPI_RELEASE_VERSION])
lpm_ompi_run=`"$OMPI_INFO" --parsable --version 2>/dev/null | sed -n 's/^Open MPI v//p; s/^ompi:version:full://p' | sed 1q`
AS_IF([test -z "$lpm_ompi_major"],
      [AC_MSG_RESULT([no $lpm_ompi_incdir/mpi.h])
       LPM_MISSING([mpi.h of Open MPI], [Debian package libopenmpi-dev])],
      [OPENMPI_VERSION="$lpm_ompi_major.$lpm_ompi_minor.$lpm_ompi_release"
       AC_MSG_RESULT([$OPENMPI_VERSION])
       AS_CASE([$OPENMPI_VERSION],
               [4.1.*], [],
               [LPM_MISSING([Open MPI 4.1], [$OPENMPI_VERSION is here; choose another with --with-openmpi=DIR])
                OPENMPI_VERSION=])
       AS_IF([test -n "$OPENMPI_VERSION" && test "$lpm_ompi_run" != "$OPENMPI_VERSION"],
             [LPM_MISSING([headers of the installed Open MPI],
                          [mpi.h is of $OPENMPI_VERSION but ompi_info of $lpm_ompi_run])
              OPENMPI_VERSION=])])])

AC_DEFUN([_LPM_OPENMPI_HEADERS],
[for lpm_header in opal/mca/crs/crs.h orte/mca/snapc/snapc.h ompi/mca/crcp/crcp.h ompi/mca/hook/hook.h; do
    AC_MSG_CHECKING([for $lpm_header])
    AS_IF([test -f "$lpm_ompi_incdir/openmpi/$lpm_header"],
          [AC_MSG_RESULT([yes])],
          [AC_MSG_RESULT([no])
           LPM_MISSING([Open MPI's devel header $lpm_header],
                       [Debian package libopenmpi-dev, or an Open MPI configured --with-devel-headers])])
done])

dnl Our code and Open MPI's run on the same event bases, so both have to use the same libevent.
AC_DEFUN([_LPM_OPENMPI_EVENT],
[AC_MSG_CHECKING([whether Open MPI uses the system's libevent])
AS_IF([grep -q '^@%:@define MCA_event_IMPLEMENTATION_HEADER "opal/mca/event/external/' \
           "$lpm_ompi_incdir/openmpi/opal_config.h" 2>/dev/null],
      [AC_MSG_RESULT([yes])],
      [AC_MSG_RESULT([no])
       LPM_MISSING([an Open MPI that uses the system's libevent],
                   [Debian's does; your own: configure it --with-libevent=external])])])
