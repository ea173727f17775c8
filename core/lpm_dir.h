/*
 * Removing a directory of plain files.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_DIR_H
#define LPM_DIR_H

/**
 * Remove @p path with the files in it. It has to be a real directory of ours (no symbolic link, owned by the caller);
 * directories inside it are not entered, and then stay. A missing @p path is success. Any thread; blocks for as long
 * as the file system takes (meant for memory file systems).
 * @return 0, or -1 with errno set.
 */
int lpm_dir_remove(const char *path);

#endif /* LPM_DIR_H */
