# Runs in the machine. `talk.py ADDRESS` connects to port 443 there again and again, and reads
# tasks: a letter and a number. It connects again after a failure, because for a while the host may
# not listen or the rules may not accept. It ends with its parent.
import os
import socket
import sys
import time

BLOCK = bytearray(1 << 20)


def read(connection, count):
    while count > 0:
        got = connection.recv_into(BLOCK, min(count, len(BLOCK)))
        if got == 0:
            raise EOFError
        count -= got


def send(connection, count):
    while count > 0:
        count -= connection.send(memoryview(BLOCK)[: min(count, len(BLOCK))])


def echo(connection, count):
    for _ in range(count):
        read(connection, 1)
        connection.sendall(b".")


def begin(connection, count):
    address, took = connection.getpeername()[0], []
    for _ in range(count):
        began = time.monotonic_ns()
        socket.create_connection((address, 80), timeout=10).close()
        took.append(time.monotonic_ns() - began)
    connection.sendall(b"".join(one.to_bytes(8, "big") for one in took))


def take(connection, count):
    read(connection, count)
    connection.sendall(b".")


TASKS = {b"s": send, b"t": take, b"e": echo, b"b": begin}
PARENT = os.getppid()
while os.getppid() == PARENT:
    try:
        with socket.create_connection((sys.argv[1], 443), timeout=1) as connection:
            connection.settimeout(60)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                read(connection, 9)
                TASKS[bytes(BLOCK[:1])](connection, int.from_bytes(BLOCK[1:9], "big"))
    except (EOFError, OSError):
        time.sleep(0.02)
