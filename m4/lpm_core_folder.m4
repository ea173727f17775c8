dnl Keeps configure's hands off the folder core.
dnl
dnl Copyright (c) 2026 The LPM authors
dnl SPDX-License-Identifier: BSD-3-Clause

dnl LPM_CORE_FOLDER
dnl After every check Autoconf removes a dump named core, with `rm -f core ...` and in one macro with `rm -rf core ...`.
dnl We have a folder of that name: the first complains and gives up, the second would be worse.
AC_DEFUN([LPM_CORE_FOLDER],
[rm ()
{
  case "$[1] $[2]" in
    -f\ core | -rf\ core)
      lpm_rm_flag=$[1]
      shift
      shift
      command rm "$lpm_rm_flag" "$[@]" ;;
    *)
      command rm "$[@]" ;;
  esac
}
])
