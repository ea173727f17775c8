/*
 * Parking: stopping the threads that may call MPI outside of it, wherever they are, so that another thread may work in
 * their place.
 *
 * A signal interrupts a thread. Its handler walks over the stack; if there is nothing on it that the other thread
 * could get into trouble with (MPI, the dynamic linker, the allocator, most of the C library), the thread waits inside
 * the handler until it is released. The application notices nothing but the time: see lpm_park_call.h for system calls
 * that it may have been in.
 *
 * While it is parked the other one may do what the application could not be doing just then: call into MPI as if it
 * were the MPI thread, allocate memory, use stdio. This holds only if no third thread calls MPI. Up to
 * MPI_THREAD_FUNNELED it is enough to park the thread that has initialised MPI, the others run on; with
 * MPI_THREAD_SERIALIZED all threads of the application have to stand still.
 *
 * Frames of the C library are allowed by a list of functions: those that only compute, wait or make a system call.
 * Frames of the program and of any library that is not forbidden are allowed; their own locks may be held.
 *
 * On the stack that it interrupts, or that of sigaltstack(), the handler takes less than 2 KiB, to which the kernel
 * adds the registers: 3.4 KiB with AVX-512, 11 KiB with AMX.
 *
 * All survives that the process is dumped and restored while the thread is parked.
 *
 * Supported on x86_64 with glibc >= 2.35; elsewhere lpm_park_init() says no.
 *
 * Copyright (c) 2026 The LPM authors
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef LPM_PARK_H
#define LPM_PARK_H

typedef enum {
    LPM_PARK_PARKED,    /* the thread stands still until lpm_park_release(), or all do */
    LPM_PARK_BUSY,      /* it is where it must not be stopped: try again in a moment */
    LPM_PARK_UNSAFE,    /* its stack cannot be understood: code without unwind information, another stack. It may help
                           to try again: assembly kernels are left now and then */
    LPM_PARK_NO_ANSWER, /* it blocks the signal, or did not run, or is gone. A signal that arrives late does nothing */
    LPM_PARK_OFF        /* not available, for good: not initialised, or the application has taken the signal away */
} lpm_park_result_t;

/**
 * Beginnings of file names of shared objects; the list ends with NULL. This one has what belongs to Open MPI and the
 * libraries below it that may run MPI's progress.
 */
extern const char *const lpm_park_mpi_objects[];

/**
 * The calling thread becomes the one to park. Takes a real-time signal that nobody uses. Needs its stack to be
 * understood as it is now: where it ends now it has to end when it is parked.
 * @param forbidden  a list like lpm_park_mpi_objects, kept, not copied. Shared objects that no frame may belong to, in
 *                   addition to the dynamic linker and known allocators.
 * @param why        set to a constant text on failure; may be NULL.
 * @return 0, or -1 (nothing has changed then).
 */
int lpm_park_init(const char *const *forbidden, const char **why);

/**
 * Try once to park the thread. From another thread, one at a time, and not while it is parked.
 * @param timeout_ms  how long to wait for the thread to run at all.
 * @param why         set to a text that says where the thread is, or what prevents an answer. It is valid until the
 *                    next call; may be NULL.
 */
lpm_park_result_t lpm_park_try(int timeout_ms, const char **why);

/**
 * Try once to park all threads of the process, but the calling one and those whose first function lies in a forbidden
 * object, which are not the application's. Otherwise like lpm_park_try(); its result is that of the first thread that
 * cannot be parked, and then none is.
 */
lpm_park_result_t lpm_park_try_all(int timeout_ms, const char **why);

/** Let all that are parked go on. From the thread that parked them. */
void lpm_park_release(void);

/**
 * Give the signal back, however many are still under way. From a thread that may be parked, or another while none is
 * parked; no try may be under way or come afterwards.
 */
void lpm_park_fini(void);

#endif /* LPM_PARK_H */
