#!/usr/bin/env python3
"""Moves a process between two nodes with stock criu, as quickly as a script can: what LPM is compared with.

SPDX-License-Identifier: BSD-3-Clause
Copyright (c) 2026 The LPM authors

usage: stock_criu.py target HOW CRIU DIRECTORY
       stock_criu.py source HOW CRIU DIRECTORY PID TARGET PRELOAD

HOW is lazy (pages are fetched from the source's criu), eager (images are written, sent and read), or server (eager, but
pages go to a page server at the target while they are dumped). Images lie in DIRECTORY, which is to be in memory. The
target is started first, and has its connection for the images and its page server before the process is stopped. It
says `ready`, in the end `restored`, and `filled` when all pages are there. PRELOAD is small_pipes.so.
"""
import os
import socket
import struct
import subprocess
import sys
import time

IMAGES, PAGES = 7910, 7911      # ports
STARTED = []                    # none of them is to outlive a failure
COMMON = ["--manage-cgroups=ignore", "--file-locks", "--shell-job", "-v1"]


def say(what):
    print("stock_criu: %s at=%.6f" % (what, time.time()), flush=True)


def criu(program, command, directory, *options, ready=False, preload=""):
    """Starts it; with ready, waits until it says by its status descriptor that it can be used."""
    read, write = os.pipe()
    status = ["--status-fd", str(write)] if ready else []
    process = subprocess.Popen([program, command, "-D", directory, "-o", command + ".log", *options, *status],
                               stdin=subprocess.DEVNULL, pass_fds=[write] if ready else [],
                               env={**os.environ, "LD_PRELOAD": preload} if preload else None)
    STARTED.append(process)
    os.close(write)
    if ready and os.read(read, 1) != b"\0":
        process.wait()
        fail(command, directory)
    os.close(read)
    return process


def fail(command, directory):
    with open(os.path.join(directory, command + ".log"), errors="replace") as log:
        sys.exit("stock_criu: %s failed: %s" % (command, log.read()[-2000:]))


def expect_success(process, command, directory):
    if process.wait() != 0:
        fail(command, directory)


def send_images(connection, directory):
    """Everything but what tells about the run."""
    for name in os.listdir(directory):
        if name.endswith(".img"):
            with open(os.path.join(directory, name), "rb") as image:
                connection.sendall(struct.pack("!HQ", len(name), os.stat(image.fileno()).st_size) + name.encode())
                connection.sendfile(image)
    connection.shutdown(socket.SHUT_WR)


def receive_some(connection, room):
    """Until the room is full. @return false at the end of the connection"""
    while room:
        got = connection.recv_into(room, 0, socket.MSG_WAITALL)
        if got == 0:
            return False
        room = room[got:]
    return True


def receive_images(connection, directory):
    room = memoryview(bytearray(1 << 20))
    while receive_some(connection, room[:10]):
        length, size = struct.unpack("!HQ", room[:10])
        receive_some(connection, room[:length])
        with open(os.path.join(directory, bytes(room[:length]).decode()), "wb", buffering=0) as image:
            while size:
                piece = room[:min(size, len(room))]
                if not receive_some(connection, piece):
                    sys.exit("stock_criu: the images end too early")
                image.write(piece)
                size -= len(piece)


def source(how, program, directory, pid, target, preload):
    connection = socket.create_connection((target, IMAGES))
    os.makedirs(directory)
    where = ["-t", pid, *COMMON]
    if how == "lazy":
        dump = criu(program, "dump", directory, *where, "--lazy-pages", "--address", "0.0.0.0", "--port", str(PAGES),
                    ready=True, preload=preload)
        send_images(connection, directory)
        expect_success(dump, "dump", directory)     # ends when all pages have been fetched
    elif how == "eager":
        expect_success(criu(program, "dump", directory, *where), "dump", directory)
        send_images(connection, directory)
    else:
        dump = criu(program, "dump", directory, *where, "--page-server", "--address", socket.gethostbyname(target),
                    "--port", str(PAGES))
        expect_success(dump, "dump", directory)
        send_images(connection, directory)


def target(how, program, directory):
    os.makedirs(directory)
    listener = socket.create_server(("", IMAGES))
    if how == "server":
        pages = criu(program, "page-server", directory, "--port", str(PAGES), "-v1", ready=True)
    say("ready")
    listener.settimeout(30)
    connection, (host, _) = listener.accept()
    connection.settimeout(None)
    receive_images(connection, directory)
    options = [*COMMON, "--restore-detached"]
    if how == "lazy":
        pages = criu(program, "lazy-pages", directory, "--page-server", "--address", host, "--port", str(PAGES), "-v1",
                     ready=True)
        options.append("--lazy-pages")
    elif how == "server":
        expect_success(pages, "page-server", directory)
    expect_success(criu(program, "restore", directory, *options), "restore", directory)
    say("restored")
    if how == "lazy":
        expect_success(pages, "lazy-pages", directory)
    say("filled")


if __name__ == "__main__":
    try:
        {"source": source, "target": target}[sys.argv[1]](*sys.argv[2:])
    finally:
        for started in STARTED:
            if started.poll() is None:
                started.terminate()
