dnl Finds the libraries that come with a pkg-config file.
dnl
dnl Copyright (c) 2026 The LPM authors
dnl SPDX-License-Identifier: BSD-3-Clause

dnl LPM_LIBRARY(PREFIX, PKG-CONFIG-MODULE, VERSION, DEBIAN-PACKAGE)
dnl Substitutes PREFIX_CFLAGS and PREFIX_LIBS.
AC_DEFUN([LPM_LIBRARY],
[PKG_CHECK_MODULES([$1], [$2 >= $3], [],
                   [LPM_MISSING([$2 >= $3], [Debian package $4])])])

dnl LPM_LIBRARIES
AC_DEFUN([LPM_LIBRARIES],
[PKG_PROG_PKG_CONFIG([0.29])
AS_IF([test -z "$PKG_CONFIG"],
      [LPM_MISSING([pkg-config], [Debian package pkg-config; without it no library below is found])])
LPM_LIBRARY([EVENT], [libevent_core], [2.1], [libevent-dev])
LPM_LIBRARY([EVENT_PTHREADS], [libevent_pthreads], [2.1], [libevent-dev])
LPM_LIBRARY([HWLOC], [hwloc], [2.0], [libhwloc-dev])
LPM_LIBRARY([JANSSON], [jansson], [2.10], [libjansson-dev])
LPM_LIBRARY([GNUTLS], [gnutls], [3.6], [libgnutls28-dev])
LPM_LIBRARY([XXHASH], [libxxhash], [0.8], [libxxhash-dev])
LPM_LIBRARY([PROTOBUF_C], [libprotobuf-c], [1.3], [libprotobuf-c-dev])
LPM_LIBRARY([CAP], [libcap], [2.25], [libcap-dev])
LPM_LIBRARY([CMOCKA], [cmocka], [1.1], [libcmocka-dev])])
