dnl Reads numbers out of a header of another package.
dnl
dnl Copyright (c) 2026 The LPM authors
dnl SPDX-License-Identifier: BSD-3-Clause

dnl LPM_HEADER_NUMBER(VARIABLE, HEADER-FILE, MACRO)
dnl Sets VARIABLE to the digits that MACRO is defined as, or to nothing. Read as text: the header need not compile.
AC_DEFUN([LPM_HEADER_NUMBER],
[$1=`sed -n 's/^@%:@ *define  *$3  *\(@<:@0-9@:>@@<:@0-9@:>@*\).*/\1/p' "$2" 2>/dev/null | sed 1q`])
