#!/usr/bin/env python3
# Sends requests that make no sense to a control socket; each has to be refused or to end the connection, in time.
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The LPM authors
#
# usage: garbage.py SOCKET
import json
import os
import socket
import sys

ANSWER_LIMIT = 10.0  # seconds
REFUSALS = {"bad-request", "unknown-rank", "unknown-node", "unknown-job"}


def request(**members):
    return json.dumps({"lpm": 1, **members}).encode() + b"\n"


def cases():
    """Name and bytes; whatever is in them, the other side has to answer with a refusal or to hang up."""
    yield "no JSON", b"hello, is this mpirun?\n"
    yield "half JSON", b'{"lpm":1,"op":\n'
    yield "an array", b"[]\n"
    yield "a number", b"12\n"
    yield "nothing in it", b"{}\n"
    yield "no op", request()
    yield "unknown op", request(op="format-disk")
    yield "op no text", request(op=7)
    yield "no version", b'{"op":"list"}\n'
    yield "unknown version", b'{"lpm":99,"op":"list"}\n'
    yield "no rank", request(op="migrate", onto="n2")
    yield "no node", request(op="migrate", rank=1)
    yield "rank is text", request(op="migrate", rank="1", onto="n2")
    yield "rank below 0", request(op="migrate", rank=-1, onto="n2")
    yield "rank too large", b'{"lpm":1,"op":"migrate","rank":99999999999999999999999,"onto":"n2"}\n'
    yield "rank no integer", request(op="migrate", rank=1.5, onto="n2")
    yield "node is a number", request(op="migrate", rank=1, onto=2)
    yield "node is long", request(op="migrate", rank=1, onto="n" * 100000)
    yield "node with a null", request(op="migrate", rank=1, onto="n2\0x")
    yield "no UTF-8", b'{"lpm":1,"op":"\xff\xfe"}\n'
    yield "null bytes", b"\0" * 100 + b"\n"
    yield "nested deeply", b'{"lpm":' + b"[" * 50000 + b"]" * 50000 + b"}\n"
    yield "huge line", b'{"lpm":1,"op":"' + b"x" * (8 << 20) + b'"}\n'
    yield "huge without an end", b"y" * (8 << 20)
    yield "random bytes", os.urandom(65536) + b"\n"


def connect(path):
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.settimeout(ANSWER_LIMIT)
    stream.connect(path)
    return stream


def answer(stream, data):
    """The first line that comes back, or b"" when the other side hung up."""
    got = b""
    try:
        stream.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it need not read all; what it said before may still be there
    try:
        while b"\n" not in got:
            part = stream.recv(65536)
            if not part:
                break
            got += part
    except ConnectionResetError:
        pass
    return got.split(b"\n")[0]


def check(path, name, data):
    try:
        with connect(path) as stream:
            line = answer(stream, data)
    except socket.timeout:
        sys.exit(f"{name}: neither an answer nor an end within {ANSWER_LIMIT} s")
    if not line:
        return
    event = json.loads(line)
    if event.get("event") != "error" or event.get("code") not in REFUSALS or not event.get("message"):
        sys.exit(f"{name}: answered with {event}")


def check_list(path):
    with connect(path) as stream:
        event = json.loads(answer(stream, request(op="list")))
    if event.get("event") != "list" or not event.get("ranks"):
        sys.exit(f"a proper request is answered with {event}")


def main(path):
    for name, data in cases():
        check(path, name, data)
        check_list(path)
    # Callers that go away at once, in the midst of a line, or that never say anything.
    connect(path).close()
    with connect(path) as stream:
        stream.sendall(b'{"lpm":1,"op":"li')
    silent = [connect(path) for _ in range(20)]
    check_list(path)
    for stream in silent:
        stream.close()
    check_list(path)


main(sys.argv[1])
