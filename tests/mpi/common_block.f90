! A COMMON block of 2 GiB, as old codes have them: zeroed data of the program, of which the rank uses a part at a time.
!
! SPDX-License-Identifier: BSD-3-Clause
! Copyright (c) 2026 The LPM authors
!
! usage: common_block STEPS BRAKE: at least so many steps, and as long as the file BRAKE exists. In the end rank 0 prints
! a sum over all elements of all ranks.
program common_block
    use mpi
    implicit none
    integer(8), parameter :: n = 2_8**28, part = 2_8**20
    real(8) :: a(n), sum_here, sum_all
    common /big/ a
    integer :: rank, ierr, steps, step
    integer(8) :: i, from
    character(len=4096) :: text, brake, host
    logical :: go_on

    call mpi_init(ierr)
    call mpi_comm_rank(mpi_comm_world, rank, ierr)
    call get_command_argument(1, text)
    read (text, *) steps
    call get_command_argument(2, brake)
    do i = 1, n
        a(i) = real(i, 8) + rank
    end do
    if (rank == 0) print '(a)', 'common_block: running'
    step = 0
    go_on = .true.
    do while (go_on)
        ! the same elements, whenever it is: what has been added to each depends on the number of steps alone
        from = mod(int(step, 8) * part * 37, n)
        do i = from + 1, from + part
            a(i) = a(i) + 1
        end do
        step = step + 1
        inquire (file=trim(brake), exist=go_on)
        go_on = go_on .or. step < steps .or. mod(step, 256) /= 0
        call mpi_bcast(go_on, 1, mpi_logical, 0, mpi_comm_world, ierr)
    end do
    ! every 256 steps each element has been incremented once
    do i = 1, n
        if (a(i) /= real(i, 8) + rank + step / 256) then
            call get_environment_variable('HOSTNAME', host)
            print '(a,i0,a,i0,a,f0.1)', 'DEFECT: rank ', rank, ': element ', i, ' is ', a(i)
            call mpi_abort(mpi_comm_world, 9, ierr)
        end if
    end do
    sum_here = sum(a - step / 256)
    call mpi_reduce(sum_here, sum_all, 1, mpi_double_precision, mpi_sum, 0, mpi_comm_world, ierr)
    if (rank == 0) print '(a,f0.1)', 'common_block: sum ', sum_all
    call mpi_finalize(ierr)
end program
