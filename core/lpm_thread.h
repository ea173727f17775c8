/*
 * Threads of ours in a process that is not ours.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_THREAD_H
#define LPM_THREAD_H

#include <pthread.h>
#include <signal.h>

/** Like pthread_create(); no signal of the application is ever handled on the thread. @return 0 or an errno. */
static inline int lpm_thread_start(pthread_t *thread, void *(*body)(void *), void *arg)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(thread, NULL, body, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

#endif /* LPM_THREAD_H */
