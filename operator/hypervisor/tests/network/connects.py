# In the guest, as anybody: tries to reach what the arguments name, all at once. It says for each
# what came of it.
#   tcp:ADDRESS:PORT   ok | refused | silent | an error's name
#                      (ok: it connected, and the other side answered)
#   udp:ADDRESS:PORT   ok | silent | …       (ADDRESS: of either version of IP)
#   ping:ADDRESS       ok | silent | …
#   dns:NAME@RESOLVER  the address | silent | none
#   vsock:CID:PORT     ok | an error's name
import errno
import os
import select
import socket
import struct
import sys
import time

WAIT = float(os.environ.get("WAIT", "2"))


def question(name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return b"\1\2\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def echo(sequence):
    body = struct.pack("!HH", 1, sequence) + b"escape"
    words = struct.unpack("!5H", body)
    total = 8 * 256 + sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBH", 8, 0, ~total & 0xFFFF) + body


class Try:
    def __init__(self, what):
        self.what, self.result, self.connected, self.socket = what, None, False, None
        kind, _, rest = what.partition(":")
        try:
            getattr(self, kind)(rest)
        except OSError as error:
            self.end(errno.errorcode.get(error.errno, str(error)))

    def start(self, family, kind, protocol, address, message):
        self.message = message
        self.socket = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        code = self.socket.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, "")
        if kind != socket.SOCK_STREAM:
            self.connected = True
            self.socket.send(message)

    def tcp(self, rest):
        address, _, port = rest.rpartition(":")
        self.start(family(address), socket.SOCK_STREAM, 0, (address, int(port)), b"who\n")

    def udp(self, rest):
        address, _, port = rest.rpartition(":")
        self.start(
            family(address), socket.SOCK_DGRAM, 0, (address, int(port)), question("web.test")
        )

    def ping(self, address):
        raw = socket.SOCK_RAW if os.getuid() == 0 else socket.SOCK_DGRAM
        if family(address) == socket.AF_INET:
            return self.start(socket.AF_INET, raw, 1, (address, 0), echo(1))
        # The kernel writes the checksum.
        self.start(
            socket.AF_INET6, raw, socket.IPPROTO_ICMPV6, (address, 0),
            struct.pack("!BBHHH", 128, 0, 0, 1, 1) + b"escape",
        )

    def dns(self, rest):
        name, _, resolver = rest.partition("@")
        self.start(socket.AF_INET, socket.SOCK_DGRAM, 0, (resolver, 53), question(name))

    def vsock(self, rest):
        cid, _, port = rest.partition(":")
        self.start(socket.AF_VSOCK, socket.SOCK_STREAM, 0, (int(cid), int(port)), b"who\n")

    def end(self, result):
        self.result = result
        if self.socket:
            self.socket.close()

    def ready(self):
        try:
            if not self.connected:
                code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, "")
                self.connected = True
                self.socket.send(self.message)
                return
            said = self.socket.recv(4096)
            if self.what.startswith("dns:"):
                self.end(socket.inet_ntoa(said[-4:]) if said[7] else "none")
            elif said:
                self.end("ok")
            else:
                # Somebody took the connection, and ended it.
                self.end("ok")
        except OSError as error:
            self.end(
                "refused"
                if error.errno == errno.ECONNREFUSED
                else errno.errorcode.get(error.errno, str(error))
            )


tries = [Try(what) for what in sys.argv[1:]]
deadline = time.monotonic() + WAIT
while time.monotonic() < deadline:
    waiting = [t for t in tries if t.result is None]
    if not waiting:
        break
    poll = select.poll()
    for t in waiting:
        poll.register(t.socket, select.POLLIN if t.connected else select.POLLOUT)
    by_number = {t.socket.fileno(): t for t in waiting}
    for number, _ in poll.poll(max(1, (deadline - time.monotonic()) * 1000)):
        by_number[number].ready()
for t in tries:
    # Connected, but nobody spoke: still reached.
    print(t.what, t.result or ("ok" if t.connected and t.what[:3] == "tcp" else "silent"))
