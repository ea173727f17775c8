dnl Finds the programs that make sources and man pages.
dnl
dnl Copyright (c) 2026 The LPM authors
dnl SPDX-License-Identifier: BSD-3-Clause

dnl LPM_GENERATORS
dnl Substitutes PROTOC_C and RST2MAN.
AC_DEFUN([LPM_GENERATORS],
[AC_PATH_PROG([PROTOC_C], [protoc-c])
AS_IF([test -z "$PROTOC_C"],
      [LPM_MISSING([protoc-c], [Debian package protobuf-c-compiler])])
AC_PATH_PROGS([RST2MAN], [rst2man rst2man.py])
AS_IF([test -z "$RST2MAN"],
      [LPM_MISSING([rst2man], [Debian package python3-docutils])])])
